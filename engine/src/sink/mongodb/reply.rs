//! What a server answers to a bulk, read statement by statement.

use mongodb::bson::RawDocumentBuf;

use super::bson_bytes::{Elements, Value};
use super::fault::Fault;

/// The reply to a bulk.
pub(super) struct Reply<'a> {
    what: &'a str,
    reply: &'a [u8],
}

impl<'a> Reply<'a> {
    pub(super) fn of(what: &'a str, reply: &'a RawDocumentBuf) -> Self {
        Self { what, reply: reply.as_bytes() }
    }

    /// For each statement its error, if it has one; `Some(None)` is E11000 on `_id`.
    pub(super) fn errors(&self, statements: usize) -> Vec<Option<Option<Fault>>> {
        let mut errors = vec![None; statements];
        for (_, error) in Elements::of(self.reply).find("writeErrors").into_iter().flat_map(Value::elements) {
            if let Some(place) = index(error).and_then(|index| errors.get_mut(index)) {
                *place = Some(Fault::of_write_error(self.what, error));
            }
        }
        errors
    }

    pub(super) fn write_concern_fault(&self) -> Option<Fault> {
        Elements::of(self.reply).find("writeConcernError").map(|error| Fault::of_write_concern_error(self.what, error))
    }

    /// The statements that inserted a document, by their numbers.
    pub(super) fn upserted(&self) -> impl Iterator<Item = usize> {
        Elements::of(self.reply).find("upserted").into_iter().flat_map(Value::elements).filter_map(|(_, upserted)| index(upserted))
    }

    /// For each statement of a delete its fault, if it has one.
    pub(super) fn failures(&self, statements: usize) -> Vec<Option<Fault>> {
        let unacknowledged = self.write_concern_fault();
        self.errors(statements)
            .into_iter()
            .map(|error| match error {
                Some(Some(fault)) => Some(fault),
                Some(None) => Some(Fault::Away(format!("{}: E11000 on _id", self.what))),
                None => unacknowledged.clone(),
            })
            .collect()
    }
}

fn index(element: Value<'_>) -> Option<usize> {
    element.elements().find("index").and_then(Value::as_i64).and_then(|index| usize::try_from(index).ok())
}
