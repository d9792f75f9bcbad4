//! What `event` says of a row: documents put or deleted, a skip, or a reject.

use crate::contract::{Action, Outcome, Tag};
use crate::document::{Document, Field};
use crate::table::OpenError;
use crate::value::{DecimalError, IntoCell};

/// Why an event has no outcome. It goes to the dead-letter topic; the events beside it go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Reject {
    /// `code` is short and constant, because it labels a metric: "bad-amount". The message tells what is wrong to whoever reads the
    /// dead letter, which holds the row: so it need not repeat values.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<DecimalError> for Reject {
    fn from(error: DecimalError) -> Self {
        let code = match error {
            DecimalError::Inexact => "decimal-inexact",
            DecimalError::TooLarge => "decimal-too-large",
            DecimalError::Malformed => "decimal-malformed",
        };
        Self::new(code, error.to_string())
    }
}

impl From<Reject> for OpenError {
    fn from(reject: Reject) -> Self {
        Self::new(reject.message)
    }
}

/// What becomes of an event. A target that gets no put holds no document for the row afterwards.
#[derive(Debug, Default)]
pub struct Changes {
    outcome: Outcome,
    /// Index of the event.
    event: u32,
    /// The row is gone: copied columns are those of the image before.
    deleted: bool,
    /// The transform put, deleted or skipped.
    spoke: bool,
    /// The transform made a mistake that only the event's end can report.
    fault: Option<Reject>,
    /// Where the event's steps and cells begin.
    first_step_byte: usize,
    first_cell: usize,
    first_heap_byte: usize,
}

impl Changes {
    pub(crate) fn with_capacity(steps: usize, cells: usize, heap: usize) -> Self {
        let mut changes = Self::default();
        changes.outcome.steps.reserve_exact(steps);
        changes.outcome.cells.tags.reserve_exact(cells);
        changes.outcome.cells.words.reserve_exact(8 * cells);
        changes.outcome.cells.heap.reserve_exact(heap);
        changes
    }

    /// Writes a document: it replaces the one that its target holds for the row. Fields are set on what this returns.
    #[inline]
    pub fn put<'c>(&'c mut self, document: &'c Document) -> Put<'c> {
        self.spoke = true;
        let first_cell = self.outcome.cells.tags.len();
        if let Some(output) = document.outputs.first() {
            self.step(Action::Put, *output);
            self.outcome.cells.tags.extend_from_slice(&document.tags);
            self.outcome.cells.words.extend_from_slice(&document.words);
            if self.deleted {
                self.take_copies_from_before(first_cell);
            }
        }
        Put { changes: self, document, first_cell, ttl_seconds: 0 }
    }

    /// Deletes a document; of use after [`crate::Table::see_deletes`] or with an explicit key, whose parts are set on what this returns.
    pub fn delete<'c>(&'c mut self, document: &'c Document) -> Delete<'c> {
        self.spoke = true;
        let first_cell = self.outcome.cells.tags.len();
        if let Some(output) = document.outputs.first() {
            self.step(Action::Delete, *output);
            let (tags, words) = (&document.tags, &document.words);
            self.outcome.cells.tags.extend(tags.iter().take(document.key_cells));
            self.outcome.cells.words.extend(words.iter().take(8 * document.key_cells));
            if self.deleted {
                self.take_copies_from_before(first_cell);
            }
        }
        Delete { changes: self, document, first_cell }
    }

    /// The row has no document anywhere. Without any put, delete or skip the event is rejected as "no-outcome".
    pub fn skip(&mut self) {
        self.spoke = true;
    }

    pub(crate) fn begin_event(&mut self, event: u32, deleted: bool) {
        self.event = event;
        self.deleted = deleted;
        self.spoke = false;
        self.first_step_byte = self.outcome.steps.len();
        self.first_cell = self.outcome.cells.tags.len();
        self.first_heap_byte = self.outcome.cells.heap.len();
    }

    pub(crate) fn end_event(&mut self, result: Result<(), Reject>) {
        let silent = self.outcome.steps.len() == self.first_step_byte;
        match (result, self.fault.take()) {
            (Err(reject), _) | (Ok(()), Some(reject)) => self.reject(&reject),
            (Ok(()), None) if silent && self.spoke => self.step(Action::Skip, 0),
            (Ok(()), None) if silent => self.reject(&Reject::new("no-outcome", "the transform neither wrote nor skipped the event")),
            (Ok(()), None) => {}
        }
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome
    }

