//! The control topic: one partition, compacted; keys and values as [`Entry`] has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::config::FromClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{Entry, Error, Identities, TopicRecord};
use crate::config::Settings;
use crate::source::client::{self, REQUEST_TIMEOUT};
use crate::source::closing::Closing;
use crate::source::fault::{Meaning, meaning};
use crate::source::{self, Lookup, TopicPartition};

const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// The control topic in Kafka; made with the first use where it is missing.
pub struct KafkaIdentities {
    settings: Settings,
    /// Whether the topic's policy was asked for, and is not known to be wrong.
    policy_asked: Arc<AtomicBool>,
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
        Ok(Self { settings: settings.clone(), policy_asked: Arc::default(), producer, _closing: closing })
    }

    fn topic(&self) -> &str {
        &self.settings.kafka.control_topic
    }

    async fn read(&self, topics: &[String]) -> Result<HashMap<String, TopicRecord>, Error> {
        let (settings, policy_asked) = (self.settings.clone(), Arc::clone(&self.policy_asked));
        let scan = tokio::task::spawn_blocking(move || {
            let topic = settings.kafka.control_topic.as_str();
            let lookup = Lookup::new(&settings).map_err(|error| of_source(topic, error))?;
            let known = scan(&lookup, topic)?;
            if !policy_asked.load(Ordering::Relaxed) {
                policy_asked.store(check_policy(&lookup, topic)?, Ordering::Relaxed);
            }
            Ok(known)
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

/// Refuses a topic that forgets. Returns whether there is an answer, for better or worse: where Kafka will not tell, that is said once.
fn check_policy(lookup: &Lookup, topic: &str) -> Result<bool, Error> {
    match lookup.cluster().is_known_to_be_compacted(topic) {
        Ok(true) => Ok(true),
        Ok(false) => {
            tracing::warn!(
                topic,
                "whether the control topic is compacted is not known (DescribeConfigs needs DESCRIBE_CONFIGS on it): if it is not, it forgets what the topics are"
            );
            Ok(true)
        }
        // The topic was read, and whoever starts a partition asks the same broker for its topic: nothing is gained by waiting here.
        Err(source::Error::Away { message }) => {
            tracing::debug!(topic, error = message, "the control topic's policy is asked for again with the next look");
            Ok(false)
        }
        Err(error) => Err(of_source(topic, error)),
    }
}

/// The whole control topic, from its beginning to where its end is now. The last record of a key counts.
fn scan(lookup: &Lookup, topic: &str) -> Result<HashMap<String, TopicRecord>, Error> {
    // The topic has one partition.
    let source = TopicPartition::new(topic, 0);
    let mut known: HashMap<String, TopicRecord> = HashMap::new();
    let mut broken = BTreeMap::new();
    let scanned = lookup.cluster().ensure_topic(topic, &[("cleanup.policy", "compact")]).and_then(|()| {
        let (low, high) = lookup.bounds(&source)?;
        lookup.read(&source, low, high, |message| {
            let key = message.key().unwrap_or_default();
            // One that was written again counts no more, however long compaction leaves it there.
            broken.remove(key);
            match parse(topic, message.offset(), message.key(), message.payload()) {
                Ok(Some((name, entry))) => known.entry(name).or_default().take(entry),
                Ok(None) => {}
                Err(error) => {
                    broken.insert(key.to_vec(), error);
                }
            }
            Ok(())
        })
    });
    scanned.map_err(|error| of_source(topic, error))?;
    broken.into_values().next().map_or(Ok(known), Err)
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
