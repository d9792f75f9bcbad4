//! What two guests say of the same events, compared field by field. Pure.
//!
//! Documents are compared, not bytes: a target that an answer does not mention has no document, a field that is absent is not there, and two
//! JSON texts are equal when their values are. Differences have names, never values.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::cell::Cell;
use super::{Fault, RecordFault, key};
use crate::change::{ChangeBatch, ChangeEvent, Tag};
use crate::transform::{Error, GuestAction, GuestGroup, GuestWrite, is_seen};

/// Names of one difference; the rest is counted in a last one.
const MAX_NAMES: usize = 16;
const MAX_KEY_BYTES: usize = 200;

/// One guest's answers to a batch.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    /// What it writes.
    pub groups: &'a [GuestGroup],
    /// What it rejected, or failed on.
    pub faults: &'a [RecordFault],
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Events of which both say the same.
    pub equal: u64,
    /// Events of which they do not.
    pub different: u64,
    /// Events that the second guest failed on.
    pub failed: u64,
    /// Events that the second guest was shown and answered: with documents, with none, or with a reject where the first one rejects too.
    pub answered: u64,
    /// Both kinds, in event order, at most as many as were asked for.
    pub differences: Vec<Difference>,
}

/// An event of which two guests say different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Kafka's offset.
    pub offset: i64,
    /// The row's primary key, `order_id=5`.
    pub key: String,
    /// `target.field`, `target: only the first guest has a document`, or why the second one failed.
    pub names: Vec<String>,
}

/// Compares the answers to the events that `chosen` names.
pub fn compare(batch: &ChangeBatch, first: Said<'_>, second: Said<'_>, chosen: &dyn Fn(&ChangeEvent) -> bool, max: usize) -> Compared {
    let (first, second) = (Answers::new(first), Answers::new(second));
    let mut compared = Compared::default();
    for (index, event) in batch.events.iter().enumerate().filter(|(_, event)| chosen(event)) {
        let index = index as u32;
        let (one, two) = (first.of(index, event, batch), second.of(index, event, batch));
        let second_failed = matches!(two, Answer::Failed(_));
        let only_second_rejects = matches!((&one, &two), (Answer::Documents(_) | Answer::Failed(_), Answer::Rejected(_)));
        compared.answered += u64::from(!second_failed && !only_second_rejects && second.was_shown(index, event));
        let names = match (one, two) {
            (_, Answer::Failed(why)) => vec![why],
            // What the first guest fails on, the second one can only mend.
            (Answer::Failed(_), Answer::Rejected(_) | Answer::Documents(_)) => vec!["only the first failed".to_owned()],
            (Answer::Rejected(one), Answer::Rejected(two)) if one == two => Vec::new(),
            (Answer::Rejected(one), Answer::Rejected(two)) => vec![format!("rejected with {one} by the first, with {two} by the second")],
            (Answer::Rejected(code), Answer::Documents(_)) => vec![format!("only the first rejects it: {code}")],
            (Answer::Documents(_), Answer::Rejected(code)) => vec![format!("only the second rejects it: {code}")],
            (Answer::Documents(one), Answer::Documents(two)) => differing(&one, &two),
        };
        match (second_failed, names.is_empty()) {
            (true, _) => compared.failed += 1,
            (false, true) => compared.equal += 1,
            (false, false) => compared.different += 1,
        }
        if !names.is_empty() && compared.differences.len() < max {
            compared.differences.push(Difference { offset: event.offset, key: shown_key(event, batch), names });
        }
    }
    compared
}

/// The records of a share of the keys: of each hundred keys about `percent`, always the same ones. A record is its last event's key's.
pub fn share(batch: &ChangeBatch, percent: u32) -> Vec<bool> {
    let mut chosen = vec![false; batch.records.records.len()];
    for event in &batch.events {
        if let Some(chosen) = chosen.get_mut(event.record as usize) {
            *chosen = key_hash(event, batch) % 100 < u64::from(percent);
        }
    }
    chosen
}

fn key_hash(event: &ChangeEvent, batch: &ChangeBatch) -> u64 {
    let (Some(image), Some(schema)) = (event.key_image(), batch.schemas.get(event.schema as usize)) else { return 0 };
    let cell = |column: &u32| Cell::read(&batch.cells, image as usize + *column as usize).identity();
    xxh3_64(&schema.primary_key.iter().flat_map(cell).collect::<Vec<u8>>())
}

/// What one guest says of one event.
enum Answer<'a> {
    Documents(BTreeMap<Place<'a>, Document<'a>>),
    /// With its code.
    Rejected(String),
    Failed(String),
}

/// A target's name, and the bytes of an explicit key; none: the row's own.
type Place<'a> = (&'a str, Vec<u8>);

/// The fields that are there, and the time to live. `None`: a document that is deleted by its explicit key.
type Document<'a> = Option<(BTreeMap<&'a str, Cell<'a>>, u32)>;

struct Answers<'a> {
    writes: FxHashMap<u32, (&'a GuestGroup, &'a [GuestWrite])>,
    faults: FxHashMap<u32, &'a Fault>,
}

impl<'a> Answers<'a> {
    fn new(said: Said<'a>) -> Self {
        let mut writes = FxHashMap::default();
        for group in said.groups {
            let mut left = group.writes.as_slice();
            for &event in &group.events {
                let own = left.iter().take_while(|write| write.event == event).count();
                let (of_event, behind) = left.split_at(own);
                left = behind;
                writes.insert(event, (group, of_event));
            }
        }
        Self { writes, faults: said.faults.iter().map(|fault| (fault.record, &fault.fault)).collect() }
    }

    fn was_shown(&self, index: u32, event: &ChangeEvent) -> bool {
        self.writes.get(&index).is_some_and(|(group, _)| is_seen(&group.opened, event))
    }

