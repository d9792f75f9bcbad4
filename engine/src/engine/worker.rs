//! Gives partitions to lanes and takes them back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use super::start::{Asked, Loss, Ready, Starts};
use super::{Error, Parts, proof};
use crate::http::{Coming, LaneHealth, Phase};
use crate::identity::{self, Start};
use crate::lane::{Backoff, Deletions, End, Halt, Lane, Meter, Order, Shared};
use crate::rollout::RouteRollout;
use crate::source::cluster::TopicFacts;
use crate::source::{LagStatistics, PartitionLag, Source, SourceEvent, TopicPartition};

/// How long the group's client may take, beside the drain, to wait for a coordinator, to leave and to close.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(25);

/// Topics are asked about so many times as seldom as sinks: each minute by default.
const TOPICS_PER_LOSS_CHECK: u32 = 12;

/// A member of the consumer group.
pub(super) struct Worker {
    source: Arc<dyn Source>,
    shared: Arc<Shared>,
    rollouts: Vec<Arc<RouteRollout>>,
    starts: Arc<Starts>,
    /// All partitions that the group has given, those of halted routes included.
    held: BTreeSet<TopicPartition>,
    /// Partitions of which nobody knows yet where they start.
    starting: JoinSet<Started>,
    coming: BTreeMap<TopicPartition, AbortHandle>,
    /// How long partitions wait that begin again, until they have kept something.
    again: BTreeMap<TopicPartition, Backoff>,
    /// In one order, so that whatever is told to all of them is told in the same order each time.
    lanes: BTreeMap<TopicPartition, LaneHandle>,
    running: JoinSet<(TopicPartition, End)>,
    looking: JoinSet<Vec<(Arc<str>, TopicFacts)>>,
    halted: HashSet<String>,
    /// Set when the worker has begun to stop: by then it ends, whatever Kafka's client does.
    stop_by: Option<Instant>,
    is_member: bool,
}

/// A partition, and where it is read from; `None` where it has gone, the error where its route halts.
type Started = (TopicPartition, LaneHealth, Result<Option<Ready>, Halt>);

/// How a partition begins.
enum Begin {
    /// With what those ask that came with it.
    First(Arc<Asked>),
    /// After a loss.
    Again { loss: Loss, pause: Duration },
}

/// A running lane, from outside.
struct LaneHandle {
    task: task::Id,
    orders: watch::Sender<Order>,
    meter: Arc<Meter>,
    /// Its route has halted because of another lane.
    halting: bool,
    /// The topic's, and the first offset that was read.
    start: Start,
    /// It ends because its topic is another one by now.
    changed: Option<String>,
}

impl Worker {
    /// `fit`: which of the sinks were found fit.
    pub(super) fn new(parts: Parts, fit: &[bool], rollouts: Vec<Arc<RouteRollout>>, source: Arc<dyn Source>) -> Self {
        let Parts { settings, sinks, dead_letters, identities, topics, modules: _, metrics, health, machine } = parts;
        let polled = Arc::clone(&source);
        let sink_metrics = sinks.iter().map(|sink| metrics.sink(sink.name())).collect();
        let shared = Arc::new(Shared {
            commits: source.commits(),
            poll_age: Arc::new(move || polled.last_poll_age()),
            settings,
            sinks,
            dead_letters,
            sink_metrics,
            metrics,
            health,
            identities,
            machine,
        });
        let starts = Arc::new(Starts::new(Arc::clone(&shared), Arc::clone(&source), topics, rollouts.clone(), fit));
        Self {
            source,
            shared,
            rollouts,
            starts,
            held: BTreeSet::new(),
            starting: JoinSet::new(),
            coming: BTreeMap::new(),
            again: BTreeMap::new(),
            lanes: BTreeMap::new(),
            running: JoinSet::new(),
            looking: JoinSet::new(),
            halted: HashSet::new(),
            stop_by: None,
            is_member: false,
        }
    }

