//! Where documents are kept.
//!
//! Enters: [`SinkWrites`], at most one write for each key. Leaves: one [`WriteOutcome`] or [`Error`] for each write. A sink applies a
//! write only if its fence is greater than the stored one, so a write may be sent any number of times, late, and by two
//! workers. Nothing is retried here: `lane` does, as `disposition` says.

mod lineage;
pub mod memory;
pub mod mongodb;
pub mod null;
pub mod redis;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::config::{Settings, SinkKind, SinkSettings};
use crate::fence::{Fence, Generation};
use crate::plan::SinkWrites;
use crate::source::TopicPartition;

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// The key now holds it.
    Applied,
    /// The key already held this very write.
    Duplicate,
    /// The key already held a write with this fence and other content: the transform is not deterministic.
    Conflict,
    /// The key holds something newer.
    Stale,
}

/// What a key holds beside its document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The version of the last write. `None`: there was none, or it was a delete whose tombstone has expired.
    pub fence: Option<Fence>,
    /// Whether the last write was a delete.
    pub deleted: bool,
    /// The greatest fence of a record of this key that was dead-lettered and that no write has overtaken.
    pub mark: Option<Fence>,
}

/// Why a write was not done. `disposition` says what follows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server can't be reached, is loading, fails over, or did not answer in time: the outcome is unknown.
    #[error("{sink} is away: {message}")]
    Away {
        /// Name of the sink.
        sink: String,
        /// What the client said, without row values.
        message: String,
    },
    /// The server answers, and can't take writes until an operator helps: out of memory, disk full, not a primary by configuration.
    #[error("{sink} takes no writes: {message}")]
    Full {
        /// Name of the sink.
        sink: String,
        /// What the server said.
        message: String,
    },
    /// This write can't be stored whatever is tried: wrong type at the key, another unique index, too large.
    #[error("{sink} refused the write to {place}: {message}")]
    Refused {
        /// Name of the sink.
        sink: String,
        /// Prefix or collection.
        place: String,
        /// A short constant code, used as a metric label.
        code: &'static str,
        /// What the server said, without row values.
        message: String,
    },
    /// The key holds a write of the same generation from another partition: the topic's partitioning changed, or two topics feed one target.
    #[error(
        "{sink}: a key of {place} was last written from partition {stored} and now comes from partition {incoming}, so that nobody can tell which \
         version is the newer one. Where the topic's partitions grew, or the type of a key column changed: `streamsync rebuild --after-snapshot`, \
         and have Debezium take a new snapshot. Where two routes write to one target: give each its own"
    )]
    OtherPartition {
        /// Name of the sink.
        sink: String,
        /// Prefix or collection.
        place: String,
        /// Partition in the store.
        stored: i32,
        /// Partition of the write.
        incoming: i32,
    },
    /// Credentials, permissions or the server's set-up are wrong: nothing gets through until the configuration changes.
    #[error("{sink} can't be used: {message}")]
    Setup {
        /// Name of the sink.
        sink: String,
        /// What the server said, and the remedy.
        message: String,
    },
}

/// The position up to which a partition's writes were acknowledged, as it is stored in the sink itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Generation of the topic.
    pub generation: Generation,
    /// Next offset to read.
    pub next_offset: i64,
    /// When it was written, milliseconds since the Unix epoch.
    pub written_at_ms: i64,
    /// All that MySQL deleted before this moment is deleted in the sink, or will be by what the log has from `next_offset` on; milliseconds since
    /// the Unix epoch.
    pub complete_until_ms: i64,
}

impl Watermark {
    /// Whether it stands for less than `other` does. Offsets of different generations can't be compared: the later one has more.
    pub fn is_behind(&self, other: &Self) -> bool {
        (self.generation, self.next_offset) < (other.generation, other.next_offset)
    }
}

/// What a watermark may replace. A sink that was emptied, or put back to an earlier state, holds something else than its lane left
/// there: a new watermark over that would hide the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// A lane begins: whatever is there, unless it is behind what was read a moment ago, or of a later generation than the lane's own.
    NotBehind(Option<Watermark>),
    /// A lane goes on: exactly the last one that it stored, or the one of which it was not told whether it was stored.
    Own(Watermark, Option<Watermark>),
}

