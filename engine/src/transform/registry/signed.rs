//! Whether an artifact was signed by whom the configuration trusts, as `cosign sign` does it.
//!
//! The signatures of the manifest `sha256:<digits>` are the layers of the manifest with the tag `sha256-<digits>.sig` in the same repository:
//! each layer is a "simple signing" text that names the manifest's digest, and has the signature of that text as an annotation
//! (cosign's specs/SIGNATURE_SPEC.md).

use std::collections::BTreeMap;

use oci_client::manifest::OciManifest;
use serde::{Deserialize, Serialize};

use super::pull::{Asked, Registry};
use super::{PullError, Registries, digits, file};
use crate::config::OciReference;
use crate::transform::signature;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// More of them are not looked at.
const MAX_SIGNATURES: usize = 64;
const MAX_PAYLOAD_BYTES: u64 = 64 << 10;
const MAX_KEPT_BYTES: u64 = 16 << 20;

/// A text that names a manifest, and its signature.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Signed {
    payload: String,
    signature: String,
}

/// What a "simple signing" text says, as far as it matters here.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Registries {
    /// One signature of this key is enough. What is kept of them is looked at first.
    pub(in crate::transform) fn check_signature(&self, reference: &OciReference, key_pem: &str) -> Result<(), PullError> {
        let name = file(&reference.sha256, "signatures");
        let kept = self.kept_file(&name, MAX_KEPT_BYTES).and_then(|content| serde_json::from_slice::<Vec<Signed>>(&content).ok());
        if kept.is_some_and(|kept| verify(&kept, &reference.sha256, key_pem).is_ok()) {
            return Ok(());
        }
        let OciReference { registry, repository, sha256, .. } = reference;
        let unsigned = |why: String| PullError::Unsigned { why, image: format!("{registry}/{repository}@sha256:{sha256}") };
        let pulled = match self.ask(reference, async |registry| registry.signatures().await) {
            Ok(pulled) => pulled,
            Err(PullError::Missing { what, .. }) => return Err(unsigned(format!("the registry {registry} has no {what}, its signature"))),
            Err(error) => return Err(error),
        };
        verify(&pulled, sha256, key_pem).map_err(unsigned)?;
        match serde_json::to_vec(&pulled) {
            Ok(content) => self.keep(&name, &content),
            Err(error) => tracing::warn!(name, %error, "the signature could not be kept: the next start pulls it again"),
        }
        Ok(())
    }
}

impl Registry<'_> {
    async fn signatures(&self) -> Result<Vec<Signed>, PullError> {
        let manifest = self.manifest(Asked::Tag(&format!("sha256-{}.sig", self.digest()))).await?;
        let Ok(OciManifest::Image(manifest)) = serde_json::from_slice(&manifest) else { return Ok(Vec::new()) };
        let mut signed = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(MAX_SIGNATURES) {
            let signature = layer.annotations.as_ref().and_then(|annotations: &BTreeMap<String, String>| annotations.get(SIGNATURE));
            let (Some(signature), Some(sha256)) = (signature, digits(&layer.digest)) else { continue };
            let payload = self.blob("signature", &sha256, MAX_PAYLOAD_BYTES).await?;
            let Ok(payload) = String::from_utf8(payload) else { continue };
            signed.push(Signed { payload, signature: signature.clone() });
        }
        Ok(signed)
    }
}

/// The error says why none of them counts.
fn verify(all: &[Signed], sha256: &str, key_pem: &str) -> Result<(), String> {
    let mut why = "its signature has another form than `cosign sign` gives it".to_owned();
    for Signed { payload, signature } in all {
        // Nothing of the text is looked at before its signature.
        if let Err(error) = signature::verify(key_pem, payload.as_bytes(), signature) {
            why = error.to_owned();
            continue;
        }
        match serde_json::from_str::<Payload>(payload) {
            Ok(payload) if digits(&payload.critical.image.digest).is_some_and(|digest| digest == sha256) => return Ok(()),
            Ok(_) => why = "its signature is one of another manifest".to_owned(),
            Err(error) => why = format!("what was signed can't be read: {error}"),
        }
    }
    Err(why)
}
