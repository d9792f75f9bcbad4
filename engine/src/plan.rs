//! What is written: guest writes, encoded and fenced, the last write of a key alone.
//!
//! Enters: the guest's checked answer. Leaves: [`WritePlan`]. Pure: nothing is sent, no clock is read.
//!
//! A write is encoded, and refused where it can't be stored, before writes of one key are reduced to the last one: what can't be
//! stored never displaces what can. A record that is refused writes nothing at all.

mod bson;
mod build;
mod calendar;
mod cell;
mod coalesce;
pub mod compare;
mod decimal128;
mod json;
mod json_to_bson;
mod key;
mod marks;
mod shown;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use build::{Planner, build};
pub(crate) use json::string as json_string;
pub(crate) use shown::outcomes;

use crate::config::TargetSettings;
use crate::fence::Fence;
use crate::source::RecordBatch;

/// Most bytes of a document with its key, in every sink: MongoDB's 16 MiB, less what the server adds to a stored document.
pub const MAX_DOCUMENT_BYTES: usize = (16 << 20) - (16 << 10);

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
    /// SHA-256 of the module that made the plan, in hexadecimal; empty where there is none.
    pub module: Arc<str>,
    /// The records that a second module decided, where there is one.
    pub canary: Option<Canary>,
    /// For each record.
    pub planned: Vec<Planned>,
    /// For each record `(changed_at_us, snapshot)` where it is a row change.
    pub changed_at: Vec<Option<(i64, bool)>>,
    /// One for each sink that the route writes to, and one more for each sink where a second module wrote too.
    pub sinks: Vec<SinkWrites>,
    /// Records to dead-letter, or to halt at.
    pub faults: Vec<RecordFault>,
    /// For the keys of the faulty records, as far as they are known: what marks them once their letters are kept. No documents.
    pub marks: Vec<SinkWrites>,
    /// Index of the last record that truncates the table. Puts behind it stay, because their fences are greater.
    pub truncate: Option<u32>,
}

/// What a second module decided of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// SHA-256 of the second module, in hexadecimal.
    pub module: Arc<str>,
    /// Indexes into the records, in their order.
    pub records: Vec<u32>,
}

/// Why a guest's write can't be stored. The row's values are never in the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A field of the document.
    #[error("field {field:?} of the document for target {target} {why}")]
    Field {
        /// The target's name.
        target: String,
        /// The last part of the field's name; empty: the whole document.
        field: String,
        /// Why.
        why: Unstorable,
    },
    /// A part of the key.
    #[error("the key for target {target} {why}")]
    Key {
        /// The target's name.
        target: String,
        /// Why.
        why: Unstorable,
    },
    /// The document is larger than any sink takes.
    #[error("the document for target {target} has {bytes} bytes, at most {MAX_DOCUMENT_BYTES} can be stored: drop fields, or shorten them")]
    TooLarge {
        /// The target's name.
        target: String,
        /// Size of key and document.
        bytes: usize,
    },
    /// One event wrote one key twice, so that it is not known what the row has.
    #[error("the transform put two documents at one key of target {target} for one event: write each key once, or name key parts")]
    TwoPuts {
        /// The target's name.
        target: String,
    },
    /// The record has no place in the order of writes.
    #[error("offset {offset} is outside the range of a fence, 0 to 2^48-1")]
    Offset {
        /// Kafka's offset.
        offset: i64,
    },
}

impl Error {
    /// A short constant code; a metric label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Field { why, .. } | Self::Key { why, .. } => why.code(),
            Self::TooLarge { .. } => "too-large",
            Self::TwoPuts { .. } => "two-puts",
            Self::Offset { .. } => "offset",
        }
    }
}

/// What keeps a value out of a document or a key.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unstorable {
    /// A part of the key.
    #[error("has a part that is null or absent: a key's parts must have values")]
    NullKey,
    /// A part of the key.
    #[error("has a part that is JSON or a geometry, which have no one form: use another column")]
    KeyType,
    /// NaN or an infinity.
    #[error("is not a finite number, which JSON does not have: write null or a text")]
    NotFinite,
    /// A date without an ISO 8601 text, or beyond BSON's 64 bits of milliseconds.
    #[error("is outside the years 0 to 9999")]
    DateRange,
    /// Not JSON, or JSON with a lone surrogate.
    #[error("is not well-formed JSON")]
    BrokenJson,
    /// The whole document must be an object.
    #[error("must be a json cell with an object, because it is the whole document")]
    NotAnObject,
    /// Deeper than MongoDB's limit, which holds for all sinks.
    #[error("nests deeper than 100 levels")]
    TooDeep,
    /// BSON's names end with NUL.
    #[error("has a member whose name contains NUL, which MongoDB can't store")]
    NulInName,
    /// A top-level name of a whole document.
    #[error("has a top-level member whose name is _id, _sync, empty, begins with $ or contains a dot, which MongoDB or streamsync reserve")]
    ReservedName,
    /// Redis has no hash without fields.
    #[error("has no field with a value, and Redis keeps no empty hash: write one that always has a value, or use the form string")]
    EmptyHash,
}

impl Unstorable {
    /// A short constant code; a metric label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NullKey => "null-key",
            Self::KeyType => "key-type",
            Self::NotFinite => "not-finite",
            Self::DateRange => "date-range",
            Self::BrokenJson => "broken-json",
            Self::NotAnObject => "not-an-object",
            Self::TooDeep => "too-deep",
            Self::NulInName => "nul-in-name",
            Self::ReservedName => "reserved-name",
            Self::EmptyHash => "empty-hash",
        }
    }
}

/// A field that can't be stored.
#[derive(Debug)]
struct Refused {
    field: Box<str>,
    why: Unstorable,
}

impl Refused {
    fn new(field: &str, why: Unstorable) -> Self {
        Self { field: field.into(), why }
    }
}
