//! Records that could not be decoded, transformed or stored, kept with their original bytes and the reason.
//!
//! Enters: records with their faults. Leaves: nothing; a letter is settled when all replicas have it.

mod kafka;
pub mod letter;
mod log;
mod memory;

pub use kafka::{KafkaDeadLetters, OMITTED_HEADER};
pub use letter::{LetterId, StoredLetter};
pub use log::DeadLetterLog;
pub use memory::{KeptLetter, MemoryDeadLetters};

use futures_util::future::BoxFuture;

use crate::source::RecordBatch;

/// One record that is given up, and why. Everything is text that may be shown: no row values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Index into the batch's records.
    pub record: u32,
    /// Name of the route.
    pub route: String,
    /// `decode`, `route`, `transform`, `plan` or the sink's name.
    pub stage: String,
    /// A short constant code; also the metric's label.
    pub code: String,
    /// For the operator.
    pub message: String,
    /// SHA-256 of the module.
    pub module: String,
    /// The fence that the record's writes would have had.
    pub fence: i64,
}

/// Why letters were not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topic can't be written now; the outcome may be unknown.
    #[error("dead-letter topic {topic} is away: {message}")]
    Away {
        /// Its name.
        topic: String,
        /// What the client said.
        message: String,
    },
    /// Not without the operator: no permission, no such topic, too large even without its bytes.
    #[error("dead-letter topic {topic} can't be used: {message}")]
    Setup {
        /// Its name.
        topic: String,
        /// What the client said, and the remedy.
        message: String,
    },
}

/// Takes dead letters: Kafka, or memory in tests and in the demo.
pub trait DeadLetters: Send + Sync {
    /// Returns when all replicas have all letters. May be called again with the same letters.
    fn send<'a>(&'a self, records: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), Error>>;
}
