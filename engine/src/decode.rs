//! Debezium's envelopes and MySQL's types.
//!
//! Enters: [`RecordBatch`]. Leaves: [`ChangeBatch`]: rows as cells, in one pass over the JSON. Pure; never guesses: a record that is not what
//! its route declares becomes a fault.
//!
//! Types come from the record's schema or from the configuration, the primary key from the names of the key's members. With
//! `schemas.enable=true` a schema does not tell everything: see `decode/connect.rs` for what then stays a text or an int.

mod cell;
mod connect;
mod decimal;
pub mod declared;
mod envelope;
mod error;
mod key;
mod reader;
mod row;
mod schemas;
mod temporal;

use std::sync::Arc;

use serde::de::{DeserializeSeed, IgnoredAny};

use self::connect::{Remembered, ValueSchema};
use self::envelope::{Envelope, EnvelopeSeed};
pub use self::error::Error;
use self::key::{Key, NamesSeed};
use self::row::{RowSeed, Shape};
use self::schemas::Schemas;
use crate::change::{Cells, ChangeBatch, ChangeEvent, Op, PassedOver, Snapshot, TableSchema, Tag};
use crate::config::{Format, RouteSettings};
use crate::source::{RecordBatch, SourceRecord, TopicPartition};

/// Deeper JSON is refused before it is parsed; Debezium's deepest record, a schema change, has 7 levels.
const MAX_DEPTH: usize = 128;

/// Decodes the records of one lane; remembers the last schemas by their bytes.
pub struct Decoder {
    route: Arc<RouteSettings>,
    /// `None`: the records have schemas.
    declared: Option<Result<Arc<Shape>, Error>>,
    value_schemas: Remembered<ValueSchema>,
    key_schemas: Remembered<Key>,
    /// The last key without a schema.
    last_key: Arc<Key>,
    /// The shape of the last row.
    last_shape: Option<Arc<Shape>>,
    schemas: Schemas,
    /// Positions of columns in rows and in keys.
    row_order: Vec<u32>,
    key_order: Vec<u32>,
    /// Where the last records were from.
    source: TopicPartition,
    /// The key of the last record, where that was a delete.
    deleted: Option<Vec<u8>>,
    /// The table of that delete, where it is another one than the route's.
    deleted_of: Option<String>,
}

/// Set where an error is not the JSON's but the record's: the parser's own errors can't carry one.
type FaultSlot = std::cell::Cell<Option<Error>>;

/// A record's place and its parts.
#[derive(Clone, Copy)]
struct Part<'a> {
    index: u32,
    record: &'a SourceRecord,
    key: Option<&'a [u8]>,
}

impl Decoder {
    /// A decoder that has seen no schema.
    pub fn new(route: Arc<RouteSettings>) -> Self {
        let declared = match &route.format {
            Format::JsonWithSchema => None,
            Format::Json { columns } => Some(Shape::new(columns).map(Arc::new)),
        };
        Self {
            route,
            declared,
            value_schemas: Remembered::default(),
            key_schemas: Remembered::default(),
            last_key: Arc::default(),
            last_shape: None,
            schemas: Schemas::default(),
            row_order: Vec::new(),
            key_order: Vec::new(),
            source: TopicPartition::default(),
            deleted: None,
            deleted_of: None,
        }
    }

    /// Decodes a batch. A record that can't be decoded is among the faults; the others go on.
    pub fn batch(&mut self, records: RecordBatch) -> ChangeBatch {
        if records.source != self.source {
            self.source = records.source.clone();
            self.forget_last();
        }
        let mut batch = ChangeBatch::default();
        for (index, record) in records.records.iter().enumerate() {
            let part = Part { index: index as u32, record, key: record.key.map(|k| records.slice(k)) };
            let (cells, heap) = (batch.cells.len(), batch.cells.heap.len());
            let events = batch.events.len();
            let decoded = self.record(part, record.value.map(|v| records.slice(v)), &mut batch);
            let other_table = if let Err(Error::OtherTable { found, .. }) = &decoded { Some(found.clone()) } else { None };
            if let Err(error) = decoded {
                batch.faults.push((part.index, error));
            }
            let new = batch.events.get(events..).unwrap_or_default();
            if new.is_empty() {
                batch.cells.tags.truncate(cells);
                batch.cells.words.truncate(cells);
                batch.cells.heap.truncate(heap);
            }
            let deleted = match new {
                [ChangeEvent { op: Op::Delete, null_value: false, schema, .. }] => batch.schemas.get(*schema as usize),
                _ => None,
            };
            let is_delete = deleted.is_some() || other_table.is_some();
            self.deleted_of = other_table.or_else(|| deleted.and_then(|schema| self.other_than_own(&schema.database, &schema.table)));
            self.remember_delete(part.key, is_delete);
        }
        batch.records = records;
        batch
    }

