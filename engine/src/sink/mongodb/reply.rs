//! What a server answers to a bulk, read statement by statement.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mongodb::bson::RawDocumentBuf;
use tokio::time::Instant;

use super::bson_bytes::{Elements, Value};
use super::fault::{Fault, WriteError};

/// How long a code that is not known may fail several writes alike before it is taken for the writes' own: the moment's trouble is over by
/// then, and rows that no server will ever take must not hold up their partition for good.
const DOUBT: Duration = Duration::from_mins(15);

/// The reply to a bulk.
pub(super) struct Reply<'a> {
    what: &'a str,
    reply: &'a [u8],
    doubts: &'a Doubts,
}

/// Codes that are not known and failed several writes alike: a router copies what ails a shard into each write that it had for it.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<HashMap<i32, Doubt>>);

#[derive(Debug)]
struct Doubt {
    since: Instant,
    last: Instant,
}

impl Doubts {
    /// Whether the code may still pass. It is asked each time that it is met; where it was not met for long, it is a new trouble.
    fn may_pass(&self, code: i32) -> bool {
        let now = Instant::now();
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.retain(|_, doubt| now - doubt.last < DOUBT);
        let doubt = doubts.entry(code).or_insert(Doubt { since: now, last: now });
        doubt.last = now;
        now - doubt.since < DOUBT
    }
}

impl<'a> Reply<'a> {
    pub(super) fn of(what: &'a str, reply: &'a RawDocumentBuf, doubts: &'a Doubts) -> Self {
        Self { what, reply: reply.as_bytes(), doubts }
    }

    /// For each statement its error, if it has one; `Some(None)` is E11000 on `_id`.
    pub(super) fn errors(&self, statements: usize) -> Vec<Option<Option<Fault>>> {
        let mut errors = vec![None; statements];
        let mut unknown: HashMap<i32, Vec<(usize, String)>> = HashMap::new();
        for (_, error) in Elements::of(self.reply).find("writeErrors").into_iter().flat_map(Value::elements) {
            let Some(index) = index(error) else { continue };
            let Some(place) = errors.get_mut(index) else { continue };
            match WriteError::of(self.what, error) {
                WriteError::Collision => *place = Some(None),
                WriteError::Known(fault) => *place = Some(Some(fault)),
                WriteError::Unknown(code, message) => unknown.entry(code).or_default().push((index, message)),
            }
        }
        for (code, alike) in unknown {
            let passes = alike.len() > 1 && self.doubts.may_pass(code);
            for (index, message) in alike {
                if let Some(place) = errors.get_mut(index) {
                    *place = Some(Some(Fault::of_unknown(passes, message)));
                }
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

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, RawDocumentBuf, doc};

    use super::*;

    /// What five statements became, each by the first word of its fault; `-` is none.
    fn check(doubts: &Doubts, errors: &[(i32, i32)], expected: &str) {
        let errors: Vec<Document> =
            errors.iter().map(|(index, code)| doc! { "index": index, "code": code, "errmsg": "ada@example.com" }).collect();
        let reply = RawDocumentBuf::try_from(&doc! { "ok": 1, "n": 0, "writeErrors": &errors }).unwrap_or_default();
        let found: Vec<String> = Reply::of("update shop.orders", &reply, doubts)
            .errors(5)
            .into_iter()
            .map(|error| match error {
                None => "-".to_owned(),
                Some(None) => "collision".to_owned(),
                Some(Some(fault)) => format!("{fault:?}").split('(').next().unwrap_or_default().to_owned(),
            })
            .collect();
        assert_eq!(found.join(" "), expected, "{errors:?}");
    }

    #[test]
    fn what_fails_several_writes_alike_is_not_each_one_s_fault() {
        let doubts = Doubts::default();
        check(&doubts, &[], "- - - - -");
        check(&doubts, &[(3, 777_777)], "- - - Refused -");
        check(&doubts, &[(0, 777_777), (3, 777_777), (4, 777_777)], "Away - - Away Away");
        check(&doubts, &[(0, 777_777), (3, 888_888)], "Refused - - Refused -");
        check(&doubts, &[(0, 777_777), (1, 121), (2, 11000), (3, 777_777)], "Away Refused Refused Away -");
        check(&doubts, &[(0, 121), (1, 121)], "Refused Refused - - -");
        // A router that made no progress gives up all that is left of a batch.
        check(&doubts, &[(1, 82)], "- Away - - -");
        check(&doubts, &[(1, 82), (2, 82), (9, 82)], "- Away Away - -");
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_ends() {
        let doubts = Doubts::default();
        let alike = [(0, 777_777), (1, 777_777)];
        for _ in 0..15 {
            check(&doubts, &alike, "Away Away - - -");
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        check(&doubts, &alike, "Refused Refused - - -");
        check(&doubts, &[(0, 888_888), (1, 888_888)], "Away Away - - -");
        // Long after, it is another trouble.
        tokio::time::advance(DOUBT).await;
        check(&doubts, &alike, "Away Away - - -");
    }
}
