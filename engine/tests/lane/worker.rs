//! A whole worker at librdkafka's mock cluster, with stores in memory.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use streamsync::commit::Commits;
use streamsync::config::Settings;
use streamsync::dead_letter::MemoryDeadLetters;
use streamsync::engine::{self, Parts};
use streamsync::http::Health;
use streamsync::identity::{Beginning, Entry, Identities, MemoryIdentities, Rebuild};
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::rollout;
use streamsync::sink::{Sink, TopicIdentity};
use streamsync::source::cluster::{CleanupPolicy, TopicFacts, Topics, UNKNOWN_ID};
use streamsync::source::{self, CommittedPartition, KafkaSource, PartitionReader, Source, SourceEvent, StartAt, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::world::{self, ChannelReader, FaultySink, KeptCommits, Row};

pub struct OneTopic;

impl Topics for OneTopic {
    fn facts(&self, _: &str) -> Result<TopicFacts, source::Error> {
        Ok(TopicFacts {
            cluster_id: "mock".to_owned(),
            topic_id: UNKNOWN_ID.to_owned(),
            partitions: 1,
            cleanup_policy: CleanupPolicy::DELETE,
            delete_retention_ms: Some(86_400_000),
        })
    }
}

/// As short as a busy machine allows: tests wait for a multiple of it.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(3);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A worker on a mock cluster whose topic has the rows.
struct Running {
    one: Arc<FaultySink>,
    two: Arc<FaultySink>,
    identities: Arc<MemoryIdentities>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// The group's member, once the worker has one.
    member: Arc<OnceLock<Arc<KafkaSource>>>,
    stop: oneshot::Sender<()>,
    worker: JoinSet<Result<(), engine::Error>>,
    producer: FutureProducer,
    /// Kafka goes with it.
    _mock: MockCluster<'static, DefaultProducerContext>,
}

async fn produce(producer: &FutureProducer, first_offset: i64, rows: &[Row]) {
    let records = world::batch(&TopicPartition::new("shop.t", 0), first_offset, rows);
    for index in 0..records.records.len() {
        let record = FutureRecord::to("shop.t").key(records.key(index).expect("a key")).payload(records.value(index).expect("a value"));
        producer.send(record, Duration::from_secs(10)).await.expect("produced");
    }
}

impl Running {
    async fn start(rows: &[Row], prepare: impl AsyncFnOnce(&FaultySink, &MemoryIdentities)) -> Self {
        let mock = MockCluster::new(1).expect("a mock cluster");
        mock.create_topic("shop.t", 1, 1).expect("a topic");
        let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", mock.bootstrap_servers()).create().expect("a producer");
        produce(&producer, 0, rows).await;
        let (settings, module) = world::prepared("halt");
        let mut settings = (*settings).clone();
        settings.kafka.brokers = mock.bootstrap_servers();
        settings.kafka.max_poll_interval = MAX_POLL_INTERVAL;
        // A session is no longer than this interval, and has to hear of the member more often than by default.
        settings.kafka.properties.push(("heartbeat.interval.ms".to_owned(), "300".to_owned()));
        settings.drain_timeout = Duration::from_secs(2);
        settings.loss_check_interval = Duration::from_millis(200);
        let (one, two) = (FaultySink::new("one"), FaultySink::new("two"));
        let identities = Arc::new(MemoryIdentities::default());
        prepare(one.as_ref(), identities.as_ref()).await;
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let health = Health::new(settings.http.stalled_after);
        let parts = Parts {
            settings: Arc::new(settings),
            sinks: vec![Arc::clone(&one) as Arc<dyn Sink>, Arc::clone(&two) as Arc<dyn Sink>],
            dead_letters: Arc::new(MemoryDeadLetters::new(10)),
            identities: Arc::clone(&identities) as Arc<dyn Identities>,
            topics: Arc::new(OneTopic),
            modules: vec![module],
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            machine: Machine::REAL,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let mut worker = JoinSet::new();
        let member = Arc::new(OnceLock::new());
        let joined = Arc::clone(&member);
        let start = move |settings: &Settings, events: mpsc::Sender<SourceEvent>| {
            let source = KafkaSource::start(settings, events)?;
            Ok(joined.get_or_init(|| source).clone() as Arc<dyn Source>)
        };
        worker.spawn(engine::run_source(parts, rollout::desk().1, start, async {
            stopped.await.ok();
        }));
        Self { one, two, identities, metrics, health, member, stop, worker, producer, _mock: mock }
    }

    /// Lets the world be as it is for much longer than the group waits for a poll: the worker goes on polling, and keeps its partition.
    async fn stays_in_the_group(&self) {
        let end = Instant::now() + 3 * MAX_POLL_INTERVAL;
        while Instant::now() < end {
            let age = self.member.get().expect("the worker has joined").last_poll_age();
            assert!(age < MAX_POLL_INTERVAL, "not polled for {age:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!((self.metrics.rebalances.get(), self.metrics.partitions_assigned.get()), (1, 1));
    }

    async fn stop(mut self) {
        self.stop.send(()).expect("the worker runs");
        let ended = tokio::time::timeout(Duration::from_secs(20), self.worker.join_next()).await.expect("it stops in time");
        ended.expect("one task").expect("no panic").expect("no route halted");
        assert_eq!(self.metrics.partitions_assigned.get(), 0);
    }
}

/// Nobody can start a partition without the stores' watermarks; that is no reason to leave the group, to halt, or to hang at a stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_delays_its_partitions_alone_and_one_that_is_emptied_is_filled_again() {
    let away = async |one: &FaultySink, _: &MemoryIdentities| *world::locked(&one.watermarks_away) = |_| true;
    let running = Running::start(&[Row::Put(1), Row::Put(2)], away).await;
    let Running { one, two, metrics, health, .. } = &running;
    assert_eq!(health.reasons(), ["starting: the consumer group has not answered yet"]);
    until("the sink is told to be away", || health.reasons().iter().any(|reason| reason.starts_with("sink one is away"))).await;
    running.stays_in_the_group().await;
    *world::locked(&one.watermarks_away) = |_| false;
    until("both rows are stored", || one.store.documents("t").len() == 2).await;
    until("the worker is ready", || health.reasons().is_empty()).await;

    // Emptied, with every connection open: noticed by the idle lane, and healed from the log.
    until("both rows are settled", || health.position(&TopicPartition::new("shop.t", 0)) == Some(2)).await;
    assert_eq!(metrics.sink("one").rewinds.get(), 0);
    one.store.flush();
    until("the rows are stored again", || one.store.documents("t").len() == 2).await;
    assert_eq!((metrics.rebalances.get(), metrics.sink("one").rewinds.get(), metrics.sink("two").rewinds.get()), (1, 1, 0));
    assert!(one.store.identity("shop.t").await.expect("in memory").is_some(), "the identity is mirrored again");
    assert!(two.store.version("t", b"t:1").is_none(), "the other sink has its own targets");
    running.stop().await;
}

/// The same where the store goes away in the midst of the work: batches wait for it, and the group for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stays_in_its_group_however_long_a_store_takes_nothing() {
    /// One in the queue, one before it.
    const FULL: i64 = 2;
    let running = Running::start(&[Row::Put(1)], async |_: &FaultySink, _: &MemoryIdentities| {}).await;
    let Running { one, metrics, health, producer, .. } = &running;
    let settled_up_to = |offset| move || health.position(&TopicPartition::new("shop.t", 0)) == Some(offset);
    until("the row is settled", settled_up_to(1)).await;
    let away = Arc::clone(one);
    one.fail(move |_| Some(away.away()));
    produce(producer, 1, &[Row::Put(2)]).await;
    until("the sink is told to be away", || health.reasons().iter().any(|reason| reason.starts_with("sink one is away"))).await;
    // More than the lane takes: it reads nothing any more.
    for id in 3..=9 {
        let read = metrics.prepared_batches.get();
        produce(producer, id - 1, &[Row::Put(id)]).await;
        until("it is read", || metrics.prepared_batches.get() > read || read == FULL).await;
    }
    assert_eq!(metrics.prepared_batches.get(), FULL);
    running.stays_in_the_group().await;
    one.mend();
    until("all is settled", settled_up_to(9)).await;
    assert_eq!((one.store.documents("t").len(), metrics.rebalances.get()), (9, 1));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_ends_with_a_sweep_when_the_refill_has_reached_its_end() {
    let begun = async |one: &FaultySink, identities: &MemoryIdentities| {
        one.store.plant("t", b"t:99", b"{}".to_vec());
        let identity = TopicIdentity { cluster_id: "mock".into(), topic_id: UNKNOWN_ID.into(), partitions: 1, generation: 2 };
        for entry in [
            Entry::Beginning(Beginning { generation: 2, offsets: vec![0], begun_at_ms: 1, log_is_split: false }),
            Entry::Rebuild(Rebuild { generation: 2, ends: None, swept_at_ms: None }),
            Entry::Identity(identity),
        ] {
            identities.store("shop.t", &entry).await.expect("in memory");
        }
    };
    let running = Running::start(&[Row::Read(1), Row::Read(2), Row::Put(3)], begun).await;
    let Running { one, identities, metrics, health, .. } = &running;
    until("the rows are stored", || one.store.documents("t").len() == 4).await;
    until("they are settled", || health.position(&TopicPartition::new("shop.t", 0)) == Some(3)).await;
    // The end of the refill is not known yet.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((one.store.documents("t").len(), metrics.route("rows").unproven.get()), (4, 1));
    let ends = Rebuild { generation: 2, ends: Some(vec![3]), swept_at_ms: None };
    identities.store("shop.t", &Entry::Rebuild(ends)).await.expect("in memory");
    until("the route is proven", || metrics.route("rows").unproven.get() == 0).await;
    let left: Vec<_> = one.store.documents("t").into_keys().collect();
    assert_eq!(left, [b"t:1".to_vec(), b"t:2".to_vec(), b"t:3".to_vec()]);
    assert_eq!((metrics.sink("one").swept.get(), metrics.sink("two").swept.get()), (1, 0));
    let record = identities.load(&["shop.t".to_owned()]).await.expect("in memory").remove("shop.t").expect("there is one");
    assert!(record.rebuild().expect("there is one").swept_at_ms.is_some());
    running.stop().await;
}

/// A group's member with one partition, which a stop does not reach: as a client that waits by a clock which was set back.
struct Stuck {
    commits: Arc<KeptCommits>,
    records: mpsc::Sender<source::RecordBatch>,
    reader: std::sync::Mutex<Option<ChannelReader>>,
    events: mpsc::Sender<SourceEvent>,
}

impl Source for Stuck {
    fn look<'a>(&'a self, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<CommittedPartition>, source::Error>> {
        async { Ok(Some(CommittedPartition { source: source.clone(), committed: None, low: 0, high: 2 })) }.boxed()
    }

    fn read(&self, _: StartAt) -> BoxFuture<'_, Result<Option<Box<dyn PartitionReader>>, source::Error>> {
        let reader = world::locked(&self.reader).take();
        async { Ok(reader.map(|reader| Box::new(reader) as Box<dyn PartitionReader>)) }.boxed()
    }

    fn commits(&self) -> Arc<dyn Commits> {
        Arc::clone(&self.commits) as Arc<dyn Commits>
    }

    fn last_poll_age(&self) -> Duration {
        Duration::ZERO
    }

    fn stop(&self) {
        assert!(!self.events.is_closed() && !self.records.is_closed(), "the worker still listens");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_does_not_end_holds_no_worker_up() {
    let source = TopicPartition::new("shop.t", 0);
    let (settings, module) = world::prepared("halt");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let sinks = [FaultySink::new("one"), FaultySink::new("two")];
    let parts = Parts {
        sinks: sinks.iter().map(|sink| Arc::clone(sink) as Arc<dyn Sink>).collect(),
        dead_letters: Arc::new(MemoryDeadLetters::new(10)),
        identities: Arc::new(MemoryIdentities::default()),
        topics: Arc::new(OneTopic),
        modules: vec![module],
        metrics: Arc::clone(&metrics),
        health: Health::new(settings.http.stalled_after),
        machine: Machine::REAL,
        settings,
    };
    let commits = Arc::new(KeptCommits::default());
    let (records, read) = mpsc::channel(4);
    records.send(world::batch(&source, 0, &[Row::Put(1), Row::Put(2)])).await.expect("room");
    let (kept, reader) = (Arc::clone(&commits), std::sync::Mutex::new(Some(ChannelReader(read))));
    let start = move |_: &Settings, events: mpsc::Sender<SourceEvent>| {
        events.try_send(SourceEvent::Assigned { partitions: vec![source] }).expect("room");
        Ok(Arc::new(Stuck { commits: kept, records, reader, events }) as Arc<dyn Source>)
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut worker = JoinSet::new();
    worker.spawn(engine::run_source(parts, rollout::desk().1, start, async {
        stopped.await.ok();
    }));
    until("the rows are written", || sinks.iter().all(|sink| sink.attempts().len() == 1)).await;
    stop.send(()).expect("the worker runs");
    let ended = tokio::time::timeout(Duration::from_secs(3600), worker.join_next()).await.expect("it stops");
    ended.expect("one task").expect("no panic").expect("in order");
    assert_eq!(world::locked(&commits.offsets).last(), Some(&2), "what was settled is committed");
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
        Arc::make_mut(&mut settings.routes[0]).transform.module = module.into();
        Arc::new(settings)
    };
    let faults = engine::check_modules(with(b"\0asm\x01\0\0\0"), false).await.faults;
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].key, "routes.rows.transform.module");
    let message = &faults[0].message;
    assert!(message.starts_with("route rows: ") && message.contains("make a component of it"), "{message}");
    assert_eq!(engine::check_modules(with(world::guest_component()), false).await, engine::CheckedModules::default());
}
