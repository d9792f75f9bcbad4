//! Guests: WebAssembly components that make documents of rows.
//!
//! Enters: [`RoutedBatch`]. Leaves: [`GuestBatch`], of which every tag, span, index and count was checked. A guest can waste its own
//! budget and nothing else.

mod bindings;
mod cache;
pub mod canary;
mod contract;
mod deserialize;
mod folder;
mod guest;
mod host;
mod instance;
mod lift;
mod limits;
mod lower;
mod module;
mod open;
mod registry;
mod shape;
mod signature;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

pub use contract::{VERSIONS as CONTRACT_VERSIONS, exported as contract_of};
pub use guest::{Guest, GuestStats};
pub use host::{SetupError, TransformHost, sha256};
pub(crate) use host::{check_kind, signature_file};
pub use lift::{Answer, answer};
pub(crate) use lower::is_seen;
pub use lower::lower;
pub use module::Module;
pub(crate) use open::holds_own_keys;
pub use registry::PullError;
pub use shape::{Name, Op, Shape};

/// The contract's own types, for a transform that is not WebAssembly: the benchmark's native one.
pub mod wire {
    pub use super::bindings::streamsync::transform::types::{Batch, Cells, Outcome, Output, Plan};
}

use crate::change::{Cells, TableSchema};
use crate::config::TargetSettings;
use crate::plan::{Canary, RecordFault};
use crate::route::RoutedBatch;

/// Tag of a cell that stands for a column of the after image, unchanged.
pub const TAG_AFTER: u8 = 32;
/// Tag of a cell that stands for a column of the before image, unchanged.
pub const TAG_BEFORE: u8 = 33;

/// Why an event has no outcome.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The guest rejected the event, on purpose.
    #[error("rejected by the transform: {code}: {message}")]
    Rejected {
        /// The guest's constant code; a metric label after it was checked.
        code: String,
        /// The guest's words.
        message: String,
    },
    /// The guest said that it can't: handle the event, open the table, or take its configuration.
    #[error("the transform failed: {message}")]
    GuestError {
        /// The guest's words.
        message: String,
    },
    /// The guest ran into a trap: a panic, a division by zero, an access out of bounds.
    #[error("the transform trapped: {message}")]
    Trapped {
        /// What wasmtime said.
        message: String,
    },
    /// The guest did not return in time.
    #[error("the transform did not finish within {timeout_ms} ms: raise call_timeout, or find the loop")]
    TimedOut {
        /// The limit.
        timeout_ms: u64,
    },
    /// The guest wanted more memory than it may have.
    #[error("the transform needs more than {limit_bytes} bytes of memory: raise max_memory, or find what it keeps")]
    OutOfMemory {
        /// The limit.
        limit_bytes: usize,
    },
    /// The guest's answer breaks the contract.
    #[error("the transform's answer breaks the contract: {place}{what}")]
    BrokenOutcome {
        /// The rule.
        what: &'static str,
        /// Which field, part of a key or text of a reject breaks it, with a colon. Empty where it is none of these.
        place: String,
    },
    /// The guest's answer, or what it passed to the host, is too large.
    #[error("the transform's answer is larger than {limit_bytes} bytes: raise max_output, or write less")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The guest can't handle the schema, or what it wants to write for it is not allowed.
    #[error("the transform can't handle the table's columns: {message}")]
    OpenFailed {
        /// The guest's words, or the host's.
        message: String,
    },
    /// So much time was spent on failing events of the batch that the others were not tried alone.
    #[error("not tried: other events of the batch used up the time that may be spent on failures, {budget_ms} ms")]
    GivenUp {
        /// The budget.
        budget_ms: u64,
    },
    /// No instance could be made: a matter of the worker, not of the event.
    #[error("no instance of the transform could be made: {message}")]
    Unavailable {
        /// What wasmtime or the guest's `init` said, and the remedy.
        message: String,
    },
    /// No instance could be made because others have all the places. It passes as soon as one of them ends.
    #[error("no instance of the transform could be made: {message}; raise transforms.max_instances")]
    NoPlace {
        /// What wasmtime said.
        message: String,
    },
}

