//! One write for each key: the last.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{FencedWrite, SinkWrites};

/// Finds writes by their key without owning it: open addressing over indexes into the writes.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    /// Index plus one; 0: free. The length is a power of two, at least twice the number of writes.
    slots: Vec<u32>,
}

impl KeyTable {
    /// Forgets the keys and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.slots.fill(0);
    }

    /// Adds a write. Where its key has one already, that one is displaced, and its record is returned.
    pub(super) fn put(&mut self, sink: &mut SinkWrites, write: FencedWrite) -> Option<u32> {
        if self.slots.len() < (sink.writes.len() + 1) * 2 {
            self.grow(sink);
        }
        let slot = self.slot(sink, &write);
        match self.slots.get(slot).copied() {
            Some(taken) if taken != 0 => {
                let old = sink.writes.get_mut(taken as usize - 1)?;
                let displaced = old.record;
                *old = write;
                Some(displaced)
            }
            _ => {
                sink.writes.push(write);
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = sink.writes.len() as u32;
                }
                None
            }
        }
    }

    /// The slot that has the write's key, or the free one where it belongs.
    fn slot(&self, sink: &SinkWrites, write: &FencedWrite) -> usize {
        let key = sink.slice(write.key);
        let mask = self.slots.len() - 1;
        let mut slot = xxh3_64_with_seed(key, write.target.into()) as usize & mask;
        while let Some(taken) = self.slots.get(slot).filter(|taken| **taken != 0) {
            let same = |old: &FencedWrite| old.target == write.target && sink.slice(old.key) == key;
            if sink.writes.get(*taken as usize - 1).is_some_and(same) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self, sink: &SinkWrites) {
        let length = ((sink.writes.len() + 1) * 4).next_power_of_two().max(64);
        self.slots.clear();
        self.slots.resize(length, 0);
        for (index, write) in sink.writes.iter().enumerate() {
            let slot = self.slot(sink, write);
            if let Some(place) = self.slots.get_mut(slot) {
                *place = index as u32 + 1;
            }
        }
    }
}
