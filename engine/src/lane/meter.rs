//! What a lane tells of itself: metrics, and its line on the status page.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use super::deletions::{Deletions, DeletionsMissing, InTime};
use super::prepare::{Guested, Prepared};
use super::settle::{Outcome, Outcomes};
use crate::http::{Coming, LaneHealth};
use crate::metrics::{LaneMetrics, Metrics, RouteMetrics};
use crate::plan::Fault;
use crate::source::{Idle, RecordBatch, TopicPartition};
use crate::transform;

/// What is known of the log as far as it was read.
struct Reading {
    /// The last look, where it found the partition's end.
    last: Option<Idle>,
    /// The look before, where it found the same.
    before: Option<Idle>,
    deletions: Deletions,
}

/// A lane's counters.
pub struct Meter {
    route: Arc<RouteMetrics>,
    lane: LaneMetrics,
    health: LaneHealth,
    reading: Mutex<Reading>,
    /// Batches that were read and are not settled.
    unsettled: AtomicUsize,
    /// Linear memory of the lane's guest, as far as the route's metric has it.
    guest_memory_bytes: AtomicI64,
}

impl Meter {
    /// The counters of one partition. `deletions`: what is known of them where the lane begins.
    pub fn new(metrics: &Metrics, health: LaneHealth, route: &str, source: &TopicPartition, deletions: Deletions) -> Arc<Self> {
        let lane = metrics.lane(&source.topic, source.partition);
        Arc::new(Self {
            route: metrics.route(route),
            lane,
            health,
            reading: Mutex::new(Reading { last: None, before: None, deletions }),
            unsettled: AtomicUsize::new(0),
            guest_memory_bytes: AtomicI64::new(0),
        })
    }

    /// What the statistics say: how far behind the log's end the committed position is, where that end is, and what was found there; `None` while
    /// there is something to read.
    pub(crate) fn log(&self, lag: Option<i64>, end: Option<i64>, idle: Option<Idle>) {
        if let Some(records) = lag {
            self.lane.lag.set(records);
        }
        self.health.log(lag, end, idle.map(|idle| idle.end));
        let mut reading = self.reading();
        let before = std::mem::replace(&mut reading.last, idle);
        reading.before = before.filter(|before| idle.is_some_and(|last| (before.read, before.end) == (last.read, last.end)));
        if let Some(idle) = reading.before {
            reading.deletions.at_end(idle);
        }
    }

    /// Where the partition has ended for a while, and when it did so for certain. One look alone may fall between the moment in which a record
    /// is counted as fetched and that in which it is in the queue.
    ///
    /// # Errors
    /// Deletions may have gone from the log before that: no watermark may hide it.
    pub(super) fn waits_at(&self) -> Result<Option<Idle>, DeletionsMissing> {
        let reading = self.reading();
        if reading.deletions.are_missing() { Err(DeletionsMissing) } else { Ok(reading.before) }
    }

    /// Nobody who holds it can panic, so a poisoned one is as good as another.
    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sinks have what the lane acknowledged, by their own word: where it had begun again, that is over.
    pub(super) fn kept(&self) {
        self.health.kept();
    }

    /// What is told of a partition that began again, while it has kept nothing since.
    pub(crate) fn coming(&self) -> Option<Coming> {
        self.health.coming()
    }

    /// A batch was read, by now.
    pub(super) fn read(&self, records: &RecordBatch, now_ms: i64) -> Result<InTime, DeletionsMissing> {
        let in_time = self.reading().deletions.read(records, now_ms)?;
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        self.health.waiting(true);
        Ok(in_time)
    }

    pub(super) fn prepared(&self, prepared: &Prepared, guested: &Guested) {
        let route = &self.route;
        let timing = &prepared.timing;
        route.batch_records.observe(prepared.plan.records.records.len() as f64);
        route.decode_seconds.observe(timing.decode.as_secs_f64());
        route.transform_seconds.observe(timing.transform.as_secs_f64());
        route.plan_seconds.observe(timing.plan.as_secs_f64());
        prepared.passed_over.iter().for_each(|kind| route.passed_over(*kind));
        route.transform_calls.inc_by(guested.calls);
        route.transform_restarts.inc_by(guested.restarts);
        route.transform_memory.add(guested.memory_grown_bytes);
        self.guest_memory_bytes.fetch_add(guested.memory_grown_bytes, Ordering::Relaxed);
        guested.counters.iter().for_each(|(name, by)| route.guest(name, *by));
        for fault in &prepared.plan.faults {
            if let Fault::Transform(error) = &fault.fault
                && let Some(kind) = trap(error)
            {
                route.trap(kind);
            }
        }
    }

