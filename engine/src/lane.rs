//! One partition's way through the stages. All of it is here, in the order in which it happens.
//!
//! Enters: a [`PartitionReader`]. Leaves: committed offsets. Three tasks, joined by bounded queues: *prepare* reads, decodes, routes,
//! transforms and plans; *settle* writes to all sinks at once, retries, and sends dead letters; *commit* stores what is settled.
//! One batch is being written at a time, so settling and commits stay in order, and an offset never passes an unsettled record.
//!
//! Commits keep `kafka.commit_interval` between them, but never so that more than `batch.max_records` records would be written and not kept by
//! the group and the watermarks: *settle* then asks *commit* for one at once, and begins no plan before it is made. That is all that the
//! next worker repeats after a kill. A batch closes at half of it, so that one is written while the one before is committed.

mod breaker;
mod deletions;
mod halt;
mod mark;
mod meter;
mod prepare;
mod progress;
mod redrive;
mod rehearse;
mod second;
mod settle;
pub(crate) mod trial;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::commit::Commits;
use crate::config::Settings;
use crate::dead_letter::DeadLetters;
use crate::fence::Generation;
use crate::http::Health;
use crate::identity::{FirstSeen, Identities, Seen};
use crate::machine::Machine;
use crate::metrics::{Metrics, SinkMetrics};
use crate::plan::WritePlan;
use crate::rollout::RouteRollout;
use crate::sink::Sink;
use crate::source::{BatchLimits, PartitionReader, TopicPartition};

pub use deletions::Deletions;
pub use halt::Halt;
pub use mark::{Behind, Mark};
pub use meter::Meter;
pub use prepare::Prepare;
pub use redrive::{LastLetter, Redrive, Verdict};
pub use rehearse::{Rehearsal, Rehearsed, Stored};
pub(crate) use settle::Backoff;
pub use settle::Budget;

/// What a lane shares with the other lanes of its worker.
pub struct Shared {
    /// All of the configuration.
    pub settings: Arc<Settings>,
    /// The stores, in the order of the settings.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// Where failed records go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Where positions are committed.
    pub commits: Arc<dyn Commits>,
    /// How long ago the consumer last polled: past `max.poll.interval.ms` the partitions may belong to another worker.
    pub poll_age: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// The worker's metrics.
    pub metrics: Arc<Metrics>,
    /// The metrics of each of `sinks`.
    pub sink_metrics: Vec<Arc<SinkMetrics>>,
    /// What `/ready` and the status page show.
    pub health: Arc<Health>,
    /// What is kept of topics.
    pub identities: Arc<dyn Identities>,
    /// Its time and threads.
    pub machine: Machine,
}

