//! The dead-letter topic read as a log, and the records that its letters stand for.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Error;
use super::letter::{self, Closed, Entry, LetterId, StoredLetter};
use crate::config::Settings;
use crate::source::{self, Lookup, RecordBatch, TopicPartition};

/// Reads letters; nothing is written here.
pub struct DeadLetterLog {
    topic: String,
    lookup: Arc<Lookup>,
}

impl DeadLetterLog {
    /// Connects lazily: an error here is one of the configuration.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let topic = settings.dead_letters.topic.clone();
        let lookup = Lookup::new(settings).map_err(|error| of_source(&topic, error))?;
        Ok(Self { topic, lookup: Arc::new(lookup) })
    }

    /// The letters for which `keep` holds, in the order of the log, each with the note that closes it. Values are not kept.
    pub async fn letters(&self, keep: impl Fn(&StoredLetter) -> bool + Send + 'static) -> Result<Vec<StoredLetter>, Error> {
        let (lookup, topic) = (Arc::clone(&self.lookup), self.topic.clone());
        let scanned = blocking(move || {
            let mut letters = Vec::new();
            let mut notes: HashMap<LetterId, Closed> = HashMap::new();
            let scanned = lookup.scan(&topic, |records| match letter::entry(&records) {
                Some(Entry::Letter(letter)) if keep(&letter) => letters.push(*letter),
                Some(Entry::Letter(_)) | None => {}
                Some(Entry::Note(id, closed)) => {
                    notes.insert(id, closed);
                }
            });
            scanned.map(|()| {
                letters.iter_mut().for_each(|letter| letter.closed = notes.remove(&letter.id));
                letters
            })
        });
        scanned.await.map_err(|error| of_source(&self.topic, error))
    }

    /// The record that a letter stands for: from the letter, or, where that is a reference, from the record's own topic. `None`: it is
    /// no longer there.
    pub async fn record(&self, letter: &StoredLetter) -> Result<Option<RecordBatch>, Error> {
        let (lookup, letter, topic) = (Arc::clone(&self.lookup), letter.clone(), self.topic.clone());
        let found = blocking(move || {
            if letter.omitted_bytes.is_none() {
                let stored = lookup.record(&TopicPartition::new(topic, letter.id.partition), letter.id.offset)?;
                return Ok(stored.and_then(|stored| letter::original(&letter, &stored)));
            }
            let found = lookup.record(&letter.source, letter.offset)?;
            // A topic that was created again has another record at this offset.
            Ok(found.filter(|found| {
                let timestamp = found.records.first().and_then(|record| record.timestamp_ms);
                letter.timestamp_ms.is_none() || timestamp == letter.timestamp_ms
            }))
        });
        found.await.map_err(|error| of_source(&self.topic, error))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, source::Error> + Send + 'static) -> Result<T, source::Error> {
    let mut task = JoinSet::new();
    task.spawn_blocking(work);
    match task.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(_)) | None => Err(source::Error::Setup { message: "reading failed by a defect in the engine; report this".to_owned() }),
    }
}

fn of_source(topic: &str, error: source::Error) -> Error {
    let topic = topic.to_owned();
    match error {
        source::Error::Away { message } => Error::Away { topic, message },
        source::Error::Setup { message } => Error::Setup { topic, message },
        source::Error::OffsetLost { .. } => Error::Setup { topic, message: error.to_string() },
    }
}
