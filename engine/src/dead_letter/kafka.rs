//! Letters in a Kafka topic.
//!
//! A letter is the record as it was: key, value and headers; what is known of it stands in headers whose names begin with `streamsync.`.
//! A record that is too large is kept as a reference: those headers alone, with a null value.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, join_all};
use rdkafka::config::FromClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::OnceCell;

use super::letter::{CLOSES_HEADER, OUTCOME_HEADER, PREFIX};
use super::{DeadLetter, DeadLetters, Error, LetterId};
use crate::config::Settings;
use crate::source::client::{self, REQUEST_TIMEOUT};
use crate::source::closing::Closing;
use crate::source::cluster::Cluster;
use crate::source::fault::{Meaning, meaning};
use crate::source::{self, RecordBatch, SourceRecord};

/// How long a letter may take to reach all replicas.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// For the names and values of headers, beside `dead_letters.max_bytes` for the record.
const HEADER_BYTES: usize = 64 << 10;

/// Longest message of a fault that is kept.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// Letters under way at one time.
const WINDOW: usize = 256;

/// The header of a reference: how many bytes of the record were left out.
pub const OMITTED_HEADER: &str = "streamsync.value.omitted";

/// Writes letters; the topic is made with the first one where it is missing.
pub struct KafkaDeadLetters {
    settings: Settings,
    producer: FutureProducer,
    ready: OnceCell<()>,
    _closing: Closing<FutureProducer>,
}

impl KafkaDeadLetters {
    /// Connects lazily: an error here is one of the configuration.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let largest = settings.dead_letters.max_bytes.saturating_add(HEADER_BYTES);
        let producer = FutureProducer::from_config(&client::producer(settings, largest, DELIVERY_TIMEOUT)).map_err(|error| {
            Error::Setup { topic: settings.dead_letters.topic.clone(), message: format!("{error}; check [kafka] in the configuration") }
        })?;
        let closing = Closing::new("the dead letters' producer", producer.clone());
        Ok(Self { settings: settings.clone(), producer, ready: OnceCell::new(), _closing: closing })
    }

    /// Creates the topic where it is missing: kept for ever, nothing compacted. The first letter does it too.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.ready.get_or_try_init(|| self.ensure_topic()).await.copied()
    }

    async fn ensure_topic(&self) -> Result<(), Error> {
        let settings = self.settings.clone();
        let task = tokio::task::spawn_blocking(move || {
            let config = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
            Cluster::new(&settings)?.ensure_topic(&settings.dead_letters.topic, &config)
        });
        match task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source::Error::Away { message })) => Err(self.away(message)),
            Ok(Err(error)) => Err(self.setup(error.to_string())),
            Err(error) => Err(self.away(error.to_string())),
        }
    }

    async fn send_all(&self, records: &RecordBatch, letters: &[DeadLetter]) -> Result<(), Error> {
        if letters.is_empty() {
            return Ok(());
        }
        self.prepare().await?;
        for window in letters.chunks(WINDOW) {
            let sent = join_all(window.iter().map(|letter| self.send_whole(records, letter))).await;
            for (letter, sent) in window.iter().zip(sent) {
                // The broker refuses letters that travelled together for their sum: each has a journey of its own first.
                if !sent? && !self.send_whole(records, letter).await? {
                    self.send_reference(records, letter).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends a letter with its record; `false`: it is too large.
    async fn send_whole(&self, records: &RecordBatch, letter: &DeadLetter) -> Result<bool, Error> {
        let (index, record) = (letter.record as usize, self.record(records, letter)?);
        if record_bytes(records, index) > self.settings.dead_letters.max_bytes {
            return Ok(false);
        }
        match self.produce(records, index, record, letter, None).await {
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => Ok(false),
            result => result.map(|()| true).map_err(|error| self.fault(&error)),
        }
    }

    async fn send_reference(&self, records: &RecordBatch, letter: &DeadLetter) -> Result<(), Error> {
        let (index, record) = (letter.record as usize, self.record(records, letter)?);
        let size = record_bytes(records, index);
        tracing::warn!(source = %records.source, offset = record.offset, bytes = size, "a dead letter is too large: only a reference is kept");
        self.produce(records, index, record, letter, Some(size)).await.map_err(|error| self.fault(&error))
    }

    fn record<'r>(&self, records: &'r RecordBatch, letter: &DeadLetter) -> Result<&'r SourceRecord, Error> {
        records.records.get(letter.record as usize).ok_or_else(|| {
            self.setup(format!("a letter names record {} of a batch of {}; report this", letter.record, records.records.len()))
        })
    }

    /// One attempt; librdkafka repeats it by itself until `DELIVERY_TIMEOUT`.
    async fn produce(
        &self,
        records: &RecordBatch,
        index: usize,
        record: &SourceRecord,
        letter: &DeadLetter,
        omitted: Option<usize>,
    ) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new();
        if omitted.is_none() {
            for (key, value) in records.headers(index).filter(|(name, _)| !name.starts_with(PREFIX)) {
                headers = headers.insert(Header { key, value });
            }
        }
        for (key, value) in described(records, record, letter, omitted) {
            headers = headers.insert(Header { key, value: Some(&value) });
        }
        let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.settings.dead_letters.topic).headers(headers);
        if omitted.is_none() {
            message.key = records.key(index);
            message.payload = records.value(index);
        }
        // The wait is for room in librdkafka's queue; the delivery has its own limit.
        self.producer.send(message, REQUEST_TIMEOUT).await.map(|_| ()).map_err(|(error, _)| error)
    }

    /// Notes that a letter was redriven. Returns when all replicas have the note.
    pub async fn close(&self, letter: LetterId, outcome: &str) -> Result<(), Error> {
        self.prepare().await?;
        let (letter, at) = (letter.to_string(), now_ms().to_string());
        let headers = [(CLOSES_HEADER, letter.as_str()), (OUTCOME_HEADER, outcome), ("streamsync.at", at.as_str())];
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
        let note: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.settings.dead_letters.topic).headers(headers);
        self.producer.send(note, REQUEST_TIMEOUT).await.map(|_| ()).map_err(|(error, _)| self.fault(&error))
    }

    fn fault(&self, error: &KafkaError) -> Error {
        let remedy = match error.rdkafka_error_code().map_or(Meaning::Away, meaning) {
            Meaning::TooLarge => "raise the topic's max.message.bytes: not even a reference fits",
            Meaning::Setup(remedy) => remedy,
            // librdkafka's idempotent producer ends with its first fatal error.
            Meaning::Lost => "restart the worker",
            Meaning::Away | Meaning::OffsetLost => return self.away(error.to_string()),
        };
        self.setup(format!("{error}; {remedy}"))
    }

    fn away(&self, message: String) -> Error {
        Error::Away { topic: self.settings.dead_letters.topic.clone(), message }
    }

    fn setup(&self, message: String) -> Error {
        Error::Setup { topic: self.settings.dead_letters.topic.clone(), message }
    }
}

