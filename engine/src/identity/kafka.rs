//! The control topic: one partition, compacted; keys and values as [`Entry`] has them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use super::{Entry, Error, Identities, TopicRecord};
use crate::config::Settings;
use crate::source;
use crate::source::client::{self, REQUEST_TIMEOUT};
use crate::source::closing::Closing;
use crate::source::cluster::Cluster;
use crate::source::fault::{Meaning, meaning};

/// How long the whole control topic may take to read. It has a few records a topic.
const SCAN_TIMEOUT: Duration = Duration::from_secs(60);

const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// The control topic in Kafka; made with the first use where it is missing.
pub struct KafkaIdentities {
    settings: Settings,
    producer: FutureProducer,
    _closing: Closing<FutureProducer>,
}

impl KafkaIdentities {
    /// Connects lazily: an error here is one of the configuration.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let producer = FutureProducer::from_config(&client::producer(settings, 0, STORE_TIMEOUT)).map_err(|error| Error::Setup {
            topic: settings.kafka.control_topic.clone(),
            message: format!("{error}; check [kafka] in the configuration"),
        })?;
        let closing = Closing::new("the control topic's producer", producer.clone());
        Ok(Self { settings: settings.clone(), producer, _closing: closing })
    }

    fn topic(&self) -> &str {
        &self.settings.kafka.control_topic
    }

    async fn read(&self, topics: &[String]) -> Result<HashMap<String, TopicRecord>, Error> {
        let settings = self.settings.clone();
        let scan = tokio::task::spawn_blocking(move || {
            Cluster::new(&settings)
                .and_then(|cluster| cluster.ensure_topic(&settings.kafka.control_topic, &[("cleanup.policy", "compact")]))
                .map_err(|error| of_source(&settings.kafka.control_topic, error))?;
            scan(&settings)
        });
        let mut all = scan.await.map_err(|error| away(self.topic(), error.to_string()))??;
        Ok(topics.iter().filter_map(|topic| all.remove_entry(topic)).collect())
    }

    async fn write(&self, topic: &str, entry: &Entry) -> Result<(), Error> {
        let key = entry.key(topic);
        let value = entry.value().map_err(|error| setup(self.topic(), error.to_string()))?;
        // Partition 0: the topic has one, and a reader of it reads no other.
        let record = FutureRecord::to(self.topic()).partition(0).key(&key).payload(&value);
        self.producer.send(record, REQUEST_TIMEOUT).await.map(|_| ()).map_err(|(error, _)| fault_of(self.topic(), &error))
    }
}

impl Identities for KafkaIdentities {
    fn load<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<HashMap<String, TopicRecord>, Error>> {
        Box::pin(self.read(topics))
    }

    fn store<'a>(&'a self, topic: &'a str, entry: &'a Entry) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.write(topic, entry))
    }
}

/// The whole control topic, from its beginning to where its end is now. The last record of a key counts.
fn scan(settings: &Settings) -> Result<HashMap<String, TopicRecord>, Error> {
    let topic = settings.kafka.control_topic.as_str();
    let fault = |error: KafkaError| fault_of(topic, &error);
    let consumer = BaseConsumer::from_config(&client::scanner(settings)).map_err(|error| setup(topic, error.to_string()))?;
    let (low, high) = consumer.fetch_watermarks(topic, 0, REQUEST_TIMEOUT).map_err(fault)?;
    let mut known: HashMap<String, TopicRecord> = HashMap::new();
    if low >= high {
        return Ok(known);
    }
    let mut assignment = TopicPartitionList::with_capacity(1);
    assignment.add_partition_offset(topic, 0, Offset::Offset(low)).map_err(fault)?;
    consumer.assign(&assignment).map_err(fault)?;
    let deadline = Instant::now() + SCAN_TIMEOUT;
    // A compacted log may end with offsets that hold no record: the position passes them, a record's offset would not.
    while position(&consumer, topic) < high {
        if Instant::now() >= deadline {
            return Err(away(topic, format!("not read to its end, offset {high}, within {SCAN_TIMEOUT:?}")));
        }
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.map_err(fault)?;
            if let Some((name, entry)) = parse(topic, message.offset(), message.key(), message.payload())? {
                known.entry(name).or_default().take(entry);
            }
            if message.offset() + 1 >= high {
                break;
            }
        }
    }
    Ok(known)
}

fn position(consumer: &BaseConsumer, topic: &str) -> i64 {
    let position = consumer.position().ok().and_then(|list| list.find_partition(topic, 0)?.offset().to_raw());
    position.unwrap_or(-1)
}

/// `None`: a record of another kind. One that can't be read is no absent one: it halts.
fn parse(topic: &str, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Option<(String, Entry)>, Error> {
    let (Some(key), Some(value)) = (key.and_then(|key| std::str::from_utf8(key).ok()), value) else { return Ok(None) };
    Entry::read(key, value).transpose().map_err(|error| {
        let message = format!("the record {key} at offset {offset} can't be read: {error}; write it again, as the last valid one was");
        setup(topic, message)
    })
}

fn fault_of(topic: &str, error: &KafkaError) -> Error {
    match error.rdkafka_error_code().map_or(Meaning::Away, meaning) {
        Meaning::Setup(remedy) => setup(topic, format!("{error}; {remedy}")),
        Meaning::TooLarge => setup(topic, format!("{error}; raise the topic's max.message.bytes")),
        Meaning::Lost => setup(topic, format!("{error}; restart the worker")),
        Meaning::Away | Meaning::OffsetLost => away(topic, error.to_string()),
    }
}

fn of_source(topic: &str, error: source::Error) -> Error {
    match error {
        source::Error::Away { message } => away(topic, message),
        source::Error::Setup { message } => setup(topic, message),
        source::Error::OffsetLost { .. } => setup(topic, error.to_string()),
    }
}

fn away(topic: &str, message: String) -> Error {
    Error::Away { topic: topic.to_owned(), message }
}

fn setup(topic: &str, message: String) -> Error {
    Error::Setup { topic: topic.to_owned(), message }
}
