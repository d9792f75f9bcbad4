//! A module: a component that was checked and compiled.

use std::fmt;
use std::time::Duration;

use super::bindings::TransformerPre;
use super::host::TransformHost;
use super::limits::Limits;
use crate::config::TransformSettings;

/// A component, compiled, with what it says of itself.
pub struct Module {
    /// SHA-256 of the component, in lower-case hexadecimal.
    pub digest: String,
    /// The name that it gives itself.
    pub name: String,
    /// The version that it gives itself.
    pub version: String,
    /// The version of the contract that it is made for.
    pub contract: &'static str,
    /// JSON Schema of the route's `config`, where it has one.
    pub config_schema: Option<String>,
    pub(super) host: TransformHost,
    pub(super) component: TransformerPre<Limits>,
    pub(super) budget: Budget,
}

/// What one call may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) call_timeout: Duration,
    pub(super) max_memory_bytes: usize,
    pub(super) max_output_bytes: usize,
    pub(super) max_log_lines: usize,
    /// Whether what is executed is counted.
    pub(super) metered: bool,
}

impl Budget {
    pub(super) fn new(settings: &TransformSettings) -> Self {
        Self {
            call_timeout: settings.call_timeout,
            max_memory_bytes: settings.max_memory_bytes,
            max_output_bytes: settings.max_output_bytes,
            max_log_lines: settings.max_log_lines,
            metered: false,
        }
    }
}

impl Module {
    /// The host that loaded it, and that loads what follows it.
    pub fn host(&self) -> &TransformHost {
        &self.host
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
