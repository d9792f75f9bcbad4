//! What is written: guest writes, encoded and fenced, the last write of a key alone.
//!
//! Enters: the guest's checked answer. Leaves: [`WritePlan`]. Pure: nothing is sent, no clock is read.

use std::sync::Arc;

use crate::config::TargetSettings;
use crate::fence::Fence;
use crate::source::RecordBatch;

/// A stretch of [`SinkWrites::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Of the first byte.
    pub start: usize,
    /// In bytes.
    pub len: usize,
}

/// One write to one key, as its sink takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FencedWrite {
    /// Index into [`SinkWrites::targets`].
    pub target: u32,
    /// Index into [`RecordBatch::records`].
    pub record: u32,
    /// The version.
    pub fence: Fence,
    /// The key in the sink's own form. Redis: the whole key, `customers:42`. MongoDB: a BSON element type byte and the value of `_id`.
    pub key: Bytes,
    /// The document in the sink's own form, or `None` for a delete. Redis string and Redis JSON: JSON text. Redis hash: for each
    /// field its name and its value, each as u32 length (little-endian) and bytes. MongoDB: a whole BSON document that begins
    /// with `_id` and ends with `_sync`.
    pub document: Option<Bytes>,
    /// Time to live in seconds; 0: none.
    pub ttl_seconds: u32,
    /// XXH3 of the document without its version; 0 for a delete. Equal fence with other content shows a transform that is not
    /// deterministic.
    pub content: u64,
}

/// All writes of a batch to one sink, at most one for each key.
#[derive(Clone, Debug, Default)]
pub struct SinkWrites {
    /// Index of the sink in the settings.
    pub sink: usize,
    /// Partition that the writes are from; stored with every version.
    pub partition: i32,
    /// First 8 bytes of the module's SHA-256, as 16 hexadecimal digits; stored with every version.
    pub module: Arc<str>,
    /// The targets that the writes refer to.
    pub targets: Vec<Arc<TargetSettings>>,
    /// In no order that matters.
    pub writes: Vec<FencedWrite>,
    /// Keys and documents.
    pub bytes: Vec<u8>,
}

impl SinkWrites {
    /// The bytes of a key or document of this batch.
    pub fn slice(&self, bytes: Bytes) -> &[u8] {
        self.bytes.get(bytes.start..bytes.start + bytes.len).unwrap_or_default()
    }
}

/// What is known of a record before its writes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It has at least one write in the plan.
    Writes,
    /// All its writes were displaced by later ones of the same keys.
    Superseded,
    /// It has nothing to write: passed over, or its table has no target for it.
    Filtered,
    /// It is among the faults.
    Faulty,
}

/// A record that must go to the dead-letter topic, or halt the route.
#[derive(Debug)]
pub struct RecordFault {
    /// Index into [`RecordBatch::records`].
    pub record: u32,
    /// Why.
    pub fault: Fault,
}

/// Why a record could not be planned: the error of the stage that met it. `disposition` says what becomes of it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Not an event that the route declares.
    #[error(transparent)]
    Decode(#[from] crate::decode::Error),
    /// Of another table.
    #[error(transparent)]
    Route(#[from] crate::route::Error),
    /// Rejected by the guest, or the guest failed on it.
    #[error(transparent)]
    Transform(#[from] crate::transform::Error),
    /// Its document or key can't be stored.
    #[error(transparent)]
    Plan(#[from] Error),
    /// The sink refused it.
    #[error(transparent)]
    Sink(#[from] crate::sink::Error),
}

/// What is to be written for a batch, and what is known of each of its records.
#[derive(Debug, Default)]
pub struct WritePlan {
    /// The records as they were read.
    pub records: RecordBatch,
    /// For each record.
    pub planned: Vec<Planned>,
    /// For each record `(changed_at_us, snapshot)` where it is a row change.
    pub changed_at: Vec<Option<(i64, bool)>>,
    /// One for each sink that the route writes to.
    pub sinks: Vec<SinkWrites>,
    /// Records to dead-letter, or to halt at.
    pub faults: Vec<RecordFault>,
    /// Index of the first record that truncates the table. The batch ends with it.
    pub truncate: Option<u32>,
}

/// Why a guest's write can't be stored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// See the text.
    #[error("a part of the key of target {target} is null or absent")]
    NullKey {
        /// The target's name.
        target: String,
    },
}
