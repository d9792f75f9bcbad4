//! Change events as they cross to a guest: a header of 24 bytes each, and only the columns that the guest asked for.

use super::OpenedSchema;
use super::bindings::streamsync::transform::types::{Batch, Cells as WireCells};
use crate::change::{Cells, ChangeBatch, ChangeEvent, Op, Tag};

/// Bytes of an event's header.
pub(super) const EVENT_BYTES: usize = 24;

/// Writes the events into `into`, whose memory is reused.
pub fn lower(opened: &OpenedSchema, batch: &ChangeBatch, events: &[u32], into: &mut Batch) {
    into.schema = opened.schema.id;
    into.partition = batch.records.source.partition as u32;
    into.events.clear();
    into.cells.tags.clear();
    into.cells.words.clear();
    into.cells.heap.clear();
    into.events.reserve(events.len() * EVENT_BYTES);
    for event in events.iter().filter_map(|index| batch.events.get(*index as usize)) {
        into.events.extend_from_slice(&event.offset.to_le_bytes());
        into.events.extend_from_slice(&event.changed_at_us.to_le_bytes());
        into.events.extend_from_slice(&u64::from(event.op as u8).to_le_bytes());
        image(&mut into.cells, &batch.cells, event.before, &opened.before);
        image(&mut into.cells, &batch.cells, event.after, &opened.after);
    }
}

/// Whether the event comes to the guest.
pub(crate) fn is_seen(opened: &OpenedSchema, event: &ChangeEvent) -> bool {
    event.op != Op::Delete || opened.sees_deletes && !event.follows_own_delete
}

/// An empty batch.
pub(super) fn empty() -> Batch {
    Batch { schema: 0, partition: 0, events: Vec::new(), cells: WireCells { tags: Vec::new(), words: Vec::new(), heap: Vec::new() } }
}

fn image(into: &mut WireCells, rows: &Cells, first: Option<u32>, columns: &[u32]) {
    for column in columns {
        let at = first.map(|first| first as usize + *column as usize);
        let cell = at.and_then(|at| Some((*rows.tags.get(at)?, *rows.words.get(at)?)));
        let (tag, word) = cell.unwrap_or((Tag::Absent as u8, 0));
        let span = Tag::from_number(tag).filter(|tag| tag.is_span());
        into.tags.push(tag);
        if span.is_some() {
            let start = (word >> 32) as usize;
            let bytes = rows.heap.get(start..start + (word as u32) as usize).unwrap_or_default();
            let offset = into.heap.len() as u64;
            into.heap.extend_from_slice(bytes);
            into.words.extend_from_slice(&(offset << 32 | bytes.len() as u64).to_le_bytes());
        } else {
            into.words.extend_from_slice(&word.to_le_bytes());
        }
    }
}
