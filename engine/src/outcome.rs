//! What became of each event, in words: the answers that a transform's author compares.
//!
//! An outcome is text from the first moment on, because it is there to be read: kept beside the recorded events as what is expected, shown
//! where it differs. A value has its kind before it (`decimal 19.90`), so that 1 and "1" and 1.0 differ. docs/decisions/0017 has the form.

mod difference;
#[cfg(test)]
mod tests;
mod text;

pub use difference::{Comparison, Line, differences, side_by_side};
pub use text::{ParseError, parse, write};

/// What became of one event: of one record, or of one of the two events that a change of the primary key makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The record's partition
    pub partition: i32,
    /// and offset.
    pub offset: i64,
    /// What happened to which row: `update order_id = int 103`; `record` where no row change could be read.
    pub event: String,
    /// In the order of the answer.
    pub parts: Vec<Part>,
}

/// One thing that became of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// `put redis, mongodb`, `delete redis`, `delete` (by the engine, of every target), `skip`, `reject bad-amount`, `fault transform trapped`, `passed over heartbeat`,
    /// `truncate`.
    pub title: String,
    /// A put's fields; the message of a reject or a fault.
    pub fields: Vec<Field>,
}

/// A field of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// A dot nests; empty: the whole document.
    pub name: String,
    /// The kind and the value: `text "paid"`, `null`.
    pub value: String,
}

/// The only field of what is no document.
pub const MESSAGE: &str = "message";

impl Part {
    /// A part without fields.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), fields: Vec::new() }
    }

    /// A part that says why.
    pub fn because(title: String, message: &str) -> Self {
        let value = format!("text {}", serde_json::Value::from(message));
        Self { title, fields: vec![Field { name: MESSAGE.to_owned(), value }] }
    }

    /// `put`, `delete`, `reject`, …
    fn kind(&self) -> &str {
        self.title.split(' ').next().unwrap_or_default()
    }

    /// Whether the host made it of a guest's failure: its message is the host's, and may change with the machine.
    fn is_fault(&self) -> bool {
        self.title.starts_with("fault ")
    }

    fn is_reject(&self) -> bool {
        self.title.starts_with("reject ")
    }
}
