//! The stages without IO: a batch of records becomes a write plan. Runs on a blocking thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::Decided;
use super::second::{Canary, Observed};
use crate::change::PassedOver;
use crate::config::RouteSettings;
use crate::decode::Decoder;
use crate::fence::Generation;
use crate::identity::{FirstSeen, History, Seen};
use crate::plan::compare::Compared;
use crate::plan::{Planned, Planner, WritePlan};
use crate::rollout::{Changes, Deployed, Follower, Pair, RouteRollout};
use crate::route::{RoutedBatch, Router};
use crate::source::{RecordBatch, TopicPartition};
use crate::transform::{Guest, GuestBatch, GuestStats, SetupError};

/// A lane's own decoder, router, guest and planner.
pub enum Prepare {
    /// A route's records.
    Route(Box<RouteStages>),
    /// Records of a topic that is counted and passed over; the label is the topic's name.
    PassOver(String),
}

/// One stage of each kind.
pub struct RouteStages {
    decoder: Decoder,
    router: Router,
    guest: Guest,
    planner: Planner,
    generation: Generation,
    route: Arc<RouteSettings>,
    /// Where the module may change, and the number of what runs.
    follows: Option<(Follower, u64)>,
    second: Option<Seconded>,
    /// What the route runs has found no place here yet: it is tried again before each batch.
    waits_for_place: bool,
    history: History,
    /// The figures of the guest, and of one that decides beside it, at the last look.
    seen: (GuestStats, GuestStats),
}

/// What a second guest does with the lane's batches.
enum Seconded {
    /// It is shown some of them, beside the way.
    Shadow(Pair),
    /// It decides its share of the keys.
    Canary(Box<Canary>),
}

/// A plan, and what preparing it took.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) plan: WritePlan,
    pub(super) timing: Timing,
    pub(super) passed_over: Vec<PassedOver>,
    /// What the batch's records are the first of.
    pub(super) seen: Vec<(Seen, FirstSeen)>,
    /// For the second guest, where there is one and it waits for a batch.
    pub(super) observed: Option<Observed>,
    /// Events that the second guest was not shown.
    pub(super) unobserved: u64,
    /// What came of a canary.
    pub(super) compared: Option<(Pair, Compared)>,
    /// What came of the events in the guests.
    pub(super) decided: Decided,
}

/// How long each stage took for a batch.
#[derive(Debug, Default)]
pub(super) struct Timing {
    pub(super) decode: Duration,
    pub(super) transform: Duration,
    pub(super) plan: Duration,
}

/// What a guest has done since the last look.
#[derive(Debug, Default)]
pub(super) struct Guested {
    pub(super) calls: u64,
    pub(super) restarts: u64,
    pub(super) memory_grown_bytes: i64,
    pub(super) counters: Vec<(String, u64)>,
}

impl Guested {
    fn add(&mut self, seen: &mut GuestStats, now: &GuestStats) {
        self.calls += now.calls.saturating_sub(seen.calls);
        self.restarts += now.restarts.saturating_sub(seen.restarts);
        self.memory_grown_bytes += now.memory_bytes as i64 - seen.memory_bytes as i64;
        for (name, count) in &now.counters {
            let by = count.saturating_sub(seen.counters.get(name).copied().unwrap_or_default());
            if by > 0 {
                self.counters.push((name.clone(), by));
            }
        }
        *seen = now.clone();
    }
}

impl Prepare {
    /// The stages of a route, with what it runs now and whatever it runs later.
    ///
    /// # Errors
    /// The module can't be started.
    pub fn following(rollout: &Arc<RouteRollout>, source: &TopicPartition, generation: Generation) -> Result<Self, SetupError> {
        let follower = rollout.follow(source);
        let deployed = rollout.deployed();
        let guest = Guest::new(Arc::clone(&deployed.module), Arc::clone(&deployed.route), rollout.sinks())?;
        follower.adopted(deployed.number);
        let mut stages = RouteStages::new(Arc::clone(&deployed.route), guest, &deployed.module.digest, generation);
        stages.second = seconded(&deployed, rollout)?;
        stages.follows = Some((follower, deployed.number));
        Ok(Self::Route(Box::new(stages)))
    }

