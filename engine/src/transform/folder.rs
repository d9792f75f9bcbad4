//! A directory that this host alone writes to.
//!
//! One that another user owns or can write to is refused, and so is a file in it that another user owns or can write to.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files of one kind that are kept, those that were used last. Rollouts and upgrades of the engine leave old ones behind.
const MAX_ENTRIES: usize = 64;
const MAX_TOTAL_BYTES: u64 = 4 << 30;
const WRITABLE_BY_OTHERS: u32 = 0o022;

pub(super) struct Folder {
    path: PathBuf,
    /// The user that this process runs as, which owns all of it.
    owner: u32,
}

impl Folder {
    /// The directory, which is made where it is missing. `Err`: it can't be trusted or used, and why.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            return Err(io::Error::other("it is no directory"));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(io::Error::other("other users can write to it: empty it, then chmod 700"));
        }
        // A file made now belongs to whom this process runs as.
        let probe = dir.join(format!(".probe-{}", std::process::id()));
        drop(private_file(&probe)?);
        let owner = fs::symlink_metadata(&probe)?.uid();
        fs::remove_file(&probe)?;
        if owner != metadata.uid() {
            return Err(io::Error::other("it belongs to another user"));
        }
        Ok(Self { path: dir.to_owned(), owner })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's content, where nobody else can have written it.
    pub(super) fn read(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open_file(name, max_bytes)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// A file, where nobody else can have written it.
    pub(super) fn open_file(&self, name: &str, max_bytes: u64) -> io::Result<fs::File> {
        let file = fs::File::open(self.path(name))?;
        let metadata = file.metadata()?;
        if metadata.uid() != self.owner {
            return Err(io::Error::other("it belongs to another user"));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 || metadata.len() > max_bytes || !metadata.is_file() {
            return Err(io::Error::other("other users can write to it, or it is no file of this host"));
        }
        Ok(file)
    }

    /// Its age is the time since it was used.
    pub(super) fn used(&self, name: &str) {
        let path = self.path(name);
        if let Err(error) = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!(path = %path.display(), %error, "its time of use is not kept");
        }
    }

    /// Writes a file, one part behind the other, and removes what of its kind was not used for long. A reader never sees half a file.
    pub(super) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let path = self.path(name);
        let unfinished = path.with_extension(format!("{}.part", std::process::id()));
        let written = private_file(&unfinished).and_then(|mut file| {
            parts.iter().try_for_each(|part| file.write_all(part))?;
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
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let is_of_its_kind = path.extension() == written.extension() && path != written;
            if let Some(metadata) = fs::symlink_metadata(&path).ok().filter(|metadata| is_of_its_kind && metadata.is_file()) {
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
                _ => tracing::debug!(path = %path.display(), "removed: it was not used for the longest time"),
            }
        }
        Ok(())
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
