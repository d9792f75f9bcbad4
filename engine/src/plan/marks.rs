//! The keys of records that are given up.
//!
//! A record that is dead-lettered leaves its keys as they were. Where the row was decoded, they are known all the same: the default key of
//! each target that the guest writes for the table or leaves out, and the explicit keys that its answer named. Where the record could not be
//! decoded, or is of another table, nothing is known.

use std::sync::Arc;

use super::build::{Row, Work, default_key, write_key};
use super::coalesce::KeyTable;
use super::{Bytes, Error, FencedWrite, SinkWrites};
use crate::change::{ChangeEvent, TableSchema};
use crate::config::TargetSettings;
use crate::fence::Fence;
use crate::transform::{GuestAction, GuestGroup, holds_own_keys};

/// The marks of one sink.
struct SinkMarks {
    marks: SinkWrites,
    keys: KeyTable,
}

impl SinkMarks {
    /// Marks the key that `write` appends; a key that can't be encoded can't be held by the store either. The last of a key counts.
    fn add(
        &mut self,
        target: &TargetSettings,
        event: &ChangeEvent,
        fence: Fence,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Bytes, Error>,
    ) {
        let Some(target) = self.marks.targets.iter().position(|known| known.name == target.name) else { return };
        let start = self.marks.bytes.len();
        match write(&mut self.marks.bytes) {
            Ok(key) => {
                let (target, record) = (target as u32, event.record);
                self.keys.put(&mut self.marks, FencedWrite { target, record, fence, key, document: None, ttl_seconds: 0, content: 0 });
            }
            Err(_) => self.marks.bytes.truncate(start),
        }
    }
}

impl<'a> Work<'a> {
    /// What marks the keys of the faulty records.
    pub(super) fn marks(&self, groups: &[&'a GuestGroup]) -> Vec<SinkWrites> {
        if !self.records.iter().any(|record| record.faulty) {
            return Vec::new();
        }
        let empty = |sink: &SinkWrites| SinkMarks {
            marks: SinkWrites {
                sink: sink.sink,
                partition: sink.partition,
                module: Arc::clone(&sink.module),
                targets: sink.targets.clone(),
                ..SinkWrites::default()
            },
            keys: KeyTable::default(),
        };
        let mut sinks: Vec<SinkMarks> = self.sinks.iter().map(empty).collect();
        for (index, event) in self.routed.batch.events.iter().enumerate() {
            if self.records.get(event.record as usize).is_none_or(|record| !record.faulty) {
                continue;
            }
            let (Some(fence), Some(schema)) =
                (Fence::new(self.generation, event.offset), self.routed.batch.schemas.get(event.schema as usize))
            else {
                continue;
            };
            match groups.iter().find(|group| group.opened.schema.id == schema.id) {
                Some(opened) => self.mark_outputs(opened, event, fence, &mut sinks),
                None => self.mark_targets(schema, event, fence, &mut sinks),
            }
            let index = index as u32;
            for group in groups.iter().filter(|group| group.writes.iter().any(|write| write.event == index)) {
                self.mark_answer(group, index, event, fence, &mut sinks);
            }
        }
        sinks.into_iter().map(|sink| sink.marks).filter(|marks| !marks.writes.is_empty()).collect()
    }

    /// The default keys that every event of the schema writes or deletes.
    fn mark_outputs(&self, group: &GuestGroup, event: &ChangeEvent, fence: Fence, sinks: &mut [SinkMarks]) {
        for target in group.opened.by_own_key(&self.routed.route) {
            let key = |out: &mut Vec<u8>| default_key(out, target, &group.opened.schema, event, &self.routed.batch.cells);
            if let Some(sink) = of_target(sinks, target) {
                sink.add(target, event, fence, key);
            }
        }
    }

    /// The guest has not said what it writes for the schema: the targets that have default keys alone.
    fn mark_targets(&self, schema: &TableSchema, event: &ChangeEvent, fence: Fence, sinks: &mut [SinkMarks]) {
        for target in self.routed.route.targets.iter().filter(|target| holds_own_keys(target, schema)) {
            let key = |out: &mut Vec<u8>| default_key(out, target, schema, event, &self.routed.batch.cells);
            if let Some(sink) = of_target(sinks, target) {
                sink.add(target, event, fence, key);
            }
        }
    }

    /// The explicit keys of an answer that can't be stored.
    fn mark_answer(&self, group: &GuestGroup, index: u32, event: &ChangeEvent, fence: Fence, sinks: &mut [SinkMarks]) {
        let row = Row { event, opened: &group.opened, answer: &group.cells, rows: &self.routed.batch.cells, fence };
        for write in group.writes.iter().filter(|write| write.event == index) {
            let (GuestAction::Put { output, first_cell, .. } | GuestAction::Delete { output, first_cell }) = write.action else { continue };
            let Some(output) = group.opened.outputs.get(output as usize).filter(|output| !output.key.is_empty()) else { continue };
            if let Some(sink) = of_target(sinks, &output.target) {
                sink.add(&output.target, event, fence, |out| write_key(out, row, output, first_cell));
            }
        }
    }
}

fn of_target<'s>(sinks: &'s mut [SinkMarks], target: &TargetSettings) -> Option<&'s mut SinkMarks> {
    sinks.iter_mut().find(|sink| sink.marks.sink == target.sink)
}
