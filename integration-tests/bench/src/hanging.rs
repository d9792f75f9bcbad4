//! A module that hangs, for the route beside the one that is measured.

use std::path::{Path, PathBuf};

use anyhow::Result;

#[path = "../../../engine/tests/fixtures/component.rs"]
#[expect(clippy::expect_used, reason = "its text is one of this repository's own")]
mod component;

/// The module of the engine's own tests, with an endless loop where it looks at an event.
const TEXT: &str = include_str!("../../../engine/src/transform/tests/guest.wat");

/// Writes it into the folder.
pub(crate) fn module(directory: &Path) -> Result<PathBuf> {
    let text = TEXT.replace("ON_POISON", "(loop $forever (br $forever))").replace("(i64.const 666)", "(i64.const 0)");
    let file = directory.join("hanging.wasm");
    std::fs::write(&file, component::component(&text.replace("i64.eq (i64.load", "i64.ge_s (i64.load")))?;
    Ok(file)
}
