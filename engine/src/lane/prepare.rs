//! The stages without IO: a batch of records becomes a write plan. Runs on a blocking thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::PassedOver;
use crate::config::RouteSettings;
use crate::decode::Decoder;
use crate::fence::Generation;
use crate::identity::{FirstSeen, History, Seen};
use crate::plan::{Planned, Planner, WritePlan};
use crate::route::Router;
use crate::source::RecordBatch;
use crate::transform::{Guest, GuestStats};

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
    module: String,
    history: History,
    /// The guest's figures at the last look.
    seen: GuestStats,
}

/// A plan, and what preparing it took.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: WritePlan,
    pub(super) timing: Timing,
    pub(super) passed_over: Vec<PassedOver>,
    /// What the batch's records are the first of.
    pub(super) seen: Vec<(Seen, FirstSeen)>,
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

impl Prepare {
    /// The stages of a route, for one generation of its topic.
    pub fn route(route: Arc<RouteSettings>, guest: Guest, module: &str, generation: Generation) -> Self {
        Self::Route(Box::new(RouteStages {
            decoder: Decoder::new(Arc::clone(&route)),
            router: Router::new(Arc::clone(&route)),
            planner: Planner::new(&route, module),
            guest,
            generation,
            route,
            module: module.to_owned(),
            history: History::of(generation, &BTreeMap::new()),
            seen: GuestStats::default(),
        }))
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

    /// SHA-256 of the module; empty where there is none.
    pub fn module_digest(&self) -> &str {
        match self {
            Self::Route(stages) => &stages.module,
            Self::PassOver(_) => "",
        }
    }

    /// The next batch does not follow the last one: its first record is nobody's successor.
    pub(super) fn forget_last(&mut self) {
        match self {
            Self::Route(stages) => stages.decoder.forget_last(),
            Self::PassOver(_) => {}
        }
    }

    pub(super) fn batch(&mut self, records: RecordBatch) -> Prepared {
        match self {
            Self::Route(stages) => stages.batch(records),
            Self::PassOver(_) => {
                let count = records.records.len();
                let plan =
                    WritePlan { planned: vec![Planned::Filtered; count], changed_at: vec![None; count], records, ..WritePlan::default() };
                Prepared { plan, timing: Timing::default(), passed_over: Vec::new(), seen: Vec::new() }
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

impl RouteStages {
    fn batch(&mut self, records: RecordBatch) -> Prepared {
        let start = Instant::now();
        let changes = self.decoder.batch(records);
        let passed_over = changes.passed_over.iter().map(|(_, kind)| *kind).collect();
        let history = &mut self.history;
        let seen = changes.events.iter().filter_map(|event| history.take(event.offset, event.snapshot)).collect();
        let decoded = Instant::now();
        let routed = self.router.route(changes);
        let answers = self.guest.apply(routed);
        let transformed = Instant::now();
        let plan = self.planner.plan(answers, self.generation);
        let timing = Timing { decode: decoded - start, transform: transformed - decoded, plan: transformed.elapsed() };
        Prepared { plan, timing, passed_over, seen }
    }

    fn guested(&mut self) -> Guested {
        let now = self.guest.stats();
        let before = |name: &String| self.seen.counters.get(name).copied().unwrap_or_default();
        let guested = Guested {
            calls: now.calls.saturating_sub(self.seen.calls),
            restarts: now.restarts.saturating_sub(self.seen.restarts),
            memory_grown_bytes: now.memory_bytes as i64 - self.seen.memory_bytes as i64,
            counters: now
                .counters
                .iter()
                .map(|(name, count)| (name.clone(), count.saturating_sub(before(name))))
                .filter(|(_, by)| *by > 0)
                .collect(),
        };
        self.seen = now.clone();
        guested
    }
}
