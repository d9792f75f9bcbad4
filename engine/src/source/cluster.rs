//! What Kafka knows of topics, and the topics that the engine makes for itself. Blocking: call it off the runtime's threads.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::client::{self, REQUEST_TIMEOUT};
use super::fault::{Meaning, meaning, meaning_later};
use super::{Error, native};
use crate::config::Settings;

/// Stands for a cluster or topic id that Kafka does not tell; it is never compared.
pub const UNKNOWN_ID: &str = "unknown";

/// What tells one life of a topic from another, and how long its log lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Kafka's cluster id, or [`UNKNOWN_ID`].
    pub cluster_id: String,
    /// Kafka's topic id, or [`UNKNOWN_ID`].
    pub topic_id: String,
    /// Number of partitions.
    pub partitions: i32,
    /// What happens to old records.
    pub cleanup_policy: CleanupPolicy,
    /// How long a compacted log keeps the null records of deleted rows.
    pub delete_retention_ms: Option<i64>,
}

impl TopicFacts {
    /// How long the log tells of a row's deletion after it. `None`: for as long as the record stays.
    pub fn tombstones_kept_ms(&self) -> Option<i64> {
        self.delete_retention_ms.filter(|_| self.cleanup_policy.compact)
    }
}

/// What happens to old records. A topic may have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// The last record of each key stays.
    pub compact: bool,
    /// Old records go, whatever their key.
    pub delete: bool,
}

impl CleanupPolicy {
    /// Kafka's default; also what is assumed where Kafka does not tell.
    pub const DELETE: Self = Self { compact: false, delete: true };

    fn parse(text: &str) -> Self {
        let has = |word| text.split(',').any(|part| part.trim() == word);
        Self { compact: has("compact"), delete: has("delete") || !has("compact") }
    }
}

/// Tells what a topic is: Kafka, or a demo that made the topic itself.
pub trait Topics: Send + Sync {
    /// Blocks for a few request time-outs at most: call it off the runtime's threads.
    fn facts(&self, topic: &str) -> Result<TopicFacts, Error>;
}

/// The cluster of the configuration; a connection a question.
pub struct KafkaTopics(Settings);

impl KafkaTopics {
    /// Nothing connects before the first question.
    pub fn new(settings: &Settings) -> Self {
        Self(settings.clone())
    }
}

impl Topics for KafkaTopics {
    fn facts(&self, topic: &str) -> Result<TopicFacts, Error> {
        Cluster::new(&self.0)?.facts(topic)
    }
}

/// Asks and creates; one short-lived connection of its own.
pub struct Cluster {
    admin: AdminClient<DefaultClientContext>,
    brokers: String,
    replication_factor: Option<i32>,
}

