//! Which life of a topic this is, and where its partitions are read from.
//!
//! A topic's identity is its cluster id, topic id and number of partitions; each identity has a generation, the upper part of every
//! fence. It lives in a compacted control topic and, as a mirror, in every sink; the highest generation wins. Beside it the control topic
//! keeps where a generation begins, whether it rebuilds the stores, and what the partitions' logs have held. [`resolve`] is pure: from
//! all that is known of a partition it says where to start, or why not to. Nothing is ever skipped silently.

mod history;
mod kafka;
mod memory;
mod record;
mod start;

use std::collections::HashMap;

use futures_util::future::BoxFuture;

pub use history::{FirstSeen, History, Seen};
pub use kafka::KafkaIdentities;
pub use memory::MemoryIdentities;
pub use record::{Beginning, Entry, Rebuild, TopicRecord};
pub use start::{Halt, Known, Reason, Start, changed, grown, lost_tail, of_topic, pass_over, resolve};

/// Why identities can't be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Worth another try.
    #[error("control topic {topic} is away: {message}")]
    Away {
        /// Its name.
        topic: String,
        /// What the client said.
        message: String,
    },
    /// Not without the operator.
    #[error("control topic {topic} can't be used: {message}")]
    Setup {
        /// Its name.
        topic: String,
        /// What the client said, and the remedy.
        message: String,
    },
}

/// Where identities are kept: the control topic, or memory in tests and in the demo.
pub trait Identities: Send + Sync {
    /// What is kept of those of `topics` of which anything is.
    fn load<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<HashMap<String, TopicRecord>, Error>>;

    /// Returns when all replicas have it.
    fn store<'a>(&'a self, topic: &'a str, entry: &'a Entry) -> BoxFuture<'a, Result<(), Error>>;
}