    /// The stages of a route whose module stays, for one generation of its topic.
    pub fn route(route: Arc<RouteSettings>, guest: Guest, module: &str, generation: Generation) -> Self {
        Self::Route(Box::new(RouteStages::new(route, guest, module, generation)))
    }

    /// The same, going on from what the partition's log is known to have held.
    pub fn remembering(mut self, history: History) -> Self {
        if let Self::Route(stages) = &mut self {
            stages.history = history;
        }
        self
    }

    /// The name of the route, or of the topic that is passed over.
    pub fn route_name(&self) -> &str {
        match self {
            Self::Route(stages) => &stages.route.name,
            Self::PassOver(topic) => topic,
        }
    }

    /// The route's settings; `None` for a topic that is passed over.
    pub(super) fn settings(&self) -> Option<Arc<RouteSettings>> {
        match self {
            Self::Route(stages) => Some(Arc::clone(&stages.route)),
            Self::PassOver(_) => None,
        }
    }

    /// What the lane's route runs, where that can change.
    pub(super) fn rollout(&self) -> Option<Arc<RouteRollout>> {
        match self {
            Self::Route(stages) => stages.follows.as_ref().map(|(follower, _)| Arc::clone(follower.rollout())),
            Self::PassOver(_) => None,
        }
    }

    /// The next batch does not follow the last one: its first record is nobody's successor.
    pub(super) fn forget_last(&mut self) {
        match self {
            Self::Route(stages) => stages.decoder.forget_last(),
            Self::PassOver(_) => {}
        }
    }

    /// Wakes the lane when the route runs another module.
    pub(super) fn changes(&self) -> Changes {
        match self {
            Self::Route(stages) => stages.follows.as_ref().map_or(Changes::NEVER, |(follower, _)| follower.changes()),
            Self::PassOver(_) => Changes::NEVER,
        }
    }

    /// Number of what it runs; 0 where that never changes.
    pub(super) fn deployed(&self) -> u64 {
        match self {
            Self::Route(stages) => stages.follows.as_ref().map_or(0, |(_, number)| *number),
            Self::PassOver(_) => 0,
        }
    }

    /// So many events in a row may fail in the guest; 0: any number.
    pub(super) fn max_failures(&self) -> u64 {
        match self {
            Self::Route(stages) => stages.route.transform.max_failures.into(),
            Self::PassOver(_) => 0,
        }
    }

    /// Takes over what the route runs now. Called between two batches.
    pub(super) fn adopt(&mut self) {
        match self {
            Self::Route(stages) => stages.adopt(),
            Self::PassOver(_) => {}
        }
    }

    /// `observe`: the second guest waits for a batch to be compared with.
    pub(super) fn batch(&mut self, records: RecordBatch, observe: bool) -> Prepared {
        match self {
            Self::Route(stages) => stages.batch(records, observe),
            Self::PassOver(_) => {
                let count = records.records.len();
                let plan =
                    WritePlan { planned: vec![Planned::Filtered; count], changed_at: vec![None; count], records, ..WritePlan::default() };
                Prepared { plan, ..Prepared::default() }
            }
        }
    }

    /// What the guest has done since the last call.
    pub(super) fn guested(&mut self) -> Guested {
        match self {
            Self::Route(stages) => stages.guested(),
            Self::PassOver(_) => Guested::default(),
        }
    }
}

/// The second guest, where the route has one.
fn seconded(deployed: &Deployed, rollout: &RouteRollout) -> Result<Option<Seconded>, SetupError> {
    let Some(pair) = deployed.pair() else { return Ok(None) };
    if pair.second.canary_percent == 0 {
        return Ok(Some(Seconded::Shadow(pair)));
    }
    Ok(Some(Seconded::Canary(Box::new(Canary::new(pair, rollout.sinks())?))))
}

/// The guest's answers, where nobody else decides.
fn alone(guest: &mut Guest, routed: RoutedBatch) -> (GuestBatch, Decided) {
    let counts = |guest: &Guest| (guest.stats().answered_events, guest.stats().failed_events);
    let before = counts(guest);
    let answers = guest.apply(routed);
    let now = counts(guest);
    (answers, Decided { answered: now.0.saturating_sub(before.0), failed: now.1.saturating_sub(before.1), ..Decided::default() })
}

