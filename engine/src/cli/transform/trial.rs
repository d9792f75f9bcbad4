//! A module at work on recorded events.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stop;
use crate::config::{RouteSettings, Settings};
use crate::lane::{Rehearsal, Stored};
use crate::outcome::Outcome;
use crate::recording::{self, RecordedEvent};
use crate::source::RecordBatch;
use crate::transform::{Guest, Module, OpenedSchema, SetupError, TransformHost};

/// Size of the batches at which speed is told.
pub(super) const BATCH: usize = 256;
/// How long the guest is run for its speed, at most.
const SPEED_TIME: Duration = Duration::from_millis(400);

/// What became of the events.
#[derive(Debug, PartialEq)]
pub(super) struct Run {
    /// In the order of partitions and offsets.
    pub(super) outcomes: Vec<Outcome>,
    /// What the stores would hold.
    pub(super) stored: Stored,
    /// Row changes among the records.
    pub(super) events: usize,
}

impl Run {
    /// Events that came to something: the others are faults, which the host makes of a failure.
    pub(super) fn answered(&self) -> usize {
        let is_event = |outcome: &&Outcome| outcome.event != "record";
        let is_fault = |outcome: &Outcome| outcome.parts.iter().any(|part| part.title.starts_with("fault "));
        self.outcomes.iter().filter(is_event).filter(|outcome| !is_fault(outcome)).count()
    }
}

/// `database.table`, and what a module says of it.
pub(super) type Opened = Vec<(String, Result<Arc<OpenedSchema>, crate::transform::Error>)>;

/// What a module costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// The best of several runs, at batches of [`BATCH`].
    pub(super) ns_per_event: u64,
    pub(super) memory_bytes: usize,
    pub(super) fuel_per_event: u64,
}

/// A module that is ready to run.
pub(super) struct Trial<'s> {
    pub(super) module: Arc<Module>,
    pub(super) route: Arc<RouteSettings>,
    settings: &'s Settings,
}

impl<'s> Trial<'s> {
    /// Compiles the route's module, or takes it from the cache.
    pub(super) fn new(route: Arc<RouteSettings>, settings: &'s Settings) -> Result<Self, Stop> {
        let host = TransformHost::new(&settings.transforms).map_err(|error| stop(&error))?;
        let module = host.load(&route.transform).map_err(|error| stop(&error))?;
        Ok(Self { module, route, settings })
    }

    /// The same route with another module, which is neither the pinned one nor signed yet: nothing is written that it says.
    pub(super) fn with_module(&self, path: &Path) -> Result<Self, Stop> {
        let mut route = RouteSettings::clone(&self.route);
        route.transform.module = path.into();
        route.transform.sha256 = None;
        route.transform.signature_key = None;
        Self::new(Arc::new(route), self.settings)
    }

    /// Runs the events through an instance a partition, in batches of at most so many.
    pub(super) fn run(&self, events: &[RecordedEvent], batch: usize) -> Result<Run, Stop> {
        self.run_with(events, batch, false)
    }

    /// As [`Self::run`], with a fresh instance for each batch.
    pub(super) fn run_fresh(&self, events: &[RecordedEvent], batch: usize) -> Result<Run, Stop> {
        self.run_with(events, batch, true)
    }

    fn run_with(&self, events: &[RecordedEvent], batch: usize, fresh: bool) -> Result<Run, Stop> {
        let mut run = Run { outcomes: Vec::new(), stored: Stored::new(), events: 0 };
        let mut versions = BTreeMap::new();
        let mut source = None;
        let mut rehearsal: Option<Rehearsal> = None;
        for records in batches(events, batch)? {
            // A lane has one partition.
            if source.as_ref() != Some(&records.source) {
                source = Some(records.source.clone());
                rehearsal = None;
            }
            let rehearsal = match &mut rehearsal {
                Some(rehearsal) => {
                    if fresh {
                        rehearsal.replace_guest(self.guest(&self.module)?);
                    }
                    rehearsal
                }
                none => none.insert(self.rehearsal(&self.module)?),
            };
            let rehearsed = rehearsal.batch(records);
            rehearsed.store(&mut run.stored, &mut versions);
            run.events += rehearsed.events;
            run.outcomes.extend(rehearsed.outcomes);
        }
        Ok(run)
    }

