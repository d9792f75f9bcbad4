//! What lanes and sinks report of themselves, and whether that makes this worker ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::IntGauge;

use crate::source::TopicPartition;

mod coming;
mod sinks;

pub use coming::Coming;
pub(super) use sinks::Sink;
pub use sinks::SinkWait;

/// The state of a worker. Lanes change their own part without a lock.
pub struct Health {
    stalled_after: Duration,
    since: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    next_lane: u64,
    lanes: BTreeMap<u64, Arc<Lane>>,
    routes: BTreeMap<String, Route>,
    sinks: BTreeMap<String, Sink>,
    /// Since when Kafka can't be worked with, and why.
    kafka_away: Option<(u64, String)>,
}

/// How far the worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not yet a member of the group.
    #[default]
    Starting,
    /// At work.
    Running,
    /// Settling its last batches.
    Stopping,
}

/// A route as it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    pub(super) topic: String,
    pub(super) table: String,
    pub(super) halted: Option<String>,
    pub(super) unproven: Option<String>,
    /// How often it was told to be unproven.
    doubts: u64,
    pub(super) module: ShownModule,
    /// Why the last wish for another module was refused.
    pub(super) refused: Option<String>,
}

/// A module as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownModule {
    /// The name that it gives itself.
    pub name: String,
    /// The version that it gives itself.
    pub version: String,
    /// Its SHA-256, in hexadecimal.
    pub digest: String,
    /// SHA-256 of a second module, and the share of keys that it writes.
    pub second: Option<(String, u32)>,
}

/// A partition as it is shown.
pub(super) struct Lane {
    pub(super) route: String,
    pub(super) source: TopicPartition,
    /// -1: nothing was settled yet.
    pub(super) next_offset: AtomicI64,
    /// -1: not known.
    pub(super) lag: AtomicI64,
    /// Milliseconds since the Unix epoch; 0: never.
    pub(super) settled_at_ms: AtomicU64,
    /// `None`: it is at work.
    coming: Mutex<Option<Coming>>,
    /// Whether it has been given to a lane.
    runs: AtomicBool,
    waiting: AtomicBool,
    /// Whether the log has records that were not fetched.
    unread: AtomicBool,
    /// The log's end, when all of it had been handed over last.
    read_to: AtomicI64,
    /// Milliseconds since `Health::since`: the last progress, or when records began to wait.
    moved_ms: AtomicU64,
}

/// A lane's own part of [`Health`]; the partition is shown until it is dropped.
pub struct LaneHealth {
    health: Arc<Health>,
    id: u64,
    lane: Arc<Lane>,
}

impl Health {
    /// `stalled_after` is `http.stalled_after`.
    pub fn new(stalled_after: Duration) -> Arc<Self> {
        Arc::new(Self { stalled_after, since: Instant::now(), state: Mutex::default() })
    }

    /// Says how far the worker is. Until it runs it is not ready.
    pub fn phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Why Kafka can't be worked with at the moment; `None` where it can.
    pub fn kafka(&self, trouble: Option<String>) {
        let now_ms = self.now_ms();
        let away = &mut self.lock().kafka_away;
        *away = trouble.map(|what| (away.as_ref().map_or(now_ms, |(since_ms, _)| *since_ms), what));
    }

    /// Names a route, so that it is shown also while this worker has none of its partitions.
    pub fn route(&self, route: &str, topic: &str, table: &str) {
        let mut state = self.lock();
        let known = state.routes.entry(route.to_owned()).or_default();
        topic.clone_into(&mut known.topic);
        table.clone_into(&mut known.table);
    }

    /// A partition is at work.
    pub fn lane_started(self: &Arc<Self>, route: &str, source: &TopicPartition) -> LaneHealth {
        let lane = self.partition_comes(route, source, None);
        lane.runs();
        lane
    }

    /// A partition was assigned, or begins again: nobody knows yet where it starts. `coming` is what was told of it so far.
    pub fn partition_comes(self: &Arc<Self>, route: &str, source: &TopicPartition, coming: Option<Coming>) -> LaneHealth {
        let now_ms = self.now_ms();
        let lane = Arc::new(Lane {
            route: route.to_owned(),
            source: source.clone(),
            next_offset: AtomicI64::new(-1),
            lag: AtomicI64::new(-1),
            settled_at_ms: AtomicU64::new(0),
            coming: Mutex::new(Some(coming.unwrap_or_else(|| Coming::since(now_ms)))),
            runs: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            read_to: AtomicI64::new(-1),
            moved_ms: AtomicU64::new(now_ms),
        });
        let mut state = self.lock();
        let id = state.next_lane;
        state.next_lane += 1;
        state.lanes.insert(id, Arc::clone(&lane));
        LaneHealth { health: Arc::clone(self), id, lane }
    }

