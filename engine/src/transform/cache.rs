//! Compiled modules on disk: Cranelift takes seconds for a scripting language's runtime.
//!
//! Only this host writes here. A directory that another user owns or can write to is ignored, and so is a file whose content is not
//! the one that its own digest names: then the module is compiled again. Nothing that a user supplies is ever loaded.

use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;
use xxhash_rust::xxh3::Xxh3Default;

use super::deserialize;
use super::folder::Folder;

const DIGEST_BYTES: usize = 32;
/// No compiled module is larger; a Python runtime takes 40 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A directory of compiled modules.
pub(super) struct Cache(Folder);

impl Cache {
    /// The cache in a directory, which is made where it is missing. `Err`: it can't be trusted or used, and why.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        Folder::open(dir).map(Self)
    }

    /// The compiled module, where this host has compiled it before.
    pub(super) fn load(&self, engine: &Engine, module_sha256: &str) -> Option<Component> {
        let name = name(engine, module_sha256);
        let ignored =
            |why: String| tracing::warn!(path = %self.0.path(&name).display(), why, "compiled module is ignored and will be written anew");
        let compiled = match self.0.read(&name, MAX_FILE_BYTES).and_then(checked) {
            Ok(compiled) => compiled,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                ignored(error.to_string());
                return None;
            }
        };
        let component = deserialize::component(engine, &compiled).inspect_err(|error| ignored(error.to_string())).ok()?;
        self.0.used(&name);
        Some(component)
    }

    /// Keeps a compiled module.
    pub(super) fn store(&self, engine: &Engine, module_sha256: &str, component: &Component) -> io::Result<()> {
        let compiled = component.serialize().map_err(io::Error::other)?;
        self.0.write(&name(engine, module_sha256), &[&Sha256::digest(&compiled), &compiled])
    }
}

fn name(engine: &Engine, module_sha256: &str) -> String {
    // Of wasmtime's version, its configuration and this machine's processor.
    let mut compatibility = Xxh3Default::new();
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    format!("{module_sha256}-{:016x}.compiled", compatibility.finish())
}

fn checked(mut content: Vec<u8>) -> io::Result<Vec<u8>> {
    match content.split_at_checked(DIGEST_BYTES) {
        Some((digest, compiled)) if *Sha256::digest(compiled) == *digest => Ok(content.split_off(DIGEST_BYTES)),
        _ => Err(io::Error::other("its content is not what was written")),
    }
}
