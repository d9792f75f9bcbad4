//! Compiled modules on disk: Cranelift takes seconds for a scripting language's runtime.
//!
//! Only this host writes here. A directory that another user owns or can write to is ignored, and so is a file whose content is not
//! the one that its own digest names: then the module is compiled again. Nothing that a user supplies is ever loaded.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;
use xxhash_rust::xxh3::Xxh3Default;

use super::deserialize;

/// Compiled modules that are kept, those that were used last. Rollouts and upgrades of the engine leave old ones behind.
const MAX_ENTRIES: usize = 64;
const MAX_TOTAL_BYTES: u64 = 4 << 30;
const DIGEST_BYTES: usize = 32;
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// No compiled module is larger; a Python runtime takes 40 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A directory of compiled modules.
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in a directory, which is made where it is missing. `Err`: it can't be trusted or used, and why.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            return Err(io::Error::other("it is no directory"));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(io::Error::other("other users can write to it: chmod 700"));
        }
        // A file made now belongs to whom this process runs as.
        let probe = dir.join(format!(".probe-{}", std::process::id()));
        drop(private_file(&probe)?);
        let owner = fs::symlink_metadata(&probe)?.uid();
        fs::remove_file(&probe)?;
        if owner != metadata.uid() {
            return Err(io::Error::other("it belongs to another user"));
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The compiled module, where this host has compiled it before.
    pub(super) fn load(&self, engine: &Engine, module_sha256: &str) -> Option<Component> {
        let path = self.path(engine, module_sha256);
        let compiled = match read_checked(&path) {
            Ok(compiled) => compiled,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled module is ignored and will be written anew");
                return None;
            }
        };
        let component = deserialize::component(engine, &compiled)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "compiled module is ignored and will be written anew"))
            .ok()?;
        // Its age is the time since it was used.
        if let Err(error) = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!(path = %path.display(), %error, "its time of use is not kept");
        }
        Some(component)
    }

    /// Keeps a compiled module. A reader never sees half a file.
    pub(super) fn store(&self, engine: &Engine, module_sha256: &str, component: &Component) -> io::Result<()> {
        let compiled = component.serialize().map_err(io::Error::other)?;
        let path = self.path(engine, module_sha256);
        let unfinished = path.with_extension(format!("{}.part", std::process::id()));
        let written = private_file(&unfinished).and_then(|mut file| {
            file.write_all(&Sha256::digest(&compiled))?;
            file.write_all(&compiled)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&unfinished, &path)).inspect_err(|_| {
            // The error that is returned says more than one of the clean-up would.
            drop(fs::remove_file(&unfinished));
        })?;
        self.remove_unused(&path)
    }

    /// Removes what was not used for the longest time, as far as there is too much. Another process of this host may do the same.
    fn remove_unused(&self, written: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let is_ours = path.extension().is_some_and(|extension| extension == "compiled") && path != written;
            if let Some(metadata) = fs::symlink_metadata(&path).ok().filter(|metadata| is_ours && metadata.is_file()) {
                entries.push((metadata.modified()?, metadata.len(), path));
            }
        }
        entries.sort_unstable_by(|one, two| two.cmp(one));
        let mut bytes = fs::symlink_metadata(written).map_or(0, |metadata| metadata.len());
        // The one that was just written counts too.
        for (place, (_, size, path)) in (1..).zip(entries) {
            bytes = bytes.saturating_add(size);
            if place < MAX_ENTRIES && bytes <= MAX_TOTAL_BYTES {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tracing::debug!(path = %path.display(), "compiled module removed: it was not used for the longest time"),
            }
        }
        Ok(())
    }

    fn path(&self, engine: &Engine, module_sha256: &str) -> PathBuf {
        // Of wasmtime's version, its configuration and this machine's processor.
        let mut compatibility = Xxh3Default::new();
        engine.precompile_compatibility_hash().hash(&mut compatibility);
        self.dir.join(format!("{module_sha256}-{:016x}.compiled", compatibility.finish()))
    }
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by an earlier process of the same number.
            fs::remove_file(path)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        }
        other => other,
    }
}

fn read_checked(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 || metadata.len() > MAX_FILE_BYTES || !metadata.is_file() {
        return Err(io::Error::other("other users can write to it, or it is no file of this host"));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    match content.split_at_checked(DIGEST_BYTES) {
        Some((digest, compiled)) if *Sha256::digest(compiled) == *digest => Ok(content.split_off(DIGEST_BYTES)),
        _ => Err(io::Error::other("its content is not what was written")),
    }
}