    /// The offset behind what is settled of a partition; `None` where this worker has settled nothing of it.
    pub fn position(&self, source: &TopicPartition) -> Option<i64> {
        let state = self.lock();
        let lane = state.lanes.values().find(|lane| lane.source == *source)?;
        Some(lane.next_offset.load(Ordering::Relaxed)).filter(|offset| *offset >= 0)
    }

    /// A route waits for an operator; the message says why, and what to do.
    pub fn route_halted(&self, route: &str, message: &str) {
        self.lock().routes.entry(route.to_owned()).or_default().halted = Some(message.to_owned());
    }

    /// A route goes on.
    pub fn route_resumed(&self, route: &str) {
        self.lock().routes.entry(route.to_owned()).or_default().halted = None;
    }

    /// A route's stores may hold rows that MySQL no longer has. The worker is ready all the same. `unproven` is the route's gauge, which changes
    /// under the same lock.
    pub fn route_unproven(&self, route: &str, why: &str, unproven: &IntGauge) {
        let mut state = self.lock();
        let known = state.routes.entry(route.to_owned()).or_default();
        known.unproven = Some(why.to_owned());
        known.doubts += 1;
        unproven.set(1);
    }

    /// How often a route was told to be unproven.
    pub fn doubts(&self, route: &str) -> u64 {
        self.lock().routes.get(route).map_or(0, |route| route.doubts)
    }

    /// A route's stores hold what the topic has, unless there was a doubt since `doubts` was asked for; `false`: there was.
    pub fn route_proven(&self, route: &str, doubts: u64, unproven: &IntGauge) -> bool {
        let mut state = self.lock();
        let known = state.routes.entry(route.to_owned()).or_default();
        if known.doubts != doubts {
            return false;
        }
        known.unproven = None;
        unproven.set(0);
        true
    }

