//! Letters in this process, for tests and the demo.

use std::sync::{Mutex, PoisonError};

use futures_util::future::{BoxFuture, ready};

use super::{DeadLetter, DeadLetters, Error};
use crate::source::{RecordBatch, TopicPartition};

/// A letter with what its record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLetter {
    /// Where the record is from.
    pub source: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Why it is here.
    pub letter: DeadLetter,
}

/// Keeps the letters, the first `max_letters` of them; counts all.
#[derive(Debug)]
pub struct MemoryDeadLetters {
    max_letters: usize,
    kept: Mutex<(Vec<KeptLetter>, u64)>,
}

impl MemoryDeadLetters {
    /// Keeps at most `max_letters`.
    pub fn new(max_letters: usize) -> Self {
        Self { max_letters, kept: Mutex::default() }
    }

    /// The letters that were kept.
    pub fn letters(&self) -> Vec<KeptLetter> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// How many came.
    pub fn count(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl DeadLetters for MemoryDeadLetters {
    fn send<'a>(&'a self, records: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), Error>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, count) = &mut *kept;
        for letter in letters {
            let index = letter.record as usize;
            *count += 1;
            if let Some(record) = records.records.get(index).filter(|_| list.len() < self.max_letters) {
                list.push(KeptLetter {
                    source: records.source.clone(),
                    offset: record.offset,
                    key: records.key(index).map(<[u8]>::to_vec),
                    value: records.value(index).map(<[u8]>::to_vec),
                    letter: letter.clone(),
                });
            }
        }
        Box::pin(ready(Ok(())))
    }
}
