//! Compiled modules on disk: Cranelift takes seconds for a scripting language's runtime.
//!
//! Only this host writes here. A directory that another user owns or can write to is ignored, and so is a file whose content is not
//! the one that its own digest names: then the module is compiled again. Nothing that a user supplies is ever loaded.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _};
use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::deserialize;
use super::folder::Folder;

/// Of the file: the compiled code, then its digest. Another format has other names, so that files of an older engine are not taken for broken.
const FORMAT: u8 = 2;
/// XXH3 with 128 bits: it finds what a disk or an interrupted write did. Who may write here at all is what keeps others out, and SHA-256 takes
/// longer than all the rest of a start where the processor has no instructions for it.
const DIGEST_BYTES: usize = 16;
const CHUNK_BYTES: usize = 256 << 10;
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
        match self.0.open_file(&name, MAX_FILE_BYTES).and_then(check) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                ignored(error.to_string());
                return None;
            }
        }
        let component = deserialize::component(engine, &self.0.path(&name)).inspect_err(|error| ignored(error.to_string())).ok()?;
        self.0.used(&name);
        Some(component)
    }

    /// Keeps a compiled module.
    pub(super) fn store(&self, engine: &Engine, module_sha256: &str, component: &Component) -> io::Result<()> {
        let compiled = component.serialize().map_err(io::Error::other)?;
        self.0.write(&name(engine, module_sha256), &[&compiled, &xxh3_128(&compiled).to_le_bytes()])
    }
}

fn name(engine: &Engine, module_sha256: &str) -> String {
    // Of wasmtime's version, its configuration and this machine's processor.
    let mut compatibility = Xxh3Default::new();
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    FORMAT.hash(&mut compatibility);
    format!("{module_sha256}-{:016x}.compiled", compatibility.finish())
}

/// By chunks that stay in the processor's cache: the file is mapped afterwards, and never held as a whole.
fn check(mut file: File) -> io::Result<()> {
    let broken = || io::Error::other("its content is not what was written");
    let compiled = file.metadata()?.len().checked_sub(DIGEST_BYTES as u64).ok_or_else(broken)?;
    let mut hash = Xxh3Default::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = (&mut file).take(compiled);
    loop {
        match left.read(&mut chunk)? {
            0 => break,
            read => hash.update(chunk.get(..read).unwrap_or_default()),
        }
    }
    let mut digest = [0; DIGEST_BYTES];
    file.read_exact(&mut digest)?;
    if hash.digest128().to_le_bytes() == digest { Ok(()) } else { Err(broken()) }
}
