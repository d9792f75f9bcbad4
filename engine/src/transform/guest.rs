//! A lane's guest: one instance, reused from batch to batch, replaced when it failed or grew.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::bindings::exports::streamsync::transform::transform::{Context, Target};
use super::bindings::streamsync::transform::{log, types};
use super::host::SetupError;
use super::instance::Instance;
use super::limits::{Said, count};
use super::lower::{self, is_seen};
use super::module::Module;
use super::{Answer, Error, GuestBatch, GuestGroup, OpenedSchema, answer};
use crate::change::{Cells, ChangeBatch, ChangeEvent, TableSchema};
use crate::config::{RouteSettings, SinkSettings};
use crate::plan::{Fault, RecordFault};
use crate::route::RoutedBatch;

/// Failed calls of one batch may take as long as so many calls that time out. Finding one event that loops among 256 takes nine of
/// them, so that two or three such events are found; a guest that hangs on everything costs this and no more.
const FAILURE_BUDGET_CALLS: u32 = 24;

/// For so long after a call that hung, the next ones leave the processors to other routes when they take long: one that hangs on an event
/// mostly hangs on more.
const SLOW_FOR: Duration = Duration::from_secs(60);

/// What a guest has done since the lane began.
#[derive(Clone, Debug, Default)]
pub struct GuestStats {
    /// Calls of `apply`.
    pub calls: u64,
    /// Calls that failed, for whatever reason.
    pub failed_calls: u64,
    /// Calls that ended in a trap: also time and memory limits.
    pub traps: u64,
    /// Events that were answered, rejects among them.
    pub answered_events: u64,
    /// Events that the guest failed on, or that were not tried because it had failed on so many.
    pub failed_events: u64,
    /// Instances made after the first one.
    pub restarts: u64,
    /// Linear memory of the instance.
    pub memory_bytes: usize,
    /// Log lines released.
    pub log_lines: u64,
    /// Log lines over the limit of their call.
    pub dropped_log_lines: u64,
    /// What `apply` executed, in wasmtime's fuel, where the host counts it.
    pub fuel: u64,
    /// The guest's own counters; those beyond a number of names are together in `other`.
    pub counters: BTreeMap<String, u64>,
}

/// A module at work for one lane.
pub struct Guest {
    module: Arc<Module>,
    route: Arc<RouteSettings>,
    context: Context,
    instance: Option<Instance>,
    /// What the guest said of each schema, good for every instance, because a guest is pure.
    schemas: FxHashMap<u32, Result<Arc<OpenedSchema>, String>>,
    /// Schemas that the current instance was told of.
    opened: HashSet<u32>,
    lowered: types::Batch,
    stats: GuestStats,
    /// Failed calls of one batch may take so long.
    failure_budget: Duration,
    hung_at: Option<Instant>,
}

impl Guest {
    /// Makes an instance and hands it the route's configuration.
    pub fn new(module: Arc<Module>, route: Arc<RouteSettings>, sinks: &[SinkSettings]) -> Result<Self, SetupError> {
        let sink = |index: usize| sinks.get(index).map(|sink| sink.name.clone()).unwrap_or_default();
        let targets = route.targets.iter().map(|target| Target { name: target.name.clone(), sink: sink(target.sink) }).collect();
        let context = Context { config: route.transform.config.clone(), targets };
        let start = |source| SetupError::Start { module: module.name.clone(), route: route.name.clone(), source };
        let mut instance = Instance::new(&module).map_err(start)?;
        instance.init(&context).map_err(start)?;
        let failure_budget = module.budget.call_timeout.saturating_mul(FAILURE_BUDGET_CALLS);
        let mut guest = Self {
            module,
            route,
            context,
            instance: Some(instance),
            schemas: FxHashMap::default(),
            opened: HashSet::new(),
            lowered: lower::empty(),
            stats: GuestStats::default(),
            failure_budget,
            hung_at: None,
        };
        guest.release();
        Ok(guest)
    }

