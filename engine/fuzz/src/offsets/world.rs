//! A lane and all that is around it. What the lane is given, and what it does, is written into one journal.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use streamsync::commit::{self, Commits};
use streamsync::config::Settings;
use streamsync::dead_letter::{self, DeadLetter, DeadLetters};
use streamsync::fence::Generation;
use streamsync::http::Health;
use streamsync::identity::MemoryIdentities;
use streamsync::lane::{Budget, Deletions, End, Lane, Mark, Meter, Order, Prepare, Shared};
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{Replaces, Sink as _, Watermark};
use streamsync::source::{self, BatchLimits, PartitionReader, RecordBatch, TopicPartition};
use streamsync::transform::{Guest, Module, TransformHost};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::component::component;
use super::ledger::{Event, Row};
use super::store::Store;
use crate::input::Input;

const GROUP: &str = "g";
const NOW_MS: i64 = 1_700_000_000_000;
/// More than any lane of these needs.
const END_LIMIT: Duration = Duration::from_secs(3600);

/// The simulation's guest has the targets `r` and `m`.
const CONFIGURATION: &str = r#"
drain_timeout = "5s"
loss_check_interval = "20s"
[kafka]
brokers = "127.0.0.1:1"
group = "g"
[retry]
initial = "50ms"
max = "2s"
[dead_letters]
max_per_minute = 100000
[transforms]
cache_dir = ""
watch = "0ms"
[sinks.one]
kind = "memory"
[sinks.two]
kind = "memory"
[[routes]]
name = "t"
topic = "shop.t"
table = "shop.t"
format = "json"
[routes.columns]
id = "int not null"
line = "varchar(9) not null"
note = "varchar(9)"
v = "int not null"
[routes.transform]
module = "guest.wasm"
call_timeout = "60s"
[routes.targets.r]
sink = "one"
prefix = "r"
[routes.targets.m]
sink = "two"
prefix = "m"
"#;

/// In the order in which it happened.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<Event>>>);

impl Journal {
    pub(super) fn push(&self, event: Event) {
        locked(&self.0).push(event);
    }
}

/// How a sink ceases to be what the lane left.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// It was emptied.
    Emptied,
    /// Another server stands in its place, with the same data for all that anyone knows.
    AnotherServer,
    /// Another worker has written its watermark.
    AnotherWorker,
}

/// Everything.
pub(super) struct World {
    pub(super) group: Arc<Group>,
    pub(super) letters: Arc<Letters>,
    pub(super) max_records: usize,
    /// Where the lane begins.
    pub(super) begin: i64,
    stores: [Arc<Store>; 2],
    journal: Journal,
    metrics: Arc<Metrics>,
    source: TopicPartition,
    next_offset: i64,
    /// The lane will end by it; a second one would hide what became of the first.
    has_trouble: bool,
    look_interval: Duration,
    orders: watch::Sender<Order>,
    records: Option<mpsc::Sender<RecordBatch>>,
    lane: JoinSet<End>,
}

