//! Modules of OCI registries, by the digest of their manifest.
//!
//! Enters: a reference. Leaves: the bytes of a component. Each step names the next one by its digest: the reference the manifest, the manifest
//! the component, and nothing is taken that its digest does not fit; so neither a registry nor what is kept of it on disk is trusted. What
//! was pulled is kept, and a start needs no registry for it.

mod pull;
mod signed;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use oci_client::manifest::{OciDescriptor, OciManifest, WASM_LAYER_MEDIA_TYPE};

use super::folder::Folder;
use super::host::{MAX_MODULE_BYTES, sha256};
use crate::config::{OciReference, PullSettings};

/// Media type of a component (CNCF's layout for WebAssembly in OCI registries). Older tools write [`WASM_LAYER_MEDIA_TYPE`].
const COMPONENT: &str = "application/wasm";
/// No manifest that holds one module is larger.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Why a module could not be had from its registry.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It does not answer, or not as a registry.
    #[error(
        "the registry {registry} can't be used: {message}; is the name right, can this host reach it, and does it speak TLS? Where it does not, \
         say plain_http = true in [transforms.registries.\"{registry}\"]"
    )]
    Away {
        /// The registry.
        registry: String,
        /// What the network said.
        message: String,
    },
    /// It takes too long.
    #[error("the registry {registry} took longer than transforms.pull_timeout, {timeout:?}: ask again, or raise it")]
    Late {
        /// The registry.
        registry: String,
        /// The limit.
        timeout: Duration,
    },
    /// It does not let this worker read.
    #[error("the registry {registry} does not let this worker read {repository}: {remedy}")]
    Denied {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What to configure.
        remedy: String,
    },
    /// It has no such thing.
    #[error("the registry {registry} has no {what} in {repository}: push it there, or correct the reference")]
    Missing {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What was asked for.
        what: String,
    },
    /// It answers with something else.
    #[error(
        "the registry {registry} answered with something else than the {what}: {message}; do not use this registry before you know why"
    )]
    OtherContent {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Which digests.
        message: String,
    },
    /// What the digest names is no module.
    #[error("it is no module: {what}; push the component alone: oras push REGISTRY/REPOSITORY:TAG FILE.wasm:{COMPONENT}")]
    NotAModule {
        /// What it is instead.
        what: String,
    },
    /// It is larger than any module.
    #[error("its {what} is larger than {limit_bytes} bytes, and is not pulled")]
    TooLarge {
        /// Manifest or module.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// It is not signed by whom the configuration trusts.
    #[error(
        "it is not accepted: {why}; sign it with the private key that belongs to the configured one: cosign sign --key cosign.key \
         {image} (cosign 3: with --new-bundle-format=false --use-signing-config=false)"
    )]
    Unsigned {
        /// What is wrong with its signature.
        why: String,
        /// As cosign names it.
        image: String,
    },
    /// A panic, which none of the engine's own code should make, or a machine that is out of threads.
    #[error("it could not be asked for: {message}; report this with the log")]
    Defect {
        /// What happened.
        message: String,
    },
}

/// The registries, and what was pulled from them.
pub(super) struct Registries {
    settings: PullSettings,
    /// Where what was pulled is kept; made when something is.
    dir: Option<PathBuf>,
    kept: OnceLock<Option<Folder>>,
}

impl Registries {
    /// What is pulled is kept below the compiled modules' directory, where that can be trusted.
    pub(super) fn new(settings: &PullSettings, cache_dir: Option<&Path>) -> Self {
        Self { settings: settings.clone(), dir: cache_dir.map(|dir| dir.join("pulled")), kept: OnceLock::new() }
    }

    fn folder(&self) -> Option<&Folder> {
        let open = |dir: &PathBuf| {
            let unfit = |error: &io::Error| tracing::warn!(dir = %dir.display(), %error, "pulled modules are not kept: the directory can't be used");
            Folder::open(dir).inspect_err(unfit).ok()
        };
        self.kept.get_or_init(|| self.dir.as_ref().and_then(open)).as_ref()
    }