impl RouteStages {
    fn new(route: Arc<RouteSettings>, guest: Guest, module: &str, generation: Generation) -> Self {
        Self {
            decoder: Decoder::new(Arc::clone(&route)),
            router: Router::new(Arc::clone(&route)),
            planner: Planner::new(&route, module),
            guest,
            generation,
            route,
            follows: None,
            second: None,
            waits_for_place: false,
            history: History::of(generation, &BTreeMap::new()),
            seen: Default::default(),
        }
    }

    /// Where no instance of the new module can be had, the one before stays: the records can wait for neither.
    fn adopt(&mut self) {
        let Some((follower, number)) = &mut self.follows else { return };
        let next = follower.rollout().deployed();
        let is_new = next.number != *number;
        if !is_new && !self.waits_for_place {
            return;
        }
        *number = next.number;
        let start = || Guest::new(Arc::clone(&next.module), Arc::clone(&next.route), follower.rollout().sinks());
        // The pool may have no place for a second instance of this lane beside the first.
        self.second = None;
        let started = start().or_else(|error| {
            if !is_new {
                return Err(error);
            }
            self.guest.rest();
            start()
        });
        let started = started.and_then(|guest| Ok((guest, seconded(&next, follower.rollout())?)));
        self.waits_for_place = started.as_ref().is_err_and(SetupError::is_passing);
        match started {
            Ok((guest, second)) => {
                self.second = second;
                // What the metric has of the memory of those before is taken from it with the next look.
                let before = |seen: &GuestStats| GuestStats { memory_bytes: seen.memory_bytes, ..GuestStats::default() };
                self.seen = (before(&self.seen.0), before(&self.seen.1));
                self.guest = guest;
                self.router = Router::new(Arc::clone(&next.route));
                self.planner = Planner::new(&next.route, &next.module.digest);
                self.route = Arc::clone(&next.route);
                follower.adopted(next.number);
            }
            Err(error) => {
                if is_new {
                    tracing::error!(route = self.route.name, error = %error, "this partition stays with the module before");
                }
                follower.stays(error.in_public());
            }
        }
    }

    fn batch(&mut self, records: RecordBatch, observe: bool) -> Prepared {
        if self.waits_for_place {
            self.adopt();
        }
        let start = Instant::now();
        if let Some((follower, _)) = &self.follows {
            follower.offer(&records);
        }
        let changes = self.decoder.batch(records);
        let passed_over = changes.passed_over.iter().map(|(_, kind)| *kind).collect();
        let history = &mut self.history;
        let seen = changes.events.iter().filter_map(|event| history.take(event.offset, event.snapshot)).collect();
        let decoded = Instant::now();
        let routed = self.router.route(changes);
        let mut prepared = Prepared { passed_over, ..Prepared::default() };
        let (answers, decided) = match &mut self.second {
            None => alone(&mut self.guest, routed),
            Some(Seconded::Shadow(pair)) => {
                let (answers, decided) = alone(&mut self.guest, routed);
                if observe {
                    prepared.observed = Some(Observed::new(pair, &answers));
                } else {
                    prepared.unobserved = answers.routed.batch.events.len() as u64;
                }
                (answers, decided)
            }
            Some(Seconded::Canary(canary)) => {
                let (answers, compared, decided) = canary.decide(&mut self.guest, routed, self.generation);
                prepared.compared = Some((canary.pair.clone(), compared));
                (answers, decided)
            }
        };
        prepared.decided = decided;
        let transformed = Instant::now();
        prepared.plan = self.planner.plan(answers, self.generation);
        prepared.timing = Timing { decode: decoded - start, transform: transformed - decoded, plan: transformed.elapsed() };
        prepared.seen = seen;
        prepared
    }

    fn guested(&mut self) -> Guested {
        let mut guested = Guested::default();
        guested.add(&mut self.seen.0, self.guest.stats());
        match &self.second {
            Some(Seconded::Canary(canary)) => guested.add(&mut self.seen.1, canary.stats()),
            Some(Seconded::Shadow(_)) | None => guested.add(&mut self.seen.1, &GuestStats::default()),
        }
        guested
    }
}
