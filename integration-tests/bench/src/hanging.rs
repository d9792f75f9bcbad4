//! A module that hangs, for the route beside the one that is measured.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

#[path = "../../../engine/tests/fixtures/component.rs"]
#[expect(clippy::expect_used, reason = "its text is one of this repository's own")]
mod component;

/// The module of the engine's own tests,
const TEXT: &str = include_str!("../../../engine/src/transform/tests/guest.wat");
/// and where it begins with the next event.
const EVENT: &str = "(loop $next";

/// Writes it into the folder.
pub(crate) fn module(directory: &Path) -> Result<PathBuf> {
    ensure!(TEXT.contains(EVENT), "the module would not hang");
    let text = TEXT.replace("ON_POISON", "").replace(EVENT, &format!("{EVENT} (loop $forever (br $forever))"));
    let file = directory.join("hanging.wasm");
    std::fs::write(&file, component::component(&text))?;
    Ok(file)
}
