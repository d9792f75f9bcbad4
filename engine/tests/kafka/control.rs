//! The control topic.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use streamsync::identity::{Entry, FirstSeen, Identities, KafkaIdentities, Seen};
use streamsync::sink::TopicIdentity;

use crate::{PATIENCE, kafka};

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

/// Made by hand, or by a broker that makes topics itself: what it says would be gone by its age. A mock cluster tells no policy, as a user without the
/// right for it is told none: the other tests go on there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_topic_that_forgets_halts_until_it_is_compacted() {
    let kafka = kafka();
    if kafka.mock.is_some() {
        return;
    }
    let settings = kafka.settings();
    let topic = settings.kafka.control_topic.as_str();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact,delete");
    assert!(admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].is_ok());
    let identities = KafkaIdentities::new(&settings).unwrap();
    let topics = vec![kafka.topic.clone()];
    let load = async || identities.load(&topics).await.map(|found| found.len()).map_err(|error| error.to_string());
    let checked = async || streamsync::engine::check_connections(Arc::new(settings.clone())).await.faults.concat();
    for told in [load().await.unwrap_err(), checked().await] {
        assert!(told.contains("cleanup.policy=compact,delete") && told.contains("kafka-configs.sh --alter"), "{told}");
    }
    let compact = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "compact");
    assert!(admin.alter_configs([&compact], &AdminOptions::new()).await.unwrap()[0].is_ok());
    assert_eq!(load().await, Ok(0));
    assert!(!checked().await.contains("cleanup.policy"));
}
