//! A route's second guest: beside the way, where it is only compared, or on it, where it decides a share of the keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::breaker::Decided;
use super::{Order, Shared, ended, on_a_thread};
use crate::change::{ChangeBatch, ChangeEvent};
use crate::config::SinkSettings;
use crate::fence::Generation;
use crate::plan::compare::{Compared, Said, compare, share};
use crate::plan::{Fault, Planner, RecordFault};
use crate::rollout::{MAX_DIFFERENCES, Pair, RouteRollout, Second};
use crate::route::RoutedBatch;
use crate::source::RecordBatch;
use crate::transform::canary::{Answers, answered, divide, failed};
use crate::transform::{Guest, GuestBatch, GuestGroup, GuestStats, SetupError};

/// The longest rest after a comparison.
const MAX_REST: Duration = Duration::from_secs(1);

/// A batch with the first guest's answers, for the second one.
#[derive(Debug)]
pub(super) struct Observed {
    pair: Pair,
    /// On the second module's way, with what was met before the first guest.
    routed: RoutedBatch,
    groups: Vec<GuestGroup>,
    faults: Vec<RecordFault>,
}

impl Observed {
    /// A copy of all that a guest and a comparison look at: the records' own bytes are not among it.
    pub(super) fn new(pair: &Pair, answered: &GuestBatch) -> Self {
        let of = &answered.routed.batch;
        let records = RecordBatch { source: of.records.source.clone(), records: of.records.records.clone(), ..RecordBatch::default() };
        let batch = ChangeBatch {
            records,
            schemas: of.schemas.clone(),
            events: of.events.clone(),
            cells: of.cells.clone(),
            ..ChangeBatch::default()
        };
        let fault = |fault: &RecordFault| match &fault.fault {
            Fault::Transform(error) => Some(RecordFault { record: fault.record, fault: Fault::Transform(error.clone()) }),
            Fault::Decode(_) | Fault::Route(_) | Fault::Plan(_) | Fault::Sink(_) => None,
        };
        let faults = answered.faults.iter().filter_map(fault).collect();
        let routed = RoutedBatch { route: Arc::clone(&pair.second.route), batch, faults: Vec::new() };
        Self { pair: pair.clone(), routed, groups: answered.groups.clone(), faults }
    }
}

/// A second guest, and what plans its answers: a document that can't be stored is a failure like any other.
struct Trying {
    guest: Guest,
    planner: Planner,
}

impl Trying {
    fn new(second: &Second, sinks: &[SinkSettings]) -> Result<Self, SetupError> {
        let guest = Guest::new(Arc::clone(&second.module), Arc::clone(&second.route), sinks)?;
        Ok(Self { guest, planner: Planner::new(&second.route, &second.module.digest) })
    }

    fn answers(&mut self, routed: &RoutedBatch, chosen: impl Fn(&ChangeEvent) -> bool, generation: Generation) -> Answers {
        let (groups, mut faults) = self.guest.answers(&routed.batch, chosen);
        faults.extend(self.planner.unstorable(routed, &groups, &faults, generation));
        (groups, faults)
    }
}

/// The second guest beside the way.
#[derive(Default)]
struct Shadow {
    running: Option<(Arc<Second>, Option<Trying>)>,
}

impl Shadow {
    /// `None`: the guest has found no place yet.
    fn compare(&mut self, observed: &Observed, sinks: &[SinkSettings]) -> Option<Compared> {
        let second = &observed.pair.second;
        if self.running.as_ref().is_none_or(|(running, _)| !Arc::ptr_eq(running, second)) {
            let guest = Trying::new(second, sinks)
                .inspect_err(|error| tracing::warn!(route = second.route.name, error = %error, "the second module is not compared"));
            if guest.as_ref().is_err_and(SetupError::is_passing) {
                self.running = None;
                return None;
            }
            self.running = Some((Arc::clone(second), guest.ok()));
        }
        let batch = &observed.routed.batch;
        let Some((_, Some(second))) = &mut self.running else {
            return Some(Compared { failed: batch.events.len() as u64, ..Compared::default() });
        };
        // Any generation will do: nothing is compared with what a store has.
        let (groups, faults) = second.answers(&observed.routed, |_| true, Generation::FIRST);
        let first = Said { groups: &observed.groups, faults: &observed.faults };
        Some(compare(batch, first, Said { groups: &groups, faults: &faults }, &|_| true, MAX_DIFFERENCES))
    }

