//! Offsets behind which everything is settled.
//!
//! Enters: the contiguous position of a lane. Leaves: the group's committed offset. Never passes an unsettled record.

mod kafka;
mod memory;

pub use kafka::KafkaCommits;
pub use memory::MemoryCommits;

use futures_util::future::BoxFuture;

use crate::source::TopicPartition;

/// Why an offset was not committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Worth another try.
    #[error("commit of {source_partition}: {message}")]
    Away {
        /// The partition.
        source_partition: TopicPartition,
        /// What the client said.
        message: String,
    },
    /// The partition is no longer this worker's: what was settled is settled, someone else goes on.
    #[error("commit of {source_partition}: the partition belongs to another worker")]
    Lost {
        /// The partition.
        source_partition: TopicPartition,
    },
}

/// Where positions are committed: a consumer group, or memory in tests.
pub trait Commits: Send + Sync {
    /// Returns when the group has the offset.
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), Error>>;
}
