//! The stages without IO on records of the recent past: what a module would do with them. Nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::TableSchema;
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

/// No further batch is tried then, and nothing more of a batch whose failed calls have taken as long: other changes wait for this one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries a module. Takes as long as the guest does: not for an async thread.
pub(crate) fn attempt(
    route: &Arc<RouteSettings>,
    module: &Arc<Module>,
    sinks: &[SinkSettings],
    recent: &[RecordBatch],
) -> Result<Tried, SetupError> {
    attempt_within(PATIENCE, route, module, sinks, recent)
}

fn attempt_within(
    patience: Duration,
    route: &Arc<RouteSettings>,
    module: &Arc<Module>,
    sinks: &[SinkSettings],
    recent: &[RecordBatch],
) -> Result<Tried, SetupError> {
    let mut guest = Guest::new(Arc::clone(module), Arc::clone(route), sinks)?;
    guest.limit_failures(patience);
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
        if began.elapsed() > patience {
            break;
        }
    }
    tried.answered = guest.stats().answered_events as usize;
    Ok(tried)
}

/// The route's targets that a module names for none of its documents, and the one before for some: of the columns that recent records have.
pub(crate) fn left_out(
    before: (&Arc<RouteSettings>, &Arc<Module>),
    (route, module): (&Arc<RouteSettings>, &Arc<Module>),
    sinks: &[SinkSettings],
    recent: &[RecordBatch],
) -> Result<Vec<String>, SetupError> {
    let mut decoder = Decoder::new(Arc::clone(route));
    let mut schemas: Vec<Arc<TableSchema>> = recent.iter().flat_map(|records| decoder.batch(records.clone()).schemas).collect();
    schemas.retain(|schema| *schema.database == *route.database && *schema.table == *route.table);
    schemas.sort_by_key(|schema| schema.id);
    schemas.dedup_by_key(|schema| schema.id);
    let mut guest = Guest::new(Arc::clone(module), Arc::clone(route), sinks)?;
    let began = Instant::now();
    let named = |guest: &mut Guest, schema: &Arc<TableSchema>| -> Option<BTreeSet<String>> {
        let opened = if began.elapsed() < PATIENCE { guest.opened(schema).ok()? } else { return None };
        Some(opened.outputs.iter().map(|output| output.target.name.clone()).collect())
    };
    // Columns that the module can't handle it has no documents for: its trial says so.
    let unnamed: Vec<(Arc<TableSchema>, BTreeSet<String>)> = schemas
        .into_iter()
        .filter_map(|schema| {
            let named = named(&mut guest, &schema)?;
            let targets = route.targets.iter().map(|target| target.name.clone());
            Some((schema, targets.filter(|target| !named.contains(target)).collect()))
        })
        .filter(|(_, unnamed): &(_, BTreeSet<String>)| !unnamed.is_empty())
        .collect();
    // The usual module names all: the one before need not be asked.
    if unnamed.is_empty() {
        return Ok(Vec::new());
    }
    drop(guest);
    let mut guest = Guest::new(Arc::clone(before.1), Arc::clone(before.0), sinks)?;
    let lost = unnamed.iter().flat_map(|(schema, unnamed)| {
        let named = named(&mut guest, schema).unwrap_or_default();
        unnamed.iter().filter(|target| named.contains(*target)).cloned().collect::<Vec<_>>()
    });
    Ok(lost.collect::<BTreeSet<_>>().into_iter().collect())
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

#[cfg(test)]
#[expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::config::tests::one_route;
    use crate::source::TopicPartition;
    use crate::transform::TransformHost;
    use crate::transform::tests::guest_of;

    /// A hundred events that hang take 24 calls before a lane gives them up. A change must not wait so long.
    #[test]
    fn a_module_that_hangs_is_given_up_in_time() {
        let hanging = guest_of(&[
            ("ON_POISON", "(loop $l (br $l))"),
            ("(i64.const 666)", "(i64.const 0)"),
            ("i64.eq (i64.load", "i64.ge_s (i64.load"),
        ]);
        let (_directory, settings) = one_route(&hanging, "call_timeout = \"20ms\"");
        let route = &settings.routes[0];
        let module = TransformHost::new(&settings.transforms).expect("a host").load(&route.transform).expect("a module");
        let mut records = RecordBatch::new(TopicPartition::new("shop.t", 0));
        for id in 0..100 {
            let value = format!(
                r#"{{"before":null,"after":{{"id":{id}}},"source":{{"db":"shop","table":"t","ts_ms":5,"snapshot":"false"}},"op":"c"}}"#
            );
            let key = format!(r#"{{"id":{id}}}"#);
            records.push(id, None, Some(key.as_bytes()), Some(value.as_bytes()), []).expect("small");
        }
        let tried = attempt_within(Duration::from_millis(60), route, &module, &settings.sinks, &[records]).expect("it starts");
        assert_eq!((tried.events, tried.answered, tried.failed.len()), (100, 0, 100));
        let given_up = Error::GivenUp { budget_ms: 60 }.to_string();
        // Five calls at the most: four of twenty milliseconds are over the budget.
        let alone = tried.failed.iter().filter(|(_, error)| *error != given_up).count();
        assert!(alone <= 1, "{alone} events were tried alone: {:?}", tried.failed.first());
    }
}
