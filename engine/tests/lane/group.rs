//! A worker in a group with one member, whose log is in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use streamsync::commit::{self, Commits};
use streamsync::config::Settings;
use streamsync::dead_letter::MemoryDeadLetters;
use streamsync::engine::{self, Parts};
use streamsync::http::Health;
use streamsync::identity::MemoryIdentities;
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::rollout::{self, Change, Done, Requests};
use streamsync::sink::Sink;
use streamsync::source::cluster::{CleanupPolicy, TopicFacts, Topics, UNKNOWN_ID};
use streamsync::source::{
    self, BatchLimits, CommittedPartition, PartitionReader, RecordBatch, Reply, Source, SourceEvent, StartAt, TopicPartition,
};
use streamsync::transform::{Module, TransformHost};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::rolling::{modules, settings, wait_for};
use crate::worker::OneTopic;
use crate::world::{self, FaultySink, Row, locked};

/// Makes the error of each question.
pub type Unanswered = fn() -> source::Error;

/// A group with one member, and a log in memory.
pub struct Log {
    pub partitions: Mutex<BTreeMap<TopicPartition, Vec<RecordBatch>>>,
    pub grown: watch::Sender<()>,
    pub committed: Mutex<BTreeMap<TopicPartition, i64>>,
    /// Where every partition of the log begins.
    pub low: AtomicI64,
    /// What whoever asks for the offsets hears instead.
    pub look: Mutex<Option<Unanswered>>,
    pub topic_id: Mutex<String>,
    /// `delete.retention.ms` where the topic is compacted.
    pub tombstones_kept_ms: Mutex<Option<i64>>,
    /// Whether the next read finds that its offset is gone.
    pub cut: AtomicBool,
    /// The partition of each read.
    pub reads: Mutex<Vec<i32>>,
    /// `None`: the member has left.
    pub events: Mutex<Option<mpsc::Sender<SourceEvent>>>,
}

/// The log, as the worker has it.
struct Member(Arc<Log>);

struct Reader {
    log: Arc<Log>,
    source: TopicPartition,
    offset: i64,
    grown: watch::Receiver<()>,
}

pub fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("shop.t", number)
}

impl Log {
    pub fn high(&self, source: &TopicPartition) -> i64 {
        locked(&self.partitions).get(source).and_then(|batches| batches.last()?.next_offset()).unwrap_or_default()
    }

    pub fn append(&self, number: i32, rows: &[Row]) {
        self.append_to(&partition(number), rows);
    }

    /// To a partition of any topic.
    pub fn append_to(&self, source: &TopicPartition, rows: &[Row]) {
        let batch = world::batch(source, self.high(source), rows);
        locked(&self.partitions).entry(source.clone()).or_default().push(batch);
        self.grown.send_replace(());
    }

    /// Forgets what was appended before an offset, as a topic's retention does.
    pub fn forget_before(&self, low: i64) {
        locked(&self.partitions).values_mut().for_each(|batches| batches.retain(|batch| batch.records[0].offset >= low));
        self.low.store(low, Ordering::SeqCst);
    }

    pub async fn tell(&self, event: SourceEvent) {
        let events = locked(&self.events).clone().expect("a member");
        events.send(event).await.expect("the worker listens");
    }

    pub async fn assign(&self, number: i32) {
        self.tell(SourceEvent::Assigned { partitions: vec![partition(number)] }).await;
    }

    pub async fn revoke(&self, number: i32) {
        let (done, answer) = Reply::channel();
        self.tell(SourceEvent::Revoked { partitions: vec![partition(number)], lost: false, done }).await;
        wait_for("it is let go", || answer.try_recv().is_ok()).await;
    }

    /// Sorted: partitions that start beside each other come in any order.
    pub fn reads(&self) -> Vec<i32> {
        let mut reads = locked(&self.reads).clone();
        reads.sort_unstable();
        reads
    }

    pub fn committed(&self, number: i32) -> Option<i64> {
        self.committed_of(&partition(number))
    }

    pub fn committed_of(&self, source: &TopicPartition) -> Option<i64> {
        locked(&self.committed).get(source).copied()
    }
}

