//! Nanoseconds an event of each stage without IO, on one core, and the component beside the native transform.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use streamsync::config::Settings;
use streamsync::decode::Decoder;
use streamsync::fence::Generation;
use streamsync::plan::{Planner, WritePlan};
use streamsync::route::Router;
use streamsync::source::RecordBatch;
use streamsync::transform::{Guest, TransformHost};

use crate::configuration::{self, Sink};
use crate::events::Events;
use crate::median::median;
use crate::native::Native;

/// Records of a batch.
pub(crate) const BATCH: usize = 256;
/// Batches of each kind, so that the input does not fit into a core's own cache.
const BATCHES: usize = 64;
const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(20);

/// Medians, in nanoseconds an event.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Stages {
    /// Of a value without schema.
    pub(crate) event_bytes: usize,
    /// Of the same value with schema.
    pub(crate) event_with_schema_bytes: usize,
    pub(crate) decode: f64,
    pub(crate) decode_with_schema: f64,
    /// Lower, call, lift.
    pub(crate) transform: f64,
    pub(crate) transform_native: f64,
    /// Keys, fences and coalescing for both targets, no document.
    pub(crate) plan: f64,
    pub(crate) json: f64,
    pub(crate) bson: f64,
    /// From bytes to both encoded documents.
    pub(crate) total: f64,
    pub(crate) total_native: f64,
    pub(crate) total_with_schema: f64,
}

/// The transform, in one of its two forms.
enum Transform {
    Component(Box<Guest>),
    Native(Box<Native>),
}

/// One kind of way from bytes to a plan.
struct Line {
    decoder: Decoder,
    router: Router,
    transform: Transform,
    planner: Planner,
    batches: Arc<Vec<RecordBatch>>,
    /// One sample a batch, of each stage.
    decode: Vec<f64>,
    apply: Vec<f64>,
    plan: Vec<f64>,
    total: Vec<f64>,
}

impl Line {
    fn new(host: &TransformHost, settings: &Settings, native: bool, batches: &Arc<Vec<RecordBatch>>) -> Result<Self> {
        let route = settings.routes.first().context("there is no route")?;
        let module = host.load(&route.transform)?;
        let planner = Planner::new(route, &module.digest);
        let transform = if native {
            Transform::Native(Box::new(Native::new(settings)?))
        } else {
            Transform::Component(Box::new(Guest::new(module, Arc::clone(route), &settings.sinks)?))
        };
        Ok(Self {
            decoder: Decoder::new(Arc::clone(route)),
            router: Router::new(Arc::clone(route)),
            transform,
            planner,
            batches: Arc::clone(batches),
            decode: Vec::new(),
            apply: Vec::new(),
            plan: Vec::new(),
            total: Vec::new(),
        })
    }

    /// Takes one batch all the way.
    fn run(&mut self, number: usize) -> Result<WritePlan> {
        let records = self.batches.get(number % self.batches.len()).context("there is no batch")?.clone();
        let start = Instant::now();
        let changes = self.decoder.batch(records);
        let decoded = Instant::now();
        let routed = self.router.route(changes);
        let answered = match &mut self.transform {
            Transform::Component(guest) => guest.apply(routed),
            Transform::Native(native) => native.apply(routed)?,
        };
        let applied = Instant::now();
        let plan = self.planner.plan(answered, Generation::FIRST);
        let planned = Instant::now();
        let nanos = |from: Instant, to: Instant| (to - from).as_nanos() as f64 / BATCH as f64;
        self.decode.push(nanos(start, decoded));
        self.apply.push(nanos(decoded, applied));
        self.plan.push(nanos(applied, planned));
        self.total.push(nanos(start, planned));
        ensure!(plan.faults.is_empty(), "an event has a fault: {:?}", plan.faults);
        Ok(plan)
    }

    fn forget(&mut self) {
        for samples in [&mut self.decode, &mut self.apply, &mut self.plan, &mut self.total] {
            samples.clear();
        }
    }
}

