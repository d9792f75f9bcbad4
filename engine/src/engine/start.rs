//! Where a partition starts: asks everyone who knows something of it, lets [`identity::resolve`] decide, records what it decided, and takes
//! over the sinks' watermarks. It waits as long as it takes for whoever is away: no other partition waits with it, and the status tells for
//! whom it waits.

mod ask;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::proof;
use crate::config::{OnTruncate, RouteSettings};
use crate::disposition;
use crate::http::LaneHealth;
use crate::identity::{self, Entry, History, Known, Rebuild, Start, TopicRecord};
use crate::lane::{Backoff, Behind, Budget, Halt, Mark, Prepare, Shared};
use crate::rollout::RouteRollout;
use crate::sink::{Sink, TopicIdentity, Watermark};
use crate::source::cluster::{TopicFacts, Topics};
use crate::source::{CommittedPartition, PartitionReader, Source, StartAt, TopicPartition};

/// Decides where partitions start.
pub(super) struct Starts {
    shared: Arc<Shared>,
    source: Arc<dyn Source>,
    topic_facts: Arc<dyn Topics>,
    rollouts: Vec<Arc<RouteRollout>>,
    /// Set for each sink that was found fit since the worker began; one that was away then is looked at by whoever needs it first.
    fit: Vec<OnceCell<()>>,
    /// What is being asked for partitions that begin again.
    again: Mutex<Weak<Asked>>,
}

/// One partition on its way.
struct Starting<'s> {
    starts: &'s Starts,
    shared: &'s Shared,
    source: &'s TopicPartition,
    route: Option<Arc<RouteSettings>>,
    health: &'s LaneHealth,
    lost_offset: bool,
}

/// Why a partition is read again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) at: Instant,
    /// The log lost a position that was read already.
    pub(super) of_offset: bool,
}

/// What was asked for partitions that came together: the control topic once, and each topic once.
pub(super) struct Asked {
    at: Instant,
    records: OnceCell<HashMap<String, TopicRecord>>,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

/// A topic as Kafka has it, and what is stored of it anywhere.
#[derive(Default)]
struct Topic {
    found: OnceCell<Found>,
    /// Set when the sinks were found fit after a loss.
    checked: OnceCell<()>,
    /// Set when the identity is stored wherever it was not.
    stored: OnceCell<()>,
}

struct Found {
    facts: TopicFacts,
    record: TopicRecord,
    /// The control topic's and the sinks'.
    identities: Vec<TopicIdentity>,
}

/// What a sink has of the partition.
struct State<'a> {
    /// The sink's, in the settings.
    index: usize,
    sink: &'a dyn Sink,
    lineage: u64,
    watermark: Option<Watermark>,
}

/// A partition that is being read.
pub(super) struct Ready {
    pub(super) start: Start,
    pub(super) reader: Box<dyn PartitionReader>,
    pub(super) marks: Vec<Mark>,
    pub(super) prepare: Prepare,
    pub(super) budget: Arc<Budget>,
}

impl Starts {
    pub(super) fn new(
        shared: Arc<Shared>,
        source: Arc<dyn Source>,
        topic_facts: Arc<dyn Topics>,
        rollouts: Vec<Arc<RouteRollout>>,
        fit: &[bool],
    ) -> Self {
        let fit = fit.iter().map(|fit| OnceCell::new_with(fit.then_some(()))).collect();
        Self { shared, source, topic_facts, rollouts, fit, again: Mutex::default() }
    }

    /// Begins to read a partition. `None`: it has gone meanwhile; the error is what halts its route. `asked`: what partitions that came with
    /// it ask.
    pub(super) async fn start(&self, source: &TopicPartition, asked: Arc<Asked>, health: &LaneHealth) -> Result<Option<Ready>, Halt> {
        self.starting(source, health, false).start(asked, false).await
    }

    /// The same after a loss, which the partition met at `lost_at`: the sinks must first be found fit.
    pub(super) async fn start_again(&self, source: &TopicPartition, loss: Loss, health: &LaneHealth) -> Result<Option<Ready>, Halt> {
        self.starting(source, health, loss.of_offset).start(self.asked_since(loss.at), true).await
    }

    /// What Kafka says of a topic now; `None` where it does not answer.
    pub(super) async fn look_at(&self, topic: &str) -> Option<TopicFacts> {
        let (facts, topic) = (Arc::clone(&self.topic_facts), topic.to_owned());
        self.shared.machine.away(move || facts.facts(&topic)).await?.ok()
    }

