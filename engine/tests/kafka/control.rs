//! The control topic; and the policies of topics that were made by hand.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use streamsync::config::Settings;
use streamsync::identity::{Entry, FirstSeen, Identities, KafkaIdentities, Seen};
use streamsync::sink::TopicIdentity;

use crate::{Kafka, PATIENCE, kafka};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_identity_of_a_topic_counts() {
    let kafka = kafka();
    let settings = kafka.settings();
    let identities = KafkaIdentities::new(&settings).unwrap();
    let topics = vec![kafka.topic.clone(), "other".to_owned()];
    assert!(identities.load(&topics).await.unwrap().is_empty());
    for generation in 1..4 {
        let identity = TopicIdentity { cluster_id: "c".into(), topic_id: "t".into(), partitions: 2, generation };
        identities.store(&kafka.topic, &Entry::Identity(identity)).await.unwrap();
    }
    let first = FirstSeen { generation: 3, offset: 9 };
    identities.store(&kafka.topic, &Entry::Seen(1, Seen::Change, first)).await.unwrap();
    let found = identities.load(&topics).await.unwrap();
    let record = &found[&kafka.topic];
    assert_eq!((found.len(), record.identity.as_ref().map(|identity| identity.generation)), (1, Some(3)));
    assert_eq!(record.seen[&1][&Seen::Change], first);
}

/// Compaction may leave it there for days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_can_t_be_read_halts_until_it_is_written_again() {
    let kafka = kafka();
    let settings = kafka.settings();
    let identities = KafkaIdentities::new(&settings).unwrap();
    let topics = vec![kafka.topic.clone()];
    if kafka.mock.is_none() {
        // A broker that makes topics itself would make it with another policy.
        assert!(identities.load(&topics).await.unwrap().is_empty());
    }
    let identity = Entry::Identity(TopicIdentity { cluster_id: "c".into(), topic_id: "t".into(), partitions: 2, generation: 7 });
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    for key in [identity.key(&kafka.topic), identity.key("another")] {
        let broken = FutureRecord::to(&settings.kafka.control_topic).key(&key).payload("{");
        producer.send(broken, PATIENCE).await.unwrap();
    }
    let read = async || identities.load(&topics).await.map_err(|error| error.to_string());
    assert!(read().await.unwrap_err().contains("can't be read"));
    identities.store(&kafka.topic, &identity).await.unwrap();
    let error = read().await.unwrap_err();
    assert!(error.contains("identity/another at offset 1"), "{error}");
    identities.store("another", &identity).await.unwrap();
    assert_eq!(read().await.unwrap()[&kafka.topic].identity.as_ref().map(|identity| identity.generation), Some(7));
}

/// A topic made by hand, or by a broker that makes topics itself.
struct ByHand {
    kafka: Kafka,
    admin: AdminClient<DefaultClientContext>,
    topic: String,
}

impl ByHand {
    /// `None`: a mock cluster tells no policy, as a user without the right for it is told none. The other tests go on there.
    async fn make(topic: impl Fn(&Settings) -> &String, policy: &str) -> Option<Self> {
        let kafka = kafka();
        if kafka.mock.is_some() {
            return None;
        }
        let topic = topic(&kafka.settings()).clone();
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", policy);
        assert!(admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].is_ok());
        Some(Self { kafka, admin, topic })
    }

    async fn set(&self, policy: &str) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(&self.topic)).set("cleanup.policy", policy);
        assert!(self.admin.alter_configs([&config], &AdminOptions::new()).await.unwrap()[0].is_ok());
    }

    /// What `check --connect` says.
    async fn checked(&self) -> String {
        streamsync::engine::check_connections(Arc::new(self.kafka.settings())).await.faults.concat()
    }
}

/// What it says would be gone by its age.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_topic_that_forgets_halts_until_it_is_compacted() {
    let Some(made) = ByHand::make(|settings| &settings.kafka.control_topic, "compact,delete").await else { return };
    let identities = KafkaIdentities::new(&made.kafka.settings()).unwrap();
    let topics = vec![made.kafka.topic.clone()];
    let load = async || identities.load(&topics).await.map(|found| found.len()).map_err(|error| error.to_string());
    for told in [load().await.unwrap_err(), made.checked().await] {
        assert!(told.contains("cleanup.policy=compact,delete") && told.contains("kafka-configs.sh --alter"), "{told}");
    }
    made.set("compact").await;
    assert_eq!(load().await, Ok(0));
    assert!(!made.checked().await.contains("cleanup.policy"));
}

/// Each letter counts, and a redrive's note has no key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_connections_refuses_a_compacted_topic_for_dead_letters() {
    let Some(made) = ByHand::make(|settings| &settings.dead_letters.topic, "compact").await else { return };
    let told = made.checked().await;
    assert!(told.contains(&format!("topic {} is compacted", made.topic)) && told.contains("cleanup.policy=delete"), "{told}");
    made.set("delete").await;
    assert!(!made.checked().await.contains("cleanup.policy"));
}
