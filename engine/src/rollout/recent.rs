//! A few of the records that a route had lately.

use std::collections::VecDeque;

use crate::source::RecordBatch;

const BATCHES: usize = 8;
const RECORDS: usize = 256;
const BYTES: usize = 256 << 10;
/// Once the ring is full, one batch of so many is kept: copying each would cost what decoding does.
const EVERY: u64 = 64;

/// The newest batches of all of the route's partitions, each only so far.
#[derive(Default)]
pub(super) struct Recent {
    batches: VecDeque<RecordBatch>,
    offered: u64,
}

impl Recent {
    pub(super) fn offer(&mut self, records: &RecordBatch) {
        self.offered += 1;
        if self.batches.len() >= BATCHES {
            if !self.offered.is_multiple_of(EVERY) {
                return;
            }
            self.batches.pop_front();
        }
        self.batches.push_back(first_of(records));
    }

    pub(super) fn batches(&self) -> Vec<RecordBatch> {
        self.batches.iter().cloned().collect()
    }
}

fn first_of(records: &RecordBatch) -> RecordBatch {
    let mut kept = RecordBatch::new(records.source.clone());
    for (index, record) in records.records.iter().enumerate().take(RECORDS) {
        let pushed = kept.push(record.offset, record.timestamp_ms, records.key(index), records.value(index), records.headers(index));
        if pushed.is_none() || kept.bytes.len() >= BYTES {
            break;
        }
    }
    kept
}
