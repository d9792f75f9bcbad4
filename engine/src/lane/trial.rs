//! The stages without IO on records of the recent past: what a module would do with them. Nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{RouteSettings, SinkSettings};
use crate::decode::Decoder;
use crate::fence::Generation;
use crate::plan::{Fault, Planner, RecordFault};
use crate::route::Router;
use crate::source::RecordBatch;
use crate::transform::{Error, Guest, Module, SetupError};

/// What a module did with recent records.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// Row changes.
    pub(crate) events: usize,
    /// Those that the guest was shown and answered, rejects among them: deletes and null records may not be shown to it.
    pub(crate) answered: usize,
    /// Places that the guest failed on, or whose documents can't be stored, and why.
    pub(crate) failed: Vec<(String, String)>,
    /// Rejected events.
    pub(crate) rejected: usize,
    /// Why the first of them was.
    pub(crate) first_reject: Option<String>,
}

impl Tried {
    /// The places that are not among another module's.
    pub(crate) fn failed_beside<'t>(&'t self, other: &Self) -> Vec<&'t (String, String)> {
        let known: BTreeSet<&str> = other.failed.iter().map(|(place, _)| place.as_str()).collect();
        self.failed.iter().filter(|(place, _)| !known.contains(place.as_str())).collect()
    }
}

/// No further batch is tried then: a module that hangs fails in the first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries a module. Takes as long as the guest does: not for an async thread.
pub(crate) fn attempt(
    route: &Arc<RouteSettings>,
    module: &Arc<Module>,
    sinks: &[SinkSettings],
    recent: &[RecordBatch],
) -> Result<Tried, SetupError> {
    let mut guest = Guest::new(Arc::clone(module), Arc::clone(route), sinks)?;
    let mut decoder = Decoder::new(Arc::clone(route));
    let router = Router::new(Arc::clone(route));
    let mut planner = Planner::new(route, &module.digest);
    let mut tried = Tried::default();
    let began = Instant::now();
    for records in recent {
        let routed = router.route(decoder.batch(records.clone()));
        tried.events += routed.batch.events.len();
        // Any generation will do: nothing is compared with what a store has.
        let plan = planner.plan(guest.apply(routed), Generation::FIRST);
        plan.faults.iter().for_each(|fault| tried.fault(records, fault));
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    tried.answered = guest.stats().answered_events as usize;
    Ok(tried)
}

impl Tried {
    fn fault(&mut self, records: &RecordBatch, fault: &RecordFault) {
        match &fault.fault {
            Fault::Transform(rejected @ Error::Rejected { .. }) => {
                self.rejected += 1;
                self.first_reject.get_or_insert_with(|| rejected.to_string());
            }
            Fault::Transform(_) | Fault::Plan(_) => {
                let offset = records.records.get(fault.record as usize).map_or(-1, |record| record.offset);
                self.failed.push((format!("{} offset {offset}", records.source), fault.fault.to_string()));
            }
            // No module could help.
            Fault::Decode(_) | Fault::Route(_) | Fault::Sink(_) => {}
        }
    }
}
