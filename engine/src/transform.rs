//! Guests: WebAssembly components that make documents of rows.
//!
//! Enters: [`RoutedBatch`]. Leaves: [`GuestBatch`], of which every tag, span, index and count was checked. A guest can waste its own
//! budget and nothing else.

use std::sync::Arc;

use crate::change::{Cells, TableSchema};
use crate::config::TargetSettings;
use crate::plan::RecordFault;
use crate::route::RoutedBatch;

/// Why an event has no outcome.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The guest rejected the event, on purpose.
    #[error("rejected by the transform: {code}: {message}")]
    Rejected {
        /// The guest's constant code; a metric label after it was checked.
        code: String,
        /// The guest's words.
        message: String,
    },
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
#[derive(Debug)]
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
}
