//! Asks a registry.

use std::time::Duration;

use futures_util::StreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::{Layer, MAX_MANIFEST_BYTES, PullError, Registries};
use crate::config::{OciReference, RegistrySettings, is_loopback};

/// Docker's own form is read too; an index is asked for so that a pinned one is told from a digest that does not exist.
const MANIFESTS: [&str; 3] = [OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A registry as one pull meets it.
pub(super) struct Registry<'r> {
    reference: &'r OciReference,
    client: Client,
    auth: RegistryAuth,
}

impl Registries {
    pub(super) fn pull_manifest(&self, reference: &OciReference) -> Result<Vec<u8>, PullError> {
        let digest = format!("sha256:{}", reference.sha256);
        self.ask(reference, async |registry| registry.manifest(Asked::Digest(&digest)).await)
    }

    pub(super) fn pull_module(&self, reference: &OciReference, layer: &Layer) -> Result<Vec<u8>, PullError> {
        self.ask(reference, async |registry| registry.blob("module", &layer.sha256, layer.bytes).await)
    }

    /// Does it within the time for one pull, on a thread with a runtime of its own: the caller's thread may belong to one, which must not wait
    /// for another.
    pub(super) fn ask<T: Send>(
        &self,
        reference: &OciReference,
        work: impl AsyncFnOnce(Registry<'_>) -> Result<T, PullError> + Send,
    ) -> Result<T, PullError> {
        let timeout = self.settings.timeout;
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| PullError::Defect { message: error.to_string() })?;
            let registry = self.registry(reference)?;
            let work = async { tokio::time::timeout(timeout, work(registry)).await };
            runtime.block_on(work).unwrap_or_else(|_| Err(PullError::Late { registry: reference.registry.clone(), timeout }))
        };
        let done = std::thread::scope(|scope| scope.spawn(run).join());
        done.unwrap_or_else(|_| Err(PullError::Defect { message: "a defect in the engine stopped it".into() }))
    }

    fn registry<'r>(&self, reference: &'r OciReference) -> Result<Registry<'r>, PullError> {
        let name = &reference.registry;
        let known: Option<&RegistrySettings> = self.settings.registries.iter().find(|registry| registry.name == *name);
        let plain_http = known.map_or_else(|| is_loopback(name), |registry| registry.plain_http);
        let auth = known
            .and_then(|registry| registry.credentials.clone())
            .map_or(RegistryAuth::Anonymous, |(user, password)| RegistryAuth::Basic(user, password));
        crate::machine::use_ring();
        let config = ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT.min(self.settings.timeout)),
            user_agent: concat!("streamsync/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| PullError::Defect { message: chain(&error) })?;
        Ok(Registry { reference, client, auth })
    }
}

/// How a manifest is named.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    Digest(&'a str),
    Tag(&'a str),
}

impl Registry<'_> {
    pub(super) fn digest(&self) -> &str {
        &self.reference.sha256
    }

    pub(super) async fn manifest(&self, asked: Asked<'_>) -> Result<Vec<u8>, PullError> {
        let OciReference { registry, repository, .. } = self.reference;
        let (image, what) = match asked {
            Asked::Digest(digest) => {
                (Reference::with_digest(registry.clone(), repository.clone(), digest.to_owned()), format!("manifest {digest}"))
            }
            Asked::Tag(tag) => (Reference::with_tag(registry.clone(), repository.clone(), tag.to_owned()), format!("manifest {tag}")),
        };
        let pulled = self.client.pull_manifest_raw(&image, &self.auth, &MANIFESTS).await;
        let (manifest, _) = pulled.map_err(|error| self.error(error, &what))?;
        if manifest.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(PullError::TooLarge { what: "manifest", limit_bytes: MAX_MANIFEST_BYTES });
        }
        Ok(manifest.to_vec())
    }

    /// A blob of at most so many bytes: the library compares it with its digest.
    pub(super) async fn blob(&self, what: &'static str, sha256: &str, bytes: u64) -> Result<Vec<u8>, PullError> {
        let OciReference { registry, repository, .. } = self.reference;
        let digest = format!("sha256:{sha256}");
        let named = format!("{what} {digest}");
        let image = Reference::with_digest(registry.clone(), repository.clone(), digest.clone());
        // Other addresses that a manifest may give for it are left away: the registry is the one that the operator named.
        let layer = OciDescriptor { digest, ..OciDescriptor::default() };
        self.client.store_auth_if_needed(image.resolve_registry(), &self.auth).await;
        let mut stream = self.client.pull_blob_stream(&image, &layer).await.map_err(|error| self.error(error, &named))?;
        let mut content = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| self.error(OciDistributionError::IoError(error), &named))?;
            if (content.len() + part.len()) as u64 > bytes {
                let message = format!("it is longer than the {bytes} bytes that its manifest names");
                return Err(PullError::OtherContent { registry: registry.clone(), what: named, message });
            }
            content.extend_from_slice(&part);
        }
        Ok(content)
    }

    fn error(&self, error: OciDistributionError, what: &str) -> PullError {
        let registry = self.reference.registry.clone();
        let repository = self.reference.repository.clone();
        let denied = || {
            let remedy = match self.auth {
                RegistryAuth::Anonymous => format!("set user and password in [transforms.registries.\"{registry}\"]"),
                RegistryAuth::Basic(..) | RegistryAuth::Bearer(_) => {
                    format!("check user and password in [transforms.registries.\"{registry}\"], and what they may read")
                }
            };
            PullError::Denied { registry: registry.clone(), repository: repository.clone(), remedy }
        };
        let missing = || PullError::Missing { registry: registry.clone(), repository: repository.clone(), what: what.to_owned() };
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum: what is not told apart here is told in its own words")]
        match error {
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => denied(),
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    denied()
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    missing()
                } else {
                    PullError::Away { registry: registry.clone(), message: envelope.to_string() }
                }
            }
            OciDistributionError::ImageManifestNotFoundError(_) | OciDistributionError::ServerError { code: 404, .. } => missing(),
            OciDistributionError::ServerError { code: 403, .. } => denied(),
            OciDistributionError::ServerError { code, .. } => {
                PullError::Away { registry: registry.clone(), message: format!("it answered with the status {code}") }
            }
            OciDistributionError::DigestError(error) => {
                PullError::OtherContent { registry: registry.clone(), what: what.to_owned(), message: error.to_string() }
            }
            // The library's stream of a blob wraps a wrong digest.
            OciDistributionError::IoError(error) if is_digest_error(&error) => {
                PullError::OtherContent { registry: registry.clone(), what: what.to_owned(), message: error.to_string() }
            }
            other => PullError::Away { registry: registry.clone(), message: chain(&other) },
        }
    }
}

fn is_digest_error(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<oci_client::errors::DigestError>())
}

/// The library's own text leaves the reason to its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.last().map_or_else(|| error.to_string(), ToString::to_string)
}
