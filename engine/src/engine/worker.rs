//! Gives partitions to lanes and takes them back.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::start::{Held, Starts};
use super::{Error, Parts};
use crate::fence::Generation;
use crate::http::Phase;
use crate::lane::{Budget, End, Lane, Meter, Order, Prepare, Shared};
use crate::source::{CommittedPartition, Source, SourceEvent, StartAt, TopicPartition};
use crate::transform::{Guest, Module};

/// A member of the consumer group.
pub(super) struct Worker {
    source: Arc<dyn Source>,
    shared: Arc<Shared>,
    modules: Vec<Arc<Module>>,
    budgets: Vec<Arc<Budget>>,
    starts: Starts,
    /// In one order, so that whatever is told to all of them is told in the same order each time.
    lanes: BTreeMap<TopicPartition, LaneHandle>,
    running: JoinSet<(TopicPartition, End)>,
    halted: HashSet<String>,
}

/// A running lane, from outside.
struct LaneHandle {
    orders: watch::Sender<Order>,
    meter: Arc<Meter>,
}

impl Worker {
    pub(super) fn new(parts: Parts, source: Arc<dyn Source>) -> Self {
        let Parts { settings, sinks, dead_letters, identities, topics, modules, metrics, health, machine } = parts;
        let polled = Arc::clone(&source);
        let budgets = settings.routes.iter().map(|_| Arc::new(Budget::new(settings.dead_letters.max_per_minute))).collect();
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
            machine,
        });
        let starts = Starts::new(Arc::clone(&shared), identities, topics);
        Self { source, shared, modules, budgets, starts, lanes: BTreeMap::new(), running: JoinSet::new(), halted: HashSet::new() }
    }

    /// Runs until the source has let go of everything.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<SourceEvent>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let mut stopping = false;
        let mut fault = None;
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown, if !stopping => {
                    tracing::info!("stopping");
                    stopping = true;
                    self.shared.health.phase(Phase::Stopping);
                    self.source.stop();
                }
                Some(ended) = self.running.join_next() => self.lane_ended(ended),
                event = events.recv() => match event {
                    Some(SourceEvent::Fault(error @ crate::source::Error::Away { .. })) => {
                        tracing::warn!(brokers = self.shared.settings.kafka.brokers, error = %error, "waiting for Kafka");
                    }
                    Some(SourceEvent::Fault(error)) => {
                        tracing::error!(error = %error, "Kafka can't be used");
                        fault = Some(error);
                        stopping = true;
                        self.source.stop();
                    }
                    // Where to start may take a while to find out. A stop does not wait for it: the dropped reply is an answer.
                    Some(event @ SourceEvent::Assigned { .. }) if !stopping => tokio::select! {
                        biased;
                        () = &mut shutdown => {
                            tracing::info!("stopping");
                            stopping = true;
                            self.shared.health.phase(Phase::Stopping);
                            self.source.stop();
                        }
                        () = self.event(event) => {}
                    },
                    Some(event) => self.event(event).await,
                    None => break,
                },
            }
        }
        match fault {
            Some(error) => Err(error.into()),
            None if self.halted.is_empty() => Ok(()),
            None => Err(Error::Halted { routes: self.halted.into_iter().collect() }),
        }
    }

    async fn event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned { partitions, reply } => {
                self.shared.metrics.rebalances.inc();
                let mut answer = Some(Vec::with_capacity(partitions.len()));
                for partition in partitions {
                    match (self.assigned(&partition).await, &mut answer) {
                        (Ok(start), Some(starts)) => starts.extend(start),
                        (Ok(_), None) => {}
                        (Err(away), _) => {
                            tracing::warn!(topic = %partition.source.topic, partition = partition.source.partition, error = away, "partition given back");
                            answer = None;
                            break;
                        }
                    }
                }
                reply.send(answer);
            }
            SourceEvent::Revoked { partitions, lost, done } => {
                self.shared.metrics.rebalances.inc();
                self.stop_lanes(&partitions, if lost { Order::Abandon } else { Order::Drain }).await;
                done.send(());
            }
            SourceEvent::Statistics(statistics) => {
                for lag in statistics.partitions {
                    if let (Some(records), Some(lane)) = (lag.lag, self.lanes.get(&lag.source)) {
                        lane.meter.lag(records);
                    }
                }
            }
            SourceEvent::Fault(_) => {}
        }
    }

    /// Where to start, once a lane waits for the partition's records; `None` where its route is halted. The error is what is away.
    async fn assigned(&mut self, partition: &CommittedPartition) -> Result<Option<StartAt>, String> {
        let source = &partition.source;
        if self.halted.contains(self.route_name(&source.topic)) {
            return Ok(None);
        }
        if self.lanes.contains_key(source) {
            // Its partition went without a word: nothing of it may be written beside the new lane.
            self.stop_lanes(std::slice::from_ref(source), Order::Abandon).await;
        }
        let started = match self.starts.resolve(partition).await {
            Ok(start) => self.start_lane(source, start.generation).map(|()| start.offset),
            Err(Held::Halted(halt)) => Err(halt),
            Err(Held::Away(away)) => return Err(away),
        };
        match started {
            Ok(offset) => Ok(Some(StartAt { source: source.clone(), offset })),
            Err(halt) => {
                self.halt(source, &halt);
                Ok(None)
            }
        }
    }

    fn start_lane(&mut self, source: &TopicPartition, generation: Generation) -> Result<(), String> {
        let Some(reader) = self.source.reader(source) else {
            return Err(format!("{source} has no reader: restart the worker, and report this"));
        };
        let route_name = self.route_name(&source.topic).to_owned();
        let (prepare, budget) = self.prepare(source, generation)?;
        let (orders, ordered) = watch::channel(Order::Run);
        let meter = Meter::new(&self.shared.metrics, self.shared.health.lane_started(&route_name, source), &route_name, source);
        let lane = Lane {
            shared: Arc::clone(&self.shared),
            source: source.clone(),
            generation,
            prepare,
            reader,
            meter: Arc::clone(&meter),
            budget,
        };
        self.lanes.insert(source.clone(), LaneHandle { orders, meter });
        let named = source.clone();
        self.running.spawn(async move { (named, lane.run(ordered).await) });
        self.shared.metrics.partitions_assigned.set(self.lanes.len() as i64);
        Ok(())
    }

    fn prepare(&self, source: &TopicPartition, generation: Generation) -> Result<(Prepare, Arc<Budget>), String> {
        let routes = &self.shared.settings.routes;
        let Some(index) = routes.iter().position(|r| *r.topic == *source.topic) else {
            return Ok((Prepare::PassOver(source.topic.to_string()), Arc::new(Budget::new(0))));
        };
        let (Some(route), Some(module), Some(budget)) = (routes.get(index), self.modules.get(index), self.budgets.get(index)) else {
            return Err(format!("route {index} has no module: a defect in the engine"));
        };
        let guest = Guest::new(Arc::clone(module), Arc::clone(route), &self.shared.settings.sinks).map_err(|error| error.to_string())?;
        Ok((Prepare::route(Arc::clone(route), guest, &module.digest, generation), Arc::clone(budget)))
    }

    /// Waits until the lanes have ended; those that are late are abandoned.
    async fn stop_lanes(&mut self, partitions: &[TopicPartition], order: Order) {
        let order_all = |lanes: &BTreeMap<TopicPartition, LaneHandle>, order: Order| {
            for lane in partitions.iter().filter_map(|p| lanes.get(p)) {
                order.give(&lane.orders);
            }
        };
        order_all(&self.lanes, order);
        let deadline = Instant::now() + self.shared.settings.drain_timeout;
        while partitions.iter().any(|p| self.lanes.contains_key(p)) {
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next() => self.lane_ended(ended),
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!("the drain deadline has passed; unsettled batches are left to the next worker");
                    order_all(&self.lanes, Order::Abandon);
                    break;
                }
            }
        }
        while partitions.iter().any(|p| self.lanes.contains_key(p)) {
            let Some(ended) = self.running.join_next().await else { break };
            self.lane_ended(ended);
        }
    }

    fn lane_ended(&mut self, ended: Result<(TopicPartition, End), tokio::task::JoinError>) {
        let (source, end) = match ended {
            Ok(ended) => ended,
            // A lane's tasks are joined inside it, so that its own end is never a panic.
            Err(error) => return tracing::error!(error = %error, "a lane ended by a defect in the engine"),
        };
        self.lanes.remove(&source);
        self.shared.metrics.partitions_assigned.set(self.lanes.len() as i64);
        match end {
            End::Stopped => tracing::info!(topic = %source.topic, partition = source.partition, "partition released"),
            End::Halted(message) => self.halt(&source, &message),
        }
    }

    /// The route stops: its other lanes drain, and no partition of it starts until the worker does.
    fn halt(&mut self, source: &TopicPartition, message: &str) {
        let route = self.route_name(&source.topic).to_owned();
        tracing::error!(route, topic = %source.topic, partition = source.partition, error = message, "route halted");
        self.shared.health.route_halted(&route, message);
        self.shared.metrics.route(&route).halted.set(1);
        for (_, lane) in self.lanes.iter().filter(|(lane, _)| lane.topic == source.topic) {
            Order::Drain.give(&lane.orders);
        }
        self.halted.insert(route);
    }

    fn route_name<'a>(&'a self, topic: &'a str) -> &'a str {
        self.shared.settings.routes.iter().find(|r| r.topic == topic).map_or(topic, |r| &r.name)
    }
}