/// Runs all kinds of lines in turn.
pub(crate) fn measure(say: &dyn Fn(&str)) -> Result<Stages> {
    say("decode, transform and plan: each kind in turn, a batch at a time");
    let (plain, with_schema) = (Events::plain()?, Events::with_schema()?);
    let batches = |events: &Events, deletes| events.batches(deletes, BATCHES, BATCH).map(Arc::new).context("the events have no batch");
    let (puts, deletes, schema_puts) = (batches(&plain, false)?, batches(&plain, true)?, batches(&with_schema, false)?);
    let (both, redis, mongodb) = ([Sink::NullRedis, Sink::NullMongoDb], [Sink::NullRedis], [Sink::NullMongoDb]);
    let to_both = configuration::settings(false, &both)?;
    let host = TransformHost::new(&to_both.transforms)?;
    let line = |settings: &Settings, native, batches: &Arc<Vec<RecordBatch>>| Line::new(&host, settings, native, batches);
    let (to_redis, to_mongodb) = (configuration::settings(false, &redis)?, configuration::settings(false, &mongodb)?);
    let mut lines = [
        line(&to_both, false, &puts)?,
        line(&to_both, true, &puts)?,
        line(&configuration::settings(true, &both)?, false, &schema_puts)?,
        line(&to_redis, false, &puts)?,
        line(&to_mongodb, false, &puts)?,
        line(&to_both, false, &deletes)?,
        line(&to_redis, false, &deletes)?,
        line(&to_mongodb, false, &deletes)?,
    ];
    check_equal(&mut lines)?;
    run(&mut lines, WARM_UP)?;
    lines.iter_mut().for_each(Line::forget);
    let rounds = run(&mut lines, DURATION)?;
    say(&format!("{rounds} batches of {BATCH} of each kind; native and component made the same plans, byte for byte"));

    let [component, native, schema, redis, mongodb, delete_both, delete_redis, delete_mongodb] = &lines;
    let document = |put: &Line, delete: &Line| (median(&put.plan) - median(&delete.plan)).max(0.0);
    let stages = Stages {
        event_bytes: plain.value_bytes(),
        event_with_schema_bytes: with_schema.value_bytes(),
        decode: median(&component.decode),
        decode_with_schema: median(&schema.decode),
        transform: median(&component.apply),
        transform_native: median(&native.apply),
        plan: median(&delete_both.plan),
        json: document(redis, delete_redis),
        bson: document(mongodb, delete_mongodb),
        total: median(&component.total),
        total_native: median(&native.total),
        total_with_schema: median(&schema.total),
    };
    let Stages { total, total_native, total_with_schema, .. } = &stages;
    say(&format!("from bytes to both documents: {total:.0} ns an event, {total_native:.0} native, {total_with_schema:.0} with schema"));
    Ok(stages)
}

/// Native and component must say the same; so must both formats, as far as documents go.
fn check_equal(lines: &mut [Line; 8]) -> Result<()> {
    let [component, native, schema, ..] = lines;
    for number in 0..BATCHES {
        let (component, native, schema) = (component.run(number)?, native.run(number)?, schema.run(number)?);
        for other in [&native, &schema] {
            ensure!(component.sinks.len() == other.sinks.len() && component.planned == other.planned, "two plans differ");
            for (a, b) in component.sinks.iter().zip(&other.sinks) {
                ensure!(a.bytes == b.bytes && a.writes == b.writes && !a.writes.is_empty(), "two plans differ");
            }
        }
    }
    Ok(())
}

/// One batch of each line a round; the line that begins is another one each time, so that none always follows the same.
fn run(lines: &mut [Line], duration: Duration) -> Result<usize> {
    let begin = Instant::now();
    let mut round = 0;
    while begin.elapsed() < duration {
        for turn in 0..lines.len() {
            let next = (round + turn) % lines.len();
            if let Some(line) = lines.get_mut(next) {
                line.run(round)?;
            }
        }
        round += 1;
    }
    Ok(round)
}
