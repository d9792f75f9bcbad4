//! What a partition's log has held so far, as far as it bears on deletions: a snapshot tells which rows there are, and nothing of those
//! that were deleted since the last one. Pure; what is new is stored by the lane before it commits what made it so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::Snapshot;
use crate::fence::Generation;

/// Something of which a partition's log has held a first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// A row of a snapshot of all rows.
    Snapshot,
    /// A change of a row.
    Change,
    /// A row of another snapshot, after one of the two: rows deleted in between may be in the stores for ever.
    SecondSnapshot,
}

impl Seen {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Snapshot, Self::Change, Self::SecondSnapshot];

    /// The last part of its key in the control topic.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Change => "change",
            Self::SecondSnapshot => "second-snapshot",
        }
    }
}

/// Where it was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSeen {
    /// Generation of the topic.
    pub generation: u16,
    /// Of the record.
    pub offset: i64,
}

/// What a partition's log has held in one generation: the least offset of each. Reading it again finds nothing new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    generation: u16,
    seen: BTreeMap<Seen, i64>,
}

impl History {
    /// From what is stored of the partition; other generations are another history.
    pub fn of(generation: Generation, stored: &BTreeMap<Seen, FirstSeen>) -> Self {
        let generation = generation.number();
        let own = stored.iter().filter(|(_, first)| first.generation == generation);
        Self { generation, seen: own.map(|(seen, first)| (*seen, first.offset)).collect() }
    }

    /// Takes in an event. Returns what it is the first of, if of anything.
    pub fn take(&mut self, offset: i64, snapshot: Snapshot) -> Option<(Seen, FirstSeen)> {
        let before = |seen: &Seen| self.seen.get(seen).is_some_and(|first| *first < offset);
        let seen = match snapshot {
            // An incremental snapshot runs beside the stream, which tells of each deletion.
            Snapshot::Incremental => return None,
            Snapshot::No => Seen::Change,
            Snapshot::GoesOn if before(&Seen::Change) => Seen::SecondSnapshot,
            Snapshot::Begins if before(&Seen::Change) || before(&Seen::Snapshot) => Seen::SecondSnapshot,
            Snapshot::GoesOn | Snapshot::Begins => Seen::Snapshot,
        };
        if self.seen.get(&seen).is_some_and(|first| *first <= offset) {
            return None;
        }
        self.seen.insert(seen, offset);
        Some((seen, FirstSeen { generation: self.generation, offset }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `events`: `b` begins a snapshot, `r` goes on, `i` incremental, `c` a change. `expected`: what each is the first of.
    fn check(events: &str, expected: &str) {
        let mut history = History::of(Generation::FIRST, &BTreeMap::new());
        let mut told = BTreeMap::new();
        let mut found = String::new();
        for _ in 0..2 {
            for (offset, event) in (0..).zip(events.chars()) {
                let snapshot = match event {
                    'b' => Snapshot::Begins,
                    'r' => Snapshot::GoesOn,
                    'i' => Snapshot::Incremental,
                    _ => Snapshot::No,
                };
                let first = history.take(offset, snapshot);
                found.push(match first {
                    Some((Seen::Snapshot, _)) => 's',
                    Some((Seen::Change, _)) => 'c',
                    Some((Seen::SecondSnapshot, _)) => '2',
                    None => '.',
                });
                told.extend(first);
            }
            // A restart that reads everything again finds nothing new.
            history = History::of(Generation::FIRST, &told);
        }
        assert_eq!(found, format!("{expected}{}", ".".repeat(events.len())), "{events}");
    }

    #[test]
    fn a_second_snapshot_is_told_from_the_first() {
        check("brrrccc", "s...c..");
        check("brrcic", "s..c..");
        check("rrrcrr", "s..c2.");
        check("brrbrr", "s..2..");
        check("cccbrr", "c..2..");
        check("iici", "..c.");
        check("brb", "s.2");
    }

    #[test]
    fn a_generation_is_a_history_of_its_own() {
        let stored = BTreeMap::from([(Seen::Change, FirstSeen { generation: 1, offset: 7 })]);
        let mut next = History::of(Generation::FIRST.next().unwrap_or(Generation::MAX), &stored);
        assert_eq!(next.take(9, Snapshot::Begins), Some((Seen::Snapshot, FirstSeen { generation: 2, offset: 9 })));
    }
}
