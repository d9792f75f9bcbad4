//! The commands that are sent: plain `update`, `delete` and `find`, as every server from MongoDB 5 on and compatible ones take them.
//! Pure: nothing is sent here.

use std::time::Duration;

use mongodb::bson::RawDocumentBuf;

use super::bson_bytes::{Value, Writer, kind};
use super::version::{Guard, generation_start};

/// What a command to one collection says beside its statements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Time limit on the server, and for the majority's acknowledgement.
    pub(super) timeout: Duration,
    /// Whether reads ask for what a majority has; a server that stands alone has no such thing.
    pub(super) majority_reads: bool,
}

/// Where the version stands: beneath `_sync` in a document, at the top in a tombstone.
#[derive(Clone, Copy, Debug)]
pub(super) enum VersionAt {
    Document,
    Tombstone,
}

/// The condition on one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition<'a> {
    pub(super) id: Value<'a>,
    pub(super) fence: i64,
    pub(super) partition: i32,
    pub(super) guard: Guard,
    pub(super) at: VersionAt,
}

impl Condition<'_> {
    /// Equality on `_id` and conditions joined by AND, nothing else: so every server looks the key up in the index. `$not: {$gte}`
    /// also holds where there is no version, or something that is none; so does `$in` with null.
    fn write(&self, out: &mut Writer) {
        let (fence, partition) = match self.at {
            VersionAt::Document => ("_sync.v", "_sync.p"),
            VersionAt::Tombstone => ("v", "p"),
        };
        out.begin("q");
        out.value("_id", self.id);
        let bound = match self.guard {
            Guard::SamePartition => self.fence,
            Guard::EarlierGeneration => generation_start(self.fence),
        };
        out.begin(fence);
        write_not_from(out, bound);
        out.end();
        if self.guard == Guard::SamePartition {
            out.begin(partition);
            out.begin_array("$in");
            out.i32("0", self.partition);
            out.null("1");
            out.end();
            out.end();
        }
        out.end();
    }
}

/// `$not: {$gte: bound}`, inside the condition on a field.
fn write_not_from(out: &mut Writer, bound: i64) {
    out.begin("$not");
    out.i64("$gte", bound);
    out.end();
}

/// `v: {$not: {$gte: fence + 1}}`.
fn write_at_most(out: &mut Writer, fence: i64) {
    out.begin("v");
    write_not_from(out, fence.saturating_add(1));
    out.end();
}

/// Begins `update` or `delete`; [`WriteCommand::statement`] follows once for each key.
#[derive(Debug)]
pub(super) struct WriteCommand {
    out: Writer,
    statements: usize,
}

impl WriteCommand {
    pub(super) fn update(collection: &str, terms: Terms, capacity: usize) -> Self {
        Self::begin("update", collection, "updates", terms, capacity)
    }

    pub(super) fn delete(collection: &str, terms: Terms, capacity: usize) -> Self {
        Self::begin("delete", collection, "deletes", terms, capacity)
    }

    fn begin(command: &str, collection: &str, statements: &str, terms: Terms, capacity: usize) -> Self {
        let mut out = Writer::with_capacity(capacity + 256);
        out.text(command, collection);
        out.boolean("ordered", false);
        let ms = millis(terms.timeout);
        out.i64("maxTimeMS", ms);
        out.begin("writeConcern");
        out.text("w", "majority");
        out.i64("wtimeout", ms);
        out.end();
        out.begin_array(statements);
        Self { out, statements: 0 }
    }

    fn begin_statement(&mut self) {
        let mut digits = itoa::Buffer::new();
        self.out.begin(digits.format(self.statements));
        self.statements += 1;
    }

    /// Replaces the document if the condition holds, and inserts it where there is none.
    pub(super) fn upsert(&mut self, condition: Condition<'_>, document: &[u8]) {
        self.begin_statement();
        condition.write(&mut self.out);
        self.out.document("u", document);
        self.out.boolean("upsert", true);
        self.out.end();
    }

    /// Removes the document if the condition holds.
    pub(super) fn remove(&mut self, condition: Condition<'_>) {
        self.begin_statement();
        condition.write(&mut self.out);
        self.out.i32("limit", 1);
        self.out.end();
    }

