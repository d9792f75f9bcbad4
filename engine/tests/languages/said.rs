//! What a guest said, for comparing: as it came, and as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use streamsync::change::{ChangeBatch, ChangeEvent, Value};
use streamsync::transform::{GuestAction, GuestBatch, GuestGroup, TAG_AFTER, TAG_BEFORE};

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// A person reads this first.
    pub(crate) text: String,
    /// Plans, writes and cells of each batch, as the guest returned them.
    pub(crate) raw: Vec<Raw>,
    pub(crate) log_lines: u64,
    pub(crate) counters: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Raw {
    before: Vec<u32>,
    after: Vec<u32>,
    sees_deletes: bool,
    outputs: Vec<(String, Vec<String>, Vec<String>)>,
    writes: Vec<(u32, GuestAction)>,
    tags: Vec<u8>,
    words: Vec<u64>,
    heap: Vec<u8>,
}

impl Said {
    pub(crate) fn add(&mut self, batch: &GuestBatch) {
        // What is done, where, and with which cells.
        let mut lines: Vec<(u32, String, String, String)> = Vec::new();
        for group in &batch.groups {
            self.raw.push(raw(group));
            for write in &group.writes {
                let event = &batch.routed.batch.events[write.event as usize];
                let (what, target, cells) = show_action(&batch.routed.batch, group, event, write.action);
                match lines.last_mut() {
                    // The same to another target.
                    Some((record, last, targets, same)) if *record == event.record && *last == what && *same == cells => {
                        write!(targets, ", {target}").expect("a text takes all");
                    }
                    _ => lines.push((event.record, what, target, cells)),
                }
            }
        }
        lines.extend(batch.faults.iter().map(|fault| (fault.record, fault.fault.to_string(), String::new(), String::new())));
        lines.sort_by_key(|(record, ..)| *record);
        for (record, what, targets, cells) in lines {
            let offset = batch.routed.batch.records.records.get(record as usize).map_or(-1, |record| record.offset);
            writeln!(self.text, "{offset} {what} {targets}").expect("a text takes all");
            self.text.push_str(&cells);
        }
    }
}

fn raw(group: &GuestGroup) -> Raw {
    let opened = &group.opened;
    let names = |names: &[Box<str>]| names.iter().map(ToString::to_string).collect();
    Raw {
        before: opened.before.clone(),
        after: opened.after.clone(),
        sees_deletes: opened.sees_deletes,
        outputs: opened.outputs.iter().map(|o| (o.target.name.clone(), names(&o.key), names(&o.fields))).collect(),
        writes: group.writes.iter().map(|write| (write.event, write.action)).collect(),
        tags: group.cells.tags.clone(),
        words: group.cells.words.clone(),
        heap: group.cells.heap.clone(),
    }
}

fn show_action(batch: &ChangeBatch, group: &GuestGroup, event: &ChangeEvent, action: GuestAction) -> (String, String, String) {
    let (word, output, first, ttl) = match action {
        GuestAction::Skip => return ("skip".to_owned(), String::new(), String::new()),
        GuestAction::Put { output, first_cell, ttl_seconds } => ("put", output, first_cell, ttl_seconds),
        GuestAction::Delete { output, first_cell } => ("delete", output, first_cell, 0),
    };
    let output = &group.opened.outputs[output as usize];
    let what = if ttl == 0 { word.to_owned() } else { format!("{word} for {ttl} s") };
    let keys = output.key.iter().map(|name| format!("key {name}"));
    let fields = output.fields.iter().filter(|_| word == "put").map(ToString::to_string);
    let mut cells = String::new();
    for (cell, name) in (first as usize..).zip(keys.chain(fields)) {
        let value = show_cell(batch, group, event, cell);
        if value != "Absent" {
            writeln!(cells, "    {name} = {value}").expect("a text takes all");
        }
    }
    (what, output.target.name.clone(), cells)
}

fn show_cell(batch: &ChangeBatch, group: &GuestGroup, event: &ChangeEvent, cell: usize) -> String {
    let column = group.cells.words.get(cell).map_or(0, |word| *word as usize);
    let of = |image: Option<u32>| image.map_or(Value::Absent, |first| batch.cells.get(first as usize + column));
    match group.cells.tags.get(cell) {
        Some(&TAG_AFTER) => format!("{} (copied)", show(of(event.after))),
        Some(&TAG_BEFORE) => format!("{} (copied from before)", show(of(event.before))),
        _ => show(group.cells.get(cell)),
    }
}

fn show(value: Value<'_>) -> String {
    if let Value::Text(text) = value
        && text.len() > 200
    {
        return format!("text of {} bytes", text.len());
    }
    format!("{value:?}")
}
