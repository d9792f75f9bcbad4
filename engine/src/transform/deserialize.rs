//! The one unsafe call of the host: machine code that an earlier run of this host compiled.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads what [`Component::serialize`] wrote. wasmtime itself refuses code of another version or configuration.
///
/// The caller vouches that this host wrote `compiled`, into a directory that nobody else can write to, and that it was not
/// changed since: `cache` checks the owner, the permissions and the digest.
#[expect(unsafe_code, reason = "loading compiled code is unsafe by nature; `cache` checks that this host alone wrote it")]
pub(super) fn component(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `compiled` is what `Component::serialize` returned in this host, as the caller vouches.
    unsafe { Component::deserialize(engine, compiled) }
}
