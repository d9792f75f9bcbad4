//! The one outcome of each record.

use crate::plan::Planned;
use crate::sink::WriteOutcome;

/// What became of a record. Where its writes fare differently, the first of this order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    DeadLettered,
    Applied,
    Stale,
    Superseded,
    Filtered,
}

/// Outcomes of a batch.
#[derive(Debug)]
pub(crate) struct Outcomes(Vec<Outcome>);

impl Outcomes {
    /// As far as the plan tells them. A record with writes has the last outcome until one of them is known.
    pub(crate) fn new(planned: &[Planned]) -> Self {
        let outcome = |planned: &Planned| match planned {
            Planned::Superseded => Outcome::Superseded,
            Planned::Writes | Planned::Filtered | Planned::Faulty => Outcome::Filtered,
        };
        Self(planned.iter().map(outcome).collect())
    }

    /// What writes did.
    pub(super) fn written(&mut self, outcomes: &[(u32, WriteOutcome)]) {
        for (record, outcome) in outcomes {
            let outcome = match outcome {
                WriteOutcome::Applied => Outcome::Applied,
                WriteOutcome::Duplicate | WriteOutcome::Conflict | WriteOutcome::Stale => Outcome::Stale,
            };
            self.raise(*record, outcome);
        }
    }

    /// A truncate that was carried out.
    pub(super) fn applied(&mut self, record: u32) {
        self.raise(record, Outcome::Applied);
    }

    /// A record that was given up.
    pub(super) fn dead_lettered(&mut self, record: u32) {
        self.raise(record, Outcome::DeadLettered);
    }

    fn raise(&mut self, record: u32, outcome: Outcome) {
        if let Some(known) = self.0.get_mut(record as usize) {
            *known = (*known).min(outcome);
        }
    }

    /// Number of records of each outcome, in the order of [`Outcome`].
    pub(crate) fn counts(&self) -> [(Outcome, u64); 5] {
        let count = |outcome| (outcome, self.0.iter().filter(|o| **o == outcome).count() as u64);
        [Outcome::DeadLettered, Outcome::Applied, Outcome::Stale, Outcome::Superseded, Outcome::Filtered].map(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_order_counts() {
        let mut outcomes = Outcomes::new(&[Planned::Writes, Planned::Superseded, Planned::Filtered, Planned::Writes, Planned::Faulty]);
        outcomes.written(&[(0, WriteOutcome::Stale), (0, WriteOutcome::Applied), (3, WriteOutcome::Duplicate)]);
        outcomes.dead_lettered(4);
        let counts = outcomes.counts().map(|(_, count)| count);
        assert_eq!(counts, [1, 1, 1, 1, 1]);
        outcomes.dead_lettered(0);
        assert_eq!(outcomes.counts().map(|(_, count)| count), [2, 0, 1, 1, 1]);
    }
}