    /// Removes the document if it is exactly the one that this fence and partition wrote.
    pub(super) fn remove_exactly(&mut self, id: Value<'_>, fence: i64, partition: i32) {
        self.begin_statement();
        self.out.begin("q");
        self.out.value("_id", id);
        self.out.i64("_sync.v", fence);
        self.out.i32("_sync.p", partition);
        self.out.end();
        self.out.i32("limit", 1);
        self.out.end();
    }

    /// Replaces a mark that is older, and inserts one where there is none.
    pub(super) fn upsert_mark(&mut self, id: Value<'_>, fence: i64, mark: &[u8]) {
        self.begin_statement();
        self.out.begin("q");
        self.out.value("_id", id);
        self.out.begin("v");
        write_not_from(&mut self.out, fence);
        self.out.end();
        self.out.end();
        self.out.document("u", mark);
        self.out.boolean("upsert", true);
        self.out.end();
    }

    /// Removes a mark if it is not newer than `fence`.
    pub(super) fn remove_mark(&mut self, id: Value<'_>, fence: i64) {
        self.begin_statement();
        self.out.begin("q");
        self.out.value("_id", id);
        write_at_most(&mut self.out, fence);
        self.out.end();
        self.out.i32("limit", 1);
        self.out.end();
    }

    /// Removes the marks of a collection that are not newer than `fence`.
    pub(super) fn remove_marks_of(&mut self, collection: &str, fence: i64) {
        self.begin_statement();
        self.out.begin("q");
        self.out.text("c", collection);
        write_at_most(&mut self.out, fence);
        self.out.end();
        self.out.i32("limit", 0);
        self.out.end();
    }

    pub(super) fn finish(self) -> mongodb::error::Result<RawDocumentBuf> {
        self.out.finish()
    }
}

/// `find` with what `filter` writes, the fields `fields` beside `_id`, in batches of `batch`.
pub(super) fn find(
    collection: &str,
    terms: Terms,
    fields: &[&str],
    batch: usize,
    filter: impl FnOnce(&mut Writer),
    more: impl FnOnce(&mut Writer),
) -> mongodb::error::Result<RawDocumentBuf> {
    let mut out = Writer::with_capacity(1024);
    out.text("find", collection);
    out.begin("filter");
    filter(&mut out);
    out.end();
    out.begin("projection");
    for field in fields {
        out.i32(field, 1);
    }
    out.end();
    out.i32("batchSize", i32::try_from(batch).unwrap_or(i32::MAX));
    out.i64("maxTimeMS", millis(terms.timeout));
    if terms.majority_reads {
        out.begin("readConcern");
        out.text("level", "majority");
        out.end();
    }
    more(&mut out);
    out.finish()
}

/// `_id: {$in: ids}`.
pub(super) fn write_id_in<'a>(out: &mut Writer, ids: impl Iterator<Item = Value<'a>>) {
    out.begin("_id");
    out.begin_array("$in");
    let mut digits = itoa::Buffer::new();
    for (number, id) in ids.enumerate() {
        out.value(digits.format(number), id);
    }
    out.end();
    out.end();
}

/// A binary value as `_id` has it, in a buffer that its owner keeps.
pub(super) fn binary_value(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 5);
    value.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_le_bytes());
    value.push(0);
    value.extend_from_slice(bytes);
    value
}

/// The value made by [`binary_value`].
pub(super) fn as_binary(value: &[u8]) -> Value<'_> {
    Value { kind: kind::BINARY, bytes: value }
}

/// At least 1: 0 would mean no limit.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::from(i32::MAX))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test is what these say")]
mod tests {
    use mongodb::bson::{Document, doc, rawdoc};

    use super::*;

    const TERMS: Terms = Terms { timeout: Duration::from_millis(1500), majority_reads: true };