    /// What the guest has done so far.
    pub fn stats(&self) -> &GuestStats {
        &self.stats
    }

    /// What the guest says of a schema.
    ///
    /// # Errors
    /// The guest refuses the schema, or fails.
    pub fn opened(&mut self, schema: &Arc<TableSchema>) -> Result<Arc<OpenedSchema>, Error> {
        self.open(schema)
    }

    /// Failed calls of one batch may take no longer, the one that is under way aside: somebody waits.
    pub(crate) fn limit_failures(&mut self, budget: Duration) {
        self.failure_budget = self.failure_budget.min(budget);
    }

    /// Gives the instance back; the next batch makes another one.
    pub fn rest(&mut self) {
        self.drop_instance();
    }

    /// The guest's answers to a batch. Takes as long as the guest does: not for an async thread.
    pub fn apply(&mut self, routed: RoutedBatch) -> GuestBatch {
        let (groups, faults) = self.answers(&routed.batch, |_| true);
        GuestBatch { routed, groups, faults, canary: None }
    }

    /// The same for some of the batch's events.
    pub fn answers(&mut self, batch: &ChangeBatch, chosen: impl Fn(&ChangeEvent) -> bool) -> (Vec<GuestGroup>, Vec<RecordFault>) {
        self.retire_if_grown();
        let mut run = Run { groups: Vec::new(), faults: Vec::new(), failed_for: Duration::ZERO };
        let mut events = batch.events.iter().enumerate().filter(|(_, event)| chosen(event)).peekable();
        while let Some(&(_, first)) = events.peek() {
            let stretch = std::iter::from_fn(|| events.next_if(|(_, event)| event.schema == first.schema));
            let indexes: Vec<u32> = stretch.map(|(index, _)| index as u32).collect();
            if let Some(schema) = batch.schemas.get(first.schema as usize) {
                self.stretch(batch, schema, indexes, &mut run);
            }
        }
        let failed = run.faults.iter().filter(|fault| !matches!(fault.fault, Fault::Transform(Error::Rejected { .. }))).count();
        self.stats.failed_events += failed as u64;
        (run.groups, run.faults)
    }

    /// Consecutive events of one schema.
    fn stretch(&mut self, batch: &ChangeBatch, schema: &Arc<TableSchema>, events: Vec<u32>, run: &mut Run) {
        let began = Instant::now();
        let opened = match self.schemas.contains_key(&schema.id) || run.failed_for < self.failure_budget {
            true => self.open(schema),
            false => Err(self.given_up()),
        };
        match opened {
            Ok(opened) => self.bisect(batch, &opened, events, run),
            Err(error) => {
                run.failed_for += began.elapsed();
                // A null record says that the row is gone, which needs no guest. Where it is the first of a partition, as in a compacted log, its
                // schema has the key's columns alone, and no transform can do anything with them.
                let is_null = |index: &u32| batch.events.get(*index as usize).is_some_and(|event| event.null_value);
                let (gone, failed): (Vec<u32>, Vec<u32>) = events.into_iter().partition(is_null);
                run.fault_all(batch, &failed, &error);
                if !gone.is_empty() {
                    let opened = Arc::new(OpenedSchema::of_deletes(Arc::clone(schema), &self.route));
                    run.groups.push(GuestGroup { opened, events: gone, writes: Vec::new(), cells: Cells::default() });
                }
            }
        }
    }

