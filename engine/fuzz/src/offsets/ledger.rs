//! What happened around a lane, in its order, and what must hold of it. Knows nothing of the lane.

use std::collections::BTreeSet;

use streamsync::lane::End;
use streamsync::sink::Watermark;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// The row of this key is written.
    Put(i64),
    /// It is deleted.
    Delete(i64),
    /// A null value: whoever has seen the delete passes over it.
    Null(i64),
    /// No JSON: a dead letter.
    Broken,
}

/// Something that the lane was given, or did to its surroundings. Sinks are numbered.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A batch: offsets with what is there.
    Handed(Vec<(i64, Row)>),
    /// A sink is sent the write of a record.
    Sent { sink: usize, offset: i64 },
    /// A sink is sent the mark of a record that was given up.
    Marking { sink: usize, offset: i64 },
    /// A sink has the write, or something newer, and the lane was told.
    Kept { sink: usize, offset: i64 },
    /// Any other answer that stays: a write that is refused, a mark that is kept or refused.
    Answered { sink: usize, offset: i64 },
    /// A sink can't be used, and the lane was told.
    Unfit,
    /// A dead letter is kept.
    Lettered(i64),
    /// A sink has stored the lane's watermark, whether or not the lane was told.
    Watermark { sink: usize, watermark: Watermark },
    /// The group has this offset, whether or not the lane was told.
    Committed(i64),
    /// A sink is not as the lane left it, from here on.
    Lost(usize),
    /// The partition is another worker's, from here on.
    Expelled,
}

/// How the lane was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing more comes, and everyone is well again.
    Finished,
    /// As ordered, and everyone is well again.
    Drained,
    /// As ordered, in the middle of whatever it was.
    Abandoned,
}

/// Takes the events and panics at the first that breaks a promise.
pub(super) struct Ledger {
    max_records: usize,
    begin: i64,
    batches: Vec<Vec<(i64, Row)>>,
    /// Sent, and without an answer that stays: offset and sink.
    open: BTreeSet<(i64, usize)>,
    kept: BTreeSet<(i64, usize)>,
    lettered: BTreeSet<i64>,
    committed: Option<i64>,
    watermarks: [i64; 2],
    lost: Option<usize>,
    is_unfit: bool,
    is_expelled: bool,
}

impl Ledger {
    /// Of a lane that began at an offset, where the watermarks of both sinks were.
    pub(super) fn new(max_records: usize, begin: i64) -> Self {
        Self {
            max_records,
            begin,
            batches: Vec::new(),
            open: BTreeSet::new(),
            kept: BTreeSet::new(),
            lettered: BTreeSet::new(),
            committed: None,
            watermarks: [begin; 2],
            lost: None,
            is_unfit: false,
            is_expelled: false,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Handed(batch) => self.batches.push(batch),
            Event::Sent { sink, offset } => {
                self.check_room(offset);
                self.open.insert((offset, sink));
            }
            Event::Marking { sink, offset } => {
                self.open.insert((offset, sink));
            }
            Event::Kept { sink, offset } => {
                self.open.remove(&(offset, sink));
                self.kept.insert((offset, sink));
            }
            Event::Answered { sink, offset } => {
                self.open.remove(&(offset, sink));
            }
            Event::Unfit => self.is_unfit = true,
            Event::Lettered(offset) => {
                self.lettered.insert(offset);
            }
            Event::Watermark { sink, watermark } => {
                let next_offset = watermark.next_offset;
                assert!(self.lost != Some(sink), "sink {sink} lost data, and the watermark {next_offset} hides it");
                assert!(next_offset >= self.watermarks[sink], "the watermark of sink {sink} goes back to {next_offset}");
                self.check_settled(next_offset);
                self.watermarks[sink] = next_offset;
            }
            Event::Committed(next_offset) => {
                assert!(!self.is_expelled, "{next_offset} is committed of another worker's partition");
                assert!(self.committed.is_none_or(|before| before <= next_offset), "the commit goes back to {next_offset}");
                self.check_settled(next_offset);
                self.committed = Some(next_offset);
            }
            Event::Lost(sink) => self.lost = Some(sink),
            Event::Expelled => self.is_expelled = true,
        }
    }