impl Replaces {
    /// Whether `found` may be replaced by `watermark`. What is there already may be stored again.
    pub fn permits(&self, found: Option<Watermark>, watermark: Watermark) -> bool {
        match self {
            Self::NotBehind(_) if found.is_some_and(|found| found.generation > watermark.generation) => false,
            Self::NotBehind(None) => true,
            Self::NotBehind(Some(read)) => found.is_some_and(|found| !found.is_behind(read)),
            Self::Own(known, tried) => found.is_some_and(|found| found == *known || Some(found) == *tried || found == watermark),
        }
    }
}

/// What became of a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkOutcome {
    /// The sink has it; in a cluster every shard.
    Stored,
    /// The sink has something else than it may replace: this, or nothing.
    Found(Option<Watermark>),
    /// The servers are not those that they were, and were left as they are.
    OtherServers,
}

/// The identity of a topic, with its generation; stored in the control topic and mirrored in every sink.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicIdentity {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Kafka's topic id.
    pub topic_id: String,
    /// Number of partitions.
    pub partitions: i32,
    /// The life of the topic that this is.
    pub generation: u16,
}

/// A store. Implemented by Redis, MongoDB, memory and null; a simulator may add others.
pub trait Sink: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &str;

    /// Connects, and checks that the server is fit: its version, its set-up, its permissions.
    fn check(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// One result for each of `writes.writes`, in their order.
    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>>;

    /// Marks keys whose record was dead-lettered: `marks` are deletes by their form, and delete nothing. A mark stays until a write with its
    /// fence or a greater one. [`WriteOutcome::Applied`]: marked now; `Duplicate`: this mark or a greater one was there; `Stale`: the key holds
    /// this record's write, or a newer one.
    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>>;

    /// What each key of `keys` holds, in their order. For operators' questions: it may take a request a key.
    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, Error>>;

    /// The watermark of a partition for a consumer group; in a cluster the smallest of its shards', `None` if one has none.
    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, Error>>;

    /// Stores the watermark where it may replace what is there, in a cluster on every shard, if [`Sink::lineage`] is what it was: asks
    /// the servers who they are, and then stores it there.
    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, Error>>;

    /// Asks the servers who they are. The number changes when one of them is another process than at the last look, or has taken over
    /// another one's data since: then it may lack writes that were acknowledged. It never changes back.
    fn lineage(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// The identity of a topic as this sink has it.
    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, Error>>;

    /// Stores the identity of a topic, unless the sink has a later generation of it.
    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>>;

    /// Deletes every document of a target whose fence is below `fence`, as a truncate does, and leaves tombstones with `fence`.
    fn clear<'a>(&'a self, target: &'a crate::config::TargetSettings, fence: Fence, partition: i32) -> BoxFuture<'a, Result<(), Error>>;

    /// Deletes every document of a target that was last written in a generation before `generation`, or never by this engine, page by
    /// page at a bounded rate, and leaves tombstones of the generation before. What `generation` has written stays. Returns how many
    /// went; after a failure it is simply begun again.
    fn sweep_generation<'a>(
        &'a self,
        target: &'a crate::config::TargetSettings,
        generation: Generation,
    ) -> BoxFuture<'a, Result<u64, Error>>;

    /// Repeats what must be repeated in the background: MongoDB's sweep of tombstones. Returns when one round is done.
    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// How long to wait between two sweeps; `None`: never.
    fn sweep_interval(&self) -> Option<std::time::Duration>;
}

/// The stores, in the order of the settings. Nothing connects before [`Sink::check`].
///
/// # Errors
/// [`Error::Setup`] for an address that no client can use.
pub fn build(settings: &Settings) -> Result<Vec<Arc<dyn Sink>>, Error> {
    let build = |(index, sink): (usize, &SinkSettings)| -> Result<Arc<dyn Sink>, Error> {
        let targets =
            settings.routes.iter().flat_map(|route| &route.targets).filter(|target| target.sink == index).map(Arc::clone).collect();
        Ok(match &sink.kind {
            SinkKind::Redis(redis) => Arc::new(redis::RedisSink::new(sink, redis, targets)?),
            SinkKind::MongoDb(mongodb) => Arc::new(mongodb::MongoDbSink::new(sink, mongodb, targets)?),
            SinkKind::Memory => Arc::new(memory::MemorySink::new(&sink.name)),
            SinkKind::Null => Arc::new(null::NullSink::new(&sink.name)),
        })
    };
    settings.sinks.iter().enumerate().map(build).collect()
}
