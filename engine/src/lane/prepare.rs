//! The stages without IO: a batch of records becomes a write plan. Runs on a blocking thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::RouteSettings;
use crate::decode::Decoder;
use crate::fence::Generation;
use crate::metrics::RouteMetrics;
use crate::plan::{Planned, Planner, WritePlan};
use crate::route::Router;
use crate::source::RecordBatch;
use crate::transform::Guest;

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
    route: Arc<RouteSettings>,
    module: String,
}

/// A plan, and how long each stage took.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: WritePlan,
    pub(super) timing: Timing,
}

/// How long each stage took for a batch.
#[derive(Debug, Default)]
pub(super) struct Timing {
    records: usize,
    decode: Duration,
    transform: Duration,
    plan: Duration,
}

impl Prepare {
    /// The stages of a route, for one generation of its topic.
    pub fn route(route: Arc<RouteSettings>, guest: Guest, generation: Generation) -> Self {
        let module = guest.digest().to_owned();
        Self::Route(Box::new(RouteStages {
            decoder: Decoder::new(Arc::clone(&route)),
            router: Router::new(Arc::clone(&route)),
            planner: Planner::new(generation, &module),
            guest,
            route,
            module,
        }))
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

    pub(super) fn batch(&mut self, records: RecordBatch) -> Prepared {
        match self {
            Self::Route(stages) => stages.batch(records),
            Self::PassOver(_) => {
                let count = records.records.len();
                let plan = WritePlan { planned: vec![Planned::Filtered; count], changed_at: vec![None; count], records, ..WritePlan::default() };
                Prepared { plan, timing: Timing { records: count, ..Timing::default() } }
            }
        }
    }

    pub(super) fn report(&mut self, metrics: &RouteMetrics, timing: &Timing) {
        metrics.consumed(timing.records);
        if let Self::Route(stages) = self {
            metrics.prepared(timing.records, timing.decode, timing.transform, timing.plan);
            metrics.guest(stages.guest.stats());
        }
    }
}

impl RouteStages {
    fn batch(&mut self, records: RecordBatch) -> Prepared {
        let count = records.records.len();
        let start = Instant::now();
        let changes = self.decoder.batch(records);
        let decoded = Instant::now();
        let routed = self.router.route(changes);
        let answers = self.guest.apply(routed);
        let transformed = Instant::now();
        let plan = self.planner.build(answers);
        let timing =
            Timing { records: count, decode: decoded - start, transform: transformed - decoded, plan: transformed.elapsed() };
        Prepared { plan, timing }
    }
}