impl Error {
    /// A short code; a metric label. A rejected event has the guest's own.
    pub fn code(&self) -> &str {
        match self {
            Self::Rejected { code, .. } => code,
            Self::GuestError { .. } => "guest-error",
            Self::Trapped { .. } => "trapped",
            Self::TimedOut { .. } => "timed-out",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::BrokenOutcome { .. } => "broken-outcome",
            Self::TooLarge { .. } => "too-large",
            Self::OpenFailed { .. } => "open-failed",
            Self::GivenUp { .. } => "given-up",
            Self::Unavailable { .. } | Self::NoPlace { .. } => "unavailable",
        }
    }

    /// Whether its text has words of the guest's own, which may hold a row's values, or what the configuration hides.
    pub(crate) fn has_words(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::GuestError { .. } | Self::OpenFailed { .. } | Self::Unavailable { .. })
    }
}

/// What a guest said of one schema, checked and resolved.
#[derive(Debug)]
pub struct OpenedSchema {
    /// The schema.
    pub schema: Arc<TableSchema>,
    /// Columns of the before image that cross.
    pub before: Vec<u32>,
    /// Columns of the after image that cross.
    pub after: Vec<u32>,
    /// Whether deletes come to the guest.
    pub sees_deletes: bool,
    /// What may be written.
    pub outputs: Vec<Output>,
    /// Where explicit keys hold the primary key, once a write has shown it.
    pub(crate) key_layouts: open::KeyLayouts,
}

/// One kind of document that a guest writes for a schema.
#[derive(Debug)]
pub struct Output {
    /// Where to.
    pub target: Arc<TargetSettings>,
    /// Names of the key's parts; empty: the row's primary key.
    pub key: Vec<Box<str>>,
    /// Names of the fields, in cell order; a dot nests. One empty name: the cell is the whole document.
    pub fields: Vec<Box<str>>,
    /// The tree that the names make.
    pub shape: Shape,
}

/// What a guest does for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestWrite {
    /// Index into the change batch's events.
    pub event: u32,
    /// What to do.
    pub action: GuestAction,
}

/// What a guest does for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestAction {
    /// Replace a document: its key parts, then its fields, begin at this cell.
    Put {
        /// Index into [`OpenedSchema::outputs`].
        output: u32,
        /// Index into [`GuestGroup::cells`].
        first_cell: u32,
        /// 0 leaves it to the target.
        ttl_seconds: u32,
    },
    /// Delete a document: its key parts begin at this cell.
    Delete {
        /// Index into [`OpenedSchema::outputs`].
        output: u32,
        /// Index into [`GuestGroup::cells`].
        first_cell: u32,
    },
    /// The row has no document.
    Skip,
}

/// Events of one schema with the guest's answer.
#[derive(Clone, Debug)]
pub struct GuestGroup {
    /// The schema, as the guest wants it.
    pub opened: Arc<OpenedSchema>,
    /// Indexes of the group's events, also of deletes which the guest does not see.
    pub events: Vec<u32>,
    /// In event order.
    pub writes: Vec<GuestWrite>,
    /// The answer's cells; may hold references (tags 32 and 33) into the event's images.
    pub cells: Cells,
}

/// A batch with the guest's answers.
#[derive(Debug)]
pub struct GuestBatch {
    /// What went in, with the faults so far.
    pub routed: RoutedBatch,
    /// In event order.
    pub groups: Vec<GuestGroup>,
    /// Faults that the guest made.
    pub faults: Vec<RecordFault>,
    /// What a second guest says instead, of the records that are its own: they are not among `groups` and `faults`.
    pub canary: Option<CanaryAnswers>,
}

/// A second guest's answers to its share of a batch.
#[derive(Debug)]
pub struct CanaryAnswers {
    /// Its records, and its module.
    pub canary: Canary,
    /// In event order.
    pub groups: Vec<GuestGroup>,
}