    /// The next record does not follow the last one, though it is of the same partition.
    pub fn forget_last(&mut self) {
        (self.deleted, self.deleted_of) = (None, None);
    }

    fn remember_delete(&mut self, key: Option<&[u8]>, is_delete: bool) {
        let Some(key) = key.filter(|_| is_delete) else {
            self.deleted = None;
            return;
        };
        let deleted = self.deleted.get_or_insert_default();
        deleted.clear();
        deleted.extend_from_slice(key);
    }

    fn record(&mut self, part: Part<'_>, value: Option<&[u8]>, batch: &mut ChangeBatch) -> Result<(), Error> {
        let Some(value) = value else {
            return match part.key {
                Some(key) => self.null_value(part, key, batch),
                None => {
                    batch.passed_over.push((part.index, PassedOver::EmptyRecord));
                    Ok(())
                }
            };
        };
        let (shape, payload, at) = match &self.declared {
            Some(shape) => {
                check_depth("value", value)?;
                (shape.clone()?, text("value", value)?, 0)
            }
            None => {
                let record = self.value_schemas.split("value", value, |schema| schema.value())?;
                check_depth("value", record.payload.as_bytes())?;
                match &*record.schema {
                    ValueSchema::Row(shape) => (shape.clone(), record.payload, record.at),
                    ValueSchema::PassedOver(why) => {
                        parse::<IgnoredAny, _>("value", record.payload, record.at, std::marker::PhantomData, &FaultSlot::default())?;
                        batch.passed_over.push((part.index, *why));
                        return Ok(());
                    }
                }
            }
        };
        let envelope = self.envelope(&shape, payload, at, &mut batch.cells)?;
        let op = match envelope.op {
            None => {
                batch.passed_over.push((part.index, envelope.passed_over()?));
                return Ok(());
            }
            Some('m') => {
                batch.passed_over.push((part.index, PassedOver::Message));
                return Ok(());
            }
            Some('t') => {
                self.check_table(&envelope)?;
                batch.truncates.push(part.index);
                return Ok(());
            }
            Some('c') => Op::Create,
            Some('u') => Op::Update,
            Some('d') => Op::Delete,
            Some('r') => Op::Read,
            Some(_) => return Err(Error::UnknownOp),
        };
        self.row_change(part, op, &shape, &envelope, batch)
    }