    /// Nothing before `next_offset` is unsettled, and it is where a batch ended.
    fn check_settled(&self, next_offset: i64) {
        let is_end = self.batches.iter().any(|batch| end_of(batch) == next_offset);
        assert!(is_end, "{next_offset} is kept, and no batch ended there: {:?}", self.batches);
        let open = self.open.range(..(next_offset, 0)).next();
        assert!(open.is_none(), "{next_offset} is kept, and {open:?} has no answer that stays");
        for batch in self.batches.iter().filter(|batch| end_of(batch) <= next_offset) {
            for (offset, row) in batch {
                let is_settled = match row {
                    Row::Broken => self.lettered.contains(offset),
                    Row::Null(_) => true,
                    Row::Put(key) | Row::Delete(key) => [0, 1].iter().all(|sink| self.has(*sink, *offset, *key, batch)),
                };
                assert!(is_settled, "{next_offset} is kept, and offset {offset} is not settled: {row:?}");
            }
        }
    }

    /// Whether a sink has a record, or a later one of its key in the same batch; one that was given up counts.
    fn has(&self, sink: usize, offset: i64, key: i64, batch: &[(i64, Row)]) -> bool {
        batch.iter().any(|(later, row)| {
            let of_key = match row {
                Row::Put(id) | Row::Delete(id) | Row::Null(id) => *id == key,
                Row::Broken => false,
            };
            of_key && *later >= offset && (self.kept.contains(&(*later, sink)) || self.lettered.contains(later))
        })
    }

    /// A batch that is being written is at most so far ahead of what is kept, unless it alone is larger.
    fn check_room(&self, offset: i64) {
        let Some(batch) = self.batches.iter().find(|batch| (first_of(batch)..end_of(batch)).contains(&offset)) else {
            unreachable!("offset {offset} was never handed over");
        };
        if self.lost.is_some() {
            return;
        }
        let kept = self.watermarks.iter().fold(self.committed.unwrap_or(self.begin), |kept, watermark| kept.min(*watermark));
        let records = self.batches.iter().flatten().filter(|(offset, _)| (kept..end_of(batch)).contains(offset)).count();
        let most = self.max_records.max(batch.len());
        assert!(records <= most, "{records} records are written beyond {kept}, and at most {most} may be");
    }

    /// After the last event. `settled` is the number of records that the lane says it has settled.
    pub(super) fn close(&self, ending: Ending, end: &End, settled: usize) {
        let is_abandoned = ending == Ending::Abandoned;
        match end {
            End::Stopped => {
                assert!(!self.is_unfit || is_abandoned, "a sink can't be used, and the lane did not halt");
                assert!(self.lost.is_none() || ending != Ending::Finished, "a sink's loss was not noticed");
            }
            End::Behind { sink, .. } => assert_eq!(self.lost, Some(*sink), "{end:?}"),
            End::Halted(_) => assert!(self.is_unfit, "{end:?}"),
            End::OffsetLost(_) | End::TombstonesExpired => unreachable!("{end:?}"),
        }
        if is_abandoned || self.lost.is_some() || self.is_unfit || self.is_expelled {
            return;
        }
        let handed: Vec<i64> = self.batches.iter().flatten().map(|(offset, _)| *offset).collect();
        if ending == Ending::Finished {
            assert_eq!(settled, handed.len(), "records that were settled, of those handed over");
        }
        let Some(last) = settled.checked_sub(1) else { return };
        let next_offset = handed[last] + 1;
        assert_eq!((self.committed, self.watermarks), (Some(next_offset), [next_offset; 2]), "what was settled is not all kept");
    }
}

fn first_of(batch: &[(i64, Row)]) -> i64 {
    batch.first().map_or(0, |(offset, _)| *offset)
}

fn end_of(batch: &[(i64, Row)]) -> i64 {
    batch.last().map_or(0, |(offset, _)| offset + 1)
}
