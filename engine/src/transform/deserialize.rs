//! The one unsafe call of the host: machine code that an earlier run of this host compiled.

use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;

/// Maps what [`Component::serialize`] returned, with or without something behind it: pages are read as they are needed, and shared with the other
/// workers of this host. wasmtime itself refuses code of another version or configuration.
///
/// The caller vouches that this host wrote `file`, into a directory that nobody else can write to, that it was not changed since, and that it will
/// not be: `cache` checks the owner, the permissions and the digest, and a file is only ever replaced by another one, never written to again.
#[expect(unsafe_code, reason = "loading compiled code is unsafe by nature; `cache` checks that this host alone wrote it")]
pub(super) fn component(engine: &Engine, file: &Path) -> wasmtime::Result<Component> {
    // SAFETY: `file` holds what `Component::serialize` returned in this host and stays as it is, as the caller vouches.
    unsafe { Component::deserialize_file(engine, file) }
}