    /// What the module costs on these events, repeated until a batch is full. `None` where it fails on some of them: what is measured then is the
    /// host's search for the guilty ones.
    pub(super) fn cost(&self, events: &[RecordedEvent]) -> Result<Option<Cost>, Stop> {
        let batch = full_batch(events)?;
        let mut rehearsal = self.rehearsal(&self.module)?;
        // The first call opens the schema and warms up.
        let rows = rehearsal.batch(batch.clone()).events.max(1) as u64;
        if rehearsal.stats().failed_calls > 0 || rehearsal.stats().calls == 0 {
            return Ok(None);
        }
        let began = Instant::now();
        let mut best = Duration::MAX;
        while began.elapsed() < SPEED_TIME {
            best = best.min(rehearsal.guest_time(batch.clone()));
        }
        let memory_bytes = rehearsal.stats().memory_bytes;
        let host = TransformHost::metered(&self.settings.transforms).map_err(|error| stop(&error))?;
        let metered = host.load(&self.route.transform).map_err(|error| stop(&error))?;
        let mut rehearsal = self.rehearsal(&metered)?;
        rehearsal.batch(batch.clone());
        let before = rehearsal.stats().fuel;
        rehearsal.batch(batch);
        let fuel = rehearsal.stats().fuel - before;
        Ok(Some(Cost { ns_per_event: best.as_nanos() as u64 / rows, memory_bytes, fuel_per_event: fuel / rows }))
    }

    /// What the module says of the tables of the events.
    pub(super) fn opened(&self, events: &[RecordedEvent]) -> Result<Opened, Stop> {
        let mut rehearsal = self.rehearsal(&self.module)?;
        Ok(batches(events, usize::MAX)?.into_iter().flat_map(|records| rehearsal.opened(records)).collect())
    }

    /// Linear memory of an instance that has had its configuration.
    pub(super) fn memory_at_start(&self) -> Result<usize, Stop> {
        Ok(self.guest(&self.module)?.stats().memory_bytes)
    }

    fn rehearsal(&self, module: &Arc<Module>) -> Result<Rehearsal, Stop> {
        Ok(Rehearsal::new(&self.route, self.guest(module)?))
    }

    fn guest(&self, module: &Arc<Module>) -> Result<Guest, Stop> {
        Guest::new(Arc::clone(module), Arc::clone(&self.route), &self.settings.sinks).map_err(|error| stop(&error))
    }
}

/// Does again what was done before, or will be: of what a guest says in its log, thousands of repetitions say nothing more.
pub(super) fn quietly<T>(repetition: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), repetition)
}

/// Why a module can't be run is a fact about the module: what was given can't be used.
pub(super) fn stop(error: &SetupError) -> Stop {
    match error {
        SetupError::Engine { .. } => Stop::no(error.to_string()),
        SetupError::Unreadable { .. }
        | SetupError::NotAComponent { .. }
        | SetupError::NotPulled { .. }
        | SetupError::OtherDigest { .. }
        | SetupError::Unsigned { .. }
        | SetupError::OtherContract { .. }
        | SetupError::ForeignImports { .. }
        | SetupError::OtherWorld { .. }
        | SetupError::Start { .. } => Stop::usage(error.to_string()),
    }
}

fn batches(events: &[RecordedEvent], batch: usize) -> Result<Vec<RecordBatch>, Stop> {
    recording::batches(events, batch).map_err(Stop::Usage)
}

/// One batch of the events of one partition, over and over until it is full.
fn full_batch(events: &[RecordedEvent]) -> Result<RecordBatch, Stop> {
    let first = events.first().map(|event| (event.topic.clone(), event.partition)).unwrap_or_default();
    let own: Vec<RecordedEvent> = events.iter().filter(|event| event.topic == first.0 && event.partition == first.1).cloned().collect();
    Ok(batches(&repeated(&own, BATCH), BATCH)?.into_iter().next().unwrap_or_default())
}

/// The events over and over, at least so many, at offsets that go on.
pub(super) fn repeated(events: &[RecordedEvent], at_least: usize) -> Vec<RecordedEvent> {
    let lowest = events.iter().map(|event| event.offset).min().unwrap_or(0);
    let span = events.iter().map(|event| event.offset).max().unwrap_or(0) - lowest + 1;
    let times = at_least.div_ceil(events.len().max(1)).max(1) as i64;
    // Offsets that would pass the range of a fence stay below it: a span of a real file is far smaller.
    let times = times.min(i64::MAX / 4 / span.max(1)).max(1);
    let shifted = |time: i64| events.iter().map(move |event| RecordedEvent { offset: event.offset + time * span, ..event.clone() });
    (0..times).flat_map(shifted).collect()
}
