//! A guest's answer, checked cell by cell before anything else looks at it.
//!
//! The rules are those of `wit/transform.wit`. Nothing here trusts a number of the guest, and nothing it says can make the host
//! panic, or read or allocate more than `max_output_bytes` times a constant.

use std::sync::Arc;

use super::bindings::streamsync::transform::types::Outcome;
use super::instance::shown;
use super::open::Layout;
use super::shape::shortened;
use super::{Error, GuestAction, GuestGroup, GuestWrite, OpenedSchema, Output, TAG_AFTER, TAG_BEFORE};
use crate::change::{Cells, Tag, Value};
use crate::config::Place;

const STEP_BYTES: usize = 16;
/// Longest decimal text. MySQL's have 65 digits, so a product of two has 130; a quotient has as many as its language counts with.
const MAX_DECIMAL_BYTES: usize = 512;
const MAX_CODE_BYTES: usize = 40;

/// A checked answer.
#[derive(Debug)]
pub struct Answer {
    /// The writes, for the planner.
    pub group: GuestGroup,
    /// The rejected events, with the guest's reasons.
    pub rejects: Vec<(u32, Error)>,
}

type Checked<T> = Result<T, Error>;

fn broken<T>(what: &'static str) -> Checked<T> {
    Err(Error::BrokenOutcome { what, place: String::new() })
}

/// Which cell breaks the rule: among sixty fields nobody would find it.
fn placed(error: Error, place: impl FnOnce() -> String) -> Error {
    if let Error::BrokenOutcome { what, .. } = error { Error::BrokenOutcome { what, place: place() } } else { error }
}

fn place_of(part: &str, name: &str, output: &Output) -> String {
    format!("{part} {:?} of the output to target {}: ", shortened(name), output.target.name)
}

/// Checks an answer. `events` are all of the group's, `seen` those that came to the guest, in the same order: a step's event number
/// is an index into `seen`.
pub fn answer(opened: &Arc<OpenedSchema>, events: Vec<u32>, seen: &[u32], outcome: Outcome, max_output_bytes: usize) -> Checked<Answer> {
    let Outcome { steps, cells } = outcome;
    if steps.len() % STEP_BYTES != 0 {
        return broken("the steps are not a multiple of 16 bytes");
    }
    if cells.words.len() != cells.tags.len().saturating_mul(8) {
        return broken("there are not 8 bytes of words for each tag");
    }
    if steps.len() + cells.tags.len() + cells.words.len() + cells.heap.len() > max_output_bytes {
        return Err(Error::TooLarge { limit_bytes: max_output_bytes });
    }
    let words = cells.words.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes)).collect();
    let cells = Cells { tags: cells.tags, words, heap: cells.heap };
    let mut lift = Lift {
        opened,
        seen,
        cells: &cells,
        span_bytes_left: max_output_bytes,
        max_output_bytes,
        at: 0,
        begun: 0,
        last_may_go_on: false,
        layouts: Vec::new(),
        rejects: Vec::new(),
    };
    let mut writes = Vec::with_capacity(steps.len() / STEP_BYTES);
    for step in steps.chunks_exact(STEP_BYTES) {
        let [event, action, output, ttl] = numbers(step);
        if let Some(write) = lift.step(event, action, output, ttl)? {
            writes.push(write);
        }
    }
    lift.end()?;
    let rejects = lift.rejects;
    Ok(Answer { group: GuestGroup { opened: Arc::clone(opened), events, writes, cells }, rejects })
}

fn numbers(step: &[u8]) -> [u32; 4] {
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(step.chunks_exact(4)) {
        *number = bytes.try_into().map_or(0, u32::from_le_bytes);
    }
    numbers
}

struct Lift<'a> {
    opened: &'a OpenedSchema,
    seen: &'a [u32],
    cells: &'a Cells,
    /// Spans may overlap: without this a small heap could become any number of large documents.
    span_bytes_left: usize,
    max_output_bytes: usize,
    /// The next cell.
    at: usize,
    /// Events that have a step.
    begun: usize,
    /// Whether the last of them may have another one.
    last_may_go_on: bool,
    layouts: Vec<Layout>,
    rejects: Vec<(u32, Error)>,
}

