//! A lane with nothing real around it: records from a channel, stores and letters in memory that fail when told to, and a guest made of text.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use streamsync::commit::{self, Commits};
use streamsync::config::{Settings, TargetSettings};
use streamsync::dead_letter::{self, DeadLetter, DeadLetters, MemoryDeadLetters};
use streamsync::fence::{Fence, Generation};
use streamsync::http::Health;
use streamsync::identity::{Identities, MemoryIdentities};
use streamsync::lane::{Budget, Deletions, End, Lane, Mark, Meter, Order, Prepare, Shared};
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::plan::{FencedWrite, SinkWrites};
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{self, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use streamsync::source::{self, BatchLimits, PartitionReader, RecordBatch, TopicPartition};
use streamsync::transform::{Guest, Module, TransformHost};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::component::component;

/// Rows with this id make the guest trap.
pub const POISON: i64 = 666;

const GATE: usize = 1 << 20;

pub const CONFIGURATION: &str = r#"
[kafka]
brokers = "127.0.0.1:1"
max_poll_interval = "5m"
[sinks.one]
kind = "memory"
[sinks.two]
kind = "memory"
[dead_letters]
max_per_minute = 3
[transforms]
cache_dir = ""
[[routes]]
name = "rows"
topic = "shop.t"
table = "shop.t"
format = "json"
on_truncate = "ON_TRUNCATE"
[routes.columns]
id = "int not null"
name = "varchar(9)"
[routes.transform]
module = "guest.wasm"
[routes.targets.t]
sink = "one"
prefix = "t"
[routes.targets.m]
sink = "two"
prefix = "m"
"#;

/// Compiled once: it puts `{"id": …}` into target `t`, and so deletes from target `m`.
pub fn guest_component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| guest_component_with(&[]))
}

/// The same with parts of its text replaced.
pub fn guest_component_with(replaced: &[(&str, &str)]) -> Vec<u8> {
    let mut text = include_str!("../../src/transform/tests/guest.wat").to_owned();
    for (from, to) in replaced {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let text = text
        .replace("ON_POISON", "unreachable")
        .replace("(i32.store (i32.const 4124) (i32.const 1))", "(i32.store (i32.const 4124) (i32.const 2))")
        .replace(
            ";; one output",
            r#"(data (i32.const 50) "m")
            (data (i32.const 216) "\32\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\a0\00\00\00\01\00\00\00")
            ;; one output"#,
        );
    component(&text)
}

/// Settings and the module, made once for each way to meet a truncate.
pub fn prepared(on_truncate: &'static str) -> (Arc<Settings>, Arc<Module>) {
    type Made = (&'static str, Arc<Settings>, Arc<Module>);
    static MADE: Mutex<Vec<Made>> = Mutex::new(Vec::new());
    let mut made = locked(&MADE);
    if let Some((_, settings, module)) = made.iter().find(|(known, ..)| *known == on_truncate) {
        return (Arc::clone(settings), Arc::clone(module));
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("guest.wasm"), guest_component()).expect("written");
    let settings = Settings::parse(&CONFIGURATION.replace("ON_TRUNCATE", on_truncate), directory.path()).expect("valid");
    let module = TransformHost::new(&settings.transforms).expect("a host").load(&settings.routes[0].transform).expect("a module");
    made.push((on_truncate, Arc::new(settings), module));
    let (_, settings, module) = made.last().expect("just pushed");
    (Arc::clone(settings), Arc::clone(module))
}

/// What a write meets instead of the store.
pub type Fault = Box<dyn FnMut(&FencedWrite) -> Option<sink::Error> + Send>;

/// A store that fails when told to, and remembers what it was sent.
pub struct FaultySink {
    pub store: MemorySink,
    pub fault: Mutex<Option<Fault>>,
    /// Offsets of each batch of writes, in the order in which they came.
    pub attempts: Mutex<Vec<Vec<i64>>>,
    /// A batch of writes takes one permit, and so does a rebuild's sweep of a target: without one it waits.
    pub gate: Semaphore,
    /// What is written is forgotten at once.
    pub forgets: AtomicBool,
    /// Whether it answers nobody who looks whether it is fit.
    pub checks_away: AtomicBool,
    /// Of which partitions the watermarks are not answered.
    pub watermarks_away: Mutex<fn(i32) -> bool>,
    /// Of so many watermarks the sink does not say that it has stored them.
    pub answers_lost: AtomicU64,
    /// Which server it is.
    pub lineage: AtomicU64,
    /// Each lane that goes on finds another server than it began with, as behind one name for many.
    pub flaps: AtomicBool,
    /// Offsets of each batch of marks.
    pub marks: Mutex<Vec<Vec<i64>>>,
    /// What a mark meets; the store has it even so, as after an answer that was lost.
    pub mark_fault: Mutex<Option<Fault>>,
}

impl FaultySink {
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            store: MemorySink::new(name),
            fault: Mutex::default(),
            attempts: Mutex::default(),
            gate: Semaphore::new(GATE),
            forgets: AtomicBool::new(false),
            checks_away: AtomicBool::new(false),
            watermarks_away: Mutex::new(|_| false),
            answers_lost: AtomicU64::new(0),
            lineage: AtomicU64::new(0),
            flaps: AtomicBool::new(false),
            marks: Mutex::default(),
            mark_fault: Mutex::default(),
        })
    }

    pub fn fail(&self, fault: impl FnMut(&FencedWrite) -> Option<sink::Error> + Send + 'static) {
        *locked(&self.fault) = Some(Box::new(fault));
    }

    pub fn mend(&self) {
        *locked(&self.fault) = None;
    }

    /// Whatever is sent from now on waits.
    pub fn hold(&self) {
        self.gate.forget_permits(GATE);
    }

    pub fn release(&self) {
        self.gate.add_permits(GATE);
    }

    pub fn attempts(&self) -> Vec<Vec<i64>> {
        locked(&self.attempts).clone()
    }

    pub fn away(&self) -> sink::Error {
        sink::Error::Away { sink: self.store.name().to_owned(), message: "connection refused".to_owned() }
    }

    pub fn refused(&self) -> sink::Error {
        let (sink, place) = (self.store.name().to_owned(), "t".to_owned());
        sink::Error::Refused { sink, place, code: "wrong-type", message: "the key holds a list".to_owned() }
    }
}

