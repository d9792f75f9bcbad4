//! `tidy`: what the tree itself must keep, in data that a person can read.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::progress::{capture, root, say};

const LIST_LIMIT: Duration = Duration::from_secs(30);
/// Longest Rust file, in lines.
const MAX_LINES: usize = 600;
/// Longer ones, and why.
const LONG_FILES: &[(&str, &str)] = &[];
/// Names that say nothing of what a module holds.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "types", "helpers", "helper", "manager", "misc"];

/// Checks the files that git knows; all faults at once.
pub(crate) fn tidy() -> Result<()> {
    say("tidy");
    let listed = capture("git ls-files", Command::new("git").current_dir(root()).args(["ls-files", "*.rs"]), LIST_LIMIT)?;
    let mut faults = crate::contract::faults(&root())?;
    for file in listed.lines() {
        let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
        if EMPTY_NAMES.contains(&stem) {
            faults.push(format!("{file}: the name says nothing of what the module holds"));
        }
        // A file that was removed but not yet committed has no lines.
        let lines = std::fs::read_to_string(root().join(file)).map_or(0, |text| text.lines().count());
        if lines > MAX_LINES && !LONG_FILES.iter().any(|(long, _)| *long == file) {
            faults.push(format!(
                "{file}: {lines} lines, at most {MAX_LINES}: split it by what it holds, or list it in tidy.rs with a reason"
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}
