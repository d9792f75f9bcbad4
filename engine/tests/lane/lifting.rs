//! A halt that the module caused ends when another module runs: nothing is lost, and nothing goes to the dead-letter topic that it handles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use streamsync::commit::{self, Commits};
use streamsync::dead_letter::MemoryDeadLetters;
use streamsync::engine::{self, Parts};
use streamsync::http::Health;
use streamsync::identity::{Entry, Identities, MemoryIdentities};
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::rollout::{self, Change, Done, Requests, Tried};
use streamsync::sink::{Sink, TopicIdentity};
use streamsync::source::cluster::UNKNOWN_ID;
use streamsync::source::{
    self, BatchLimits, CommittedPartition, PartitionReader, RecordBatch, Reply, Source, SourceEvent, StartAt, TopicPartition,
};
use streamsync::transform::TransformHost;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::rolling::{modules, settings, wait_for};
use crate::worker::OneTopic;
use crate::world::{self, FaultySink, POISON, Row, Row::Incomplete, Row::Put, locked};

/// A group with one member, and a log in memory.
struct Log {
    partitions: Mutex<BTreeMap<TopicPartition, Vec<RecordBatch>>>,
    grown: watch::Sender<()>,
    committed: Mutex<BTreeMap<TopicPartition, i64>>,
    /// The partition of each read.
    reads: Mutex<Vec<i32>>,
    /// `None`: the member has left.
    events: Mutex<Option<mpsc::Sender<SourceEvent>>>,
}

/// The log, as the worker has it.
struct Member(Arc<Log>);

struct Reader {
    log: Arc<Log>,
    source: TopicPartition,
    offset: i64,
    grown: watch::Receiver<()>,
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("shop.t", number)
}

impl Log {
    fn high(&self, source: &TopicPartition) -> i64 {
        locked(&self.partitions).get(source).and_then(|batches| batches.last()?.next_offset()).unwrap_or_default()
    }

    fn append(&self, number: i32, rows: &[Row]) {
        let source = partition(number);
        let batch = world::batch(&source, self.high(&source), rows);
        locked(&self.partitions).entry(source).or_default().push(batch);
        self.grown.send_replace(());
    }

    async fn tell(&self, event: SourceEvent) {
        let events = locked(&self.events).clone().expect("a member");
        events.send(event).await.expect("the worker listens");
    }

    async fn assign(&self, number: i32) {
        self.tell(SourceEvent::Assigned { partitions: vec![partition(number)] }).await;
    }

    async fn revoke(&self, number: i32) {
        let (done, answer) = Reply::channel();
        self.tell(SourceEvent::Revoked { partitions: vec![partition(number)], lost: false, done }).await;
        wait_for("it is let go", || answer.try_recv().is_ok()).await;
    }

    /// Sorted: partitions that start beside each other come in any order.
    fn reads(&self) -> Vec<i32> {
        let mut reads = locked(&self.reads).clone();
        reads.sort_unstable();
        reads
    }

    fn committed(&self, number: i32) -> Option<i64> {
        locked(&self.committed).get(&partition(number)).copied()
    }
}

impl Commits for Log {
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), commit::Error>> {
        locked(&self.committed).insert(source.clone(), next_offset);
        ready(Ok(())).boxed()
    }
}

impl Source for Member {
    fn look<'a>(&'a self, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<CommittedPartition>, source::Error>> {
        let committed = self.0.committed(source.partition);
        ready(Ok(Some(CommittedPartition { source: source.clone(), committed, low: 0, high: self.0.high(source) }))).boxed()
    }

    fn read(&self, start: StartAt) -> BoxFuture<'_, Result<Option<Box<dyn PartitionReader>>, source::Error>> {
        locked(&self.0.reads).push(start.source.partition);
        let reader = Reader { log: Arc::clone(&self.0), source: start.source, offset: start.offset, grown: self.0.grown.subscribe() };
        ready(Ok(Some(Box::new(reader) as Box<dyn PartitionReader>))).boxed()
    }

    fn commits(&self) -> Arc<dyn Commits> {
        Arc::clone(&self.0) as Arc<dyn Commits>
    }

    fn last_poll_age(&self) -> Duration {
        Duration::ZERO
    }

    fn stop(&self) {
        let events = locked(&self.0.events).take().expect("told once");
        let partitions = locked(&self.0.partitions).keys().cloned().collect();
        events.try_send(SourceEvent::Revoked { partitions, lost: false, done: Reply::channel().0 }).expect("room");
    }
}