impl Cluster {
    /// Connects lazily: an error here is one of the configuration.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let admin = client::admin(settings)
            .create()
            .map_err(|error| Error::Setup { message: format!("{error}; check [kafka] in the configuration") })?;
        Ok(Self { admin, brokers: settings.kafka.brokers.clone(), replication_factor: settings.kafka.replication_factor })
    }

    /// The facts of a topic. Blocks for at most a few request time-outs.
    pub fn facts(&self, topic: &str) -> Result<TopicFacts, Error> {
        let Some(partitions) = self.partitions(topic)? else {
            return Err(Error::Away {
                message: format!("topic {topic} does not exist yet; it appears with the first change of its table"),
            });
        };
        let cluster_id = self.admin.inner().fetch_cluster_id(REQUEST_TIMEOUT).unwrap_or_else(|| UNKNOWN_ID.to_owned());
        let topic_id = told(topic, "its id", native::topic_id(self.admin.inner(), topic, REQUEST_TIMEOUT))?.flatten();
        let topic_id = topic_id.unwrap_or_else(|| UNKNOWN_ID.to_owned());
        if cluster_id == UNKNOWN_ID || topic_id == UNKNOWN_ID {
            tracing::warn!(
                topic,
                cluster_id,
                topic_id,
                "Kafka does not tell this id: a topic that is deleted and created again can't be noticed by it"
            );
        }
        let (cleanup_policy, delete_retention_ms) = self.retention(topic)?;
        Ok(TopicFacts { cluster_id, topic_id, partitions, cleanup_policy, delete_retention_ms })
    }

    /// Number of a topic's partitions; `None` where there is no such topic. Lists all topics: asking for one by name may create it.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        let metadata = self.metadata()?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        Ok(found.map(|t| t.partitions().len() as i32).filter(|&count| count > 0))
    }

    /// Whether a broker answers. An error names those that were asked.
    pub fn reach(&self) -> Result<(), Error> {
        self.metadata().map(drop)
    }

    fn metadata(&self) -> Result<Metadata, Error> {
        let metadata = self.admin.inner().fetch_metadata(None, REQUEST_TIMEOUT);
        metadata.map_err(|error| Error::Away { message: format!("{}: {error}", self.brokers) })
    }

    /// Whether a topic keeps the last record of each key for ever, as far as Kafka tells: `false` where it does not. An error names the remedy.
    pub fn is_known_to_be_compacted(&self, topic: &str) -> Result<bool, Error> {
        let config = self.config(topic)?;
        let Some(policy) = config.as_ref().and_then(|config| value(config, "cleanup.policy")) else { return Ok(false) };
        compacted_alone(topic, policy).map(|()| true)
    }

    fn retention(&self, topic: &str) -> Result<(CleanupPolicy, Option<i64>), Error> {
        let Some(config) = self.config(topic)? else {
            tracing::warn!(
                topic,
                "the topic's configuration was not told (DescribeConfigs needs DESCRIBE_CONFIGS on the topic): its cleanup policy is taken for `delete`"
            );
            return Ok((CleanupPolicy::DELETE, None));
        };
        let policy = value(&config, "cleanup.policy").map_or(CleanupPolicy::DELETE, CleanupPolicy::parse);
        Ok((policy, value(&config, "delete.retention.ms").and_then(|v| v.parse().ok())))
    }

    /// A topic's configuration; `None`: Kafka will not tell it.
    fn config(&self, topic: &str) -> Result<Option<ConfigResource>, Error> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let resources = [ResourceSpecifier::Topic(topic)];
        let answer = match wait(self.admin.describe_configs(&resources, &options), REQUEST_TIMEOUT + Duration::from_secs(1)) {
            Some(Ok(answer)) => answer.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::Unknown)),
            Some(Err(error)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
            None => Err(RDKafkaErrorCode::OperationTimedOut),
        };
        told(topic, "its configuration", answer)
    }

    /// Creates a topic of one partition unless it is there. `config` are topic configurations.
    pub fn ensure_topic(&self, topic: &str, config: &[(&str, &str)]) -> Result<(), Error> {
        if self.partitions(topic)?.is_some() {
            return Ok(());
        }
        let replication = TopicReplication::Fixed(self.replication_factor.unwrap_or(-1));
        let new = config.iter().fold(NewTopic::new(topic, 1, replication), |new, (name, value)| new.set(name, value));
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let refused = |why: String| Error::Setup {
            message: format!("topic {topic} is missing and can't be created: {why}; {}", by_hand(topic, config)),
        };
        match wait(self.admin.create_topics([&new], &options), REQUEST_TIMEOUT * 2) {
            None => Err(Error::Away { message: format!("no answer to the creation of topic {topic}") }),
            Some(Err(error)) => Err(refused(error.to_string())),
            Some(Ok(results)) => match results.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) => {
                    tracing::info!(topic, "created the topic");
                    Ok(())
                }
                Some(Err((_, code))) if meaning(code) == Meaning::Away => {
                    Err(Error::Away { message: format!("creation of topic {topic}: {code}") })
                }
                Some(Err((_, code))) => Err(refused(code.to_string())),
                None => Err(refused("the broker's answer names no topic".to_owned())),
            },
        }
    }
}

fn value<'c>(config: &'c ConfigResource, name: &str) -> Option<&'c str> {
    config.get(name).and_then(|entry| entry.value.as_deref())
}

/// Refuses a policy under which a record goes though no later one of its key has come: `compact,delete` is no better than `delete`.
fn compacted_alone(topic: &str, policy: &str) -> Result<(), Error> {
    if CleanupPolicy::parse(policy) == (CleanupPolicy { compact: true, delete: false }) {
        return Ok(());
    }
    Err(Error::Setup {
        message: format!(
            "topic {topic} has cleanup.policy={policy}: what it says of the routes' topics would be deleted by its age; keep the last record \
             of each key: kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=compact"
        ),
    })
}

/// What Kafka answered of a topic, which it has listed before. `None`: it will not tell, now or later (an old broker, a missing right). A broker that is away will, so that
/// its silence must not be taken for that: what is not known is not checked.
fn told<T>(topic: &str, what: &str, answer: Result<T, RDKafkaErrorCode>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(code) if meaning_later(code) == Meaning::Away => {
            Err(Error::Away { message: format!("topic {topic}: Kafka does not tell {what}: {code}") })
        }
        Err(code) => {
            tracing::warn!(topic, error = %code, "Kafka refuses to tell {what}");
            Ok(None)
        }
    }
}

fn by_hand(topic: &str, config: &[(&str, &str)]) -> String {
    let config: Vec<String> = config.iter().map(|(name, value)| format!("--config {name}={value}")).collect();
    format!("permit CREATE on it, or create it: kafka-topics.sh --create --topic {topic} --partitions 1 {}", config.join(" "))
}

/// Runs a future on this thread, which has nothing else to do. `None`: not ready in time.
fn wait<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    let deadline = Instant::now() + timeout;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        std::thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_topic_is_compacted_and_nothing_else() {
        let refused = |policy: &str| compacted_alone("streamsync.control", policy).err().map(|error| error.to_string());
        assert_eq!([refused("compact"), refused(" compact")], [None, None]);
        for policy in ["delete", "compact,delete", "delete, compact", ""] {
            let told = refused(policy).unwrap_or_default();
            let remedy = "--entity-name streamsync.control --add-config cleanup.policy=compact";
            assert!(told.contains(&format!("cleanup.policy={policy}:")) && told.contains(remedy), "{policy}: {told}");
        }
    }
}