impl Topics for Log {
    fn facts(&self, topic: &str) -> Result<TopicFacts, source::Error> {
        let kept_ms = *locked(&self.tombstones_kept_ms);
        Ok(TopicFacts {
            topic_id: locked(&self.topic_id).clone(),
            cleanup_policy: CleanupPolicy { compact: kept_ms.is_some(), delete: kept_ms.is_none() },
            delete_retention_ms: kept_ms,
            ..OneTopic.facts(topic)?
        })
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
        let unanswered = *locked(&self.0.look);
        if let Some(unanswered) = unanswered {
            return ready(Err(unanswered())).boxed();
        }
        let committed = self.0.committed_of(source);
        let (low, high) = (self.0.low.load(Ordering::SeqCst), self.0.high(source));
        ready(Ok(Some(CommittedPartition { source: source.clone(), committed, low, high }))).boxed()
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
                if self.log.cut.swap(false, Ordering::Relaxed) {
                    return Err(source::Error::OffsetLost { source_partition: self.source.clone(), message: "it is gone".to_owned() });
                }
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
pub struct Running {
    pub log: Arc<Log>,
    pub one: Arc<FaultySink>,
    pub letters: Arc<MemoryDeadLetters>,
    pub identities: Arc<MemoryIdentities>,
    pub module: Arc<Module>,
    pub settings: Arc<Settings>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub requests: Requests,
    pub stop: oneshot::Sender<()>,
    pub worker: JoinSet<Result<(), engine::Error>>,
    _modules: tempfile::TempDir,
}

impl Running {
    /// `transform`: lines of the route's transform section.
    pub async fn start(transform: &str, identities: MemoryIdentities) -> Self {
        Self::with("guest.wasm", transform, identities).await
    }

    /// With a module in place of the configured one.
    pub async fn with(module: &str, transform: &str, identities: MemoryIdentities) -> Self {
        Self::altered(module, transform, identities, |_| {}).await
    }

    /// With other settings too.
    pub async fn altered(module: &str, transform: &str, identities: MemoryIdentities, alter: impl FnOnce(&mut Settings)) -> Self {
        Self::beside(module, transform, identities, alter, FaultySink::new("one")).await
    }

    /// With a store that is as it is already.
    pub async fn beside(
        module: &str,
        transform: &str,
        identities: MemoryIdentities,
        alter: impl FnOnce(&mut Settings),
        one: Arc<FaultySink>,
    ) -> Self {
        let modules = modules();
        let component = std::fs::read(modules.path().join(module)).expect("there");
        std::fs::write(modules.path().join("guest.wasm"), component).expect("written");
        let mut settings = settings(&modules, transform);
        alter(&mut settings);
        let settings = Arc::new(settings);
        let identities = Arc::new(identities);
        let host = TransformHost::new(&settings.transforms).expect("a host");
        let modules_of_routes: Vec<_> = settings.routes.iter().map(|route| host.load(&route.transform).expect("a module")).collect();
        let module = Arc::clone(&modules_of_routes[0]);
        let two = FaultySink::new("two");
        let letters = Arc::new(MemoryDeadLetters::new(100));
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let health = Health::new(settings.http.stalled_after);
        let log = Arc::new(Log {
            partitions: Mutex::default(),
            grown: watch::Sender::default(),
            committed: Mutex::default(),
            low: AtomicI64::new(0),
            look: Mutex::default(),
            topic_id: Mutex::new(UNKNOWN_ID.to_owned()),
            tombstones_kept_ms: Mutex::default(),
            cut: AtomicBool::new(false),
            reads: Mutex::default(),
            events: Mutex::default(),
        });
        let parts = Parts {
            sinks: vec![Arc::clone(&one) as Arc<dyn Sink>, two],
            dead_letters: Arc::clone(&letters) as _,
            identities: Arc::clone(&identities) as _,
            topics: Arc::clone(&log) as _,
            modules: modules_of_routes,
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            machine: Machine::REAL,
            settings: Arc::clone(&settings),
        };
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
        Self { log, one, letters, identities, module, settings, metrics, health, requests, stop, worker, _modules: modules }
    }

    pub async fn swap(&self, module: &str) -> Done {
        self.requests.change("rows", Change::Swap { module: module.to_owned(), sha256: None }).await.expect("fit")
    }

    /// Why the route is halted, as `/ready` says it.
    pub async fn halted(&self) -> String {
        let halt = || self.health.reasons().into_iter().find_map(|reason| Some(reason.strip_prefix("route rows is halted: ")?.to_owned()));
        wait_for("the route halts", || halt().is_some()).await;
        assert_eq!(self.metrics.route("rows").halted.get(), 1);
        halt().expect("it is halted")
    }

    pub fn assert_goes_on(&self) {
        assert_eq!((self.health.reasons(), self.metrics.route("rows").halted.get()), (Vec::new(), 0));
    }

    /// Waits until all that a partition holds is committed.
    pub async fn settled(&self, number: i32) {
        wait_for("all is committed", || self.log.committed(number) == Some(self.log.high(&partition(number)))).await;
    }

    /// Ids of the rows that are stored.
    pub fn stored(&self) -> Vec<i64> {
        let keys = self.one.store.documents("t").into_keys();
        let mut ids: Vec<i64> =
            keys.map(|key| std::str::from_utf8(&key).expect("text").trim_start_matches("t:").parse().expect("a number")).collect();
        ids.sort_unstable();
        ids
    }

    /// All that has an outcome: what was written, and what was dead-lettered. Nothing was overtaken, stale or filtered.
    pub fn outcomes(&self) -> (u64, u64) {
        let route = self.metrics.route("rows");
        let [applied, dead_lettered, others] =
            [route.applied.get(), route.dead_lettered.get(), route.superseded.get() + route.stale.get() + route.filtered.get()];
        assert_eq!((others, applied + dead_lettered), (0, route.consumed.get()));
        (applied, dead_lettered)
    }

    pub async fn stop(mut self) -> Result<(), engine::Error> {
        self.stop.send(()).expect("the worker runs");
        let ended = tokio::time::timeout(Duration::from_secs(3600), self.worker.join_next()).await.expect("it stops");
        ended.expect("one task").expect("no panic")
    }
}