    /// A guest that is no longer the route's second one has its place no more.
    fn leave_unless(&mut self, second: Option<&Arc<Second>>) {
        if let Some((running, _)) = &self.running
            && second.is_none_or(|second| !Arc::ptr_eq(running, second))
        {
            self.running = None;
        }
    }
}

/// Compares what it is given, on a thread of its own, at most half of the time. It is given a batch only when it waits for one: the first guest
/// never waits for the second.
pub(super) async fn shadow_all(
    shared: Arc<Shared>,
    rollout: Arc<RouteRollout>,
    mut observed: mpsc::Receiver<Observed>,
    mut orders: watch::Receiver<Order>,
) {
    let mut shadow = Shadow::default();
    let mut changes = rollout.changes();
    let name = rollout.deployed().route.name.clone();
    let metrics = shared.metrics.route(&name);
    loop {
        let next = tokio::select! {
            biased;
            () = ended(&mut orders) => return,
            () = changes.next() => {
                shadow.leave_unless(rollout.deployed().second.as_ref());
                continue;
            }
            next = observed.recv() => next,
        };
        let Some(next) = next else { return };
        let sinks = Arc::clone(&rollout);
        let began = Instant::now();
        let working = on_a_thread(shared.machine, shadow, move |shadow| (shadow.compare(&next, sinks.sinks()), next));
        let done = tokio::select! { biased; () = ended(&mut orders) => return, done = working => done };
        let Some((returned, (compared, next))) = done else {
            tracing::error!(route = name, "a defect in the engine stopped the comparison with the second module");
            return;
        };
        shadow = returned;
        let batch = &next.routed.batch;
        match compared {
            Some(compared) => {
                rollout.compared(&next.pair, &batch.records.source, compared.clone());
                metrics.shadow(&compared);
            }
            None => metrics.shadow_skipped(batch.events.len() as u64),
        }
        let rest = began.elapsed().min(MAX_REST);
        tokio::select! { biased; () = ended(&mut orders) => return, () = tokio::time::sleep(rest) => {} }
    }
}

/// The second guest on the way: it decides its share of the keys, and the first one what it fails on.
pub(super) struct Canary {
    pub(super) pair: Pair,
    trying: Trying,
}

impl Canary {
    pub(super) fn new(pair: Pair, sinks: &[SinkSettings]) -> Result<Self, SetupError> {
        let trying = Trying::new(&pair.second, sinks)?;
        Ok(Self { pair, trying })
    }

    pub(super) fn stats(&self) -> &GuestStats {
        self.trying.guest.stats()
    }

    pub(super) fn decide(&mut self, first: &mut Guest, routed: RoutedBatch, generation: Generation) -> (GuestBatch, Compared, Decided) {
        let Second { canary_percent, module, .. } = &*self.pair.second;
        let chosen = share(&routed.batch, *canary_percent);
        let in_share = |record: u32| chosen.get(record as usize).copied().unwrap_or(false);
        let is_chosen = |event: &ChangeEvent| in_share(event.record);
        let answers = first.answers(&routed.batch, |_| true);
        let others = self.trying.answers(&routed, is_chosen, generation);
        let compared = compare(
            &routed.batch,
            Said { groups: &answers.0, faults: &answers.1 },
            Said { groups: &others.0, faults: &others.1 },
            &is_chosen,
            MAX_DIFFERENCES,
        );
        let ((groups, faults), canary) = divide(&routed.batch, answers, others, &module.digest);
        let decided = Decided {
            answered: answered(&routed.batch, &groups, &faults),
            failed: failed(&faults).filter(|record| !in_share(*record)).count() as u64,
            canary_answered: answered(&routed.batch, &canary.groups, &faults),
            both_failed: failed(&faults).filter(|record| in_share(*record)).count() as u64,
        };
        (GuestBatch { routed, groups, faults, canary: Some(canary) }, compared, decided)
    }
}