    /// Asks the guest for `events`; where it fails, for each half of them, down to the guilty event.
    fn bisect(&mut self, batch: &ChangeBatch, opened: &Arc<OpenedSchema>, mut events: Vec<u32>, run: &mut Run) {
        let seen: Vec<u32> =
            events.iter().copied().filter(|index| batch.events.get(*index as usize).is_some_and(|event| is_seen(opened, event))).collect();
        if seen.is_empty() {
            run.groups.push(GuestGroup { opened: Arc::clone(opened), events, writes: Vec::new(), cells: Cells::default() });
            return;
        }
        if run.failed_for >= self.failure_budget {
            run.fault_all(batch, &events, &self.given_up());
            return;
        }
        let began = Instant::now();
        let error = match self.call(batch, opened, &events, &seen) {
            Ok(Answer { group, rejects }) => {
                self.stats.answered_events += seen.len() as u64;
                run.groups.push(group);
                for (event, error) in rejects {
                    run.fault(batch, event, error);
                }
                return;
            }
            Err(error) => error,
        };
        let took = began.elapsed();
        run.failed_for += took;
        // Whatever ended it: a trap that comes as late is no better.
        if took >= self.module.budget.call_timeout / 2 {
            self.hung_at = Some(Instant::now());
        }
        if let Error::Unavailable { .. } | Error::NoPlace { .. } = error {
            // It is the worker that fails, not an event: halves would fare no better.
            run.fault_all(batch, &events, &error);
            return;
        }
        if let [guilty] = seen.as_slice() {
            run.fault(batch, *guilty, error);
            // The guilty event stays in its group, which tells which keys it has.
            run.groups.push(GuestGroup { opened: Arc::clone(opened), events, writes: Vec::new(), cells: Cells::default() });
            return;
        }
        let middle = seen.get(seen.len() / 2).copied().unwrap_or_default();
        let later = events.split_off(events.iter().position(|event| *event == middle).unwrap_or(events.len()));
        self.bisect(batch, opened, events, run);
        self.bisect(batch, opened, later, run);
    }

    fn given_up(&self) -> Error {
        Error::GivenUp { budget_ms: self.failure_budget.as_millis().try_into().unwrap_or(u64::MAX) }
    }

    /// One call, with its answer checked. An instance that failed is never entered again.
    fn call(&mut self, batch: &ChangeBatch, opened: &Arc<OpenedSchema>, events: &[u32], seen: &[u32]) -> Result<Answer, Error> {
        self.ready(opened)?;
        lower::lower(opened, batch, seen, &mut self.lowered);
        self.stats.calls += 1;
        let Some(instance) = self.instance.as_mut() else { return Err(lost()) };
        let max_output_bytes = self.module.budget.max_output_bytes;
        if self.module.budget.metered {
            instance.take_fuel();
        }
        let slowly = self.hung_at.is_some_and(|at| at.elapsed() < SLOW_FOR);
        let checked = instance
            .apply(&self.lowered, slowly)
            .and_then(|outcome| answer(opened, events.to_vec(), seen, outcome, max_output_bytes))
            .inspect_err(|error| self.stats.count(error));
        if self.module.budget.metered {
            self.stats.fuel += instance.take_fuel();
        }
        match checked {
            Ok(answer) => {
                self.release();
                Ok(answer)
            }
            Err(error) => {
                self.drop_instance();
                Err(error)
            }
        }
    }

    /// What the guest said of a schema; it is asked once.
    fn open(&mut self, schema: &Arc<TableSchema>) -> Result<Arc<OpenedSchema>, Error> {
        if let Some(known) = self.schemas.get(&schema.id) {
            return known.clone().map_err(|message| Error::OpenFailed { message });
        }
        self.start()?;
        let said = match self.instance.as_mut() {
            Some(instance) => instance.open(&wire_schema(schema)),
            None => return Err(lost()),
        };
        let opened = match said {
            Ok(plan) => OpenedSchema::new(Arc::clone(schema), &self.route, plan).map(Arc::new),
            Err(Error::GuestError { message }) => Err(message),
            Err(error) => {
                // A trap or a timeout may pass by: the next batch asks again.
                self.stats.count(&error);
                self.drop_instance();
                return Err(Error::OpenFailed { message: error.to_string() });
            }
        };
        match &opened {
            Ok(_) => {
                self.opened.insert(schema.id);
                self.release();
            }
            Err(_) => self.drop_instance(),
        }
        self.schemas.insert(schema.id, opened.clone());
        opened.map_err(|message| Error::OpenFailed { message })
    }