    fn of(&self, index: u32, event: &'a ChangeEvent, batch: &'a ChangeBatch) -> Answer<'a> {
        match self.faults.get(&event.record) {
            Some(Fault::Transform(Error::Rejected { code, .. })) => return Answer::Rejected(code.clone()),
            // Its code alone: a guest's words may hold a row's values.
            Some(fault) => return Answer::Failed(format!("the second failed: {}", crate::disposition::label(fault).1)),
            None => {}
        }
        let mut documents = BTreeMap::new();
        let Some((group, writes)) = self.writes.get(&index) else { return Answer::Documents(documents) };
        for write in *writes {
            let (output, first_cell, ttl) = match write.action {
                GuestAction::Put { output, first_cell, ttl_seconds } => (output, first_cell as usize, Some(ttl_seconds)),
                GuestAction::Delete { output, first_cell } => (output, first_cell as usize, None),
                GuestAction::Skip => continue,
            };
            let Some(shape) = group.opened.outputs.get(output as usize) else { continue };
            let cell = |at: usize| Cell::resolve(&group.cells, at, event, &batch.cells);
            let parts: Vec<u8> = (first_cell..first_cell + shape.key.len()).flat_map(|at| cell(at).identity()).collect();
            let place = (shape.target.name.as_str(), parts);
            let Some(ttl) = ttl else {
                // Without an explicit key it says what is said by not mentioning the target.
                if !shape.key.is_empty() {
                    documents.entry(place).or_insert(None);
                }
                continue;
            };
            let fields = shape.fields.iter().enumerate().map(|(at, name)| (&**name, cell(first_cell + shape.key.len() + at)));
            documents.insert(place, Some((fields.filter(|(_, cell)| cell.tag != Tag::Absent).collect(), ttl)));
        }
        Answer::Documents(documents)
    }
}

fn differing(one: &BTreeMap<Place<'_>, Document<'_>>, two: &BTreeMap<Place<'_>, Document<'_>>) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for place @ (target, _) in one.keys().chain(two.keys()) {
        let document = |documents: &'_ BTreeMap<Place<'_>, Document<'_>>| documents.get(place).is_some_and(Option::is_some);
        match (one.get(place), two.get(place)) {
            (Some(Some((one, one_ttl))), Some(Some((two, two_ttl)))) => {
                names.extend(differing_fields(one, two).into_iter().map(|field| format!("{target}.{field}")));
                names.extend((one_ttl != two_ttl).then(|| format!("{target}: the time to live")));
            }
            (Some(None), Some(None)) => {}
            (Some(_), None) | (None, Some(_)) | (Some(None), Some(_)) | (Some(_), Some(None)) | (None, None) => {
                let who = match (document(one), document(two)) {
                    (true, _) => "only the first has a document",
                    (false, true) => "only the second has a document",
                    (false, false) => "only one deletes a key of its own",
                };
                names.insert(format!("{target}: {who}"));
            }
        }
    }
    let more = names.len().saturating_sub(MAX_NAMES);
    let mut names: Vec<String> = names.into_iter().take(MAX_NAMES).collect();
    names.extend((more > 0).then(|| format!("and {more} more")));
    names
}

fn differing_fields(one: &BTreeMap<&str, Cell<'_>>, two: &BTreeMap<&str, Cell<'_>>) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for field in one.keys().chain(two.keys()) {
        match (one.get(field), two.get(field)) {
            (Some(one), Some(two)) if one.says_as(two) => {}
            // The whole document in one cell: its members are the fields.
            (Some(one), Some(two)) if field.is_empty() => match (json(one.bytes), json(two.bytes)) {
                (Some(serde_json::Value::Object(one)), Some(serde_json::Value::Object(two))) => {
                    fields.extend(one.keys().chain(two.keys()).filter(|name| one.get(*name) != two.get(*name)).cloned());
                }
                _ => {
                    fields.insert("(the whole document)".to_owned());
                }
            },
            _ => {
                fields.insert((*field).to_owned());
            }
        }
    }
    fields
}

/// The primary key, as a Redis key has it behind its prefix. It is the row's own: shown to those who know the token alone.
fn shown_key(event: &ChangeEvent, batch: &ChangeBatch) -> String {
    let (Some(image), Some(schema)) = (event.key_image(), batch.schemas.get(event.schema as usize)) else { return String::new() };
    let parts = schema.primary_key.iter().map(|column| (Cell::read(&batch.cells, image as usize + *column as usize), true));
    let mut bytes = Vec::new();
    if let Err(why) = key::redis(&mut bytes, "", parts) {
        return format!("(its key {why})");
    }
    let mut key = String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned();
    key.truncate(key.floor_char_boundary(MAX_KEY_BYTES));
    key
}

impl Cell<'_> {
    /// Bytes that are the same for the same value, and different for another.
    fn identity(self) -> Vec<u8> {
        let mut bytes = vec![self.tag as u8];
        bytes.extend_from_slice(&self.word.to_le_bytes());
        bytes.extend_from_slice(&(self.bytes.len() as u64).to_le_bytes());
        bytes.extend_from_slice(self.bytes);
        bytes
    }

    fn says_as(&self, other: &Cell<'_>) -> bool {
        match (self.tag, other.tag) {
            (Tag::Json, Tag::Json) => self.bytes == other.bytes || json(self.bytes).is_some_and(|one| Some(one) == json(other.bytes)),
            // The same number in two types is stored the same.
            (Tag::Int, Tag::Uint) | (Tag::Uint, Tag::Int) => self.word == other.word && i64::try_from(self.word).is_ok(),
            (one, two) => one == two && self.word == other.word && self.bytes == other.bytes,
        }
    }
}

fn json(text: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(text).ok()
}
