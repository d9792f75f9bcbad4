//! A whole worker at librdkafka's mock cluster, with stores in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use streamsync::dead_letter::MemoryDeadLetters;
use streamsync::engine::{self, Parts};
use streamsync::http::Health;
use streamsync::identity::MemoryIdentities;
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::sink::Sink;
use streamsync::source::cluster::{CleanupPolicy, TopicFacts, Topics, UNKNOWN_ID};
use streamsync::source::{self, TopicPartition};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::world::{self, FaultySink, Row};

struct OneTopic;

impl Topics for OneTopic {
    fn facts(&self, _: &str) -> Result<TopicFacts, source::Error> {
        Ok(TopicFacts {
            cluster_id: "mock".to_owned(),
            topic_id: UNKNOWN_ID.to_owned(),
            partitions: 1,
            cleanup_policy: CleanupPolicy::DELETE,
            delete_retention_ms: None,
        })
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Nobody can start a partition without the stores' watermarks; that is no reason to stop its route for good, nor to hang at a stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_when_partitions_come_delays_them_and_halts_nothing() {
    let mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("shop.t", 1, 1).expect("a topic");
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", mock.bootstrap_servers()).create().expect("a producer");
    let records = world::batch(&TopicPartition::new("shop.t", 0), 0, &[Row::Put(1), Row::Put(2)]);
    for index in 0..records.records.len() {
        let record = FutureRecord::to("shop.t").key(records.key(index).expect("a key")).payload(records.value(index).expect("a value"));
        producer.send(record, Duration::from_secs(10)).await.expect("produced");
    }

    let (settings, module) = world::prepared("halt");
    let mut settings = (*settings).clone();
    settings.kafka.brokers = mock.bootstrap_servers();
    settings.kafka.max_poll_interval = Duration::from_secs(8);
    settings.drain_timeout = Duration::from_secs(2);
    let (one, two) = (FaultySink::new("one"), FaultySink::new("two"));
    one.watermarks_away.store(true, Ordering::SeqCst);
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let health = Health::new(settings.http.stalled_after);
    let parts = Parts {
        settings: Arc::new(settings),
        sinks: vec![Arc::clone(&one) as Arc<dyn Sink>, Arc::clone(&two) as Arc<dyn Sink>],
        dead_letters: Arc::new(MemoryDeadLetters::new(10)),
        identities: Arc::new(MemoryIdentities::default()),
        topics: Arc::new(OneTopic),
        modules: vec![module],
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        machine: Machine::REAL,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut worker = JoinSet::new();
    worker.spawn(engine::run_parts(parts, async {
        stopped.await.ok();
    }));
    // A quarter of max_poll_interval later the partition is given back, and comes again.
    until("the partition comes again", || metrics.rebalances.get() >= 3).await;
    assert_eq!(health.reasons(), Vec::<String>::new());
    one.watermarks_away.store(false, Ordering::SeqCst);
    until("both rows are stored", || one.store.documents("t").len() == 2).await;

    stop.send(()).expect("the worker runs");
    let ended = tokio::time::timeout(Duration::from_secs(20), worker.join_next()).await.expect("it stops in time");
    ended.expect("one task").expect("no panic").expect("no route halted");
    assert_eq!(metrics.partitions_assigned.get(), 0);
}

/// What a start would say of a module is said by `streamsync check` before.
#[tokio::test]
async fn a_module_that_is_no_component_is_told_of_before_a_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let (settings, _) = world::prepared("halt");
    let with = |bytes: &[u8]| {
        let mut settings = (*settings).clone();
        let module = directory.path().join(format!("{}.wasm", bytes.len()));
        std::fs::write(&module, bytes).expect("written");
        Arc::make_mut(&mut settings.routes[0]).transform.module = module;
        Arc::new(settings)
    };
    let faults = engine::check_modules(with(b"\0asm\x01\0\0\0")).await;
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("route rows: ") && faults[0].contains("make a component of it"), "{faults:?}");
    assert_eq!(engine::check_modules(with(world::guest_component())).await, Vec::<String>::new());
}