impl World {
    /// Starts a lane with settings from the input.
    pub(super) async fn new(input: &mut Input<'_>) -> Self {
        let (settings, module) = prepared();
        let mut settings = settings.clone();
        settings.batch.max_records = 2 + input.below(6);
        settings.batch.prepared_ahead = 1 + input.below(3);
        settings.kafka.commit_interval = Duration::from_millis([1, 1_000, 1_000_000_000][input.below(3)]);
        settings.retry.jitter_seed = Some(input.byte().into());
        let begin = i64::from(input.byte());
        let route = Arc::clone(&settings.routes[0]);
        let guest = Guest::new(Arc::clone(module), Arc::clone(&route), &settings.sinks).expect("a guest");
        let prepare = Prepare::route(route, guest, &module.digest, Generation::FIRST);
        let journal = Journal::default();
        let source = TopicPartition::new("shop.t", 0);
        let stores = [(0, "one"), (1, "two")].map(|(number, name)| Arc::new(Store::new(number, name, journal.clone())));
        let watermark = Watermark { generation: Generation::FIRST, next_offset: begin, written_at_ms: NOW_MS, complete_until_ms: NOW_MS };
        let mut marks = Vec::new();
        for (index, store) in stores.iter().enumerate() {
            let taken = Mark::take_over((index, &store.kept), GROUP, &source, 0, None, watermark).await;
            marks.push(taken.expect("in memory").expect("nothing there yet"));
        }
        let group = Arc::new(Group { journal: journal.clone(), answers: Mutex::default() });
        let letters = Arc::new(Letters { journal: journal.clone(), away: Mutex::default() });
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let health = Health::new(settings.http.stalled_after);
        let meter = Meter::new(&metrics, health.lane_started("t", &source), "t", &source, Deletions::default());
        let (orders, ordered) = watch::channel(Order::Run);
        let (records, read) = mpsc::channel(64);
        let (max_records, look_interval) = (settings.batch.max_records, settings.loss_check_interval);
        let lane = Lane {
            source: source.clone(),
            generation: Generation::FIRST,
            prepare,
            reader: Box::new(Handed(read)),
            meter,
            budget: Arc::new(Budget::new(settings.dead_letters.max_per_minute)),
            marks,
            shared: Arc::new(Shared {
                sinks: stores.iter().map(|store| Arc::clone(store) as _).collect(),
                dead_letters: Arc::clone(&letters) as _,
                commits: Arc::clone(&group) as _,
                poll_age: Arc::new(|| Duration::ZERO),
                sink_metrics: vec![metrics.sink("one"), metrics.sink("two")],
                metrics: Arc::clone(&metrics),
                health,
                identities: Arc::new(MemoryIdentities::default()),
                machine: Machine::simulated(NOW_MS),
                settings: Arc::new(settings),
            }),
        };
        let mut running = JoinSet::new();
        running.spawn(lane.run(ordered));
        Self {
            group,
            letters,
            max_records,
            begin,
            stores,
            journal,
            metrics,
            source,
            next_offset: begin,
            has_trouble: false,
            look_interval,
            orders,
            records: Some(records),
            lane: running,
        }
    }

    pub(super) fn sink(&self, choice: u8) -> &Store {
        &self.stores[usize::from(choice & 1)]
    }

    /// Hands over a batch, each row so many offsets behind the last; a lane that has ended, or has enough, takes none.
    pub(super) fn hand_over(&mut self, rows: &[(Row, i64)], gap: i64) {
        let mut batch = RecordBatch::new(self.source.clone());
        let offsets: Vec<i64> = (0..).map(|number| self.next_offset + number * (1 + gap)).take(rows.len()).collect();
        for (offset, (row, v)) in offsets.iter().zip(rows) {
            push(&mut batch, *offset, *row, *v);
        }
        let Some(next_offset) = batch.next_offset() else { return };
        if self.records.as_ref().is_some_and(|records| records.try_send(batch).is_ok()) {
            self.next_offset = next_offset;
            self.journal.push(Event::Handed(offsets.into_iter().zip(rows.iter().map(|(row, _)| *row)).collect()));
        }
    }

    /// Makes trouble by which the lane must end, once.
    pub(super) fn has_trouble(&mut self) -> bool {
        std::mem::replace(&mut self.has_trouble, true)
    }

    /// Makes a sink another than the lane left.
    pub(super) async fn lose(&self, sink: u8, loss: Loss) {
        let sink = usize::from(sink & 1);
        let store = &self.stores[sink];
        match loss {
            Loss::Emptied => store.kept.flush(),
            Loss::AnotherServer => store.change(|mood| mood.lineage += 1),
            Loss::AnotherWorker => {
                let next_offset = self.next_offset;
                // No lane of this clock ever writes that time.
                let watermark =
                    Watermark { generation: Generation::FIRST, next_offset, written_at_ms: NOW_MS - 1, complete_until_ms: NOW_MS - 1 };
                let stored =
                    store.kept.store_watermark(GROUP, &self.source, MemorySink::LINEAGE, Replaces::NotBehind(None), watermark).await;
                stored.expect("in memory");
            }
        }
        self.journal.push(Event::Lost(sink));
    }

    /// Everyone answers again.
    pub(super) fn heal(&self) {
        self.stores.iter().for_each(|store| store.heal());
        self.group.heal();
        self.letters.away(0);
    }

    pub(super) fn order(&self, order: Order) {
        order.give(&self.orders);
    }

    /// Nothing more comes. The lane has had the time to look at its sinks.
    pub(super) async fn close(&mut self) {
        tokio::time::sleep(3 * self.look_interval).await;
        self.records = None;
    }

    pub(super) async fn end(&mut self) -> End {
        let ended = tokio::time::timeout(END_LIMIT, self.lane.join_next()).await;
        ended.expect("the lane ends").expect("there is one").expect("no panic")
    }

    pub(super) fn journal(&self) -> Vec<Event> {
        locked(&self.journal.0).clone()
    }