    pub(super) fn dead_letter(&self, stage: &str, code: &str) {
        self.route.dead_letter(stage, code);
    }

    pub(super) fn marked(&self) {
        self.route.keys_marked.inc();
    }

    pub(super) fn settled(
        &self,
        records: &RecordBatch,
        changed_at: &[Option<(i64, bool)>],
        outcomes: &Outcomes,
        next_offset: i64,
        now_ms: i64,
    ) {
        // Not when they are read: what a lane leaves in its queue, or on the way to a store, whoever comes next reads again.
        self.route.consumed.inc_by(records.records.len() as u64);
        for (outcome, count) in outcomes.counts() {
            let counter = match outcome {
                Outcome::DeadLettered => &self.route.dead_lettered,
                Outcome::Applied => &self.route.applied,
                Outcome::Stale => &self.route.stale,
                Outcome::Superseded => &self.route.superseded,
                Outcome::Filtered => &self.route.filtered,
            };
            counter.inc_by(count);
        }
        // Lanes share these: one addition a batch, not one a record, goes to what they share.
        let (from_source, from_kafka) = (self.route.from_source_seconds.local(), self.route.from_kafka_seconds.local());
        let seconds_since = |ms: i64| (now_ms - ms).max(0) as f64 / 1000.0;
        for (record, changed) in records.records.iter().zip(changed_at) {
            let Some((changed_at_us, snapshot)) = changed else { continue };
            // A null value has Kafka's time alone, long after the change where a log is compacted: MySQL's is not known.
            if !snapshot && record.value.is_some() {
                from_source.observe(seconds_since(changed_at_us / 1000));
            }
            if let Some(timestamp_ms) = record.timestamp_ms {
                from_kafka.observe(seconds_since(timestamp_ms));
            }
        }
        from_source.flush();
        from_kafka.flush();
        self.lane.last_settled.set(now_ms as f64 / 1000.0);
        self.health.settled(next_offset);
        if self.unsettled.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.health.waiting(false);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.route.transform_memory.sub(self.guest_memory_bytes.load(Ordering::Relaxed));
    }
}

/// A batch that is prepared and not yet being written; counted until it is taken, or dropped with its queue.
pub(super) struct Waiting(IntGauge);

impl Waiting {
    pub(super) fn begin(prepared_batches: &IntGauge) -> Self {
        prepared_batches.inc();
        Self(prepared_batches.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The kinds of failed calls; a rejection is the guest's right, and no trap.
fn trap(error: &transform::Error) -> Option<&'static str> {
    use transform::Error as E;
    match error {
        E::Trapped { .. } => Some("trap"),
        E::TimedOut { .. } => Some("timeout"),
        E::OutOfMemory { .. } => Some("memory"),
        E::TooLarge { .. } => Some("output"),
        E::BrokenOutcome { .. } => Some("contract"),
        E::GuestError { .. } => Some("error"),
        E::Rejected { .. } | E::OpenFailed { .. } | E::GivenUp { .. } | E::Unavailable { .. } | E::NoPlace { .. } => None,
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Health;
    use crate::plan::Planned;

    #[test]
    fn a_null_value_has_no_time_of_its_source() {
        let metrics = Metrics::new().expect("metrics");
        let source = TopicPartition::new("orders", 0);
        let health = Health::new(Duration::from_secs(60)).lane_started("orders", &source);
        let meter = Meter::new(&metrics, health, "orders", &source, Deletions::default());
        let mut records = RecordBatch::new(source);
        for (offset, value) in [(0, Some(&b"{}"[..])), (1, None)] {
            records.push(offset, Some(7), Some(b"{}"), value, []).expect("it fits");
        }
        meter.read(&records, 9).expect("it is not compacted");
        meter.settled(&records, &[Some((7000, false)); 2], &Outcomes::new(&[Planned::Filtered; 2]), 2, 9);
        let route = metrics.route("orders");
        assert_eq!((route.from_source_seconds.get_sample_count(), route.from_kafka_seconds.get_sample_count()), (1, 2));
    }
}