impl Shared {
    /// A worker that has not polled for `max.poll.interval.ms` may have lost its partitions: it sends nothing until it polls again.
    pub(crate) async fn await_poll(&self, source: &TopicPartition) {
        let mut told = false;
        while (self.poll_age)() >= self.settings.kafka.max_poll_interval {
            if !told {
                tracing::warn!(topic = %source.topic, partition = source.partition, "the consumer has not polled in time; nothing is written");
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Says why a route's stores may hold rows that MySQL no longer has.
    pub(crate) fn unproven(&self, route: &str, why: &str) {
        self.health.route_unproven(route, why, &self.metrics.route(route).unproven);
    }
}

/// What the worker wants of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Go on.
    Run,
    /// Finish the batch that is being written, commit, end.
    Drain,
    /// The partition is lost: write and commit nothing more.
    Abandon,
}

impl Order {
    /// Gives the order, unless a stronger one was given: a lane that must abandon its partition is never told to drain it.
    pub fn give(self, orders: &watch::Sender<Self>) {
        orders.send_if_modified(|given| {
            let stronger = self > *given;
            *given = self.max(*given);
            stronger
        });
    }
}

/// How a lane ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// As ordered.
    Stopped,
    /// A sink is not as this lane left it: the partition must be read again from where its sinks are.
    Behind {
        /// Index of the sink in the settings.
        sink: usize,
        /// What was found.
        what: String,
    },
    /// The log does not have the next offset: whoever decides where partitions start must say what follows.
    OffsetLost(String),
    /// A compacted log may have lost null records of deleted rows before they were read, or before what was read could be written: whoever decides
    /// where partitions start must say what follows.
    TombstonesExpired,
    /// The route can't go on.
    Halted(Halt),
}

/// One partition's pipeline.
pub struct Lane {
    /// The worker's parts.
    pub shared: Arc<Shared>,
    /// The partition.
    pub source: TopicPartition,
    /// The life of the topic.
    pub generation: Generation,
    /// The stages without IO.
    pub prepare: Prepare,
    /// The partition's records, from the resolved offset on.
    pub reader: Box<dyn PartitionReader>,
    /// What the lane tells of itself.
    pub meter: Arc<Meter>,
    /// Dead letters a minute, shared by the route's lanes.
    pub budget: Arc<Budget>,
    /// The watermarks that the lane has taken over, one of each sink that its route writes to.
    pub marks: Vec<Mark>,
}

/// A plan on its way to the sinks.
struct QueuedPlan {
    plan: WritePlan,
    /// What its records are the first of.
    seen: Vec<(Seen, FirstSeen)>,
    /// Number of what prepared it.
    deployed: u64,
    in_time: deletions::InTime,
    /// Counts it for as long as it waits.
    waiting: meter::Waiting,
}

/// A batch of which every record has its outcome. Only the last matters to the commit: positions are contiguous.
#[derive(Clone, Copy, Debug)]
struct SettledBatch {
    /// The offset behind the batch.
    next_offset: i64,
    /// The life of the topic that the offset belongs to.
    generation: Generation,
    /// Records that the lane has settled, those of the batch included.
    records: u64,
    /// Deletions made before are settled with it, milliseconds since the Unix epoch.
    complete_until_ms: i64,
    /// Whether the settling task waits for its commit, or soon will.
    awaited: bool,
}

impl Lane {
    /// Runs until it is ordered to end, or halts.
    pub async fn run(self, mut orders: watch::Receiver<Order>) -> End {
        let Self { shared, source, generation, prepare, reader, meter, budget, marks } = self;
        let (plans_in, plans_out) = mpsc::channel(shared.settings.batch.prepared_ahead.max(1));
        let (settled_in, settled_out) = watch::channel::<Option<SettledBatch>>(None);
        let (kept_in, kept_out) = watch::channel(0);
        let settler = settle::Settler {
            shared: Arc::clone(&shared),
            source: source.clone(),
            generation,
            route: prepare.settings(),
            meter: Arc::clone(&meter),
            budget,
        };
        // Each task hears of orders on a channel of its own: one with several receivers wakes them in an order drawn by lot, and a
        // simulated history could not be told again.
        let [(to_prepare, preparing), (to_settle, settling), (to_commit, committing), (to_shadow, shadowing)] =
            [(); 4].map(|()| watch::channel(*orders.borrow()));
        let mut heard_by = vec![to_prepare, to_settle, to_commit, to_shadow];
        // Ends with the lane, wherever it is: nobody waits for a comparison.
        let mut beside = JoinSet::new();
        let (observed_in, observed_out) = mpsc::channel(1);
        let rollout = prepare.rollout();
        if let Some(rollout) = &rollout {
            beside.spawn(second::shadow_all(Arc::clone(&shared), Arc::clone(rollout), observed_out, shadowing));
        }
        let observer = Observer { rollout, observed: observed_in };
        let mut tasks = JoinSet::new();
        tasks.spawn(prepare_all(Arc::clone(&shared), prepare, reader, Arc::clone(&meter), observer, plans_in, preparing));
        tasks.spawn(settle_all(settler, plans_out, progress::Settled { batches: settled_in, kept: kept_out }, settling));
        let keeping = progress::Keeping { batches: settled_out, kept: kept_in };
        tasks.spawn(progress::commit_all(shared, source, marks, meter, keeping, committing));

        // A task that halts drops its end of a queue, which ends the other two in order: what is settled is still committed. Where a sink
        // or the log has lost data nothing more may be: the others end wherever they are, and whoever begins again repeats what they did.
        let mut end = End::Stopped;
        loop {
            tokio::select! {
                biased;
                given = orders.changed(), if !heard_by.is_empty() => match given {
                    Ok(()) => heard_by.iter().for_each(|task| orders.borrow_and_update().give(task)),
                    // A worker that is gone gives no more orders: the tasks end with their channels.
                    Err(_) => heard_by.clear(),
                },
                joined = tasks.join_next() => {
                    let Some(joined) = joined else { return end };
                    let task_end = match joined {
                        Ok(end) => end,
                        Err(error) if error.is_cancelled() => End::Stopped,
                        Err(error) => End::Halted(format!("a defect in the engine stopped the lane: {error}").into()),
                    };
                    if matches!(task_end, End::Behind { .. } | End::TombstonesExpired) {
                        tasks.abort_all();
                    }
                    if end == End::Stopped {
                        end = task_end;
                    }
                }
            }
        }
    }
}

/// Reads batches and makes write plans of them, a bounded number ahead of the sinks.
async fn prepare_all(
    shared: Arc<Shared>,
    mut prepare: Prepare,
    mut reader: Box<dyn PartitionReader>,
    meter: Arc<Meter>,
    observer: Observer,
    plans: mpsc::Sender<QueuedPlan>,
    mut orders: watch::Receiver<Order>,
) -> End {
    let batch = &shared.settings.batch;
    let limits = BatchLimits { max_records: batch.max_records.div_ceil(2), max_bytes: batch.max_bytes, linger: batch.linger };
    let mut backoff = settle::Backoff::new(&shared.settings.retry);
    let mut changes = prepare.changes();
    let mut breaker = breaker::Breaker::new(prepare.max_failures());
    // A guest that hangs has its thread until its deadlines are over: a partition that is given up waits for none of them.
    loop {
        let read = tokio::select! {
            biased;
            () = ended(&mut orders) => return End::Stopped,
            () = plans.closed() => return End::Stopped,
            // Between two batches: what was prepared with the module before is settled in its place.
            () = changes.next() => {
                let adopting = on_a_thread(shared.machine, prepare, Prepare::adopt);
                let done = tokio::select! { biased; () = abandoned(&mut orders) => return End::Stopped, done = adopting => done };
                let Some((returned, ())) = done else { return defect() };
                prepare = returned;
                breaker.reset(prepare.max_failures());
                continue;
            }
            read = reader.next_batch(limits) => read,
        };
        let records = match read {
            Ok(Some(records)) => records,
            Ok(None) => return End::Stopped,
            Err(error) => match crate::disposition::of_source(&error) {
                crate::disposition::Disposition::Retry => {
                    tracing::warn!(error = %error, "reading is delayed");
                    tokio::select! { biased; () = ended(&mut orders) => return End::Stopped, () = backoff.wait() => continue }
                }
                crate::disposition::Disposition::DeadLetter | crate::disposition::Disposition::Halt => {
                    return match error {
                        crate::source::Error::OffsetLost { .. } => End::OffsetLost(error.to_string()),
                        crate::source::Error::Away { .. } | crate::source::Error::Setup { .. } => End::Halted(error.to_string().into()),
                    };
                }
            },
        };
        backoff.reset();
        let Ok(in_time) = meter.read(&records, shared.machine.now_ms()) else { return End::TombstonesExpired };
        let observe = observer.waits();
        let preparing = on_a_thread(shared.machine, prepare, move |prepare| prepare.batch(records, observe));
        let done = tokio::select! { biased; () = abandoned(&mut orders) => return End::Stopped, done = preparing => done };
        let Some((returned, mut prepared)) = done else { return defect() };
        prepare = returned;
        observer.observe(&shared, &mut prepared);
        let guested = prepare.guested();
        meter.prepared(&prepared, &guested);
        let deployed = prepare.deployed();
        if let Err(failed) = breaker.batch(&prepared) {
            return End::Halted(Halt::of_module(deployed, &failed));
        }
        let waiting = meter::Waiting::begin(&shared.metrics.prepared_batches);
        if plans.send(QueuedPlan { plan: prepared.plan, seen: prepared.seen, deployed, in_time, waiting }).await.is_err() {
            return End::Stopped;
        }
    }
}

/// Shows batches to the second guest.
struct Observer {
    rollout: Option<Arc<RouteRollout>>,
    observed: mpsc::Sender<second::Observed>,
}

impl Observer {
    fn waits(&self) -> bool {
        self.observed.capacity() > 0
    }

