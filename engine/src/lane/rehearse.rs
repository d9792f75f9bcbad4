//! A route's stages without its worker: what a module makes of recorded events. Nothing is sent anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::RouteSettings;
use crate::decode::Decoder;
use crate::disposition;
use crate::fence::Generation;
use crate::outcome::{Outcome, Part};
use crate::plan::{self, Planner, WritePlan};
use crate::route::{RoutedBatch, Router};
use crate::source::RecordBatch;
use crate::transform::{self, Guest, GuestStats, OpenedSchema};

/// Stands for the module in what would be stored, so that two modules' documents can be compared byte by byte.
const NO_MODULE: &str = "0000000000000000";

/// One lane's stages, up to the sinks.
pub struct Rehearsal {
    decoder: Decoder,
    router: Router,
    guest: Guest,
    planner: Planner,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Rehearsed {
    /// Of each record's events, in the order of the records.
    pub outcomes: Vec<Outcome>,
    /// What would be written.
    pub plan: WritePlan,
    /// Time in the guest, the way in and out included.
    pub guest_time: Duration,
    /// Row changes.
    pub events: usize,
}

/// What the sinks would hold afterwards: target and key, and the document or its removal.
pub type Stored = BTreeMap<(String, Vec<u8>), Option<Vec<u8>>>;

impl Rehearsal {
    /// The stages of a route.
    pub fn new(route: &Arc<RouteSettings>, guest: Guest) -> Self {
        Self {
            decoder: Decoder::new(Arc::clone(route)),
            router: Router::new(Arc::clone(route)),
            planner: Planner::new(route, NO_MODULE),
            guest,
        }
    }

    /// Goes on with another instance.
    pub fn replace_guest(&mut self, guest: Guest) {
        self.guest = guest;
    }

    /// A batch's way. Takes as long as the guest does: not for an async thread.
    pub fn batch(&mut self, records: RecordBatch) -> Rehearsed {
        let routed = self.route(records);
        let events = routed.batch.events.len();
        let began = Instant::now();
        let answers = self.guest.apply(routed);
        let guest_time = began.elapsed();
        let mut shown = plan::outcomes(&answers);
        let plan = self.planner.plan(answers, Generation::FIRST);
        for fault in &plan.faults {
            let (stage, code) = disposition::label(&fault.fault);
            let part = match &fault.fault {
                plan::Fault::Transform(transform::Error::Rejected { code, message }) => Part::because(format!("reject {code}"), message),
                plan::Fault::Decode(_)
                | plan::Fault::Route(_)
                | plan::Fault::Transform(_)
                | plan::Fault::Plan(_)
                | plan::Fault::Sink(_) => Part::because(format!("fault {stage} {code}"), &fault.fault.to_string()),
            };
            for (_, outcome) in shown.iter_mut().filter(|(record, _)| *record == fault.record) {
                outcome.parts = vec![part.clone()];
            }
        }
        Rehearsed { outcomes: shown.into_iter().map(|(_, outcome)| outcome).collect(), plan, guest_time, events }
    }

    /// The guest alone, as often as it is asked: for its speed.
    pub fn guest_time(&mut self, records: RecordBatch) -> Duration {
        let routed = self.route(records);
        let began = Instant::now();
        drop(self.guest.apply(routed));
        began.elapsed()
    }

    /// What the guest says of each table that the records are of, by `database.table`.
    pub fn opened(&mut self, records: RecordBatch) -> Vec<(String, Result<Arc<OpenedSchema>, transform::Error>)> {
        let schemas = self.decoder.batch(records).schemas;
        schemas.iter().map(|schema| (format!("{}.{}", schema.database, schema.table), self.guest.opened(schema))).collect()
    }

    /// What the guest has done so far.
    pub fn stats(&self) -> &GuestStats {
        self.guest.stats()
    }

    fn route(&mut self, records: RecordBatch) -> RoutedBatch {
        self.router.route(self.decoder.batch(records))
    }
}

impl Rehearsed {
    /// Applies the batch's writes as sinks do: a greater version replaces, another one changes nothing.
    pub fn store(&self, into: &mut Stored, versions: &mut BTreeMap<(String, Vec<u8>), i64>) {
        for sink in &self.plan.sinks {
            for write in &sink.writes {
                let target = sink.targets.get(write.target as usize).map(|target| target.name.clone()).unwrap_or_default();
                let key = (target, sink.slice(write.key).to_vec());
                let version = versions.entry(key.clone()).or_insert(i64::MIN);
                if write.fence.number() > *version {
                    *version = write.fence.number();
                    into.insert(key, write.document.map(|document| sink.slice(document).to_vec()));
                }
            }
        }
    }
}
