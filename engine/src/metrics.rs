//! What the engine counts. Names and labels come from here and from the configuration, never from row data, and don't change once
//! released: docs/metrics.md has the table.
//!
//! A lane asks for its handles once; counting then is an addition, without a look-up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub mod names;
mod process;

use crate::change::PassedOver;
use crate::plan::compare::Compared;
use crate::sink::WriteOutcome;
use names::Definition;

/// Different codes, or names, that a guest may add to a route's metrics; the rest is counted as "other".
pub const MAX_GUEST_LABELS: usize = 50;

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    process: process::Process,
    records: IntCounterVec,
    consumed: IntCounterVec,
    decode_seconds: HistogramVec,
    transform_seconds: HistogramVec,
    plan_seconds: HistogramVec,
    batch_records: HistogramVec,
    end_to_end_seconds: HistogramVec,
    dead_letters: IntCounterVec,
    keys_marked: IntCounterVec,
    passed_over: IntCounterVec,
    transform_calls: IntCounterVec,
    transform_traps: IntCounterVec,
    transform_restarts: IntCounterVec,
    transform_memory: IntGaugeVec,
    guest: IntCounterVec,
    route_halted: IntGaugeVec,
    route_unproven: IntGaugeVec,
    rewinds: IntCounterVec,
    swept: IntCounterVec,
    module_info: IntGaugeVec,
    module_swaps: IntCounterVec,
    shadow_events: IntCounterVec,
    writes: IntCounterVec,
    write_seconds: HistogramVec,
    retries: IntCounterVec,
    sink_up: IntGaugeVec,
    lag: IntGaugeVec,
    last_settled: GaugeVec,
    commits: IntCounterVec,
    /// Time until the group had an offset.
    pub commit_seconds: Histogram,
    /// Partitions of this worker.
    pub partitions_assigned: IntGauge,
    /// 0 while no broker answers, or the consumer group has not taken this worker in.
    pub kafka_up: IntGauge,
    /// Assignments and revocations seen.
    pub rebalances: IntCounter,
    /// Batches that wait for their write.
    pub prepared_batches: IntGauge,
    routes: Mutex<BTreeMap<String, Arc<RouteMetrics>>>,
    sinks: Mutex<BTreeMap<String, Arc<SinkMetrics>>>,
    lanes: Arc<Mutex<HashMap<(String, i32), usize>>>,
}

/// A route's handles.
pub struct RouteMetrics {
    route: String,
    /// Records read.
    pub consumed: IntCounter,
    /// Records by outcome, one counter each.
    pub applied: IntCounter,
    /// See [`RouteMetrics::applied`].
    pub superseded: IntCounter,
    /// See [`RouteMetrics::applied`].
    pub stale: IntCounter,
    /// See [`RouteMetrics::applied`].
    pub filtered: IntCounter,
    /// See [`RouteMetrics::applied`].
    pub dead_lettered: IntCounter,
    /// Seconds to decode a batch.
    pub decode_seconds: Histogram,
    /// Seconds that a batch spent in its guest.
    pub transform_seconds: Histogram,
    /// Seconds to plan a batch.
    pub plan_seconds: Histogram,
    /// Records of a batch.
    pub batch_records: Histogram,
    /// From MySQL's time of the change until all sinks acknowledged it; not of snapshots.
    pub from_source_seconds: Histogram,
    /// From Kafka's time of the record until all sinks acknowledged it.
    pub from_kafka_seconds: Histogram,
    /// Calls into the guest.
    pub transform_calls: IntCounter,
    /// Instances replaced, after a trap or because they had grown.
    pub transform_restarts: IntCounter,
    /// Linear memory of the route's instances; add and subtract.
    pub transform_memory: IntGauge,
    /// Keys marked after a dead letter.
    pub keys_marked: IntCounter,
    /// 1 while the route is halted.
    pub halted: IntGauge,
    /// 1 while the route's stores may hold rows that MySQL no longer has.
    pub unproven: IntGauge,
    passed_over: [IntCounter; 5],
    dead_letters: IntCounterVec,
    traps: IntCounterVec,
    guest: IntCounterVec,
    module_info: IntGaugeVec,
    swaps: [IntCounter; 4],
    shadow: [IntCounter; 4],
    codes: Mutex<BTreeSet<String>>,
    guest_names: Mutex<BTreeSet<String>>,
    digest: Mutex<Option<String>>,
}