impl Lift<'_> {
    fn step(&mut self, event: u32, action: u32, output: u32, ttl: u32) -> Checked<Option<GuestWrite>> {
        let is_write = action <= 1;
        let event = event as usize;
        if event == self.begun {
            self.begun += 1;
            self.last_may_go_on = is_write;
        } else if event + 1 != self.begun || !self.last_may_go_on || !is_write {
            return broken("steps are not in event order, leave an event out, or give an event two fates");
        }
        let Some(&event) = self.seen.get(event) else { return broken("a step's event is not in the batch") };
        let first_cell = self.at as u32;
        let action = match action {
            0 => {
                self.put(output as usize, ttl)?;
                GuestAction::Put { output, first_cell, ttl_seconds: ttl }
            }
            1 if ttl == 0 => {
                self.delete(output as usize)?;
                GuestAction::Delete { output, first_cell }
            }
            2 if output == 0 && ttl == 0 => GuestAction::Skip,
            3 if output == 0 && ttl == 0 => {
                let reason = self.reason()?;
                self.rejects.push((event, reason));
                return Ok(None);
            }
            1 => return broken("a time to live is set for a delete: it belongs to a put"),
            2 | 3 => return broken("an unused number of a step is not 0"),
            _ => return broken("a step's action is none of put, delete, skip and reject"),
        };
        Ok(Some(GuestWrite { event, action }))
    }

    fn put(&mut self, output: usize, ttl: u32) -> Checked<()> {
        let opened = self.opened;
        let Some(shape) = opened.outputs.get(output) else { return broken("a step's output is not in the plan") };
        if ttl != 0 && matches!(shape.target.place, Place::MongoDb { .. }) {
            return broken("a time to live is set for a target in MongoDB, where only Redis has it");
        }
        self.key(output)?;
        for name in &shape.fields {
            self.cell().map_err(|error| placed(error, || place_of("field", name, shape)))?;
        }
        Ok(())
    }

    fn delete(&mut self, output: usize) -> Checked<()> {
        if self.opened.outputs.get(output).is_none() {
            return broken("a step's output is not in the plan");
        }
        self.key(output)
    }

    /// An explicit key: its cells, and that they hold the row's primary key.
    fn key(&mut self, output: usize) -> Checked<()> {
        let opened = self.opened;
        let Some(shape) = opened.outputs.get(output).filter(|shape| !shape.key.is_empty()) else { return Ok(()) };
        let first = self.at;
        for name in &shape.key {
            self.cell().map_err(|error| placed(error, || place_of("key part", name, shape)))?;
        }
        let part_of = |column: &u32| {
            (0..shape.key.len()).find(|part| {
                let at = first + part;
                matches!(self.cells.tags.get(at), Some(&(TAG_AFTER | TAG_BEFORE))) && self.cells.words.get(at) == Some(&u64::from(*column))
            })
        };
        let known = self.layouts.iter().find(|l| l.parts == shape.key.len() && l.target == shape.target.name);
        let places = self.opened.schema.primary_key.iter().map(part_of);
        if let Some(known) = known
            && places.clone().eq(known.places.iter().map(|place| Some(*place)))
        {
            return Ok(());
        }
        let Some(places) = places.collect::<Option<Vec<_>>>() else {
            return broken("an explicit key does not hold every primary-key column as a reference (tag 32 or 33)");
        };
        self.layouts.push(Layout { target: shape.target.name.clone(), parts: shape.key.len(), places });
        if self.layouts.len() > self.opened.outputs.len() {
            return broken(SWAPPED);
        }
        Ok(())
    }

    fn end(&mut self) -> Checked<()> {
        if self.begun != self.seen.len() {
            return broken("an event has no step");
        }
        if self.at != self.cells.len() {
            return broken("there are more cells than the steps take");
        }
        if !self.layouts.is_empty() && !self.opened.key_layouts.agree(self.opened, &self.layouts) {
            return broken(SWAPPED);
        }
        Ok(())
    }

    /// The next cell, with all that its tag asks for.
    fn cell(&mut self) -> Checked<()> {
        let (Some(&tag), Some(&word)) = (self.cells.tags.get(self.at), self.cells.words.get(self.at)) else {
            return broken("there are fewer cells than the steps take");
        };
        self.at += 1;
        if tag == TAG_AFTER || tag == TAG_BEFORE {
            return if word < self.opened.schema.columns.len() as u64 {
                Ok(())
            } else {
                broken("a reference is to no column of the table")
            };
        }
        let Some(tag) = Tag::from_number(tag) else { return broken("a tag is none of the contract's") };
        match tag {
            Tag::Null | Tag::Absent if word != 0 => broken("the payload of null or absent is not 0"),
            Tag::Boolean if word > 1 => broken("the payload of a boolean is neither 0 nor 1"),
            Tag::Null | Tag::Absent | Tag::Boolean | Tag::Int | Tag::Uint | Tag::Double | Tag::Date | Tag::Time => Ok(()),
            Tag::Datetime | Tag::Timestamp => Ok(()),
            Tag::Year if word > 9999 => broken("a year is not one of 0 to 9999"),
            Tag::Year => Ok(()),
            Tag::Bytes | Tag::Bits | Tag::Geometry => self.span(word).map(|_| ()),
            Tag::Text => self.text(word).map(|_| ()),
            Tag::Decimal => match self.text(word)?.as_bytes() {
                text if text.len() > MAX_DECIMAL_BYTES => {
                    broken("a decimal has more than 512 characters: round it, in Python with quantize")
                }
                text if is_decimal(text) => Ok(()),
                _ => broken("a decimal is not plain digits with at most one point and one leading minus"),
            },
            Tag::Json => match serde_json::from_str::<serde::de::IgnoredAny>(self.text(word)?) {
                Ok(_) => Ok(()),
                Err(_) => broken("a json cell is not well-formed JSON"),
            },
        }
    }

    fn span(&mut self, word: u64) -> Checked<&[u8]> {
        let (start, length) = ((word >> 32) as usize, (word as u32) as usize);
        let Some(left) = self.span_bytes_left.checked_sub(length) else {
            return Err(Error::TooLarge { limit_bytes: self.max_output_bytes });
        };
        self.span_bytes_left = left;
        match self.cells.heap.get(start..start + length) {
            Some(bytes) => Ok(bytes),
            None => broken("a span reaches beyond the heap"),
        }
    }

    fn text(&mut self, word: u64) -> Checked<&str> {
        match std::str::from_utf8(self.span(word)?) {
            Ok(text) => Ok(text),
            Err(_) => broken("a text is not UTF-8"),
        }
    }

    fn reason(&mut self) -> Checked<Error> {
        let mut texts = [String::new(), String::new()];
        for (text, name) in texts.iter_mut().zip(["code", "message"]) {
            let at = self.at;
            self.cell().map_err(|error| placed(error, || format!("the {name} of a reject: ")))?;
            let Value::Text(words) = self.cells.get(at) else { return broken("a reject has other cells than two texts") };
            *text = words.to_owned();
        }
        let [code, message] = texts;
        Ok(Error::Rejected { code: label(&code), message: shown(message) })
    }
}

const SWAPPED: &str = "the primary-key columns change their places in an explicit key: rows could share a document";

fn is_decimal(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let point = unsigned.iter().position(|b| *b == b'.');
    let (whole, fraction) = point.and_then(|at| unsigned.split_at_checked(at)).unwrap_or((unsigned, b".0"));
    let are_digits = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    are_digits(whole) && are_digits(fraction.get(1..).unwrap_or_default())
}

/// A metric label: whatever the guest said, only such characters and so many.
fn label(code: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = code.chars().take(MAX_CODE_BYTES).map(plain).collect();
    if label.is_empty() { "rejected".into() } else { label }
}