    /// The routes that are unproven.
    pub fn unproven_routes(&self) -> Vec<String> {
        let state = self.lock();
        state.routes.iter().filter(|(_, route)| route.unproven.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// Whether this worker has a lane of the partition.
    pub fn has_lane(&self, source: &TopicPartition) -> bool {
        self.lock().lanes.values().any(|lane| lane.source == *source && lane.runs.load(Ordering::Relaxed))
    }

    /// A route runs this module from now on.
    pub fn module(&self, route: &str, module: ShownModule) {
        let mut state = self.lock();
        let known = state.routes.entry(route.to_owned()).or_default();
        (known.module, known.refused) = (module, None);
    }

    /// Another module was wanted and is unfit, or a partition could not take it over. That makes no worker unready: the one before runs.
    pub fn module_refused(&self, route: &str, why: &str) {
        self.lock().routes.entry(route.to_owned()).or_default().refused = Some(why.to_owned());
    }

    /// Why this worker is not ready; empty when it is.
    pub fn reasons(&self) -> Vec<String> {
        self.reasons_at(self.now_ms())
    }

    fn reasons_at(&self, now_ms: u64) -> Vec<String> {
        let state = self.lock();
        let mut reasons = Vec::new();
        match state.phase {
            Phase::Starting => reasons.push("starting: the consumer group has not answered yet".to_owned()),
            Phase::Running => {}
            Phase::Stopping => reasons.push("stopping".to_owned()),
        }
        if let Some((since_ms, what)) = &state.kafka_away
            && let Some(seconds) = too_long(*since_ms, now_ms, self.stalled_after)
        {
            reasons.push(format!("Kafka is away for {seconds} s: {what}"));
        }
        for (name, route) in &state.routes {
            if let Some(message) = &route.halted {
                reasons.push(format!("route {name} is halted: {message}"));
            }
        }
        for (name, sink) in state.sinks.iter().filter(|(_, sink)| !sink.is_up()) {
            reasons.push(format!("sink {name} is away: {}", sink.message));
        }
        for lane in state.lanes.values() {
            reasons.extend(lane.stalled(now_ms, self.stalled_after));
        }
        reasons
    }

    pub(super) fn show<T>(&self, show: impl FnOnce(&dyn Fn(&Lane) -> bool, Shown<'_>) -> T) -> T {
        let now_ms = self.now_ms();
        let state = self.lock();
        let stalled = |lane: &Lane| lane.stalled(now_ms, self.stalled_after).is_some();
        let lanes: Vec<&Lane> = state.lanes.values().map(Arc::as_ref).collect();
        show(&stalled, Shown { phase: state.phase, uptime: self.since.elapsed(), lanes, routes: &state.routes, sinks: &state.sinks })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panicking thread left behind is whole: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state for the status page.
pub(super) struct Shown<'s> {
    pub(super) phase: Phase,
    pub(super) uptime: Duration,
    pub(super) lanes: Vec<&'s Lane>,
    pub(super) routes: &'s BTreeMap<String, Route>,
    pub(super) sinks: &'s BTreeMap<String, Sink>,
}

impl Lane {
    /// What is wrong with a partition that does not go on.
    fn stalled(&self, now_ms: u64, stalled_after: Duration) -> Option<String> {
        let TopicPartition { topic, partition } = &self.source;
        let too_long = |since_ms: u64| too_long(since_ms, now_ms, stalled_after);
        if let Some(coming) = &*self.coming()
            && let Some(seconds) = too_long(coming.since_ms)
        {
            return Some(format!("partition {partition} of {topic} is not at work for {seconds} s: {}", coming.why()));
        }
        let seconds = too_long(self.moved_ms.load(Ordering::Relaxed)).filter(|_| self.has_records())?;
        Some(format!("partition {partition} of {topic} has records waiting and settled none for {seconds} s"))
    }
}

impl Lane {
    fn has_records(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) || self.unread.load(Ordering::Relaxed)
    }
}

/// For how many seconds something lasts, where that is too long.
fn too_long(since_ms: u64, now_ms: u64, limit: Duration) -> Option<u64> {
    let still = Duration::from_millis(now_ms.saturating_sub(since_ms));
    (still > limit).then_some(still.as_secs())
}

impl LaneHealth {
    /// Everything below `next_offset` is settled.
    pub fn settled(&self, next_offset: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.lane.next_offset.store(next_offset, Ordering::Relaxed);
        self.lane.settled_at_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.lane.moved_ms.store(self.health.now_ms(), Ordering::Relaxed);
    }

    /// Whether the lane holds or could read records that are not settled.
    pub fn waiting(&self, has_records: bool) {
        if has_records != self.lane.waiting.swap(has_records, Ordering::Relaxed) && has_records {
            self.lane.moved_ms.store(self.health.now_ms(), Ordering::Relaxed);
        }
    }

    /// What Kafka's client says of the log: the records between the settled position and its end, where these are known, and `read_to` where all was
    /// handed over. A log that is not fetched, as where its broker is gone, has records waiting: from now on, where none did, so that there is
    /// time for a first fetch. Behind the last record may stand a transaction's markers, which nobody settles: what was handed over once is no reason.
    pub fn log(&self, lag: Option<i64>, end: Option<i64>, read_to: Option<i64>) {
        if let Some(records) = lag {
            self.lane.lag.store(records, Ordering::Relaxed);
        }
        if let Some(read_to) = read_to {
            self.lane.read_to.store(read_to, Ordering::Relaxed);
        }
        let unread = read_to.is_none()
            && lag.is_some_and(|records| records > 0)
            && end.is_some_and(|end| end > self.lane.read_to.load(Ordering::Relaxed));
        if unread && !self.lane.has_records() {
            self.lane.moved_ms.store(self.health.now_ms(), Ordering::Relaxed);
        }
        self.lane.unread.store(unread, Ordering::Relaxed);
    }
}

impl Drop for LaneHealth {
    fn drop(&mut self) {
        self.health.lock().lanes.remove(&self.id);
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn source() -> TopicPartition {
        TopicPartition { topic: "orders".into(), partition: 2 }
    }

    #[test]
    fn a_partition_stalls_only_with_records_waiting() {
        let health = Health::new(Duration::from_secs(60));
        health.phase(Phase::Running);
        let lane = health.lane_started("orders", &source());
        assert_eq!(health.reasons_at(3_600_000), Vec::<String>::new());
        lane.waiting(true);
        assert_eq!(health.reasons_at(59_000), Vec::<String>::new());
        assert_eq!(health.reasons_at(61_500), ["partition 2 of orders has records waiting and settled none for 61 s"]);
        lane.waiting(false);
        assert_eq!(health.reasons_at(61_500), Vec::<String>::new());
        lane.waiting(true);
        drop(lane);
        assert_eq!(health.reasons_at(3_600_000), Vec::<String>::new());
    }

    /// A leader that is gone fills no batch, and the statistics keep what they knew.
    #[test]
    fn a_partition_stalls_that_is_not_fetched() {
        let health = Health::new(Duration::from_secs(60));
        health.phase(Phase::Running);
        let lane = health.lane_started("orders", &source());
        let check = |stalls: bool| {
            let expected = ["partition 2 of orders has records waiting and settled none for 61 s"];
            assert_eq!(health.reasons_at(61_500), expected.get(..usize::from(stalls)).unwrap_or_default());
        };
        // Nothing was fetched yet.
        lane.log(None, None, None);
        check(false);
        lane.log(Some(5), Some(15), None);
        assert_eq!(health.reasons_at(59_000), Vec::<String>::new());
        check(true);
        lane.log(Some(0), Some(15), None);
        check(false);
        // All was handed over; what is behind the settled position is no record, whether or not its broker answers.
        lane.log(Some(1), Some(16), Some(16));
        check(false);
        lane.log(Some(1), Some(16), None);
        check(false);
        lane.log(Some(2), Some(17), None);
        check(true);
        // The clock runs from when the first records waited, not from each look.
        lane.lane.moved_ms.store(0, Ordering::Relaxed);
        lane.log(Some(3), Some(18), None);
        assert_eq!(lane.lane.moved_ms.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_partition_that_never_starts_is_told_of() {
        let health = Health::new(Duration::from_secs(60));
        health.phase(Phase::Running);
        let check = |at_ms: u64, expected: &[&str]| {
            let expected: Vec<String> =
                expected.iter().map(|why| format!("partition 2 of orders is not at work for 61 s: {why}")).collect();
            assert_eq!(health.reasons_at(at_ms), expected);
        };
        let lane = health.partition_comes("orders", &source(), None);
        check(59_000, &[]);
        check(61_500, &["it waits for answers of Kafka and the sinks"]);
        lane.waits_for("Kafka: no leader");
        check(61_500, &["it waits for Kafka: no leader"]);
        lane.answered();
        check(61_500, &["it waits for answers of Kafka and the sinks"]);
        assert!(!health.has_lane(&source()));
        lane.runs();
        assert!(health.has_lane(&source()));
        check(3_600_000, &[]);
        assert_eq!(lane.coming(), None);
        drop(lane);

        // One that begins again and again counts from the first time on, until it has kept something.
        let mut coming = Some(health.comes_again(None, "sink one was emptied"));
        for _ in 0..3 {
            let lane = health.partition_comes("orders", &source(), coming);
            lane.waits_for("Kafka: no leader");
            check(61_500, &["it waits for Kafka: no leader"]);
            lane.runs();
            lane.settled(5);
            check(61_500, &["it began again and has kept nothing since: sink one was emptied"]);
            coming = Some(health.comes_again(lane.coming(), "sink one was emptied"));
        }
        let lane = health.partition_comes("orders", &source(), coming);
        lane.runs();
        lane.kept();
        check(3_600_000, &[]);
        assert_eq!(lane.coming(), None);
    }

    #[test]
    fn kafka_may_be_away_for_a_moment() {
        let health = Health::new(Duration::from_secs(60));
        health.phase(Phase::Running);
        health.kafka(Some("no broker of a:1 answers".to_owned()));
        assert_eq!(health.reasons_at(59_000), Vec::<String>::new());
        health.kafka(Some("the group is away".to_owned()));
        assert_eq!(health.reasons_at(61_500), ["Kafka is away for 61 s: the group is away"]);
        health.kafka(None);
        assert_eq!(health.reasons_at(61_500), Vec::<String>::new());
    }

    #[test]
    fn a_doubt_outlives_a_proof_that_did_not_know_of_it() {
        let health = Health::new(Duration::from_secs(60));
        let unproven = IntGauge::new("unproven", "test").expect("a gauge");
        health.route_unproven("orders", "a rebuild is under way", &unproven);
        let doubts = health.doubts("orders");
        health.route_unproven("orders", "a second snapshot", &unproven);
        assert!(!health.route_proven("orders", doubts, &unproven));
        assert_eq!((health.unproven_routes(), unproven.get()), (vec!["orders".to_owned()], 1));
        assert!(health.route_proven("orders", health.doubts("orders"), &unproven));
        assert_eq!((health.unproven_routes(), unproven.get()), (Vec::new(), 0));
    }

    #[test]
    fn every_reason_is_told() {
        let health = Health::new(Duration::from_secs(60));
        assert_eq!(health.reasons(), ["starting: the consumer group has not answered yet"]);
        health.phase(Phase::Stopping);
        health.route_halted("orders", "too many dead letters");
        let [redis, mongodb] = ["redis", "mongodb"].map(|name| IntGauge::new(name, "test").expect("a gauge"));
        let mut waits = health.asks("redis", &redis);
        waits.away("connection refused");
        health.sink_found("mongodb", &mongodb);
        assert_eq!(
            health.reasons(),
            ["stopping", "route orders is halted: too many dead letters", "sink redis is away: connection refused"]
        );
        health.route_resumed("orders");
        drop(waits);
        health.phase(Phase::Running);
        assert_eq!(health.reasons(), Vec::<String>::new());
    }
}
