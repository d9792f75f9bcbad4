//! A guest's answers in words, before writes of one key are reduced to the last one: what the author of a transform compares.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::cell::Cell;
use super::json;
use crate::change::{ChangeEvent, Op, PassedOver, Tag};
use crate::config::TargetSettings;
use crate::outcome::{Field, Outcome, Part};
use crate::transform::{GuestAction, GuestBatch, GuestGroup, GuestWrite, Output};

/// What becomes of each record's events: index of the record, and the outcome. Faults are not among them: whoever plans the batch knows all of them.
pub(crate) fn outcomes(batch: &GuestBatch) -> Vec<(u32, Outcome)> {
    let changes = &batch.routed.batch;
    let mut shown = Vec::with_capacity(changes.records.records.len());
    let answered = batch.groups.iter().flat_map(|group| group.events.iter().map(move |event| (*event, group)));
    let mut groups = vec![None; changes.events.len()];
    for (event, group) in answered {
        if let Some(slot) = groups.get_mut(event as usize) {
            *slot = Some(group);
        }
    }
    for ((index, event), group) in (0..).zip(&changes.events).zip(groups) {
        let parts = group.map(|group| parts(batch, group, index, event)).unwrap_or_default();
        shown.push((event.record, outcome(batch, event.record, said_of(batch, event), parts)));
    }
    let of_record = |record: u32, title: String| (record, outcome(batch, record, "record".into(), vec![Part::new(title)]));
    shown.extend(changes.passed_over.iter().map(|(record, why)| of_record(*record, format!("passed over {}", passed_over(*why)))));
    shown.extend(changes.truncates.iter().map(|record| of_record(*record, "truncate".into())));
    let told: HashSet<u32> = shown.iter().map(|(record, _)| *record).collect();
    let untold = (0..changes.records.records.len() as u32).filter(|record| !told.contains(record));
    shown.extend(untold.map(|record| of_record(record, "nothing".into())));
    shown.sort_by_key(|(record, _)| *record);
    shown
}

fn outcome(batch: &GuestBatch, record: u32, event: String, parts: Vec<Part>) -> Outcome {
    let records = &batch.routed.batch.records;
    let offset = records.records.get(record as usize).map_or(-1, |record| record.offset);
    Outcome { partition: records.source.partition, offset, event, parts }
}

fn said_of(batch: &GuestBatch, event: &ChangeEvent) -> String {
    let changes = &batch.routed.batch;
    let op = match event.op {
        Op::Create => "create",
        Op::Update => "update",
        Op::Delete => "delete",
        Op::Read => "read",
    };
    let Some(schema) = changes.schemas.get(event.schema as usize) else { return op.to_owned() };
    let first = event.key_image().unwrap_or(u32::MAX) as usize;
    let part = |column: &u32| {
        let name = schema.columns.get(*column as usize).map_or("", |column| &*column.name);
        let cell = Cell::read(&changes.cells, first.saturating_add(*column as usize));
        format!("{name} = {}", value(cell))
    };
    let key: Vec<String> = schema.primary_key.iter().map(part).collect();
    format!("{op} {}", key.join(", "))
}

fn parts(batch: &GuestBatch, group: &GuestGroup, index: u32, event: &ChangeEvent) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for write in group.writes.iter().filter(|write| write.event == index) {
        let part = part(batch, group, event, write);
        // Targets that get the same are shown once.
        let same = |other: &&mut Part| {
            other.fields == part.fields && head(&other.title) == head(&part.title) && tail(&other.title) == tail(&part.title)
        };
        match parts.iter_mut().find(same).filter(|_| part.title != "skip") {
            Some(known) => {
                known.title = format!("{}, {}{}", known.title.trim_end_matches(tail(&known.title)), target(&part.title), tail(&part.title))
            }
            None => parts.push(part),
        }
    }
    // A delete that the guest does not see is carried out all the same; one that it has answered already is not carried out twice.
    if parts.is_empty() && event.op == Op::Delete && !(group.opened.sees_deletes && event.follows_own_delete) {
        parts.extend(engine_s_delete(batch, group));
    }
    if parts.is_empty() {
        parts.push(Part::new("nothing"));
    }
    parts
}

/// The engine deletes by the row's own key alone. Where it may leave documents behind, it says from which targets it deletes; `None` where from none.
fn engine_s_delete(batch: &GuestBatch, group: &GuestGroup) -> Option<Part> {
    let (opened, route) = (&group.opened, &batch.routed.route);
    let keyed = |target: &TargetSettings| opened.outputs.iter().any(|output| output.target.name == target.name && !output.key.is_empty());
    let deleted = |target: &TargetSettings| opened.by_own_key(route).any(|of_row| of_row.name == target.name);
    let targets = &route.targets;
    let names: Vec<&str> = targets.iter().filter(|target| deleted(target)).map(|target| target.name.as_str()).collect();
    // Of a row whose schema the guest was not asked about, a target with explicit keys is not known to hold nothing.
    let all = targets.iter().all(|target| !keyed(target) && (deleted(target) || !target.explicit_keys));
    match names.as_slice() {
        [] => None,
        _ if all => Some(Part::new("delete")),
        names => Some(Part::new(format!("delete {}", names.join(", ")))),
    }
}