    fn observe(&self, shared: &Shared, prepared: &mut prepare::Prepared) {
        let Some(rollout) = &self.rollout else { return };
        if let Some(observed) = prepared.observed.take()
            && self.observed.try_send(observed).is_err()
        {
            tracing::debug!("the comparison has ended");
        }
        if prepared.unobserved == 0 && prepared.compared.is_none() {
            return;
        }
        let metrics = shared.metrics.route(&rollout.deployed().route.name);
        metrics.shadow_skipped(prepared.unobserved);
        if let Some((second, compared)) = prepared.compared.take() {
            rollout.compared(&second, &prepared.plan.records.source, compared.clone());
            metrics.shadow(&compared);
        }
    }
}

/// Decoding and guests may take milliseconds: they run on a thread of their own, never on the runtime's. `None`: it panicked.
async fn on_a_thread<S, T>(machine: Machine, mut stages: S, work: impl FnOnce(&mut S) -> T + Send + 'static) -> Option<(S, T)>
where
    S: Send + 'static,
    T: Send + 'static,
{
    let done = machine.away(move || {
        let done = work(&mut stages);
        (stages, done)
    });
    done.await
}

fn defect() -> End {
    End::Halted("a defect in the engine stopped the lane while it prepared a batch".to_owned().into())
}

/// Writes plans in order, one at a time, until every record of a plan has its outcome.
async fn settle_all(
    mut settler: settle::Settler,
    mut plans: mpsc::Receiver<QueuedPlan>,
    mut settled: progress::Settled,
    mut orders: watch::Receiver<Order>,
) -> End {
    let max_records = settler.shared.settings.batch.max_records as u64;
    let mut records = 0;
    loop {
        let plan = tokio::select! {
            biased;
            () = ended(&mut orders) => return End::Stopped,
            plan = plans.recv() => plan,
        };
        let Some(QueuedPlan { plan, seen, deployed, in_time, waiting }) = plan else { return End::Stopped };
        let coming = plan.records.records.len() as u64;
        // The committing task ends before this one only where the partition is no longer this worker's.
        let room = tokio::select! {
            biased;
            () = ended(&mut orders) => return End::Stopped,
            room = settled.room(coming, max_records) => room,
        };
        if room.is_err() {
            return End::Stopped;
        }
        drop(waiting);
        let outcome = tokio::select! {
            biased;
            () = abandoned(&mut orders) => return End::Stopped,
            () = in_time.is_over() => return End::TombstonesExpired,
            outcome = settler.settle(plan, deployed, &seen) => outcome,
        };
        let next_offset = match outcome {
            Ok(next_offset) => next_offset,
            Err(halt) => return End::Halted(halt),
        };
        records += coming;
        let (generation, complete_until_ms) = (settler.generation, in_time.complete_until_ms);
        let batch = SettledBatch { next_offset, generation, records, complete_until_ms, awaited: false };
        if settled.batches.send(Some(batch)).is_err() {
            return End::Stopped;
        }
    }
}

/// Resolves when the lane is to end, in whichever way. A worker that is gone counts as an end.
async fn ended(orders: &mut watch::Receiver<Order>) {
    orders.wait_for(|order| *order != Order::Run).await.ok();
}

/// Resolves when nothing more may be written.
async fn abandoned(orders: &mut watch::Receiver<Order>) {
    orders.wait_for(|order| *order == Order::Abandon).await.ok();
}
