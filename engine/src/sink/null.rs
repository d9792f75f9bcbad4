//! Takes every write and keeps no document: what remains is the cost of everything before a store. For measurements.
//!
//! Positions and identities are kept as the memory sink keeps them, as long as the process lives, because partitions start by them.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::memory::MemorySink;
use super::{Error, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use crate::config::TargetSettings;
use crate::fence::{Fence, Generation};
use crate::plan::SinkWrites;
use crate::source::TopicPartition;

/// A store that forgets.
pub struct NullSink {
    positions: MemorySink,
}

impl NullSink {
    /// There is nothing to set.
    pub fn new(name: &str) -> Self {
        Self { positions: MemorySink::new(name) }
    }
}

impl Sink for NullSink {
    fn name(&self) -> &str {
        self.positions.name()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.positions.check()
    }

    /// Every write counts as applied.
    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        ready(writes.writes.iter().map(|_| Ok(WriteOutcome::Applied)).collect()).boxed()
    }

    /// There is nothing to mark.
    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        ready(marks.writes.iter().map(|_| Ok(WriteOutcome::Applied)).collect()).boxed()
    }

    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, Error>> {
        ready(Ok(vec![Held::default(); keys.writes.len()])).boxed()
    }

    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, Error>> {
        self.positions.watermark(group, source)
    }

    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, Error>> {
        self.positions.store_watermark(group, source, lineage, replaces, watermark)
    }

    fn lineage(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.positions.lineage()
    }

    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, Error>> {
        self.positions.identity(topic)
    }

    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>> {
        self.positions.store_identity(topic, identity)
    }

    /// There is nothing to clear.
    fn clear<'a>(&'a self, _: &'a TargetSettings, _: Fence, _: i32) -> BoxFuture<'a, Result<(), Error>> {
        ready(Ok(())).boxed()
    }

    /// There is nothing to sweep.
    fn sweep_generation<'a>(&'a self, _: &'a TargetSettings, _: Generation) -> BoxFuture<'a, Result<u64, Error>> {
        ready(Ok(0)).boxed()
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.positions.sweep()
    }

    fn sweep_interval(&self) -> Option<std::time::Duration> {
        self.positions.sweep_interval()
    }
}