    /// Records that the lane says it has settled.
    pub(super) fn settled(&self) -> usize {
        let route = self.metrics.route("t");
        let outcomes =
            [&route.applied, &route.superseded, &route.stale, &route.filtered, &route.dead_lettered].map(|counter| counter.get());
        assert_eq!(outcomes.iter().sum::<u64>(), route.consumed.get(), "each record has one outcome");
        route.consumed.get() as usize
    }
}

/// The consumer group.
pub(super) struct Group {
    journal: Journal,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    /// So many commits are not made,
    away: u8,
    /// and so many made and not told.
    unheard: u8,
    /// The partition is another worker's.
    is_lost: bool,
}

impl Group {
    pub(super) fn away(&self, commits: u8) {
        locked(&self.answers).away = commits;
    }

    pub(super) fn unheard(&self, commits: u8) {
        locked(&self.answers).unheard = commits;
    }

    pub(super) fn lose(&self) {
        locked(&self.answers).is_lost = true;
        self.journal.push(Event::Expelled);
    }

    fn heal(&self) {
        self.away(0);
        self.unheard(0);
    }
}

impl Commits for Group {
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), commit::Error>> {
        let mut answers = locked(&self.answers);
        let away = || commit::Error::Away { source_partition: source.clone(), message: "no coordinator".to_owned() };
        let result = if answers.is_lost {
            Err(commit::Error::Lost { source_partition: source.clone() })
        } else if one_of(&mut answers.away) {
            Err(away())
        } else {
            self.journal.push(Event::Committed(next_offset));
            if one_of(&mut answers.unheard) { Err(away()) } else { Ok(()) }
        };
        ready(result).boxed()
    }
}

/// The dead-letter topic; so many letters are not taken.
pub(super) struct Letters {
    journal: Journal,
    away: Mutex<u8>,
}

impl Letters {
    pub(super) fn away(&self, attempts: u8) {
        *locked(&self.away) = attempts;
    }
}

impl DeadLetters for Letters {
    fn send<'a>(&'a self, records: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), dead_letter::Error>> {
        if one_of(&mut locked(&self.away)) {
            let error = dead_letter::Error::Away { topic: "letters".to_owned(), message: "no leader".to_owned() };
            return ready(Err(error)).boxed();
        }
        for letter in letters {
            self.journal.push(Event::Lettered(records.records[letter.record as usize].offset));
        }
        ready(Ok(())).boxed()
    }
}

/// Whether there is one left, which is taken.
pub(super) fn one_of(left: &mut u8) -> bool {
    let had_one = *left > 0;
    *left = left.saturating_sub(1);
    had_one
}

struct Handed(mpsc::Receiver<RecordBatch>);

impl PartitionReader for Handed {
    fn next_batch(&mut self, _: BatchLimits) -> BoxFuture<'_, Result<Option<RecordBatch>, source::Error>> {
        self.0.recv().map(Ok).boxed()
    }
}

fn push(batch: &mut RecordBatch, offset: i64, row: Row, v: i64) {
    let image = |id: i64| format!(r#"{{"id":{id},"line":"l","note":null,"v":{v}}}"#);
    let change = |before: &str, after: &str, op: &str| {
        format!(r#"{{"before":{before},"after":{after},"source":{{"db":"shop","table":"t","ts_ms":5,"snapshot":"false"}},"op":"{op}"}}"#)
    };
    let (key, value) = match row {
        Row::Put(id) => (id, Some(change("null", &image(id), "c"))),
        Row::Delete(id) => (id, Some(change(&image(id), "null", "d"))),
        Row::Null(id) => (id, None),
        Row::Broken => (0, Some("{".to_owned())),
    };
    let key = format!(r#"{{"id":{key}}}"#);
    batch.push(offset, None, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), []).expect("small");
}

/// Settings and the module, made once.
fn prepared() -> &'static (Settings, Arc<Module>) {
    static PREPARED: OnceLock<(Settings, Arc<Module>)> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("guest.wasm"), component(include_str!("../../../tests/simulation/guest.wat")))
            .expect("written");
        settings_and_module(directory.path())
    })
}

fn settings_and_module(directory: &Path) -> (Settings, Arc<Module>) {
    let settings = Settings::parse(CONFIGURATION, directory).expect("valid");
    let module = TransformHost::new(&settings.transforms).expect("a host").load(&settings.routes[0].transform).expect("a module");
    (settings, module)
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