    /// Reads an envelope. Where its row is not of the route's shape because it is of another table, the error says so.
    fn envelope<'a>(&mut self, shape: &Shape, payload: &'a str, at: usize, cells: &mut Cells) -> Result<Envelope<'a>, Error> {
        let fault = FaultSlot::default();
        let seed = EnvelopeSeed { shape: Some(shape), order: &mut self.row_order, cells, fault: &fault };
        let error = match parse("value", payload, at, seed, &fault) {
            Ok(envelope) => return Ok(envelope),
            Err(error) => error,
        };
        if matches!(error, Error::UnknownColumn { .. } | Error::IncompleteRow { .. } | Error::UnavailableValue { .. } | Error::Value { .. })
        {
            let fault = FaultSlot::default();
            let seed = EnvelopeSeed { shape: None, order: &mut Vec::new(), cells: &mut Cells::default(), fault: &fault };
            self.check_table(&parse("value", payload, at, seed, &fault)?)?;
        }
        Err(error)
    }

    fn check_table(&self, envelope: &Envelope<'_>) -> Result<(), Error> {
        self.other_than_own(&envelope.source.database, &envelope.source.table).map_or(Ok(()), |found| Err(self.other_table(found)))
    }

    fn other_than_own(&self, database: &str, table: &str) -> Option<String> {
        (*database != *self.route.database || *table != *self.route.table).then(|| format!("{database}.{table}"))
    }

    fn other_table(&self, found: String) -> Error {
        Error::OtherTable { found, declared: format!("{}.{}", self.route.database, self.route.table) }
    }

    fn row_change(
        &mut self,
        part: Part<'_>,
        op: Op,
        shape: &Arc<Shape>,
        envelope: &Envelope<'_>,
        batch: &mut ChangeBatch,
    ) -> Result<(), Error> {
        let source = &envelope.source;
        if source.table.is_empty() {
            return Err(Error::Member { place: "source", expected: "an object with db and table" });
        }
        let table = || format!("{}.{}", source.database, source.table);
        let (key, key_payload) = self.key(part.key.ok_or_else(|| Error::NoPrimaryKey { table: table() })?)?;
        let schema = self.schemas.resolve(shape, &key, &source.database, &source.table)?;
        if !self.last_shape.as_ref().is_some_and(|last| Arc::ptr_eq(last, shape)) {
            self.last_shape = Some(shape.clone());
        }
        let missing = |image, op| Error::MissingImage { image, op };
        let (before, after) = match op {
            Op::Create => (None, Some(envelope.after.ok_or_else(|| missing("after", 'c'))?)),
            Op::Read => (None, Some(envelope.after.ok_or_else(|| missing("after", 'r'))?)),
            Op::Update => {
                let after = envelope.after.ok_or_else(|| missing("after", 'u'))?;
                if envelope.is_after_ambiguous
                    && let Some(column) = shape.unavailable(envelope.before, after, &batch.cells)
                {
                    self.check_table(envelope)?;
                    return Err(Error::UnavailableValue { image: "after", column });
                }
                (envelope.before, Some(after))
            }
            Op::Delete => match envelope.before {
                Some(before) => (Some(before), None),
                None => (Some(self.key_image(shape, &schema, key_payload, &mut batch.cells)?), None),
            },
        };
        if op != Op::Read {
            for image in [before, after].into_iter().flatten() {
                shape.unescape_enums(image, &mut batch.cells);
            }
        }
        let event = ChangeEvent {
            record: part.index,
            offset: part.record.offset,
            schema: schemas::index_in(batch, &schema),
            op,
            changed_at_us: source.changed_at_us.unwrap_or_else(|| kafka_time_us(part.record)),
            snapshot: if op == Op::Read && source.snapshot == Snapshot::No { Snapshot::GoesOn } else { source.snapshot },
            null_value: false,
            follows_own_delete: false,
            before,
            after,
        };
        match (before, after) {
            (Some(old), Some(new)) if !is_same_key(&schema, &batch.cells, old, new) => {
                batch.events.push(ChangeEvent { op: Op::Delete, after: None, ..event.clone() });
                batch.events.push(ChangeEvent { op: Op::Create, before: None, ..event });
            }
            _ => batch.events.push(event),
        }
        Ok(())
    }

    /// A null value deletes the row of its key, whether its delete was seen or compacted away.
    fn null_value(&mut self, part: Part<'_>, key_bytes: &[u8], batch: &mut ChangeBatch) -> Result<(), Error> {
        if self.deleted.as_deref() == Some(key_bytes)
            && let Some(found) = self.deleted_of.take()
        {
            // The row that is gone is that table's.
            return Err(self.other_table(found));
        }
        let (key, payload) = self.key(key_bytes)?;
        let shape = match (&self.declared, &key.shape, &self.last_shape) {
            (Some(shape), _, _) => shape.clone()?,
            (None, Some(key), Some(last)) if last.reads(key) => last.clone(),
            (None, Some(key), _) => key.clone(),
            (None, None, _) => return Err(Error::NoSchema { part: "key" }),
        };
        let schema = self.schemas.resolve(&shape, &key, &self.route.database, &self.route.table)?;
        let before = self.key_image(&shape, &schema, payload, &mut batch.cells)?;
        // No snapshot has null records.
        shape.unescape_enums(before, &mut batch.cells);
        let event = ChangeEvent {
            record: part.index,
            offset: part.record.offset,
            schema: schemas::index_in(batch, &schema),
            op: Op::Delete,
            changed_at_us: kafka_time_us(part.record),
            snapshot: Snapshot::No,
            null_value: true,
            follows_own_delete: self.deleted.as_deref() == Some(key_bytes),
            before: Some(before),
            after: None,
        };
        batch.events.push(event);
        Ok(())
    }

    /// The key's columns, and its payload.
    fn key<'a>(&mut self, bytes: &'a [u8]) -> Result<(Arc<Key>, &'a str), Error> {
        let (mut key, payload, at) = if self.declared.is_none() {
            let record = self.key_schemas.split("key", bytes, |schema| Ok(Key::of(schema.shape("key")?)))?;
            (record.schema, record.payload, record.at)
        } else {
            (self.last_key.clone(), text("key", bytes)?, 0)
        };
        check_depth("key", payload.as_bytes())?;
        let fault = FaultSlot::default();
        let names = parse("key", payload, at, NamesSeed { expected: &key.names, fault: &fault }, &fault)?;
        match names {
            None if key.names.is_empty() => return Err(Error::BadKey { message: "it has no column".into() }),
            None => {}
            Some(_) if key.shape.is_some() => {
                return Err(Error::BadKey { message: "its columns are not those of its schema".into() });
            }
            Some(names) if names.iter().any(|n| &**n == "payload") && names.iter().any(|n| &**n == "schema") => {
                let message = "it is {schema, payload}, but the route declares `json`: set key.converter.schemas.enable=false".into();
                return Err(Error::BadKey { message });
            }
            Some(names) => {
                key = Arc::new(Key { names, shape: None });
                self.last_key = key.clone();
            }
        }
        Ok((key, payload))
    }

    /// An image with the key's columns alone; the others are absent.
    fn key_image(&mut self, shape: &Shape, schema: &TableSchema, payload: &str, cells: &mut Cells) -> Result<u32, Error> {
        let fault = FaultSlot::default();
        let order = &mut self.key_order;
        let seed = RowSeed { shape, image: "key", order, cells, ambiguous: &mut false, fault: &fault, whole: false };
        let no_key = || Error::BadKey { message: "it is null, or a column of it is: every row of the table needs a key".into() };
        let first = parse("key", payload, 0, seed, &fault)?.ok_or_else(no_key)?;
        let is_missing = |c: &u32| {
            let tag = cells.tags.get((first + c) as usize);
            tag.is_none_or(|&t| t == Tag::Null as u8 || t == Tag::Absent as u8)
        };
        if schema.primary_key.iter().any(is_missing) { Err(no_key()) } else { Ok(first) }
    }
}