    /// Whether a module can be had without its registry.
    pub(super) fn has(&self, reference: &OciReference) -> bool {
        let Some(manifest) = self.kept(&file(&reference.sha256, "manifest"), &reference.sha256, MAX_MANIFEST_BYTES) else { return false };
        let layer = module_layer(&manifest);
        layer.is_ok_and(|layer| self.kept(&file(&layer.sha256, "wasm"), &layer.sha256, MAX_MODULE_BYTES).is_some())
    }

    /// The component's bytes.
    pub(super) fn open(&self, reference: &OciReference) -> Result<Vec<u8>, PullError> {
        let name = file(&reference.sha256, "manifest");
        let manifest = match self.kept(&name, &reference.sha256, MAX_MANIFEST_BYTES) {
            Some(manifest) => manifest,
            None => {
                let manifest = self.pull_manifest(reference)?;
                self.keep(&name, &manifest);
                manifest
            }
        };
        let layer = module_layer(&manifest)?;
        let name = file(&layer.sha256, "wasm");
        if let Some(module) = self.kept(&name, &layer.sha256, MAX_MODULE_BYTES) {
            return Ok(module);
        }
        let module = self.pull_module(reference, &layer)?;
        tracing::info!(%reference, sha256 = layer.sha256, bytes = module.len(), "module pulled");
        self.keep(&name, &module);
        Ok(module)
    }

    /// What is kept under this name, where it is what the digest names.
    fn kept(&self, name: &str, digest: &str, max_bytes: u64) -> Option<Vec<u8>> {
        let content = self.kept_file(name, max_bytes)?;
        if sha256(&content) != digest {
            tracing::warn!(name, "a pulled file is not what was written: it is pulled again");
            return None;
        }
        Some(content)
    }

    fn kept_file(&self, name: &str, max_bytes: u64) -> Option<Vec<u8>> {
        let kept = self.folder()?;
        match kept.read(name, max_bytes) {
            Ok(content) => {
                kept.used(name);
                Some(content)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(name, %error, "a pulled file can't be used: it is pulled again");
                None
            }
        }
    }

    fn keep(&self, name: &str, content: &[u8]) {
        if let Some(Err(error)) = self.folder().map(|kept| kept.write(name, &[content])) {
            tracing::warn!(name, %error, "what was pulled could not be kept: the next start pulls it again");
        }
    }
}

fn file(digest: &str, kind: &str) -> String {
    format!("{digest}.{kind}")
}

/// What a manifest says of its module.
struct Layer {
    /// In lower-case hexadecimal, 64 digits: it becomes part of a file's name.
    sha256: String,
    bytes: u64,
}

/// A blob's digest, where it is one that this engine computes.
fn digits(digest: &str) -> Option<String> {
    let digits = digest.strip_prefix("sha256:")?;
    (digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| digits.to_ascii_lowercase())
}

fn module_layer(manifest: &[u8]) -> Result<Layer, PullError> {
    let no_module = |what: String| PullError::NotAModule { what };
    let layers = match serde_json::from_slice(manifest) {
        Ok(OciManifest::Image(image)) => image.layers,
        Ok(OciManifest::ImageIndex(_)) => {
            return Err(no_module("the digest names an index of several manifests: pin that of the module's own manifest".into()));
        }
        Err(error) => return Err(no_module(format!("its manifest can't be read: {error}"))),
    };
    let is_module = |layer: &&OciDescriptor| [COMPONENT, WASM_LAYER_MEDIA_TYPE].contains(&layer.media_type.as_str());
    let mut modules = layers.iter().filter(is_module);
    let (Some(layer), None) = (modules.next(), modules.next()) else {
        let types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
        return Err(no_module(format!("a module has one layer of the type {COMPONENT}, this has [{}]", types.join(", "))));
    };
    let bytes = u64::try_from(layer.size).unwrap_or(u64::MAX);
    if bytes > MAX_MODULE_BYTES {
        return Err(PullError::TooLarge { what: "module", limit_bytes: MAX_MODULE_BYTES });
    }
    let sha256 = digits(&layer.digest).ok_or_else(|| no_module("its manifest names the module by a digest that is no SHA-256".into()))?;
    Ok(Layer { sha256, bytes })
}
