//! A worker: the engine as it runs in production, with a simulated machine, group, stores and letters around it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use streamsync::config::{Settings, SinkKind};
use streamsync::dead_letter::{self, DeadLetter, DeadLetters};
use streamsync::engine::{self, Parts};
use streamsync::http::Health;
use streamsync::identity::{self, Entry, Identities, TopicRecord};
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::rollout;
use streamsync::sink::Sink;
use streamsync::sink::mongodb::MongoDbSink;
use streamsync::sink::redis::RedisSink;
use streamsync::source::cluster::{TopicFacts, Topics};
use streamsync::source::{self, RecordBatch, Source};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::group::{Member, Membership};
use crate::network::{MongoDbLink, RedisLink};
use crate::process::Process;
use crate::setting::{Setting, TABLES};
use crate::world::{World, locked};

pub struct Worker {
    pub process: Arc<Process>,
    pub metrics: Arc<Metrics>,
    health: Arc<Health>,
    running: JoinSet<Result<(), engine::Error>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Worker {
    pub fn start(world: &Arc<World>) -> Self {
        let (settings, skew_ms) = {
            let mut dice = locked(&world.dice);
            // Who would tell how old a deletion is needs a clock that is right.
            let skew_ms = if !world.forgets && dice.permille(200) { dice.below(7_200_000) as i64 - 3_600_000 } else { 0 };
            (Setting::get().of_worker(world, &mut dice), skew_ms)
        };
        let process = Arc::new(Process::new());
        let machine = Machine::simulated(world.now_ms() + skew_ms);
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let health = Health::new(settings.http.stalled_after);
        let io = Io { world: Arc::clone(world), process: Arc::clone(&process) };
        let parts = Parts {
            sinks: io.sinks(&settings, machine),
            dead_letters: Arc::new(io.clone()),
            identities: Arc::new(io.clone()),
            topics: Arc::new(io.clone()),
            modules: Setting::get().modules.clone(),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            machine,
            settings: Arc::new(settings),
        };
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        let told = async {
            stopped.await.ok();
        };
        let start = move |_: &Settings, events| Ok(Arc::new(Membership(Member::start(&io.world, &io.process, events))) as Arc<dyn Source>);
        running.spawn(engine::run_source(parts, rollout::desk().1, start, told));
        Self { process, metrics, health, running, stop: Some(stop) }
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.process.kill();
    }

    /// SIGTERM: how it ended, or `None` where it did not end in time.
    pub async fn stop(&mut self) -> Option<Result<(), String>> {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        let ended = tokio::time::timeout(Duration::from_secs(120), self.running.join_next()).await.ok()??;
        Some(match ended {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(format!("a worker panicked: {error}")),
        })
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<Result<(), String>> {
        let ended = self.running.try_join_next()?;
        Some(ended.map_or_else(|error| Err(format!("a worker panicked: {error}")), |result| result.map_err(|error| error.to_string())))
    }

    /// Why routes are halted.
    pub fn halts(&self) -> Vec<String> {
        self.health.reasons().into_iter().filter(|reason| reason.contains("is halted")).collect()
    }

    /// Records taken, and the outcomes: applied, superseded, stale, filtered, dead-lettered.
    pub fn counts(&self) -> (u64, [u64; 5]) {
        let (mut consumed, mut outcomes) = (0, [0; 5]);
        for table in TABLES {
            let route = self.metrics.route(table);
            consumed += route.consumed.get();
            let counters = [&route.applied, &route.superseded, &route.stale, &route.filtered, &route.dead_lettered];
            outcomes.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.get());
        }
        (consumed, outcomes)
    }
}

/// All that a worker asks of the cluster beside its membership, and its stores.
#[derive(Clone)]
struct Io {
    world: Arc<World>,
    process: Arc<Process>,
}

impl Io {
    fn sinks(&self, settings: &Settings, machine: Machine) -> Vec<Arc<dyn Sink>> {
        let sinks = settings.sinks.iter().enumerate().map(|(index, sink)| {
            let targets = settings.routes.iter().flat_map(|route| &route.targets).filter(|target| target.sink == index).cloned().collect();
            let (world, process) = (Arc::clone(&self.world), Arc::clone(&self.process));
            match &sink.kind {
                SinkKind::Redis(redis) => {
                    let dial = Arc::new(RedisLink { world, process });
                    Arc::new(RedisSink::with_dial(sink, redis, targets, dial).expect("a sink")) as Arc<dyn Sink>
                }
                SinkKind::MongoDb(mongodb) => {
                    let server = Arc::new(MongoDbLink { world, process });
                    Arc::new(MongoDbSink::with_server(sink, mongodb, targets, server, machine).expect("a sink"))
                }
                SinkKind::Memory | SinkKind::Null => unreachable!("the setting has none"),
            }
        });
        sinks.collect()
    }

    async fn broker(&self) -> Option<()> {
        self.process.running().await;
        let storm = self.world.broker_storm();
        (!locked(&self.world.dice).permille(storm)).then_some(())
    }
}

impl Topics for Io {
    fn facts(&self, topic: &str) -> Result<TopicFacts, source::Error> {
        locked(&self.world.kafka).facts(topic).ok_or_else(|| source::Error::Away { message: "no such topic".to_owned() })
    }
}

impl Identities for Io {
    fn load<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<HashMap<String, TopicRecord>, identity::Error>> {
        async move {
            let away = || identity::Error::Away { topic: "control".to_owned(), message: "no leader".to_owned() };
            self.broker().await.ok_or_else(away)?;
            let kafka = locked(&self.world.kafka);
            Ok(topics.iter().filter_map(|topic| Some((topic.clone(), kafka.identities.get(topic)?.clone()))).collect())
        }
        .boxed()
    }

    fn store<'a>(&'a self, topic: &'a str, entry: &'a Entry) -> BoxFuture<'a, Result<(), identity::Error>> {
        async move {
            let away = || identity::Error::Away { topic: "control".to_owned(), message: "no leader".to_owned() };
            self.broker().await.ok_or_else(away)?;
            locked(&self.world.kafka).identities.entry(topic.to_owned()).or_default().take(entry.clone());
            Ok(())
        }
        .boxed()
    }
}

impl DeadLetters for Io {
    fn send<'a>(&'a self, records: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), dead_letter::Error>> {
        async move {
            let away = || dead_letter::Error::Away { topic: "letters".to_owned(), message: "no leader".to_owned() };
            self.broker().await.ok_or_else(away)?;
            let mut kafka = locked(&self.world.kafka);
            let generation = kafka.topics.get(&*records.source.topic).map_or(0, |topic| topic.generation);
            for letter in letters {
                let offset = records.records.get(letter.record as usize).map_or(-1, |record| record.offset);
                kafka.letters.insert((records.source.topic.to_string(), generation, records.source.partition, offset));
            }
            Ok(())
        }
        .boxed()
    }
}
