//! What each route runs, and how that changes while records flow.
//!
//! Enters: the wish for another module, over HTTP, by SIGHUP or by a changed file. Leaves: a [`Deployed`], which each lane of the route
//! adopts between two batches. A batch has one module from end to end, so no event is missed or done twice by a change. A module is
//! loaded, checked, compiled and tried on recent records before any lane hears of it; one that is unfit leaves everything as it was.

mod comparison;
mod desk;
mod prepare;
mod recent;
mod request;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::Instant;

use crate::config::{RouteSettings, Settings, SinkSettings};
use crate::lane::{Budget, Halt};
use crate::plan::compare::Compared;
use crate::source::{RecordBatch, TopicPartition};
use crate::transform::Module;

pub use comparison::Comparison;
pub(crate) use comparison::MAX_DIFFERENCES;
pub use desk::Rollout;
pub use request::{Change, Desk, Done, Refusal, Requests, Shown, Tried, desk};

use recent::Recent;

/// What a route runs. It is replaced as a whole.
#[derive(Debug)]
pub struct Deployed {
    /// One more than that of what ran before.
    pub number: u64,
    /// The number under which the same modules began to decide what is written; a second one that writes nothing changes none of it.
    pub since: u64,
    /// The route, with the transform section in force.
    pub route: Arc<RouteSettings>,
    /// The guest.
    pub module: Arc<Module>,
    /// A second guest, which sees the same events.
    pub second: Option<Arc<Second>>,
}

/// A second module of a route.
#[derive(Debug)]
pub struct Second {
    /// The route, with the second module's transform section in place of the first's.
    pub route: Arc<RouteSettings>,
    /// The guest.
    pub module: Arc<Module>,
    /// The share of keys whose documents it writes; 0: it writes nothing.
    pub canary_percent: u32,
}

/// Two modules that are compared. What was found of another pair says nothing of this one.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    first: Arc<Module>,
    pub(crate) second: Arc<Second>,
}

impl Pair {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.first, &other.first) && Arc::ptr_eq(&self.second, &other.second)
    }
}

impl Deployed {
    /// Both modules, where there are two.
    pub(crate) fn pair(&self) -> Option<Pair> {
        let second = self.second.as_ref()?;
        Some(Pair { first: Arc::clone(&self.module), second: Arc::clone(second) })
    }

    /// What replaces it.
    pub(crate) fn next(&self, route: Arc<RouteSettings>, module: Arc<Module>, second: Option<Arc<Second>>) -> Self {
        let canary = |second: &Option<Arc<Second>>| second.as_ref().filter(|second| second.canary_percent > 0).map(Arc::as_ptr);
        let number = self.number + 1;
        let same = Arc::ptr_eq(&self.module, &module) && canary(&self.second) == canary(&second);
        Self { number, since: if same { self.since } else { number }, route, module, second }
    }
}

/// What the lanes of one route share.
pub struct RouteRollout {
    settings: Arc<Settings>,
    deployed: channel::Sender<Arc<Deployed>>,
    recent: Mutex<Recent>,
    comparison: Mutex<Comparison>,
    lanes: channel::Sender<Lanes>,
    budget: Arc<Budget>,
    halt: channel::Sender<Option<Halt>>,
}

/// The number of what each lane runs.
#[derive(Debug, Default)]
struct Lanes {
    next: u64,
    running: BTreeMap<u64, u64>,
    /// Lanes that could not take over the last change, and why.
    stuck: BTreeMap<u64, (TopicPartition, String)>,
}

impl RouteRollout {
    /// A route that runs its configured module.
    pub fn new(settings: Arc<Settings>, route: Arc<RouteSettings>, module: Arc<Module>) -> Arc<Self> {
        let deployed = Arc::new(Deployed { number: 0, since: 0, route, module, second: None });
        let (deployed, lanes) = (channel::Sender::new(deployed), channel::Sender::new(Lanes::default()));
        let budget = Arc::new(Budget::new(settings.dead_letters.max_per_minute));
        let (recent, comparison, halt) = (Mutex::default(), Mutex::default(), channel::Sender::default());
        Arc::new(Self { settings, deployed, recent, comparison, lanes, budget, halt })
    }

    /// What it runs now.
    pub fn deployed(&self) -> Arc<Deployed> {
        Arc::clone(&self.deployed.borrow())
    }

    /// The sinks that its targets are in.
    pub(crate) fn sinks(&self) -> &[SinkSettings] {
        &self.settings.sinks
    }

    /// How many of its records may be given up.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A place for one more lane.
    pub(crate) fn follow(self: &Arc<Self>, source: &TopicPartition) -> Follower {
        let changes = self.deployed.subscribe();
        let number = changes.borrow().number;
        let mut lane = 0;
        self.lanes.send_modify(|lanes| {
            lane = lanes.next;
            lanes.next += 1;
            lanes.running.insert(lane, number);
        });
        Follower { rollout: Arc::clone(self), source: source.clone(), lane, changes }
    }

    /// Lanes adopt it between two batches.
    pub fn deploy(&self, deployed: Deployed) {
        self.lanes.send_modify(|lanes| lanes.stuck.clear());
        self.budget.renew(&deployed);
        let pair = deployed.pair();
        // Whoever adds to it looks what runs while it holds it.
        let mut comparison = self.comparison();
        let before = self.deployed.send_replace(Arc::new(deployed)).pair();
        if !pair.zip(before).is_some_and(|(pair, before)| pair.is(&before)) {
            *comparison = Comparison::default();
        }
    }

