//! What is fed with arbitrary bytes: everything that reads what the engine did not write itself, and what decides where it goes on.
//!
//! A target panics where a promise is broken. `cargo xtask fuzz` looks for such bytes with libFuzzer; whatever was found once lies in
//! `corpus/`, beside seeds drawn from real events, and is replayed by the tests of this crate.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a target tells what it found by panicking")]

mod classify;
mod configuration;
mod envelope;
mod guest;
mod input;
mod key;
// Its clock stands still, as tokio's does only where a feature permits it which no build of the program shall have.
#[cfg(any(test, feature = "libfuzzer"))]
mod offsets;
mod start;
mod stored;
mod value;

/// Feeds one input to what it is about.
pub type Target = fn(&[u8]);

/// All targets, by name; each has a folder of its name in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("envelope", envelope::run),
    ("value", value::run),
    ("key", key::run),
    ("guest", guest::run),
    ("configuration", configuration::run),
    ("start", start::run),
    #[cfg(any(test, feature = "libfuzzer"))]
    ("offsets", offsets::run),
    ("classify", classify::run),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::TARGETS;

    /// Seeds and found cases, each fed to its target; and for each file some cuts of it, so that a change of the format is not missed.
    #[test]
    fn the_corpus_passes() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path()).collect();
            files.sort();
            assert!(!files.is_empty(), "{} is empty", folder.display());
            for file in files {
                let input = std::fs::read(&file).expect("readable");
                assert!(input.len() <= 64 << 10, "{} is too large for the repository", file.display());
                target(&input);
                for cut in [input.len() / 3, input.len() / 2, input.len().saturating_sub(1)] {
                    target(&input[..cut]);
                    target(&input[cut..]);
                }
            }
        }
    }
}