    /// A loss meets many partitions at once: those that begin again beside each other ask once. What was asked before this one met it,
    /// `lost_at`, tells nothing of it.
    fn asked_since(&self, lost_at: Instant) -> Arc<Asked> {
        let mut again = locked(&self.again);
        let asked = again.upgrade().filter(|asked| asked.at >= lost_at).unwrap_or_default();
        *again = Arc::downgrade(&asked);
        asked
    }

    fn starting<'s>(&'s self, source: &'s TopicPartition, health: &'s LaneHealth, lost_offset: bool) -> Starting<'s> {
        let route = self.shared.settings.routes.iter().find(|route| *route.topic == *source.topic).map(Arc::clone);
        Starting { starts: self, shared: &self.shared, source, route, health, lost_offset }
    }
}

impl Starting<'_> {
    async fn start(&self, mut asked: Arc<Asked>, mut again: bool) -> Result<Option<Ready>, Halt> {
        let source = self.source;
        let sinks = self.sinks();
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        let mut is_second_look = false;
        loop {
            // A worker that was stopped for long may hold partitions that are another's by now: it hears of that with the next poll.
            self.shared.await_poll(source).await;
            let topic = asked.topic(&source.topic);
            if again {
                topic.checked.get_or_try_init(|| self.check(&sinks)).await?;
            } else {
                self.check_first(&sinks).await?;
            }
            // The sinks first: another worker's watermark is never above the log's end that is asked for after it, nor without the identity.
            let states = self.states(&sinks).await?;
            let now_ms = self.shared.machine.now_ms();
            let looked = self.patiently("Kafka", disposition::of_source, || self.starts.source.look(source)).await?;
            let Some(partition) = looked else { return Ok(None) };
            let found = topic.found.get_or_try_init(|| self.find(&sinks, &asked)).await?;
            check_truncate(self.route.as_deref(), &found.facts)?;
            let start = match self.resolve(&partition, &states, found, now_ms) {
                Ok(start) => start,
                // What was asked for partitions that came before this one may be older than what another worker has stored.
                Err(_) if !is_second_look => {
                    (asked, is_second_look) = (Arc::default(), true);
                    continue;
                }
                Err(halt) => return Err(halt.to_string().into()),
            };
            let marks = match self.begin(&start, states, &topic, found).await? {
                Ok(marks) => marks,
                Err(Behind(what)) => {
                    tracing::warn!(topic = %source.topic, partition = source.partition, what, "a sink changed while the partition started; trying again");
                    self.health.waits_for(&format!("a sink that changes again and again: {what}"));
                    let lost_at = Instant::now();
                    backoff.wait().await;
                    // Emptied or another one, it may be unfit, and without the identity.
                    (asked, again, is_second_look) = (self.starts.asked_since(lost_at), true, false);
                    continue;
                }
            };
            let at = StartAt { source: source.clone(), offset: start.offset };
            let read = self.patiently("Kafka", disposition::of_source, || self.starts.source.read(at.clone())).await?;
            let Some(reader) = read else { return Ok(None) };
            self.tell(&partition, &start, found);
            let seen = found.record.seen.get(&source.partition).cloned().unwrap_or_default();
            let (prepare, budget) = self.prepare(&start).await?;
            let prepare = prepare.remembering(History::of(start.generation, &seen));
            return Ok(Some(Ready { start, reader, marks, prepare, budget }));
        }
    }

    fn sinks(&self) -> Vec<(usize, &dyn Sink)> {
        let indexes = self.route.as_deref().map(RouteSettings::sinks).unwrap_or_default();
        indexes.into_iter().filter_map(|index| Some((index, self.shared.sinks.get(index)?.as_ref()))).collect()
    }

    async fn states<'a>(&self, sinks: &[(usize, &'a dyn Sink)]) -> Result<Vec<State<'a>>, String> {
        let group = &self.shared.settings.kafka.group;
        let mut states = Vec::with_capacity(sinks.len());
        for (index, sink) in sinks.iter().copied() {
            // In this order: a server that changes in between is noticed by the lane.
            let lineage = self.ask_sink(sink, || sink.lineage()).await?;
            let watermark = self.ask_sink(sink, || sink.watermark(group, self.source)).await?;
            states.push(State { index, sink, lineage, watermark });
        }
        Ok(states)
    }

    fn resolve(&self, partition: &CommittedPartition, states: &[State<'_>], found: &Found, now_ms: i64) -> Result<Start, identity::Halt> {
        let Some(route) = &self.route else { return Ok(identity::pass_over(partition, &found.identities, &found.facts)) };
        let settings = &self.shared.settings;
        let latest = found.identities.iter().map(|identity| identity.generation).max().unwrap_or(1);
        let watermarks: Vec<_> = states.iter().map(|state| (state.sink.name().to_owned(), state.watermark)).collect();
        let known = Known {
            partition,
            stored: &found.identities,
            current: &found.facts,
            watermarks: &watermarks,
            accept_truncated_log: settings.kafka.accept_truncated_log,
            now_ms,
            begins_at: found.record.begins_at(latest, self.source.partition),
            group: &settings.kafka.group,
            route: &route.name,
        };
        let start = identity::resolve(&known)?;
        if self.lost_offset { Err(identity::lost_tail(&known, start.offset)) } else { Ok(start) }
    }

    /// Stores what has to be there before anything is read: the identity, the watermark in every sink, and the first commit.
    async fn begin(
        &self,
        start: &Start,
        states: Vec<State<'_>>,
        topic: &Topic,
        found: &Found,
    ) -> Result<Result<Vec<Mark>, Behind>, String> {
        let (source, group) = (self.source, &self.shared.settings.kafka.group);
        topic.stored.get_or_try_init(|| self.store_identity(&states, found, start)).await?;
        // Whoever has it sweeps: another worker's word that the rebuild goes on could come after its sweep.
        if let Some(done) = found.record.done_rebuild().filter(|_| source.partition == proof::SWEEPER) {
            self.check_sweep(&states, done).await?;
        }
        let position = Watermark {
            generation: start.generation,
            next_offset: start.offset,
            written_at_ms: self.shared.machine.now_ms(),
            complete_until_ms: start.complete_until_ms,
        };
        let mut marks = Vec::with_capacity(states.len());
        for State { index, sink, lineage, watermark } in states {
            let take_over = || Mark::take_over((index, sink), group, source, lineage, watermark, position);
            match self.ask_sink(sink, take_over).await? {
                Ok(mark) => marks.push(mark),
                Err(behind) => return Ok(Err(behind)),
            }
        }
        if start.record_beginning {
            // Committed at once, so that this partition is never taken for a new one again.
            if let Err(error) = self.shared.commits.commit(source, start.offset).await {
                tracing::warn!(error = %error, "the beginning was not committed; the first settled batch commits");
            }
        }
        Ok(Ok(marks))
    }

    /// The lane's own stages. A guest's `init` may take as long as a call may, and many lanes that begin at once may have to wait for the
    /// instances of those that end.
    async fn prepare(&self, start: &Start) -> Result<(Prepare, Arc<Budget>), Halt> {
        let routes = &self.shared.settings.routes;
        let Some(index) = routes.iter().position(|route| *route.topic == *self.source.topic) else {
            return Ok((Prepare::PassOver(self.source.topic.to_string()), Arc::new(Budget::new(0))));
        };
        let Some(rollout) = self.starts.rollouts.get(index) else {
            return Err(format!("route {index} has no module: a defect in the engine").into());
        };
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        loop {
            // Before it is looked at: a change in between counts as one that came afterwards.
            let number = rollout.deployed().number;
            let (at, source, generation) = (Arc::clone(rollout), self.source.clone(), start.generation);
            let error = match self.shared.machine.away(move || Prepare::following(&at, &source, generation)).await {
                Some(Ok(prepare)) => return Ok((prepare, Arc::clone(rollout.budget()))),
                Some(Err(error)) => error,
                None => return Err("a defect in the engine stopped it while it made an instance of the module".to_owned().into()),
            };
            if !error.is_passing() {
                tracing::error!(topic = %self.source.topic, partition = self.source.partition, error = %error, "a partition's guest can't be started");
                return Err(Halt::of_module(number, &error.in_public()));
            }
            tracing::warn!(topic = %self.source.topic, partition = self.source.partition, error = %error, "a partition waits for a place for its guest");
            self.health.waits_for(&format!("a place for its guest: {error}"));
            backoff.wait().await;
        }
    }

    /// Whoever comes while another one asks waits for the same answer.
    async fn check_first(&self, sinks: &[(usize, &dyn Sink)]) -> Result<(), String> {
        for (index, sink) in sinks {
            let Some(fit) = self.starts.fit.get(*index).filter(|fit| !fit.initialized()) else { continue };
            self.health.waits_for(&format!("sink {}", sink.name()));
            fit.get_or_try_init(|| self.ask_sink(*sink, || sink.check())).await?;
        }
        Ok(())
    }

    async fn check(&self, sinks: &[(usize, &dyn Sink)]) -> Result<(), String> {
        for (_, sink) in sinks {
            self.ask_sink(*sink, || sink.check()).await?;
        }
        Ok(())
    }

    async fn find(&self, sinks: &[(usize, &dyn Sink)], asked: &Asked) -> Result<Found, String> {
        let name = &*self.source.topic;
        let facts = self.facts(name).await?;
        let mut identities: Vec<TopicIdentity> = Vec::with_capacity(sinks.len() + 1);
        for (_, sink) in sinks {
            identities.extend(self.ask_sink(*sink, || sink.identity(name)).await?);
        }
        // After the sinks, which get the identity last: what belongs to a generation that one of them has is there.
        let records = asked.records.get_or_try_init(|| self.records()).await?;
        let mut record = records.get(name).cloned().unwrap_or_default();
        let latest = identities.iter().map(|identity| identity.generation).max();
        if latest > record.identity.as_ref().map(|identity| identity.generation) {
            record = self.records().await?.remove(name).unwrap_or_default();
        }
        identities.extend(record.identity.clone());
        Ok(Found { facts, record, identities })
    }

    /// Of all topics that this worker may ever be given: the control topic is read from its beginning, and that once.
    async fn records(&self) -> Result<HashMap<String, TopicRecord>, String> {
        let settings = &self.shared.settings;
        let topics: Vec<String> =
            settings.routes.iter().map(|route| route.topic.clone()).chain(settings.passed_over_topics.iter().cloned()).collect();
        self.patiently("the control topic", disposition::of_identity, || self.shared.identities.load(&topics)).await
    }

    async fn facts(&self, name: &str) -> Result<TopicFacts, String> {
        let asked = self.patiently("Kafka", disposition::of_source, || async {
            let (facts, topic) = (Arc::clone(&self.starts.topic_facts), name.to_owned());
            self.shared.machine.away(move || facts.facts(&topic)).await.transpose()
        });
        asked.await?.ok_or_else(|| format!("asking Kafka for topic {name} failed by a defect in the engine"))
    }

    /// Stored in the control topic and mirrored in each sink, wherever it is not, before anything of the generation is written.
    async fn store_identity(&self, states: &[State<'_>], found: &Found, start: &Start) -> Result<(), String> {
        let (name, identity) = (&*self.source.topic, &start.identity);
        if found.identities.len() == states.len() + 1 && found.identities.iter().all(|stored| stored == identity) {
            return Ok(());
        }
        let entry = Entry::Identity(identity.clone());
        self.patiently("the control topic", disposition::of_identity, || self.shared.identities.store(name, &entry)).await?;
        for State { sink, .. } in states {
            self.ask_sink(*sink, || sink.store_identity(name, identity)).await?;
        }
        Ok(())
    }

    /// A sink that comes back without the mark of the last rebuild's sweep may hold again what the sweep removed.
    async fn check_sweep(&self, states: &[State<'_>], done: &Rebuild) -> Result<(), String> {
        let (name, group) = (&*self.source.topic, &self.shared.settings.kafka.group);
        for State { sink, .. } in states {
            if self.ask_sink(*sink, || proof::is_swept(*sink, group, name, done)).await? {
                continue;
            }
            tracing::warn!(
                topic = name,
                sink = sink.name(),
                "the sink is as before the last rebuild's sweep, which therefore follows again"
            );
            let entry = proof::reopened(done);
            self.patiently("the control topic", disposition::of_identity, || self.shared.identities.store(name, &entry)).await?;
            if let Some(route) = &self.route {
                let why = format!("{} was put back to before the last rebuild's sweep, or emptied", sink.name());
                self.shared.unproven(&route.name, &why);
            }
            break;
        }
        Ok(())
    }

    fn tell(&self, partition: &CommittedPartition, start: &Start, found: &Found) {
        if let Some(route) = &self.route
            && let Some(why) = found.record.unproven()
        {
            self.shared.unproven(&route.name, &why);
        }
        tracing::info!(
            topic = %partition.source.topic,
            partition = partition.source.partition,
            offset = start.offset,
            committed = partition.committed,
            generation = start.generation.number(),
            "partition starts"
        );
    }
}

impl Default for Asked {
    fn default() -> Self {
        Self { at: Instant::now(), records: OnceCell::new(), topics: Mutex::default() }
    }
}

impl Asked {
    fn topic(&self, name: &str) -> Arc<Topic> {
        Arc::clone(locked(&self.topics).entry(name.to_owned()).or_default())
    }
}

/// The locks are held for a look-up alone, so a poisoned one is as good as another.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_truncate(route: Option<&RouteSettings>, facts: &TopicFacts) -> Result<(), String> {
    let Some(route) = route.filter(|route| route.on_truncate == OnTruncate::Clear && facts.partitions != 1) else { return Ok(()) };
    Err(format!(
        "on_truncate = \"clear\" needs a topic of one partition, {} has {}: set on_truncate = \"halt\" on the route",
        route.topic, facts.partitions
    ))
}