impl Sink for FaultySink {
    fn name(&self) -> &str {
        self.store.name()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), sink::Error>> {
        if self.checks_away.load(Ordering::SeqCst) {
            return ready(Err(self.away())).boxed();
        }
        self.store.check()
    }

    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, sink::Error>>> {
        async move {
            if self.forgets.load(Ordering::SeqCst) {
                return writes.writes.iter().map(|_| Ok(WriteOutcome::Applied)).collect();
            }
            locked(&self.attempts).push(writes.writes.iter().map(|write| write.fence.offset()).collect());
            self.gate.acquire().await.expect("never closed").forget();
            let faults: Vec<_> = {
                let mut fault = locked(&self.fault);
                writes.writes.iter().map(|write| fault.as_mut().and_then(|fault| fault(write))).collect()
            };
            let mut sent = writes.clone();
            let mut keep = faults.iter().map(Option::is_none);
            sent.writes.retain(|_| keep.next().expect("one for each write"));
            let mut written = self.store.write(&sent).await.into_iter();
            faults.into_iter().map(|fault| fault.map_or_else(|| written.next().expect("one for each"), Err)).collect()
        }
        .boxed()
    }

    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, sink::Error>>> {
        locked(&self.marks).push(marks.writes.iter().map(|mark| mark.fence.offset()).collect());
        let mut fault = locked(&self.mark_fault);
        let faults: Vec<_> = marks.writes.iter().map(|mark| fault.as_mut().and_then(|fault| fault(mark))).collect();
        drop(fault);
        async move {
            let marked = self.store.mark(marks).await;
            faults.into_iter().zip(marked).map(|(fault, marked)| fault.map_or(marked, Err)).collect()
        }
        .boxed()
    }

    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, sink::Error>> {
        self.store.held(keys)
    }

    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, sink::Error>> {
        if locked(&self.watermarks_away)(source.partition) {
            return ready(Err(self.away())).boxed();
        }
        self.store.watermark(group, source)
    }

    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, sink::Error>> {
        async move {
            let begins = !matches!(replaces, Replaces::Own(known, _) if known.next_offset != watermark.next_offset);
            if !begins && self.flaps.load(Ordering::SeqCst) {
                self.lineage.fetch_add(1, Ordering::SeqCst);
            }
            if self.lineage.load(Ordering::SeqCst) != lineage {
                return Ok(MarkOutcome::OtherServers);
            }
            let outcome = self.store.store_watermark(group, source, MemorySink::LINEAGE, replaces, watermark).await;
            if self.answers_lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                return Err(self.away());
            }
            outcome
        }
        .boxed()
    }

    fn lineage(&self) -> BoxFuture<'_, Result<u64, sink::Error>> {
        ready(Ok(self.lineage.load(Ordering::SeqCst))).boxed()
    }

    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, sink::Error>> {
        self.store.identity(topic)
    }

    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), sink::Error>> {
        self.store.store_identity(topic, identity)
    }

    fn clear<'a>(&'a self, target: &'a TargetSettings, fence: Fence, partition: i32) -> BoxFuture<'a, Result<(), sink::Error>> {
        self.store.clear(target, fence, partition)
    }

    fn sweep_generation<'a>(&'a self, target: &'a TargetSettings, generation: Generation) -> BoxFuture<'a, Result<u64, sink::Error>> {
        async move {
            self.gate.acquire().await.expect("never closed").forget();
            self.store.sweep_generation(target, generation).await
        }
        .boxed()
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), sink::Error>> {
        self.store.sweep()
    }

    fn sweep_interval(&self) -> Option<Duration> {
        None
    }
}