    /// Takes back what the event has written.
    #[cold]
    fn reject(&mut self, reject: &Reject) {
        self.outcome.steps.truncate(self.first_step_byte);
        self.outcome.cells.tags.truncate(self.first_cell);
        self.outcome.cells.words.truncate(8 * self.first_cell);
        self.outcome.cells.heap.truncate(self.first_heap_byte);
        self.step(Action::Reject, 0);
        for text in [reject.code, &reject.message] {
            let (tag, word) = text.into_cell(&mut self.outcome.cells.heap);
            self.outcome.cells.tags.push(tag as u8);
            self.outcome.cells.words.extend_from_slice(&word.to_le_bytes());
        }
    }

    #[inline]
    fn step(&mut self, action: Action, output: u32) {
        let mut step = [0; 16];
        let (first, second) = step.split_at_mut(8);
        first.copy_from_slice(&(u64::from(action as u32) << 32 | u64::from(self.event)).to_le_bytes());
        second.copy_from_slice(&u64::from(output).to_le_bytes());
        self.outcome.steps.extend_from_slice(&step);
    }

    fn take_copies_from_before(&mut self, first_cell: usize) {
        for tag in self.outcome.cells.tags.iter_mut().skip(first_cell).filter(|tag| **tag == Tag::After as u8) {
            *tag = Tag::Before as u8;
        }
    }

    #[inline]
    fn set(&mut self, document: &Document, first_cell: usize, field: Field, value: impl IntoCell) {
        if field.document != document.id {
            self.fault =
                Some(Reject::new("foreign-field", "the transform sets a field of another document: declare it on the one it puts"));
            return;
        }
        if document.outputs.is_empty() {
            return;
        }
        let cells = &mut self.outcome.cells;
        let index = first_cell + field.cell;
        let (tag, word) = value.into_cell(&mut cells.heap);
        if let (Some(to_tag), Some(to_word)) = (cells.tags.get_mut(index), cells.words.get_mut(8 * index..8 * index + 8)) {
            *to_tag = tag as u8;
            to_word.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Says the same to the document's other targets: the cells again, over the same texts.
    #[inline]
    fn repeat(&mut self, action: Action, document: &Document, first_cell: usize, cells: usize, ttl_seconds: u32) {
        if ttl_seconds != 0 {
            self.set_ttl(ttl_seconds);
        }
        for output in document.outputs.iter().skip(1) {
            self.step(action, *output);
            if ttl_seconds != 0 {
                self.set_ttl(ttl_seconds);
            }
            let end = first_cell + cells;
            self.outcome.cells.tags.extend_from_within(first_cell..end);
            self.outcome.cells.words.extend_from_within(8 * first_cell..8 * end);
        }
    }

    /// Of the step that was written last.
    fn set_ttl(&mut self, seconds: u32) {
        if let Some(ttl) = self.outcome.steps.last_chunk_mut::<4>() {
            *ttl = seconds.to_le_bytes();
        }
    }
}

/// A document on its way out: complete when this goes out of scope.
pub struct Put<'c> {
    changes: &'c mut Changes,
    document: &'c Document,
    first_cell: usize,
    ttl_seconds: u32,
}

impl Put<'_> {
    /// Sets a field, or a part of the key. What is never set is not in the document; `None` is null.
    #[inline]
    pub fn set(self, field: Field, value: impl IntoCell) -> Self {
        self.changes.set(self.document, self.first_cell, field, value);
        self
    }

    /// The document expires after so many seconds; 0 leaves it to the target.
    pub fn ttl_seconds(mut self, seconds: u32) -> Self {
        self.ttl_seconds = seconds;
        self
    }
}

impl Drop for Put<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.document.outputs.is_empty() {
            self.changes.repeat(Action::Put, self.document, self.first_cell, self.document.tags.len(), self.ttl_seconds);
        }
    }
}

/// A delete on its way out: complete when this goes out of scope.
pub struct Delete<'c> {
    changes: &'c mut Changes,
    document: &'c Document,
    first_cell: usize,
}

impl Delete<'_> {
    /// Sets a part of the key.
    pub fn set(self, part: Field, value: impl IntoCell) -> Self {
        if part.cell < self.document.key_cells {
            self.changes.set(self.document, self.first_cell, part, value);
        } else {
            self.changes.fault =
                Some(Reject::new("delete-with-field", "the transform sets a field of a document that it deletes: set its key only"));
        }
        self
    }
}

impl Drop for Delete<'_> {
    fn drop(&mut self) {
        if !self.document.outputs.is_empty() {
            self.changes.repeat(Action::Delete, self.document, self.first_cell, self.document.key_cells, 0);
        }
    }
}
