//! Who the servers of a sink are, and how often that has changed.

use std::sync::{Mutex, PoisonError};

/// Remembers the last look. A sink's lanes share it.
#[derive(Debug, Default)]
pub(super) struct Lineage(Mutex<(u64, Option<Vec<String>>)>);

impl Lineage {
    /// Counts a change. The first look changes nothing: whoever starts compares positions anyway.
    pub(super) fn seen(&self, mut servers: Vec<String>) -> u64 {
        servers.sort_unstable();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1.as_ref().is_some_and(|before| *before != servers) {
            known.0 += 1;
        }
        known.1 = Some(servers);
        known.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_changes_alone() {
        let lineage = Lineage::default();
        let seen = |names: &[&str]| lineage.seen(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!([seen(&["a", "b"]), seen(&["b", "a"]), seen(&["a", "c"]), seen(&["a", "c"]), seen(&["a", "b"])], [0, 0, 1, 1, 2]);
    }
}