/// A sink's handles.
pub struct SinkMetrics {
    outcomes: [IntCounter; 4],
    /// Writes that the sink will never take.
    pub refused: IntCounter,
    /// Writes that are sent again.
    pub retried: IntCounter,
    /// Attempts at a sink that was away.
    pub retries: IntCounter,
    /// Seconds of one batch's write.
    pub write_seconds: Histogram,
    /// 0 while anyone waits for the sink; [`crate::http::Health`] alone sets it.
    pub up: IntGauge,
    /// Partitions that were read again because the sink was not as their lanes had left it.
    pub rewinds: IntCounter,
    /// Documents that a rebuild did not write again and that were therefore removed.
    pub swept: IntCounter,
}

/// A partition's handles. The series end when the last of them is dropped.
pub struct LaneMetrics {
    /// Records behind the end of the partition.
    pub lag: IntGauge,
    /// Seconds since the Unix epoch.
    pub last_settled: Gauge,
    key: (String, i32),
    lanes: Arc<Mutex<HashMap<(String, i32), usize>>>,
    vectors: (IntGaugeVec, GaugeVec),
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitResult {
    /// The group has the offset.
    Ok,
    /// It is tried again.
    Retried,
    /// The partition belongs to another worker now.
    Lost,
}

/// What became of the wish for another module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapResult {
    /// It runs.
    Swapped,
    /// The second module is the first now.
    Promoted,
    /// What ran before runs again.
    RolledBack,
    /// Nothing was changed.
    Refused,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name or label that the registry refuses, or one that is there twice.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let build_info = gauges(r, &names::BUILD_INFO)?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            process: process::Process::new(r)?,
            records: counters(r, &names::RECORDS)?,
            consumed: counters(r, &names::RECORDS_CONSUMED)?,
            decode_seconds: histograms(r, &names::DECODE_SECONDS, SECONDS)?,
            transform_seconds: histograms(r, &names::TRANSFORM_SECONDS, SECONDS)?,
            plan_seconds: histograms(r, &names::PLAN_SECONDS, SECONDS)?,
            batch_records: histograms(r, &names::BATCH_RECORDS, BATCHES)?,
            end_to_end_seconds: histograms(r, &names::END_TO_END_SECONDS, LATENCY)?,
            dead_letters: counters(r, &names::DEAD_LETTERS)?,
            keys_marked: counters(r, &names::KEYS_MARKED)?,
            passed_over: counters(r, &names::PASSED_OVER)?,
            transform_calls: counters(r, &names::TRANSFORM_CALLS)?,
            transform_traps: counters(r, &names::TRANSFORM_TRAPS)?,
            transform_restarts: counters(r, &names::TRANSFORM_RESTARTS)?,
            transform_memory: gauges(r, &names::TRANSFORM_MEMORY_BYTES)?,
            guest: counters(r, &names::GUEST)?,
            route_halted: gauges(r, &names::ROUTE_HALTED)?,
            route_unproven: gauges(r, &names::ROUTE_UNPROVEN)?,
            rewinds: counters(r, &names::REWINDS)?,
            swept: counters(r, &names::SWEPT)?,
            module_info: gauges(r, &names::MODULE_INFO)?,
            module_swaps: counters(r, &names::MODULE_SWAPS)?,
            shadow_events: counters(r, &names::SHADOW_EVENTS)?,
            writes: counters(r, &names::WRITES)?,
            write_seconds: histograms(r, &names::WRITE_SECONDS, SECONDS)?,
            retries: counters(r, &names::RETRIES)?,
            sink_up: gauges(r, &names::SINK_UP)?,
            lag: gauges(r, &names::CONSUMER_LAG_RECORDS)?,
            last_settled: registered(r, GaugeVec::new(opts(&names::LAST_SETTLED_SECONDS), names::LAST_SETTLED_SECONDS.labels)?)?,
            commits: counters(r, &names::COMMITS)?,
            commit_seconds: histograms(r, &names::COMMIT_SECONDS, SECONDS)?.with_label_values::<&str>(&[]),
            kafka_up: gauges(r, &names::KAFKA_UP)?.with_label_values::<&str>(&[]),
            partitions_assigned: gauges(r, &names::PARTITIONS_ASSIGNED)?.with_label_values::<&str>(&[]),
            rebalances: counters(r, &names::REBALANCES)?.with_label_values::<&str>(&[]),
            prepared_batches: gauges(r, &names::PREPARED_BATCHES)?.with_label_values::<&str>(&[]),
            routes: Mutex::default(),
            sinks: Mutex::default(),
            lanes: Arc::default(),
            registry,
        })
    }

    /// The text format.
    pub fn render(&self) -> String {
        self.process.update();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(error = %error, "the metrics can't be written as text");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// A route's handles; the same ones for each caller.
    pub fn route(&self, route: &str) -> Arc<RouteMetrics> {
        let mut routes = lock(&self.routes);
        Arc::clone(routes.entry(route.to_owned()).or_insert_with(|| Arc::new(self.new_route(route))))
    }

    /// Number of records of all routes by outcome.
    pub fn outcomes(&self) -> [(&'static str, u64); 5] {
        let routes = lock(&self.routes);
        let sum = |counter: fn(&RouteMetrics) -> &IntCounter| routes.values().map(|route| counter(route).get()).sum();
        [
            ("applied", sum(|r| &r.applied)),
            ("superseded", sum(|r| &r.superseded)),
            ("stale", sum(|r| &r.stale)),
            ("filtered", sum(|r| &r.filtered)),
            ("dead-lettered", sum(|r| &r.dead_lettered)),
        ]
    }

    /// A sink's handles; the same ones for each caller.
    pub fn sink(&self, sink: &str) -> Arc<SinkMetrics> {
        let mut sinks = lock(&self.sinks);
        let write = |result: &str| self.writes.with_label_values(&[sink, result]);
        let new = || SinkMetrics {
            outcomes: ["applied", "duplicate", "stale", "conflict"].map(write),
            refused: write("refused"),
            retried: write("retried"),
            retries: self.retries.with_label_values(&[sink]),
            write_seconds: self.write_seconds.with_label_values(&[sink]),
            up: self.sink_up.with_label_values(&[sink]),
            rewinds: self.rewinds.with_label_values(&[sink]),
            swept: self.swept.with_label_values(&[sink]),
        };
        Arc::clone(sinks.entry(sink.to_owned()).or_insert_with(|| Arc::new(new())))
    }

    /// A partition's handles.
    pub fn lane(&self, topic: &str, partition: i32) -> LaneMetrics {
        *lock(&self.lanes).entry((topic.to_owned(), partition)).or_default() += 1;
        let number = partition.to_string();
        let labels = [topic, number.as_str()];
        LaneMetrics {
            lag: self.lag.with_label_values(&labels),
            last_settled: self.last_settled.with_label_values(&labels),
            key: (topic.to_owned(), partition),
            lanes: Arc::clone(&self.lanes),
            vectors: (self.lag.clone(), self.last_settled.clone()),
        }
    }

    /// Counts a commit.
    pub fn committed(&self, result: CommitResult) {
        let result = match result {
            CommitResult::Ok => "ok",
            CommitResult::Retried => "retried",
            CommitResult::Lost => "lost",
        };
        self.commits.with_label_values(&[result]).inc();
    }

    fn new_route(&self, route: &str) -> RouteMetrics {
        let outcome = |outcome: &str| self.records.with_label_values(&[route, outcome]);
        RouteMetrics {
            route: route.to_owned(),
            consumed: self.consumed.with_label_values(&[route]),
            applied: outcome("applied"),
            superseded: outcome("superseded"),
            stale: outcome("stale"),
            filtered: outcome("filtered"),
            dead_lettered: outcome("dead_lettered"),
            decode_seconds: self.decode_seconds.with_label_values(&[route]),
            transform_seconds: self.transform_seconds.with_label_values(&[route]),
            plan_seconds: self.plan_seconds.with_label_values(&[route]),
            batch_records: self.batch_records.with_label_values(&[route]),
            from_source_seconds: self.end_to_end_seconds.with_label_values(&[route, "source"]),
            from_kafka_seconds: self.end_to_end_seconds.with_label_values(&[route, "kafka"]),
            transform_calls: self.transform_calls.with_label_values(&[route]),
            transform_restarts: self.transform_restarts.with_label_values(&[route]),
            transform_memory: self.transform_memory.with_label_values(&[route]),
            keys_marked: self.keys_marked.with_label_values(&[route]),
            halted: self.route_halted.with_label_values(&[route]),
            unproven: self.route_unproven.with_label_values(&[route]),
            passed_over: ["heartbeat", "transaction", "schema_change", "message", "empty_record"]
                .map(|kind| self.passed_over.with_label_values(&[route, kind])),
            dead_letters: self.dead_letters.clone(),
            traps: self.transform_traps.clone(),
            guest: self.guest.clone(),
            module_info: self.module_info.clone(),
            shadow: ["equal", "different", "failed", "skipped"].map(|result| self.shadow_events.with_label_values(&[route, result])),
            swaps: ["swapped", "promoted", "rolled_back", "refused"].map(|result| self.module_swaps.with_label_values(&[route, result])),
            codes: Mutex::default(),
            guest_names: Mutex::default(),
            digest: Mutex::default(),
        }
    }
}

impl RouteMetrics {
    /// Counts a record that is no row change.
    pub fn passed_over(&self, kind: PassedOver) {
        let [heartbeat, transaction, schema_change, message, empty_record] = &self.passed_over;
        match kind {
            PassedOver::Heartbeat => heartbeat,
            PassedOver::Transaction => transaction,
            PassedOver::SchemaChange => schema_change,
            PassedOver::Message => message,
            PassedOver::EmptyRecord => empty_record,
        }
        .inc();
    }

    /// Counts a dead letter. Codes may come from guests: there are at most [`MAX_GUEST_LABELS`] of them.
    pub fn dead_letter(&self, stage: &str, code: &str) {
        let code = capped(&self.codes, code);
        self.dead_letters.with_label_values(&[self.route.as_str(), stage, code]).inc();
    }

    /// Counts a trap; the host names its kind.
    pub fn trap(&self, kind: &'static str) {
        self.traps.with_label_values(&[self.route.as_str(), kind]).inc();
    }

    /// Adds to one of the guest's own counters, of which there are at most [`MAX_GUEST_LABELS`].
    pub fn guest(&self, name: &str, by: u64) {
        let name = capped(&self.guest_names, name);
        self.guest.with_label_values(&[self.route.as_str(), name]).inc_by(by);
    }

    /// Counts a change of the module.
    pub fn swap(&self, result: SwapResult) {
        let [swapped, promoted, rolled_back, refused] = &self.swaps;
        match result {
            SwapResult::Swapped => swapped,
            SwapResult::Promoted => promoted,
            SwapResult::RolledBack => rolled_back,
            SwapResult::Refused => refused,
        }
        .inc();
    }

    /// Counts what a second module was compared on.
    pub fn shadow(&self, compared: &Compared) {
        let [equal, different, failed, _] = &self.shadow;
        equal.inc_by(compared.equal);
        different.inc_by(compared.different);
        failed.inc_by(compared.failed);
    }

    /// Counts what it was not compared on.
    pub fn shadow_skipped(&self, events: u64) {
        let [.., skipped] = &self.shadow;
        skipped.inc_by(events);
    }

    /// Says which module runs.
    pub fn module(&self, digest: &str) {
        let mut known = lock(&self.digest);
        let before = known.replace(digest.to_owned());
        if let Some(before) = before.filter(|before| before != digest) {
            // It is gone already where two lanes load the same new module.
            self.module_info.remove_label_values(&[self.route.as_str(), before.as_str()]).unwrap_or_default();
        }
        self.module_info.with_label_values(&[self.route.as_str(), digest]).set(1);
    }
}

impl SinkMetrics {
    /// The counter of a write that the sink answered.
    pub fn outcome(&self, outcome: WriteOutcome) -> &IntCounter {
        let [applied, duplicate, stale, conflict] = &self.outcomes;
        match outcome {
            WriteOutcome::Applied => applied,
            WriteOutcome::Duplicate => duplicate,
            WriteOutcome::Stale => stale,
            WriteOutcome::Conflict => conflict,
        }
    }
}

impl Drop for LaneMetrics {
    fn drop(&mut self) {
        let mut lanes = lock(&self.lanes);
        let left = lanes.get(&self.key).map_or(0, |count| count.saturating_sub(1));
        if left > 0 {
            lanes.insert(self.key.clone(), left);
            return;
        }
        lanes.remove(&self.key);
        let (topic, partition) = &self.key;
        let number = partition.to_string();
        let labels = [topic.as_str(), number.as_str()];
        // Both exist as long as one handle does.
        self.vectors.0.remove_label_values(&labels).unwrap_or_default();
        self.vectors.1.remove_label_values(&labels).unwrap_or_default();
    }
}

/// The label, or "other" where the set is full.
fn capped<'l>(known: &Mutex<BTreeSet<String>>, label: &'l str) -> &'l str {
    let mut known = lock(known);
    if known.contains(label) {
        return label;
    }
    if known.len() >= MAX_GUEST_LABELS {
        return "other";
    }
    known.insert(label.to_owned());
    label
}

/// What a panicking thread left behind is still a set of counters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SECONDS: &[f64] =
    &[0.000_025, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const LATENCY: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0];
const BATCHES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 10_000.0];

fn opts(definition: &Definition) -> Opts {
    Opts::new(definition.name, definition.help)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counters(registry: &Registry, definition: &Definition) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(opts(definition), definition.labels)?)
}

fn gauges(registry: &Registry, definition: &Definition) -> Result<IntGaugeVec, prometheus::Error> {
    registered(registry, IntGaugeVec::new(opts(definition), definition.labels)?)
}

fn histograms(registry: &Registry, definition: &Definition, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(definition.name, definition.help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(opts, definition.labels)?)
}

fn counter(registry: &Registry, definition: &Definition) -> Result<Counter, prometheus::Error> {
    registered(registry, Counter::with_opts(opts(definition))?)
}

#[cfg(test)]
mod tests;