impl PartitionReader for Reader {
    fn next_batch(&mut self, _: BatchLimits) -> BoxFuture<'_, Result<Option<RecordBatch>, source::Error>> {
        async {
            loop {
                let next = |batches: &Vec<RecordBatch>| batches.iter().find(|batch| batch.records[0].offset >= self.offset).cloned();
                let found = locked(&self.log.partitions).get(&self.source).and_then(next);
                if let Some(batch) = found {
                    self.offset = batch.next_offset().expect("records");
                    return Ok(Some(batch));
                }
                self.grown.changed().await.expect("the log stays");
            }
        }
        .boxed()
    }
}

/// A worker with a desk.
struct Running {
    log: Arc<Log>,
    one: Arc<FaultySink>,
    letters: Arc<MemoryDeadLetters>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    requests: Requests,
    stop: oneshot::Sender<()>,
    worker: JoinSet<Result<(), engine::Error>>,
    _modules: tempfile::TempDir,
}

impl Running {
    /// `transform`: lines of the route's transform section.
    async fn start(transform: &str, identities: MemoryIdentities) -> Self {
        Self::with("guest.wasm", transform, identities).await
    }

    /// With a module in place of the configured one.
    async fn with(module: &str, transform: &str, identities: MemoryIdentities) -> Self {
        let modules = modules();
        let component = std::fs::read(modules.path().join(module)).expect("there");
        std::fs::write(modules.path().join("guest.wasm"), component).expect("written");
        let settings = Arc::new(settings(&modules, transform));
        let module = TransformHost::new(&settings.transforms).expect("a host").load(&settings.routes[0].transform).expect("a module");
        let (one, two) = (FaultySink::new("one"), FaultySink::new("two"));
        let letters = Arc::new(MemoryDeadLetters::new(100));
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let health = Health::new(settings.http.stalled_after);
        let parts = Parts {
            sinks: vec![Arc::clone(&one) as Arc<dyn Sink>, two],
            dead_letters: Arc::clone(&letters) as _,
            identities: Arc::new(identities),
            topics: Arc::new(OneTopic),
            modules: vec![module],
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            machine: Machine::REAL,
            settings,
        };
        let log = Arc::new(Log {
            partitions: Mutex::default(),
            grown: watch::Sender::default(),
            committed: Mutex::default(),
            reads: Mutex::default(),
            events: Mutex::default(),
        });
        let member = Arc::clone(&log);
        let start = move |_: &streamsync::config::Settings, events| {
            *locked(&member.events) = Some(events);
            Ok(Arc::new(Member(member)) as Arc<dyn Source>)
        };
        let (requests, desk) = rollout::desk();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut worker = JoinSet::new();
        worker.spawn(engine::run_source(parts, desk, start, async {
            stopped.await.ok();
        }));
        wait_for("the worker is a member", || locked(&log.events).is_some()).await;
        Self { log, one, letters, metrics, health, requests, stop, worker, _modules: modules }
    }

    async fn swap(&self, module: &str) -> Done {
        self.requests.change("rows", Change::Swap { module: module.to_owned(), sha256: None }).await.expect("fit")
    }

    /// Why the route is halted, as `/ready` says it.
    async fn halted(&self) -> String {
        let halt = || self.health.reasons().into_iter().find_map(|reason| Some(reason.strip_prefix("route rows is halted: ")?.to_owned()));
        wait_for("the route halts", || halt().is_some()).await;
        assert_eq!(self.metrics.route("rows").halted.get(), 1);
        halt().expect("it is halted")
    }

    fn assert_goes_on(&self) {
        assert_eq!((self.health.reasons(), self.metrics.route("rows").halted.get()), (Vec::new(), 0));
    }

    /// Waits until all that a partition holds is committed.
    async fn settled(&self, number: i32) {
        wait_for("all is committed", || self.log.committed(number) == Some(self.log.high(&partition(number)))).await;
    }

    /// Ids of the rows that are stored.
    fn stored(&self) -> Vec<i64> {
        let keys = self.one.store.documents("t").into_keys();
        let mut ids: Vec<i64> =
            keys.map(|key| std::str::from_utf8(&key).expect("text").trim_start_matches("t:").parse().expect("a number")).collect();
        ids.sort_unstable();
        ids
    }

