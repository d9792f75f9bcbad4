//! Records as Kafka has them.
//!
//! Enters: a partition assigned to this worker, with the offset to start at. Leaves: [`RecordBatch`], in offset order. Nothing is
//! parsed here, and nothing is committed.

pub mod client;
pub(crate) mod closing;
pub mod cluster;
pub(crate) mod fault;
pub(crate) mod group;
pub mod kafka;
mod lookup;
mod native;
pub mod outside;
mod reader;
pub mod tail;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use std::time::Duration;

use crate::commit::Commits;

pub use kafka::{CommittedPartition, Idle, KafkaSource, LagStatistics, PartitionLag, Reply, SourceEvent, StartAt};
pub use lookup::Lookup;
pub use reader::{Fetched, Queue, Reader, Slot, fault_of};

/// One partition of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A stretch of [`RecordBatch`]'s bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Of the first byte.
    pub start: u32,
    /// In bytes.
    pub len: u32,
}

/// One Kafka record; its bytes lie in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// Offset in the partition. Gaps between records are normal.
    pub offset: i64,
    /// Kafka's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// `None`: the record has no key.
    pub key: Option<Span>,
    /// `None`: the value is null.
    pub value: Option<Span>,
    /// First of the record's headers in the batch, and their number.
    pub headers: (u32, u32),
}

/// A header's name, and its value where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// UTF-8.
    pub name: Span,
    /// `None`: the header's value is null.
    pub value: Option<Span>,
}

/// Records of one partition in offset order. Their bytes lie in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBatch {
    /// Where they are from.
    pub source: TopicPartition,
    /// The records.
    pub records: Vec<SourceRecord>,
    /// Headers of all records.
    pub headers: Vec<Header>,
    /// Keys, values and headers.
    pub bytes: Vec<u8>,
}

impl RecordBatch {
    /// An empty batch of a partition.
    pub fn new(source: TopicPartition) -> Self {
        Self { source, ..Self::default() }
    }

    /// Makes room for as much as another batch holds.
    pub fn reserve(&mut self, like: &BatchSize) {
        self.records.reserve(like.records);
        self.headers.reserve(like.headers);
        self.bytes.reserve(like.bytes);
    }

    /// How much it holds.
    pub fn size(&self) -> BatchSize {
        BatchSize { records: self.records.len(), headers: self.headers.len(), bytes: self.bytes.len() }
    }

    /// Appends a record. `None`, and no change, where the batch's bytes would pass 4 GiB: `batch.max_bytes` is far lower.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Option<()> {
        let first_header = self.headers.len();
        let key = self.span(key)?;
        let value = self.span(value)?;
        for (name, value) in headers {
            let (name, value) = (self.span(Some(name.as_bytes()))??, self.span(value)?);
            self.headers.push(Header { name, value });
        }
        let headers = (u32::try_from(first_header).ok()?, (self.headers.len() - first_header) as u32);
        self.records.push(SourceRecord { offset, timestamp_ms, key, value, headers });
        Some(())
    }

    fn span(&mut self, bytes: Option<&[u8]>) -> Option<Option<Span>> {
        let Some(bytes) = bytes else { return Some(None) };
        let start = u32::try_from(self.bytes.len()).ok()?;
        let len = u32::try_from(bytes.len()).ok()?;
        start.checked_add(len)?;
        self.bytes.extend_from_slice(bytes);
        Some(Some(Span { start, len }))
    }

    /// The bytes of a span of this batch; empty for a span of another.
    pub fn slice(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes.get(start..start + span.len as usize).unwrap_or_default()
    }

    /// Key of the record at `index`.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        Some(self.slice(self.records.get(index)?.key?))
    }

    /// Value of the record at `index`.
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        Some(self.slice(self.records.get(index)?.value?))
    }

    /// Headers of the record at `index`.
    pub fn headers(&self, index: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let (first, count) = self.records.get(index).map_or((0, 0), |r| r.headers);
        let all = self.headers.get(first as usize..(first + count) as usize).unwrap_or_default();
        all.iter().map(|h| (std::str::from_utf8(self.slice(h.name)).unwrap_or_default(), h.value.map(|v| self.slice(v))))
    }

    /// The offset behind the last record.
    pub fn next_offset(&self) -> Option<i64> {
        self.records.last().map(|r| r.offset + 1)
    }
}

/// How much a batch holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchSize {
    /// Records.
    pub records: usize,
    /// Headers of all records.
    pub headers: usize,
    /// Bytes of keys, values and headers.
    pub bytes: usize,
}

/// How much one batch may hold.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Most records.
    pub max_records: usize,
    /// Most bytes, unless one record alone is larger.
    pub max_bytes: usize,
    /// How long to wait for more after the first record; the wait ends early when the partition has nothing more fetched.
    pub linger: std::time::Duration,
}

/// A worker's place in the consumer group: gives partitions and takes them back, by the [`SourceEvent`]s that it sends.
pub trait Source: Send + Sync {
    /// What the group has committed of an assigned partition, and what the log holds. `None`: the partition is no longer this worker's.
    fn look<'a>(&'a self, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<CommittedPartition>, Error>>;

    /// Reads an assigned partition from an offset on; an earlier reader of it ends, and what it had fetched never comes again. `None`: the
    /// partition is no longer this worker's.
    fn read(&self, start: StartAt) -> BoxFuture<'_, Result<Option<Box<dyn PartitionReader>>, Error>>;

    /// Commits to the group.
    fn commits(&self) -> Arc<dyn Commits>;

    /// Time since the consumer last polled. A worker for which this passes `max.poll.interval.ms` may have lost its partitions unknowingly.
    fn last_poll_age(&self) -> Duration;

    /// Begins to leave the group: partitions are revoked as in a rebalance, then the event channel closes. Returns at once.
    fn stop(&self);
}

/// Reads one assigned partition.
pub trait PartitionReader: Send {
    /// Waits for the next records. Cancel safe: a dropped future loses no record. `None`: the partition was revoked, or the reader is closed.
    fn next_batch(&mut self, limits: BatchLimits) -> BoxFuture<'_, Result<Option<RecordBatch>, Error>>;
}

/// Why a partition can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The committed or resolved offset is no longer in the log: data would be skipped.
    #[error("{source_partition}: {message}")]
    OffsetLost {
        /// The partition.
        source_partition: TopicPartition,
        /// What Kafka said, and the remedy.
        message: String,
    },
    /// Kafka can't be read now; librdkafka goes on trying by itself.
    #[error("Kafka is away: {message}")]
    Away {
        /// What the client said.
        message: String,
    },
    /// Not without the operator.
    #[error("Kafka can't be used: {message}")]
    Setup {
        /// What the client said, and the remedy.
        message: String,
    },
}
