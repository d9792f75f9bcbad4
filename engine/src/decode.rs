//! Debezium's envelopes and MySQL's types.
//!
//! Enters: [`RecordBatch`]. Leaves: [`ChangeBatch`]: rows as cells, in one pass over the JSON. Pure; never guesses: a record that is not what
//! its route declares becomes a fault.

pub mod declared;

use std::sync::Arc;

use crate::change::ChangeBatch;
use crate::config::RouteSettings;
use crate::source::RecordBatch;

/// Why a record is not a change event of its route.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Not the declared format.
    #[error("not JSON: {message}")]
    Json {
        /// What the parser said.
        message: String,
    },
}

/// Decodes the records of one lane; remembers the last schema by its bytes.
pub struct Decoder {
    #[expect(dead_code, reason = "skeleton")]
    route: Arc<RouteSettings>,
}

impl Decoder {
    /// A decoder that has seen no schema.
    pub fn new(route: Arc<RouteSettings>) -> Self {
        Self { route }
    }

    /// Decodes a batch. A record that can't be decoded is among the faults; the others go on.
    pub fn batch(&mut self, records: RecordBatch) -> ChangeBatch {
        ChangeBatch { records, ..ChangeBatch::default() }
    }
}