    /// An instance that knows the schema.
    fn ready(&mut self, opened: &Arc<OpenedSchema>) -> Result<(), Error> {
        self.start()?;
        if !self.opened.contains(&opened.schema.id) {
            let Some(instance) = self.instance.as_mut() else { return Err(lost()) };
            // The plan is known; a guest that opens a schema differently the second time is not pure, and its answers then break the
            // rules of the plan that holds.
            if let Err(error) = instance.open(&wire_schema(&opened.schema)) {
                self.drop_instance();
                return Err(Error::Unavailable { message: format!("open failed in a fresh instance: {error}") });
            }
            self.opened.insert(opened.schema.id);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        if self.instance.is_none() {
            let mut instance = Instance::new(&self.module)?;
            let again = |error: Error| Error::Unavailable { message: format!("init failed in a fresh instance: {error}") };
            instance.init(&self.context).map_err(again)?;
            self.instance = Some(instance);
            self.stats.restarts += 1;
        }
        Ok(())
    }

    /// Interpreted languages grow until they are replaced; at half of the limit there is still room for the batch at hand.
    fn retire_if_grown(&mut self) {
        if self.stats.memory_bytes > self.module.budget.max_memory_bytes / 2 && self.instance.is_some() {
            tracing::debug!(route = %self.route.name, memory_bytes = self.stats.memory_bytes, "transform instance retired");
            self.drop_instance();
        }
    }

    fn drop_instance(&mut self) {
        self.instance = None;
        self.opened.clear();
        self.stats.memory_bytes = 0;
    }

    /// After a good call: what the guest said becomes visible.
    fn release(&mut self) {
        let Some(instance) = self.instance.as_mut() else { return };
        self.stats.memory_bytes = instance.memory_bytes();
        let Said { lines, dropped_lines, counters } = instance.take_said();
        self.stats.log_lines += lines.len() as u64;
        self.stats.dropped_log_lines += dropped_lines;
        for (counter, delta) in counters {
            count(&mut self.stats.counters, counter, delta);
        }
        let (route, module) = (&self.route.name, &self.module.name);
        for (level, line) in lines {
            match level {
                log::Level::Debug => tracing::debug!(target: "guest", %route, %module, "{line}"),
                log::Level::Info => tracing::info!(target: "guest", %route, %module, "{line}"),
                log::Level::Warn => tracing::warn!(target: "guest", %route, %module, "{line}"),
                log::Level::Error => tracing::error!(target: "guest", %route, %module, "{line}"),
            }
        }
    }
}

impl GuestStats {
    fn count(&mut self, error: &Error) {
        self.failed_calls += 1;
        if matches!(error, Error::Trapped { .. } | Error::TimedOut { .. } | Error::OutOfMemory { .. }) {
            self.traps += 1;
        }
    }
}

/// What a batch has come to so far.
struct Run {
    groups: Vec<GuestGroup>,
    faults: Vec<RecordFault>,
    failed_for: Duration,
}

impl Run {
    fn fault(&mut self, batch: &ChangeBatch, event: u32, error: Error) {
        if let Some(event) = batch.events.get(event as usize) {
            self.faults.push(RecordFault { record: event.record, fault: Fault::Transform(error) });
        }
    }

    fn fault_all(&mut self, batch: &ChangeBatch, events: &[u32], error: &Error) {
        for event in events {
            self.fault(batch, *event, error.clone());
        }
    }
}

fn lost() -> Error {
    Error::Unavailable { message: "the instance is gone".into() }
}

fn wire_schema(schema: &TableSchema) -> types::TableSchema {
    let columns = schema.columns.iter().map(|column| types::Column {
        name: column.name.to_string(),
        tag: column.tag as u8,
        nullable: column.nullable,
        length: column.length,
        scale: column.scale,
        source_type: column.source_type.to_string(),
    });
    types::TableSchema {
        id: schema.id,
        database: schema.database.to_string(),
        table: schema.table.to_string(),
        columns: columns.collect(),
        primary_key: schema.primary_key.clone(),
    }
}