impl DeadLetters for KafkaDeadLetters {
    fn send<'a>(&'a self, records: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.send_all(records, letters))
    }
}

/// Bytes of a record with its headers.
fn record_bytes(records: &RecordBatch, index: usize) -> usize {
    let headers: usize = records.headers(index).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
    records.key(index).map_or(0, <[u8]>::len) + records.value(index).map_or(0, <[u8]>::len) + headers
}

/// What is known of a letter, as headers.
fn described(records: &RecordBatch, record: &SourceRecord, letter: &DeadLetter, omitted: Option<usize>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("streamsync.topic", records.source.topic.to_string()),
        ("streamsync.partition", records.source.partition.to_string()),
        ("streamsync.offset", record.offset.to_string()),
        ("streamsync.route", letter.route.clone()),
        ("streamsync.stage", letter.stage.clone()),
        ("streamsync.code", letter.code.clone()),
        ("streamsync.message", shortened(&letter.message).to_owned()),
        ("streamsync.module", letter.module.clone()),
        ("streamsync.fence", letter.fence.to_string()),
        ("streamsync.at", now_ms().to_string()),
    ];
    if let Some(timestamp) = record.timestamp_ms {
        headers.push(("streamsync.timestamp", timestamp.to_string()));
    }
    if let Some(bytes) = omitted {
        headers.push((OMITTED_HEADER, bytes.to_string()));
    }
    headers
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn shortened(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MAX_MESSAGE_BYTES)).unwrap_or(message)
}