/// Kafka's own timestamp, where there is no better one.
fn kafka_time_us(record: &SourceRecord) -> i64 {
    record.timestamp_ms.unwrap_or_default().saturating_mul(1000)
}

fn is_same_key(schema: &TableSchema, cells: &Cells, old: u32, new: u32) -> bool {
    schema.primary_key.iter().all(|c| cells.get((old + c) as usize) == cells.get((new + c) as usize))
}

/// The bytes as text.
fn text<'a>(part: &'static str, bytes: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|e| Error::Utf8 { part, at: e.valid_up_to() })
}

/// Refuses JSON whose nesting would need a deep stack. Few brackets can't nest deeply: most records are only counted.
fn check_depth(part: &'static str, json: &[u8]) -> Result<(), Error> {
    // Sums of bytes, which the compiler turns into vectors: 10 times as fast as a count.
    let brackets: usize = json.chunks(192).map(|c| usize::from(c.iter().map(|&b| u8::from(b | 0x20 == b'{')).sum::<u8>())).sum();
    if brackets <= MAX_DEPTH {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { part, limit: MAX_DEPTH });
        }
    }
    Ok(())
}

/// Reads the whole of a text. `at` is its place in the part; `fault` is what the seed sets where an error is not the JSON's.
fn parse<'de, T, S: DeserializeSeed<'de, Value = T>>(
    part: &'static str,
    text: &'de str,
    at: usize,
    seed: S,
    fault: &FaultSlot,
) -> Result<T, Error> {
    let mut json = sonic_rs::Deserializer::from_str(text);
    let error = match seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // The parser's own message quotes the record: it must not be shown.
    Err(match (fault.take(), error.classify()) {
        (Some(fault), _) => fault,
        (None, sonic_rs::error::Category::TypeUnmatched) if part == "key" => Error::BadKey { message: "it is no object of columns".into() },
        (None, sonic_rs::error::Category::TypeUnmatched) => Error::NotAnEnvelope,
        (None, sonic_rs::error::Category::Eof) => Error::Json { part, message: "it ends too early", at: at + error.offset() },
        (None, _) => Error::Json { part, message: "bad syntax", at: at + error.offset() },
    })
}
