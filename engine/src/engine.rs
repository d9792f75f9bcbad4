//! One worker: its stores, its modules, its place in the consumer group, and a lane for each partition it is given.
//!
//! Rebalance and shutdown are one path: lanes stop reading, finish the batch that is being written by a deadline, commit, and let go.

mod operate;
mod proof;
mod redrive;
mod start;
mod worker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{RouteSettings, Settings};
use crate::dead_letter::{DeadLetters, KafkaDeadLetters};
use crate::disposition::{self, Disposition};
use crate::http::Health;
use crate::identity::{Identities, KafkaIdentities};
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::rollout::{Desk, Rollout, RouteRollout, desk};
use crate::sink::{self, Sink};
use crate::source::cluster::{Cluster, KafkaTopics, Topics};
use crate::source::outside::Outside;
use crate::source::{self, KafkaSource, Source, SourceEvent};
use crate::transform::{Guest, Module, TransformHost};

pub use operate::{Begun, Known, KnownSink, OperateError, Operator, RefillFrom, Sweep};
pub use redrive::Redriver;

use worker::Worker;

/// Why a worker could not start, or stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store is set up wrongly.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// Kafka can't be used.
    #[error(transparent)]
    Source(#[from] crate::source::Error),
    /// The control topic can't be used.
    #[error(transparent)]
    Identity(#[from] crate::identity::Error),
    /// The dead-letter topic can't be used.
    #[error(transparent)]
    DeadLetters(#[from] crate::dead_letter::Error),
    /// A module can't be loaded.
    #[error("route {route}: {error}")]
    Transform {
        /// Name of the route.
        route: String,
        /// What is wrong with the module.
        error: crate::transform::SetupError,
    },
    /// A panic, which none of the engine's own code should make.
    #[error("a defect in the engine stopped it while {what}; report this with the log")]
    Defect {
        /// What it did.
        what: &'static str,
    },
    /// At least one route halted; the log and `/status` have said why.
    #[error("stopped with halted routes: {}", routes.join(", "))]
    Halted {
        /// Their names.
        routes: Vec<String>,
    },
}

/// What a worker is made of. A demo or a test brings its own.
pub struct Parts {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The stores, in the order of the settings.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// Where failed records go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Where the identity of topics is kept.
    pub identities: Arc<dyn Identities>,
    /// Tells what the topics are.
    pub topics: Arc<dyn Topics>,
    /// The compiled modules, in the order of the routes.
    pub modules: Vec<Arc<Module>>,
    /// The worker's metrics.
    pub metrics: Arc<Metrics>,
    /// What `/ready` and the status page show.
    pub health: Arc<Health>,
    /// The machine's time and threads.
    pub machine: Machine,
}

impl Parts {
    /// The real parts, as the configuration has them. Modules are compiled here, before any record is read.
    pub async fn build(settings: Arc<Settings>, metrics: Arc<Metrics>, health: Arc<Health>) -> Result<Self, Error> {
        for route in &settings.routes {
            health.route(&route.name, &route.topic, &format!("{}.{}", route.database, route.table));
        }
        let modules = load_modules(Arc::clone(&settings)).await?;
        let sinks = sink::build(&settings)?;
        let dead_letters = Arc::new(KafkaDeadLetters::new(&settings)?);
        let identities = Arc::new(KafkaIdentities::new(&settings)?);
        let topics = Arc::new(KafkaTopics::new(&settings));
        Ok(Self { settings, sinks, dead_letters, identities, topics, modules, metrics, health, machine: Machine::REAL })
    }
}

async fn load_modules(settings: Arc<Settings>) -> Result<Vec<Arc<Module>>, Error> {
    let mut compiling = JoinSet::new();
    let routes = settings.routes.clone();
    compiling.spawn_blocking(move || {
        let host = TransformHost::new(&settings.transforms).map_err(|error| Error::Transform { route: "(all)".to_owned(), error })?;
        let load = |route: &Arc<crate::config::RouteSettings>| {
            host.load(&route.transform).map_err(|error| Error::Transform { route: route.name.clone(), error })
        };
        settings.routes.iter().map(load).collect::<Result<Vec<_>, _>>()
    });
    let modules = match compiling.join_next().await {
        Some(Ok(modules)) => modules?,
        Some(Err(_)) | None => {
            return Err(Error::Defect { what: "a module was loaded" });
        }
    };
    for (route, module) in routes.iter().zip(&modules) {
        tracing::info!(route = route.name, module = module.name, version = module.version, sha256 = module.digest, "module loaded");
    }
    Ok(modules)
}

/// Runs a worker until `shutdown` resolves, or until it can't go on. Its modules change as the desk is asked to.
pub async fn run(
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    desk: Desk,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    run_parts_with(Parts::build(settings, metrics, health).await?, desk, shutdown).await
}

/// The same with parts that the caller made, and no desk.
pub async fn run_parts(parts: Parts, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let (_requests, desk) = desk();
    run_parts_with(parts, desk, shutdown).await
}

/// The same with parts that the caller made.
pub async fn run_parts_with(parts: Parts, desk: Desk, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    run_source(parts, desk, |settings, events| Ok(KafkaSource::start(settings, events)?), shutdown).await
}

/// The same where also the source is the caller's. `start` is called once every store was looked at; its source sends to the
/// channel, and drops its sender when it has let go of everything.
pub async fn run_source(
    parts: Parts,
    desk: Desk,
    start: impl FnOnce(&Settings, mpsc::Sender<SourceEvent>) -> Result<Arc<dyn Source>, Error>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (stop, stopped) = watch::channel(false);
    let mut beside = JoinSet::new();
    tokio::pin!(shutdown);
    let fit = tokio::select! {
        biased;
        () = &mut shutdown => return Ok(()),
        looked = check_sinks(&parts) => looked?,
    };
    for sink in &parts.sinks {
        if let Some(interval) = sink.sweep_interval() {
            beside.spawn(sweep(Arc::clone(sink), interval, told(stopped.clone())));
        }
    }
    let rollout = Rollout::new(&parts.settings, &parts.modules, &parts.metrics, &parts.health, parts.machine);
    let routes = rollout.routes();
    beside.spawn(rollout.run(desk, told(stopped.clone())));
    let result = work(parts, fit, routes, start, shutdown).await;
    stop.send_replace(true);
    beside.join_all().await;
    result
}

async fn work(
    parts: Parts,
    fit: Vec<bool>,
    routes: Vec<Arc<RouteRollout>>,
    start: impl FnOnce(&Settings, mpsc::Sender<SourceEvent>) -> Result<Arc<dyn Source>, Error>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (events_in, events) = mpsc::channel(16);
    let source = start(&parts.settings, events_in)?;
    let worker = Worker::new(parts, &fit, routes, source);
    worker.run(events, shutdown).await
}

/// Looks at every store; returned is which of them are fit. One that is set up wrongly ends the worker; one that is away is waited for by the
/// partitions whose routes write to it, and by nobody else.
async fn check_sinks(parts: &Parts) -> Result<Vec<bool>, Error> {
    try_join_all(parts.sinks.iter().map(|sink| check_sink(parts, sink.as_ref()))).await
}

async fn check_sink(parts: &Parts, sink: &dyn Sink) -> Result<bool, Error> {
    tracing::info!(sink = sink.name(), "connecting");
    let is_fit = match sink.check().await {
        Ok(()) => {
            tracing::info!(sink = sink.name(), "sink is ready");
            true
        }
        Err(error) if disposition::of_sink(&error) == Disposition::Retry => {
            tracing::warn!(sink = sink.name(), error = %error, "the sink is away: the partitions of its routes wait for it");
            false
        }
        Err(error) => return Err(error.into()),
    };
    // Nothing waits for it yet.
    parts.health.sink_found(sink.name(), &parts.metrics.sink(sink.name()).up);
    Ok(is_fit)
}

async fn sweep(sink: Arc<dyn Sink>, interval: Duration, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        tokio::select! { biased; () = &mut stop => return, () = tokio::time::sleep(interval) => {} }
        tokio::select! {
            biased;
            () = &mut stop => return,
            swept = sink.sweep() => if let Err(error) = swept { tracing::warn!(sink = sink.name(), error = %error, "sweep failed; the next one repeats it") },
        }
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.ok();
}

/// A module that is unfit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfitModule {
    /// The setting that names it, with the route's name in it; empty where the fault is of them all.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

/// What was seen of the routes' modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedModules {
    /// Those that are unfit.
    pub faults: Vec<UnfitModule>,
    /// One for each that is in a registry still, and was not looked at.
    pub not_pulled: Vec<String>,
    /// One for each whose registry did not answer.
    pub away: Vec<String>,
}

/// Compiles every route's module and hands it the route's configuration, as a start would. Registries are asked only where `pull` says so.
pub async fn check_modules(settings: Arc<Settings>, pull: bool) -> CheckedModules {
    let mut trying = JoinSet::new();
    trying.spawn_blocking(move || {
        let host = match TransformHost::new(&settings.transforms) {
            Ok(host) => host,
            Err(error) => return CheckedModules { faults: vec![of_all(&error)], ..CheckedModules::default() },
        };
        let mut checked = CheckedModules::default();
        for route in &settings.routes {
            let second = route.transform.shadow.as_ref().map(|shadow| ("transform.shadow", &shadow.transform));
            for (section, transform) in std::iter::once(("transform", &route.transform)).chain(second) {
                if !pull && !host.is_at_hand(transform) {
                    checked.not_pulled.push(format!("route {}: {}", route.name, transform.module));
                    continue;
                }
                let route = Arc::new(RouteSettings { transform: transform.clone(), ..(**route).clone() });
                let started = host.load(transform).and_then(|module| Guest::new(module, Arc::clone(&route), &settings.sinks));
                let Err(error) = started else { continue };
                let message = format!("route {}: {error}", route.name);
                if error.is_away() {
                    checked.away.push(message);
                } else {
                    checked.faults.push(UnfitModule { key: format!("routes.{}.{section}.module", route.name), message });
                }
            }
        }
        checked
    });
    match trying.join_next().await {
        Some(Ok(checked)) => checked,
        Some(Err(_)) | None => {
            let defect = Error::Defect { what: "a module was loaded" };
            CheckedModules { faults: vec![of_all(&defect)], ..CheckedModules::default() }
        }
    }
}

fn of_all(error: &dyn std::error::Error) -> UnfitModule {
    UnfitModule { key: String::new(), message: error.to_string() }
}

/// What came of trying the connections.
#[derive(Debug, Default)]
pub struct CheckedConnections {
    /// One message for each that could not be had.
    pub faults: Vec<String>,
    /// What a worker waits for, or makes itself.
    pub notes: Vec<String>,
}

/// Tries every connection without changing anything but what a sink's check needs. All are asked at the same time, since one that is away
/// answers only after its time-out.
pub async fn check_connections(settings: Arc<Settings>) -> CheckedConnections {
    let mut checked = CheckedConnections::default();
    let mut asking: JoinSet<CheckedConnections> = JoinSet::new();
    match sink::build(&settings) {
        Ok(sinks) => {
            for sink in sinks {
                asking.spawn(async move {
                    let faults = sink.check().await.err().map(|error| error.to_string()).into_iter().collect();
                    CheckedConnections { faults, ..CheckedConnections::default() }
                });
            }
        }
        Err(error) => checked.faults.push(error.to_string()),
    }
    asking.spawn_blocking(move || {
        let mut checked = CheckedConnections::default();
        if let Err(error) = check_kafka(&settings, &mut checked) {
            checked.faults.push(error.to_string());
        }
        checked
    });
    while let Some(answer) = asking.join_next().await {
        match answer {
            Ok(CheckedConnections { faults, notes }) => {
                checked.faults.extend(faults);
                checked.notes.extend(notes);
            }
            Err(_) => checked.faults.push(Error::Defect { what: "a connection was tried" }.to_string()),
        }
    }
    checked.faults.sort_unstable();
    checked
}

/// A cluster that is away is said once, not for each topic.
fn check_kafka(settings: &Settings, checked: &mut CheckedConnections) -> Result<(), source::Error> {
    let cluster = Cluster::new(settings)?;
    cluster.reach()?;
    let read = settings.routes.iter().map(|route| &route.topic).chain(&settings.passed_over_topics);
    let own = [&settings.kafka.control_topic, &settings.dead_letters.topic];
    for (topic, coming) in read
        .map(|topic| (topic, "workers wait for it, until the first change of its table"))
        .chain(own.map(|topic| (topic, "it is created with its first use")))
    {
        match cluster.partitions(topic) {
            Ok(None) => checked.notes.push(format!("topic {topic} is not there yet: {coming}")),
            Ok(Some(_)) => match cluster.facts(topic) {
                Ok(facts) if facts.cleanup_policy.compact && *topic == settings.dead_letters.topic => {
                    checked.faults.push(format!(
                        "topic {topic} is compacted: a key's later letter removes the earlier ones, and a redrive's notes, which have no key, are refused; \
                         keep all of them: kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=delete"
                    ));
                }
                Ok(_) => {}
                Err(error) => checked.faults.push(format!("topic {topic}: {error}")),
            },
            Err(error) => checked.faults.push(format!("topic {topic}: {error}")),
        }
    }
    let control = &settings.kafka.control_topic;
    if cluster.partitions(control)?.is_some() {
        match cluster.is_known_to_be_compacted(control) {
            Ok(true) => {}
            Ok(false) => checked.notes.push(format!("topic {control}: Kafka does not tell whether it is compacted, as it must be")),
            Err(error) => checked.faults.push(error.to_string()),
        }
    }
    let members = Outside::new(settings)?.members();
    checked.faults.extend(members.err().map(|error| format!("group {}: {error}", settings.kafka.group)));
    Ok(())
}
