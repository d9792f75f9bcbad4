//! Notices that a module's file is another one.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files as they were last seen.
#[derive(Default)]
pub(super) struct Watch(BTreeMap<PathBuf, Seen>);

/// What changes when a file is written or replaced; also where it is reached through a link that is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: (u64, u64),
    bytes: u64,
}

struct Seen {
    /// Of what was loaded, or looked at and refused.
    known: Option<Stamp>,
    /// At the last look.
    last: Option<Stamp>,
}

impl Watch {
    /// Whether a file has changed and is whole: nothing has written to it between two looks. Told once for each change.
    pub(super) fn changed(&mut self, path: &Path) -> bool {
        let now = stamp(path);
        let Some(seen) = self.0.get_mut(path) else {
            self.0.insert(path.to_owned(), Seen { known: now, last: now });
            return false;
        };
        let quiet = seen.last == now;
        seen.last = now;
        // A file that is gone is about to be replaced, or the loaded module outlives it.
        if now.is_none() || now == seen.known || !quiet {
            return false;
        }
        seen.known = now;
        true
    }

    /// Whether a file is another one than was known.
    pub(super) fn differs(&self, path: &Path) -> bool {
        self.0.get(path).is_none_or(|seen| seen.known != stamp(path))
    }

    /// The file is watched from now on, where it was not.
    pub(super) fn begin(&mut self, path: &Path) {
        if !self.0.contains_key(path) {
            self.known(path);
        }
    }

    /// The file was just looked at: only a later change counts.
    pub(super) fn known(&mut self, path: &Path) {
        let now = stamp(path);
        self.0.insert(path.to_owned(), Seen { known: now, last: now });
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: (found.mtime(), found.mtime_nsec()), inode: (found.dev(), found.ino()), bytes: found.len() })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_still_written_is_not_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("t.wasm");
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        let mut watch = Watch::default();
        write("one");
        let mut look = || watch.changed(&file);
        assert!(!look() && !look());
        write("half of");
        assert!(!look());
        write("half of two");
        assert!(!look());
        assert!(look());
        assert!(!look());
        std::fs::remove_file(&file).expect("removed");
        assert!(!look() && !look());
        write("and three");
        assert!(!look() && look() && !look());
        watch.known(&file);
        assert!(!watch.changed(&file));
    }
}