/// `put` of `put redis key a = int 1`
fn head(title: &str) -> &str {
    title.split(' ').next().unwrap_or(title)
}

/// ` key a = int 1` of `put redis, mongodb key a = int 1`
fn tail(title: &str) -> &str {
    let at = [" key ", " ttl "].iter().filter_map(|word| title.find(word)).min();
    at.and_then(|at| title.get(at..)).unwrap_or_default()
}

/// `redis` of `put redis key a = int 1`
fn target(title: &str) -> &str {
    let named = title.get(head(title).len()..title.len() - tail(title).len()).unwrap_or_default();
    named.trim_start()
}

fn part(batch: &GuestBatch, group: &GuestGroup, event: &ChangeEvent, write: &GuestWrite) -> Part {
    let cell = |index: usize| Cell::resolve(&group.cells, index, event, &batch.routed.batch.cells);
    let output = |index: u32| group.opened.outputs.get(index as usize);
    match write.action {
        GuestAction::Skip => Part::new("skip"),
        GuestAction::Delete { output: index, first_cell } => {
            let title = output(index).map(|output| titled("delete", output, first_cell as usize, &cell, 0));
            Part::new(title.unwrap_or_default())
        }
        GuestAction::Put { output: index, first_cell, ttl_seconds } => {
            let Some(output) = output(index) else { return Part::default() };
            let first_field = first_cell as usize + output.key.len();
            let fields = output.fields.iter().enumerate().filter_map(|(at, name)| {
                let cell = cell(first_field + at);
                (cell.tag != Tag::Absent).then(|| Field { name: name.to_string(), value: value(cell) })
            });
            Part { title: titled("put", output, first_cell as usize, &cell, ttl_seconds), fields: fields.collect() }
        }
    }
}

fn titled<'a>(action: &str, output: &Output, first_cell: usize, cell: &impl Fn(usize) -> Cell<'a>, ttl_seconds: u32) -> String {
    let mut title = format!("{action} {}", output.target.name);
    for (at, name) in output.key.iter().enumerate() {
        let begins = if at == 0 { " key " } else { ", " };
        title.push_str(&format!("{begins}{name} = {}", value(cell(first_cell + at))));
    }
    if ttl_seconds != 0 {
        title.push_str(&format!(" ttl {ttl_seconds}"));
    }
    title
}

const fn passed_over(why: PassedOver) -> &'static str {
    match why {
        PassedOver::Heartbeat => "heartbeat",
        PassedOver::Transaction => "transaction",
        PassedOver::SchemaChange => "schema-change",
        PassedOver::Message => "message",
        PassedOver::EmptyRecord => "empty-record",
    }
}

/// The kind, and the value as JSON has it; bytes in hexadecimal.
fn value(cell: Cell<'_>) -> String {
    let kind = match cell.tag {
        Tag::Null => return "null".into(),
        Tag::Absent => return "absent".into(),
        Tag::Boolean => "boolean",
        Tag::Int => "int",
        Tag::Uint => "uint",
        Tag::Double => return format!("double {:?}", f64::from_bits(cell.word)),
        Tag::Decimal => "decimal",
        Tag::Text => return format!("text {}", serde_json::Value::from(String::from_utf8_lossy(cell.bytes))),
        Tag::Bytes => return in_hexadecimal("bytes", cell.bytes),
        Tag::Bits => return in_hexadecimal("bits", cell.bytes),
        Tag::Geometry => return in_hexadecimal("geometry", cell.bytes),
        Tag::Json => return format!("json {}", on_one_line(&String::from_utf8_lossy(cell.bytes))),
        Tag::Date => "date",
        Tag::Time => "time",
        Tag::Datetime => "datetime",
        Tag::Timestamp => "timestamp",
        Tag::Year => "year",
    };
    let mut text = Vec::new();
    match json::plain(&mut text, cell) {
        Ok(()) => format!("{kind} {}", String::from_utf8_lossy(&text)),
        // Beyond the calendar: the planner refuses it, and the number says how far.
        Err(_) => format!("{kind} {}", cell.word as i64),
    }
}

fn in_hexadecimal(kind: &str, bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind} {digits}").trim_end().to_owned()
}

/// Line ends between JSON's tokens are blanks: inside of its texts there are none. What is around it would not come back from a file.
fn on_one_line(json: &str) -> String {
    json.trim().replace(['\n', '\r'], " ")
}