    /// All that has an outcome: what was written, and what was dead-lettered. Nothing was overtaken, stale or filtered.
    fn outcomes(&self) -> (u64, u64) {
        let route = self.metrics.route("rows");
        let [applied, dead_lettered, others] =
            [route.applied.get(), route.dead_lettered.get(), route.superseded.get() + route.stale.get() + route.filtered.get()];
        assert_eq!((others, applied + dead_lettered), (0, route.consumed.get()));
        (applied, dead_lettered)
    }

    async fn stop(mut self) -> Result<(), engine::Error> {
        self.stop.send(()).expect("the worker runs");
        let ended = tokio::time::timeout(Duration::from_secs(3600), self.worker.join_next()).await.expect("it stops");
        ended.expect("one task").expect("no panic")
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_only_fails_is_replaced_and_nothing_is_lost() {
    let running = Running::start("max_failures_in_a_row = 3", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1] {
        log.append(number, &[Put(number.into())]);
        log.assign(number).await;
    }
    wait_for("both rows are committed", || log.committed(0) == Some(1) && log.committed(1) == Some(1)).await;
    log.append(0, &[Put(POISON), Put(POISON), Put(POISON)]);
    log.append(0, &[Put(10)]);
    let message = running.halted().await;
    assert!(
        message.starts_with(
            "shop.t/0 offset 3: the transform failed on all of the last 3 events of this partition, on this one with trapped ("
        ),
        "{message}"
    );
    assert!(message.ends_with("The route goes on by itself as soon as it runs another module"), "{message}");
    // What comes meanwhile waits, also a partition.
    wait_for("the other partition is let go", || running.metrics.partitions_assigned.get() == 0).await;
    log.append(1, &[Put(11)]);
    log.append(2, &[Put(12)]);
    log.assign(2).await;
    // A module that writes nothing changes nothing.
    let shadow = Change::Shadow { module: "other.wasm".to_owned(), sha256: None, canary_percent: 0 };
    let done = running.requests.change("rows", shadow).await.expect("fit");
    assert_eq!((done.lifted, done.halted.as_deref()), (false, Some(&*message)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((running.stored(), running.metrics.route("rows").consumed.get()), (vec![0, 1], 2));

    let done = running.swap("healed.wasm").await;
    assert_eq!((done.lifted, done.halted, done.late), (true, None, 0));
    assert!(matches!(done.tried, Tried::Events(5..)), "{:?}", done.tried);
    for number in [0, 1, 2] {
        running.settled(number).await;
    }
    running.assert_goes_on();
    assert_eq!(running.stored(), [0, 1, 10, 11, 12, POISON]);
    let route = running.metrics.route("rows");
    // The three are images of one row.
    assert_eq!((route.applied.get(), route.superseded.get(), route.consumed.get(), running.letters.count()), (6, 2, 8, 0));
    assert_eq!(running.metrics.partitions_assigned.get(), 3);
    running.stop().await.expect("a halt that was lifted counts for nothing");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_revoked_meanwhile_does_not_begin_again() {
    let running = Running::start("max_failures_in_a_row = 1", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1, 2] {
        log.append(number, &[Put(number.into())]);
        log.assign(number).await;
        running.settled(number).await;
    }
    log.append(0, &[Put(POISON)]);
    running.halted().await;
    log.assign(3).await;
    log.revoke(1).await;
    log.revoke(3).await;
    for number in [0, 1, 2, 3] {
        log.append(number, &[Put(10 + i64::from(number))]);
    }
    locked(&log.reads).clear();
    assert!(running.swap("healed.wasm").await.lifted);
    running.settled(0).await;
    running.settled(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.reads(), [0, 2]);
    assert_eq!(running.stored(), [0, 1, 2, 10, 12, POISON]);
    // Where it comes again it is read like any other.
    log.assign(3).await;
    running.settled(3).await;
    assert_eq!(running.outcomes(), (7, 0));
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn each_module_has_a_budget_of_its_own() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    log.append(0, &[Put(1), Put(POISON), Put(POISON), Put(POISON)]);
    log.append(0, &[Put(2), Put(POISON)]);
    log.assign(0).await;
    let message = running.halted().await;
    assert!(
        message.starts_with(
            "shop.t partition 0 offset 5: more than 3 records a minute would be dead-lettered, the last with transform trapped ("
        ),
        "{message}"
    );
    assert_eq!((running.outcomes(), log.committed(0)), ((1, 3), Some(4)));
    // The next one fails on the same row, and may spend as much.
    assert!(running.swap("other.wasm").await.lifted);
    running.settled(0).await;
    log.append(0, &[Put(3), Put(POISON), Put(POISON)]);
    running.settled(0).await;
    assert_eq!(running.outcomes(), (3, 6));
    log.append(0, &[Put(4), Put(POISON)]);
    running.halted().await;
    let back = running.requests.change("rows", Change::Rollback).await.expect("one ran before");
    assert_eq!((back.lifted, back.tried), (true, Tried::RanBefore));
    running.settled(0).await;
    assert_eq!(running.outcomes(), (4, 7));
    // And so it is where nothing was halted.
    let done = running.swap("healed.wasm").await;
    assert_eq!((done.lifted, done.halted, done.partitions), (false, None, 1));
    log.append(0, &[Put(POISON)]);
    running.settled(0).await;
    running.assert_goes_on();
    assert_eq!((running.outcomes(), running.letters.count(), running.stored()), ((5, 7), 7, vec![1, 2, 3, 4, POISON]));
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_still_drains_when_the_halt_is_lifted_follows() {
    let running = Running::start("max_failures_in_a_row = 1", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1] {
        log.assign(number).await;
    }
    running.one.hold();
    log.append(1, &[Put(1)]);
    wait_for("it is being written", || running.one.attempts().len() == 1).await;
    log.append(1, &[Put(2)]);
    log.append(0, &[Put(POISON)]);
    running.halted().await;
    assert!(running.swap("healed.wasm").await.lifted);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.reads(), [0, 0, 1]);
    running.one.release();
    running.settled(0).await;
    running.settled(1).await;
    assert_eq!((running.outcomes(), running.stored()), ((3, 0), vec![1, 2, POISON]));
    assert_eq!(log.reads(), [0, 0, 1, 1]);
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

/// What was prepared by the module before may halt the route when the next one runs already.
#[tokio::test(start_paused = true)]
async fn a_halt_by_a_module_that_no_longer_runs_does_not_last() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    log.assign(0).await;
    running.one.hold();
    log.append(0, &[Put(1)]);
    wait_for("it is being written", || running.one.attempts().len() == 1).await;
    log.append(0, &[Put(2), Put(POISON), Put(POISON), Put(POISON), Put(POISON)]);
    wait_for("the next is prepared", || running.metrics.prepared_batches.get() == 1).await;
    assert!(!running.swap("healed.wasm").await.lifted);
    log.append(0, &[Put(3)]);
    running.one.release();
    running.settled(0).await;
    running.assert_goes_on();
    assert_eq!((running.stored(), running.letters.count()), (vec![1, 2, 3, POISON], 0));
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_can_t_be_started_is_the_module_s_fault() {
    let running = Running::with("unstartable.wasm", "", MemoryIdentities::default()).await;
    let log = &running.log;
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    let message = running.halted().await;
    assert!(message.contains("unreachable") && message.contains("another module"), "{message}");
    assert!(running.swap("healed.wasm").await.lifted);
    running.settled(0).await;
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn another_module_lifts_no_other_halt() {
    let other_cluster = MemoryIdentities::default();
    let identity = TopicIdentity { cluster_id: "another".into(), topic_id: UNKNOWN_ID.into(), partitions: 1, generation: 1 };
    other_cluster.store("shop.t", &Entry::Identity(identity)).await.expect("in memory");
    let cases: [(MemoryIdentities, &[Row], &str); 2] =
        [(other_cluster, &[Put(1)], "streamsync"), (MemoryIdentities::default(), &[Incomplete(1)], "binlog_row_image")];
    for (identities, rows, expected) in cases {
        let running = Running::start("", identities).await;
        let log = &running.log;
        log.append(0, rows);
        log.assign(0).await;
        let message = running.halted().await;
        assert!(message.contains(expected) && !message.contains("another module"), "{message}");
        let done = running.swap("healed.wasm").await;
        assert_eq!((done.lifted, done.halted.as_deref(), done.partitions), (false, Some(&*message), 0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((running.halted().await, running.log.committed(0).unwrap_or_default()), (message, 0));
        assert!(running.stored().is_empty());
        let ended = running.stop().await.expect_err("the route is halted").to_string();
        assert_eq!(ended, "stopped with halted routes: rows");
    }
}