/// Commits in their order; each of the next `away` attempts fails.
#[derive(Default)]
pub struct KeptCommits {
    pub offsets: Mutex<Vec<i64>>,
    pub attempts: AtomicU64,
    pub away: AtomicU64,
    /// The partition is another worker's.
    pub lost: AtomicBool,
}

impl Commits for KeptCommits {
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), commit::Error>> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.lost.load(Ordering::SeqCst) {
            return ready(Err(commit::Error::Lost { source_partition: source.clone() })).boxed();
        }
        if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let error = commit::Error::Away { source_partition: source.clone(), message: "no coordinator".to_owned() };
            return ready(Err(error)).boxed();
        }
        locked(&self.offsets).push(next_offset);
        ready(Ok(())).boxed()
    }
}

/// Letters in memory; each of the next `away` attempts fails.
pub struct KeptLetters {
    pub kept: MemoryDeadLetters,
    pub away: AtomicU64,
}

impl DeadLetters for KeptLetters {
    fn send<'a>(&'a self, records: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), dead_letter::Error>> {
        if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let error = dead_letter::Error::Away { topic: "letters".to_owned(), message: "no leader".to_owned() };
            return ready(Err(error)).boxed();
        }
        self.kept.send(records, letters)
    }
}

pub struct ChannelReader(pub mpsc::Receiver<RecordBatch>);

impl PartitionReader for ChannelReader {
    fn next_batch(&mut self, _: BatchLimits) -> BoxFuture<'_, Result<Option<RecordBatch>, source::Error>> {
        self.0.recv().map(Ok).boxed()
    }
}

/// One record of the test's topic.
pub enum Row {
    /// A row with this id.
    Put(i64),
    /// The same, without the column `name`.
    Incomplete(i64),
    /// The same, read by a snapshot.
    Read(i64),
    /// The row is gone.
    Delete(i64),
    /// The table was emptied.
    Truncate,
    /// No JSON.
    Broken,
}