    /// Runs until the source has let go of everything.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<SourceEvent>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let mut fault = None;
        let mut proving = JoinSet::new();
        proving.spawn(proof::watch(Arc::clone(&self.shared)));
        let mut look_at = Instant::now() + self.shared.settings.loss_check_interval * TOPICS_PER_LOSS_CHECK;
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown, if self.stop_by.is_none() => {
                    tracing::info!("stopping");
                    self.shared.health.phase(Phase::Stopping);
                    self.stop();
                }
                Some(ended) = self.running.join_next_with_id() => self.lane_ended(ended),
                Some(started) = self.starting.join_next_with_id() => self.started(started),
                rollout = lifted(&self.rollouts), if self.stop_by.is_none() => self.lift(&rollout),
                Some(seen) = self.looking.join_next() => {
                    self.topics_are(seen.unwrap_or_default());
                    look_at = Instant::now() + self.shared.settings.loss_check_interval * TOPICS_PER_LOSS_CHECK;
                }
                () = tokio::time::sleep_until(look_at), if self.stop_by.is_none() && self.looking.is_empty() => self.look_at_topics(),
                event = events.recv() => match event {
                    Some(SourceEvent::Fault(error @ crate::source::Error::Away { .. })) => {
                        tracing::warn!(brokers = self.shared.settings.kafka.brokers, error = %error, "waiting for Kafka");
                    }
                    Some(SourceEvent::Fault(error)) => {
                        tracing::error!(error = %error, "Kafka can't be used");
                        fault = Some(error);
                        self.stop();
                    }
                    Some(event) => self.event(event).await,
                    None => break,
                },
                () = passed(self.stop_by) => {
                    tracing::warn!(
                        "the consumer has not left the group in time, as after a clock was set back; the worker ends without it, and the \
                         group misses it when its session ends"
                    );
                    let left: Vec<_> = self.lanes.keys().chain(self.coming.keys()).cloned().collect();
                    self.let_go(&left, Order::Drain).await;
                    break;
                }
            }
        }
        match fault {
            Some(error) => Err(error.into()),
            None if self.halted.is_empty() => Ok(()),
            None => Err(Error::Halted { routes: self.halted.into_iter().collect() }),
        }
    }

    /// Begins to leave the group. What has not started yet never will.
    fn stop(&mut self) {
        self.stop_by = Some(Instant::now() + self.shared.settings.drain_timeout + LEAVE_TIMEOUT);
        self.starting.abort_all();
        self.coming.clear();
        self.source.stop();
    }

    async fn event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned { partitions } => {
                self.shared.metrics.rebalances.inc();
                self.joined();
                let asked = Arc::new(Asked::default());
                let none = partitions.is_empty();
                for source in partitions {
                    // Its partition may have gone without a word: nothing of it may be written beside the new lane.
                    self.let_go(std::slice::from_ref(&source), Order::Abandon).await;
                    self.held.insert(source.clone());
                    self.begin(source, Arc::clone(&asked));
                }
                // A cooperative rebalance begins by giving a newcomer nothing.
                if !none {
                    crate::failpoint::reached("assigned", "").await;
                }
            }
            SourceEvent::Revoked { partitions, lost, done } => {
                self.shared.metrics.rebalances.inc();
                self.let_go(&partitions, if lost { Order::Abandon } else { Order::Drain }).await;
                crate::failpoint::reached("revoked", "").await;
                done.send(());
            }
            SourceEvent::Statistics(statistics) => {
                if statistics.joined {
                    self.joined();
                }
                self.kafka_is(&statistics);
                for PartitionLag { source, high, lag, idle, .. } in statistics.partitions {
                    let Some(lane) = self.lanes.get(&source) else { continue };
                    // Nothing was committed yet: all from the beginning on is left.
                    lane.meter.log(lag.or_else(|| Some((high? - lane.start.offset).max(0))), high, idle);
                }
            }
            SourceEvent::Fault(_) => {}
        }
    }

    /// Whether it can be worked with, for the status and the metrics.
    fn kafka_is(&self, statistics: &LagStatistics) {
        let trouble = match (statistics.connected, statistics.joined) {
            (true, true) => None,
            (true, false) => Some("the consumer group has not taken this worker in: its coordinator is away, or it rebalances".to_owned()),
            (false, _) => Some(format!("no broker of {} answers", self.shared.settings.kafka.brokers)),
        };
        self.shared.metrics.kafka_up.set(i64::from(trouble.is_none()));
        self.shared.health.kafka(trouble);
    }

    /// Asks once more what the topics are that are read: Kafka's client goes on in one that was deleted and created again, or does nothing any
    /// more, and says neither.
    fn look_at_topics(&mut self) {
        let topics: BTreeSet<Arc<str>> = self.lanes.keys().map(|source| Arc::clone(&source.topic)).collect();
        let starts = Arc::clone(&self.starts);
        self.looking.spawn(async move {
            let mut seen = Vec::with_capacity(topics.len());
            for topic in topics {
                seen.extend(starts.look_at(&topic).await.map(|facts| (topic, facts)));
            }
            seen
        });
    }

    /// Lanes of a topic that is another one than they began with end, and begin again: that tells what has happened, and halts the route.
    fn topics_are(&mut self, seen: Vec<(Arc<str>, TopicFacts)>) {
        for (topic, facts) in seen {
            for (source, lane) in self.lanes.iter_mut().filter(|(source, _)| source.topic == topic) {
                if let Some(what) = identity::changed(&lane.start.identity, &facts) {
                    tracing::warn!(%topic, partition = source.partition, what, "looking for what the topic is now");
                    lane.changed = Some(what);
                    Order::Abandon.give(&lane.orders);
                }
            }
        }
    }

    /// The group knows this worker, whether or not it has partitions for it.
    fn joined(&mut self) {
        if self.stop_by.is_none() && !std::mem::replace(&mut self.is_member, true) {
            self.shared.health.phase(Phase::Running);
        }
    }

    /// Begins with a partition.
    fn begin(&mut self, source: TopicPartition, asked: Arc<Asked>) {
        self.come(source, None, Begin::First(asked));
    }

    /// The same with one whose lane ended so that it is to be read again. Where that happens again and again, as with one name for two
    /// servers, each round waits longer.
    fn begin_again(&mut self, source: TopicPartition, lane: Option<&LaneHandle>, why: &str, of_offset: bool) {
        let coming = lane.and_then(|lane| lane.meter.coming());
        if coming.is_none() {
            self.again.remove(&source);
        }
        let retry = &self.shared.settings.retry;
        let pause = self.again.entry(source.clone()).or_insert_with(|| Backoff::new(retry)).next_delay();
        let coming = self.shared.health.comes_again(coming, why);
        self.come(source, Some(coming), Begin::Again { loss: Loss { at: Instant::now(), of_offset }, pause });
    }

    /// Finds out where a partition starts, however long that takes, beside everything else. `coming`: what is told
    /// of one that begins again.
    fn come(&mut self, source: TopicPartition, coming: Option<Coming>, begin: Begin) {
        let route = self.route_name(&source.topic);
        if self.stop_by.is_some() || self.halted.contains(route) {
            return;
        }
        let health = self.shared.health.partition_comes(route, &source, coming);
        let (starts, named) = (Arc::clone(&self.starts), source.clone());
        let task = self.starting.spawn(async move {
            let ready = match begin {
                Begin::First(asked) => starts.start(&named, asked, &health).await,
                Begin::Again { loss, pause } => {
                    tokio::time::sleep(pause).await;
                    starts.start_again(&named, loss, &health).await
                }
            };
            (named, health, ready)
        });
        self.coming.insert(source, task);
        self.count();
    }

    fn started(&mut self, started: Result<(task::Id, Started), JoinError>) {
        let (id, (source, health, ready)) = match started {
            Ok(started) => started,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                let coming = self.coming.iter().find(|(_, task)| task.id() == error.id()).map(|(source, _)| source.clone());
                let Some(source) = coming else { return };
                self.coming.remove(&source);
                self.halt(&source, defect("kept the partition from starting", &source, &error));
                return self.count();
            }
        };
        // One that went meanwhile is no longer awaited, even if it has come again.
        if self.coming.get(&source).is_none_or(|awaited| awaited.id() != id) {
            return;
        }
        self.coming.remove(&source);
        match ready {
            Ok(Some(ready)) => self.start_lane(source, health, ready),
            Ok(None) => {}
            Err(halt) => self.halt(&source, halt),
        }
        self.count();
    }

    fn start_lane(&mut self, source: TopicPartition, health: LaneHealth, ready: Ready) {
        let Ready { start, reader, marks, prepare, budget } = ready;
        health.runs();
        let (orders, ordered) = watch::channel(Order::Run);
        let meter = Meter::new(&self.shared.metrics, health, self.route_name(&source.topic), &source, Deletions::of(&start));
        let lane = Lane {
            shared: Arc::clone(&self.shared),
            source: source.clone(),
            generation: start.generation,
            prepare,
            reader,
            meter: Arc::clone(&meter),
            budget,
            marks,
        };
        let named = source.clone();
        let task = self.running.spawn(async move { (named, lane.run(ordered).await) }).id();
        self.lanes.insert(source, LaneHandle { task, orders, meter, halting: false, start, changed: None });
    }

    /// Partitions of this worker, those included that have not started.
    fn count(&self) {
        self.shared.metrics.partitions_assigned.set((self.lanes.len() + self.coming.len()) as i64);
    }

    /// Ends whatever is done with partitions.
    async fn let_go(&mut self, partitions: &[TopicPartition], order: Order) {
        self.held.retain(|held| !partitions.contains(held));
        self.forget_coming(partitions);
        self.stop_lanes(partitions, order).await;
        // A lane that ended because of a sink's loss wanted to begin again.
        self.forget_coming(partitions);
        self.again.retain(|source, _| !partitions.contains(source));
        self.count();
    }

    fn forget_coming(&mut self, partitions: &[TopicPartition]) {
        for task in partitions.iter().filter_map(|source| self.coming.remove(source)) {
            task.abort();
        }
    }

    /// Waits until the lanes have ended; those that are late are abandoned.
    async fn stop_lanes(&mut self, partitions: &[TopicPartition], order: Order) {
        let order_all = |lanes: &BTreeMap<TopicPartition, LaneHandle>, order: Order| {
            for lane in partitions.iter().filter_map(|p| lanes.get(p)) {
                order.give(&lane.orders);
            }
        };
        order_all(&self.lanes, order);
        let deadline = Instant::now() + self.shared.settings.drain_limit();
        while partitions.iter().any(|p| self.lanes.contains_key(p)) {
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next_with_id() => self.lane_ended(ended),
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!("the drain deadline has passed; unsettled batches are left to the next worker");
                    order_all(&self.lanes, Order::Abandon);
                    break;
                }
            }
        }
        while partitions.iter().any(|p| self.lanes.contains_key(p)) {
            let Some(ended) = self.running.join_next_with_id().await else { break };
            self.lane_ended(ended);
        }
    }

    fn lane_ended(&mut self, ended: Result<(task::Id, (TopicPartition, End)), JoinError>) {
        let (source, end) = match ended {
            Ok((_, ended)) => ended,
            // A lane's tasks are joined inside it, so that its own end is hardly ever a panic.
            Err(error) => {
                let ended = self.lanes.iter().find(|(_, lane)| lane.task == error.id()).map(|(source, _)| source.clone());
                let Some(source) = ended else { return };
                let halt = defect("ended the partition's lane", &source, &error);
                (source, End::Halted(halt))
            }
        };
        let lane = self.lanes.remove(&source);
        let halting = lane.as_ref().is_some_and(|lane| lane.halting);
        let changed = lane.as_ref().and_then(|lane| lane.changed.clone());
        let (topic, partition) = (&source.topic, source.partition);
        match end {
            // The halt may be lifted by now, and this lane the last to have heard of it.
            End::Stopped if halting && self.held.contains(&source) => self.begin(source, Arc::default()),
            End::Stopped
                if let Some(why) = changed
                    && self.held.contains(&source) =>
            {
                self.begin_again(source, lane.as_ref(), &why, false)
            }
            End::Stopped => tracing::info!(%topic, partition, "partition released"),
            End::Behind { sink, what } => {
                let name = self.shared.sinks.get(sink).map_or("", |sink| sink.name());
                tracing::warn!(%topic, partition, sink = name, what, "the sink may have lost data: the partition is read again from where its sinks are");
                if let Some(metrics) = self.shared.sink_metrics.get(sink) {
                    metrics.rewinds.inc();
                }
                self.begin_again(source, lane.as_ref(), &format!("sink {name}: {what}"), false);
            }
            End::OffsetLost(what) => {
                tracing::warn!(%topic, partition, what, "looking for where the partition can be read");
                self.begin_again(source, lane.as_ref(), &what, true);
            }
            End::TombstonesExpired => {
                let what = "it was read or written so late that null records of deleted rows may be gone from its compacted log";
                tracing::warn!(%topic, partition, what, "looking for how far behind the sinks are");
                self.begin_again(source, lane.as_ref(), what, false);
            }
            End::Halted(halt) => self.halt(&source, halt),
        }
        self.count();
    }

    /// The route stops: its other lanes drain, and no partition of it starts until the worker does, or another module lifts the halt.
    fn halt(&mut self, source: &TopicPartition, halt: Halt) {
        let route = self.route_name(&source.topic).to_owned();
        tracing::error!(route, topic = %source.topic, partition = source.partition, error = halt.message, "route halted");
        let halt = match self.rollouts.iter().find(|rollout| rollout.deployed().route.name == route) {
            Some(rollout) => rollout.halt(halt),
            None => halt,
        };
        self.shared.health.route_halted(&route, &halt.message);
        self.shared.metrics.route(&route).halted.set(1);
        for (_, lane) in self.lanes.iter_mut().filter(|(lane, _)| lane.topic == source.topic) {
            lane.halting = true;
            Order::Drain.give(&lane.orders);
        }
        let coming: Vec<_> = self.coming.keys().filter(|coming| coming.topic == source.topic).cloned().collect();
        self.forget_coming(&coming);
        self.halted.insert(route);
    }

    /// The module that had halted the route is no longer the one that runs: what this worker holds of the route begins again. Lanes that
    /// still drain follow as they end.
    fn lift(&mut self, rollout: &RouteRollout) {
        rollout.resume();
        let deployed = rollout.deployed();
        let (route, module) = (&deployed.route, &deployed.module);
        tracing::info!(route = route.name, module = module.name, version = module.version, sha256 = module.digest, "halt lifted");
        self.halted.remove(&route.name);
        self.shared.health.route_resumed(&route.name);
        self.shared.metrics.route(&route.name).halted.set(0);
        let idle = self.held.iter().filter(|held| *held.topic == *route.topic && !self.lanes.contains_key(held));
        let asked = Arc::new(Asked::default());
        for source in idle.cloned().collect::<Vec<_>>() {
            self.begin(source, Arc::clone(&asked));
        }
    }

    fn route_name<'a>(&'a self, topic: &'a str) -> &'a str {
        self.shared.settings.routes.iter().find(|r| r.topic == topic).map_or(topic, |r| &r.name)
    }
}

/// What halts the route of a partition that a panic ended. Left alone it would count as one that starts, or runs, for ever.
fn defect(what: &str, source: &TopicPartition, error: &JoinError) -> Halt {
    format!("{source}: a defect in the engine {what}: {error}; restart the worker, and report this with its log").into()
}

/// Resolves with a halted route that runs another module by now.
async fn lifted(rollouts: &[Arc<RouteRollout>]) -> Arc<RouteRollout> {
    let halted = rollouts.iter().filter(|rollout| rollout.halted().is_some());
    let lifted: Vec<_> = halted
        .map(|rollout| {
            async move {
                rollout.lifted().await;
                Arc::clone(rollout)
            }
            .boxed()
        })
        .collect();
    if lifted.is_empty() {
        return std::future::pending().await;
    }
    select_all(lifted).await.0
}

/// Resolves at a time that is set.
async fn passed(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