    /// The route halts; returned is the halt that counts, where it was halted before.
    pub(crate) fn halt(&self, halt: Halt) -> Halt {
        let counts = match self.halted() {
            Some(known) => known.or_later(halt),
            None => halt,
        };
        self.halt.send_replace(Some(counts.clone()));
        counts
    }

    /// Why the route is halted.
    pub(crate) fn halted(&self) -> Option<Halt> {
        self.halt.borrow().clone()
    }

    /// Resolves when another module lifts the route's halt; never where it isn't halted, or an operator must act.
    pub(crate) async fn lifted(&self) {
        if let Some(halt) = self.halted()
            && self.deployed.subscribe().wait_for(|deployed| halt.is_lifted_by(deployed)).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// The route goes on.
    pub(crate) fn resume(&self) {
        self.halt.send_replace(None);
    }

    /// Why the route is halted all the same, once the worker has heard of a change that lifts it.
    async fn still_halted(&self, patience: Duration) -> Option<Halt> {
        let deployed = self.deployed();
        let mut halt = self.halt.subscribe();
        let heard = halt.wait_for(|halt| !halt.as_ref().is_some_and(|halt| halt.is_lifted_by(&deployed)));
        // A worker that is late says so by the halt.
        drop(tokio::time::timeout(patience, heard).await);
        self.halted()
    }

    /// Wakes whoever works beside the lanes at each change.
    pub(crate) fn changes(&self) -> Changes {
        Changes(Some(self.deployed.subscribe()))
    }

    /// Waits until every lane has adopted it, or tried to; the number of lanes, and of those that have not by then. A lane whose batch waits for
    /// a store that is away adopts it afterwards.
    async fn adopted(&self, number: u64, patience: Duration) -> (usize, usize) {
        let deadline = Instant::now() + patience;
        let mut lanes = self.lanes.subscribe();
        let all = lanes.wait_for(|lanes| lanes.running.iter().all(|(lane, running)| *running >= number || lanes.stuck.contains_key(lane)));
        // Late ones are counted below, in either case.
        drop(tokio::time::timeout_at(deadline, all).await);
        let lanes = self.lanes.borrow();
        let late = lanes.running.values().filter(|running| **running < number).count();
        (lanes.running.len(), late)
    }

    /// The lanes that could not adopt the last change, and why.
    fn stuck(&self) -> Vec<String> {
        let lanes = self.lanes.borrow();
        lanes.stuck.values().map(|(source, why)| format!("partition {} stays with the module before: {why}", source.partition)).collect()
    }

    /// Adds what a lane has compared, where both modules are still the same.
    pub(crate) fn compared(&self, pair: &Pair, source: &TopicPartition, compared: Compared) {
        let mut comparison = self.comparison();
        if self.deployed().pair().is_some_and(|now| now.is(pair)) {
            comparison.add(source, compared);
        }
    }

    /// What was compared since the younger of both modules came.
    pub fn comparison(&self) -> MutexGuard<'_, Comparison> {
        // What a panicking thread left behind is whole enough to be shown.
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // What a panicking thread left behind is whole: batches are pushed and popped.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's place among those of its route.
pub(crate) struct Follower {
    rollout: Arc<RouteRollout>,
    source: TopicPartition,
    lane: u64,
    changes: channel::Receiver<Arc<Deployed>>,
}

impl Follower {
    pub(crate) fn rollout(&self) -> &Arc<RouteRollout> {
        &self.rollout
    }

    /// Wakes the lane at each change.
    pub(crate) fn changes(&self) -> Changes {
        Changes(Some(self.changes.clone()))
    }

    /// The lane runs this from now on.
    pub(crate) fn adopted(&self, number: u64) {
        self.rollout.lanes.send_modify(|lanes| {
            lanes.running.insert(self.lane, number);
            lanes.stuck.remove(&self.lane);
        });
    }

    /// The lane goes on with what it ran before, for now.
    pub(crate) fn stays(&self, why: String) {
        self.rollout.lanes.send_modify(|lanes| {
            lanes.stuck.insert(self.lane, (self.source.clone(), why));
        });
    }

    /// Keeps a few of the records, to try a new module on.
    pub(crate) fn offer(&self, records: &RecordBatch) {
        self.rollout.recent().offer(records);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.rollout.lanes.send_modify(|lanes| {
            lanes.running.remove(&self.lane);
            lanes.stuck.remove(&self.lane);
        });
    }
}

/// Tells that the route runs something else.
pub(crate) struct Changes(Option<channel::Receiver<Arc<Deployed>>>);

impl Changes {
    /// Of a lane whose module never changes.
    pub(crate) const NEVER: Self = Self(None);

    /// Resolves at the next change.
    pub(crate) async fn next(&mut self) {
        if let Some(changes) = &mut self.0
            && changes.changed().await.is_ok()
        {
            return;
        }
        // Nobody is left who could change anything.
        std::future::pending().await
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn recent_records_are_few_and_the_newest() {
        let source = TopicPartition::new("t", 0);
        let mut recent = Recent::default();
        for first in 0..1000 {
            let mut batch = RecordBatch::new(source.clone());
            for offset in first * 1000..(first + 1) * 1000 {
                batch.push(offset, None, Some(b"k"), Some(&[0; 700]), [("h", None)]).expect("small");
            }
            recent.offer(&batch);
        }
        let kept = recent.batches();
        assert!(kept.len() <= 8 && kept.iter().all(|batch| !batch.records.is_empty()), "{}", kept.len());
        let bytes: usize = kept.iter().map(|batch| batch.bytes.len()).sum();
        assert!(bytes <= 8 * (256 << 10), "{bytes}");
        let newest = kept.iter().filter_map(RecordBatch::next_offset).max().expect("records");
        assert!(newest > 900_000, "{newest}");
    }
}