    fn condition(guard: Guard, at: VersionAt) -> Condition<'static> {
        Condition { id: Value { kind: kind::INT32, bytes: &[7, 0, 0, 0] }, fence: (3 << 48) | 9, partition: 2, guard, at }
    }

    #[test]
    fn update() {
        let replacement = rawdoc! { "_id": 7, "a.b": { "$c": "text" }, "_sync": { "v": 1_i64 } };
        let mut command = WriteCommand::update("orders", TERMS, 0);
        command.upsert(condition(Guard::SamePartition, VersionAt::Document), replacement.as_bytes());
        command.upsert(condition(Guard::EarlierGeneration, VersionAt::Tombstone), replacement.as_bytes());
        let expected = doc! {
            "update": "orders", "ordered": false, "maxTimeMS": 1500_i64, "writeConcern": { "w": "majority", "wtimeout": 1500_i64 },
            "updates": [
                {
                    "q": { "_id": 7, "_sync.v": { "$not": { "$gte": (3_i64 << 48) | 9 } }, "_sync.p": { "$in": [2, null] } },
                    "u": { "_id": 7, "a.b": { "$c": "text" }, "_sync": { "v": 1_i64 } }, "upsert": true,
                },
                {
                    "q": { "_id": 7, "v": { "$not": { "$gte": 3_i64 << 48 } } },
                    "u": { "_id": 7, "a.b": { "$c": "text" }, "_sync": { "v": 1_i64 } }, "upsert": true,
                },
            ],
        };
        assert_eq!(Document::try_from(command.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn delete() {
        let mut command = WriteCommand::delete("orders", TERMS, 0);
        command.remove(condition(Guard::SamePartition, VersionAt::Document));
        command.remove_exactly(Value { kind: kind::NULL, bytes: &[] }, 5, 1);
        let expected = doc! {
            "delete": "orders", "ordered": false, "maxTimeMS": 1500_i64, "writeConcern": { "w": "majority", "wtimeout": 1500_i64 },
            "deletes": [
                { "q": { "_id": 7, "_sync.v": { "$not": { "$gte": (3_i64 << 48) | 9 } }, "_sync.p": { "$in": [2, null] } }, "limit": 1 },
                { "q": { "_id": null, "_sync.v": 5_i64, "_sync.p": 1 }, "limit": 1 },
            ],
        };
        assert_eq!(Document::try_from(command.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn marks() {
        let mark = rawdoc! { "_id": 7, "v": 9_i64 };
        let mut set = WriteCommand::update("_sync_marks", TERMS, 0);
        set.upsert_mark(Value { kind: kind::INT32, bytes: &[7, 0, 0, 0] }, 9, mark.as_bytes());
        let statements = Document::try_from(set.finish().unwrap()).unwrap().get_array("updates").unwrap().clone();
        let expected = doc! { "q": { "_id": 7, "v": { "$not": { "$gte": 9_i64 } } }, "u": { "_id": 7, "v": 9_i64 }, "upsert": true };
        assert_eq!(statements, [mongodb::bson::Bson::from(expected)]);
        let mut clear = WriteCommand::delete("_sync_marks", TERMS, 0);
        clear.remove_mark(Value { kind: kind::INT32, bytes: &[7, 0, 0, 0] }, 9);
        clear.remove_marks_of("orders", 9);
        let statements = Document::try_from(clear.finish().unwrap()).unwrap().get_array("deletes").unwrap().clone();
        let one = doc! { "q": { "_id": 7, "v": { "$not": { "$gte": 10_i64 } } }, "limit": 1 };
        let all = doc! { "q": { "c": "orders", "v": { "$not": { "$gte": 10_i64 } } }, "limit": 0 };
        assert_eq!(statements, [mongodb::bson::Bson::from(one), mongodb::bson::Bson::from(all)]);
    }

    #[test]
    fn finds() {
        let ids = [binary_value(b"a"), binary_value(b"")];
        let command =
            find("c", TERMS, &["v", "p"], 9, |out| write_id_in(out, ids.iter().map(|id| as_binary(id))), |out| out.i32("limit", 3));
        let binary = |bytes: &[u8]| mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: bytes.to_vec() };
        let expected = doc! {
            "find": "c", "filter": { "_id": { "$in": [binary(b"a"), binary(b"")] } }, "projection": { "v": 1, "p": 1 }, "batchSize": 9,
            "maxTimeMS": 1500_i64, "readConcern": { "level": "majority" }, "limit": 3,
        };
        assert_eq!(Document::try_from(command.unwrap()).unwrap(), expected);
    }
}