/// Records from an offset on, without gaps.
pub fn batch(source: &TopicPartition, first_offset: i64, rows: &[Row]) -> RecordBatch {
    let mut records = RecordBatch::new(source.clone());
    let about = r#""source":{"db":"shop","table":"t","ts_ms":5,"snapshot":"false"}"#;
    for (offset, row) in (first_offset..).zip(rows) {
        let (key, value) = match row {
            Row::Put(id) => (Some(*id), format!(r#"{{"before":null,"after":{{"id":{id},"name":"n"}},{about},"op":"c"}}"#)),
            Row::Read(id) => {
                (Some(*id), format!(r#"{{"before":null,"after":{{"id":{id},"name":"n"}},{},"op":"r"}}"#, about.replace("false", "true")))
            }
            Row::Incomplete(id) => (Some(*id), format!(r#"{{"before":null,"after":{{"id":{id}}},{about},"op":"c"}}"#)),
            Row::Delete(id) => (Some(*id), format!(r#"{{"before":{{"id":{id},"name":"n"}},"after":null,{about},"op":"d"}}"#)),
            Row::Truncate => (None, format!(r#"{{"before":null,"after":null,{about},"op":"t"}}"#)),
            Row::Broken => (Some(0), "{".to_owned()),
        };
        let key = key.map(|id| format!(r#"{{"id":{id}}}"#));
        records.push(offset, None, key.as_deref().map(str::as_bytes), Some(value.as_bytes()), []).expect("small");
    }
    records
}

/// A running lane and all that is around it.
pub struct World {
    pub one: Arc<FaultySink>,
    pub two: Arc<FaultySink>,
    pub commits: Arc<KeptCommits>,
    pub letters: Arc<KeptLetters>,
    pub identities: Arc<MemoryIdentities>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub source: TopicPartition,
    /// Seconds since the last poll.
    pub poll_age: Arc<AtomicU64>,
    orders: watch::Sender<Order>,
    records: Option<mpsc::Sender<RecordBatch>>,
    lane: JoinSet<End>,
    next_offset: i64,
}

impl World {
    pub fn new() -> Self {
        Self::with("halt", true)
    }

    /// With other settings.
    pub fn altered(alter: impl FnOnce(&mut Settings)) -> Self {
        let (settings, module) = prepared("halt");
        let mut settings = (*settings).clone();
        alter(&mut settings);
        let route = Arc::clone(&settings.routes[0]);
        let guest = Guest::new(Arc::clone(&module), Arc::clone(&route), &settings.sinks).expect("a guest");
        let prepare = Prepare::route(route, guest, &module.digest, Generation::FIRST);
        let health = Health::new(settings.http.stalled_after);
        Self::of(Arc::new(settings), prepare, Arc::new(Metrics::new().expect("metrics")), health)
    }

    /// `routed`: with the stages of the route, else as a topic that is passed over.
    pub fn with(on_truncate: &'static str, routed: bool) -> Self {
        let (settings, module) = prepared(on_truncate);
        let route = Arc::clone(&settings.routes[0]);
        let prepare = if routed {
            let guest = Guest::new(Arc::clone(&module), Arc::clone(&route), &settings.sinks).expect("a guest");
            Prepare::route(route, guest, &module.digest, Generation::FIRST)
        } else {
            Prepare::PassOver("shop.t".to_owned())
        };
        let health = Health::new(settings.http.stalled_after);
        Self::of(settings, prepare, Arc::new(Metrics::new().expect("metrics")), health)
    }

    /// A lane with these stages.
    pub fn of(settings: Arc<Settings>, prepare: Prepare, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        let (one, two) = (FaultySink::new("one"), FaultySink::new("two"));
        let commits = Arc::new(KeptCommits::default());
        let letters = Arc::new(KeptLetters { kept: MemoryDeadLetters::new(100), away: AtomicU64::new(0) });
        let poll_age = Arc::new(AtomicU64::new(0));
        let age = Arc::clone(&poll_age);
        let source = TopicPartition::new("shop.t", 0);
        let meter =
            Meter::new(&metrics, health.lane_started(prepare.route_name(), &source), prepare.route_name(), &source, Deletions::default());
        let (orders, ordered) = watch::channel(Order::Run);
        let (records, read) = mpsc::channel(64);
        let identities = Arc::new(MemoryIdentities::default());
        let begin = Watermark { generation: Generation::FIRST, next_offset: 0, written_at_ms: 0, complete_until_ms: 0 };
        let marks = [&one, &two].into_iter().enumerate().filter(|_| matches!(prepare, Prepare::Route(_))).map(|(index, sink)| {
            let taken = Mark::take_over((index, sink.as_ref()), "streamsync", &source, 0, None, begin).now_or_never();
            taken.expect("in memory").expect("an answer").expect("nothing there yet")
        });
        let marks = marks.collect();
        let lane = Lane {
            shared: Arc::new(Shared {
                sinks: vec![Arc::clone(&one) as Arc<dyn Sink>, Arc::clone(&two) as Arc<dyn Sink>],
                dead_letters: Arc::clone(&letters) as Arc<dyn DeadLetters>,
                commits: Arc::clone(&commits) as Arc<dyn Commits>,
                poll_age: Arc::new(move || Duration::from_secs(age.load(Ordering::SeqCst))),
                sink_metrics: vec![metrics.sink("one"), metrics.sink("two")],
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                identities: Arc::clone(&identities) as Arc<dyn Identities>,
                machine: Machine::REAL,
                settings: Arc::clone(&settings),
            }),
            source: source.clone(),
            generation: Generation::FIRST,
            prepare,
            reader: Box::new(ChannelReader(read)),
            meter,
            budget: Arc::new(Budget::new(settings.dead_letters.max_per_minute)),
            marks,
        };
        let mut running = JoinSet::new();
        running.spawn(lane.run(ordered));
        Self {
            one,
            two,
            commits,
            letters,
            identities,
            metrics,
            health,
            source,
            poll_age,
            orders,
            records: Some(records),
            lane: running,
            next_offset: 0,
        }
    }

    /// Hands over the next batch.
    pub async fn read(&mut self, rows: &[Row]) {
        let records = batch(&self.source, self.next_offset, rows);
        self.next_offset += rows.len() as i64;
        self.hand_over(records).await;
    }

    /// Hands over a batch that was made before.
    pub async fn hand_over(&self, records: RecordBatch) {
        self.records.as_ref().expect("not closed").send(records).await.expect("the lane reads");
    }

    /// Starts again at an offset, as after a crash.
    pub fn rewind(&mut self, offset: i64) {
        self.next_offset = offset;
    }

    pub fn order(&self, order: Order) {
        order.give(&self.orders);
    }

    /// Nothing more comes: the lane settles what it has, and ends.
    pub async fn finish(&mut self) -> End {
        self.records = None;
        self.end().await
    }

    /// How the lane ends.
    pub async fn end(&mut self) -> End {
        let ended = tokio::time::timeout(Duration::from_secs(3600), self.lane.join_next()).await;
        ended.expect("the lane ends").expect("there is one").expect("no panic")
    }

    /// Waits until this holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(3600), async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Lets this much time pass for everyone.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub fn committed(&self) -> Vec<i64> {
        locked(&self.commits.offsets).clone()
    }

    pub fn last_commit(&self) -> Option<i64> {
        self.committed().last().copied()
    }

    /// consumed, then applied, superseded, stale, filtered, dead-lettered.
    pub fn counts(&self) -> (u64, [u64; 5]) {
        let route = self.metrics.route("rows");
        (route.consumed.get(), [&route.applied, &route.superseded, &route.stale, &route.filtered, &route.dead_lettered].map(|c| c.get()))
    }

    /// What store one holds of the row with an id.
    pub async fn held(&self, id: i64) -> Held {
        let target = Arc::clone(prepared("halt").0.routes[0].targets.iter().find(|target| target.name == "t").expect("the target"));
        let key = format!("t:{id}").into_bytes();
        let bytes = streamsync::plan::Bytes { start: 0, len: key.len() };
        let fence = Fence::new(Generation::FIRST, 0).expect("a fence");
        let write = FencedWrite { target: 0, record: 0, fence, key: bytes, document: None, ttl_seconds: 0, content: 0 };
        let keys = SinkWrites { targets: vec![target], writes: vec![write], bytes: key, ..SinkWrites::default() };
        self.one.store.held(&keys).await.expect("in memory")[0]
    }

    /// Ids of the documents in store one.
    pub fn documents(&self) -> Vec<String> {
        self.one.store.documents("t").into_keys().map(|key| String::from_utf8(key).expect("text")).collect()
    }
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
