//! What changed: tables, columns, cells and change events, in the form in which they cross to a guest.
//!
//! A cell is a tag and 64 bits, as `wit/transform.wit` has it; a batch's cells lie in one [`Cells`], so that a row costs no
//! allocation. [`Value`] is the same cell for reading.

use std::sync::Arc;

use crate::source::RecordBatch;

/// What a cell is. The numbers are those of `wit/transform.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the contract's table describes each")]
pub enum Tag {
    Null = 0,
    Absent = 1,
    Boolean = 2,
    Int = 3,
    Uint = 4,
    Double = 5,
    Decimal = 6,
    Text = 7,
    Bytes = 8,
    Bits = 9,
    Json = 10,
    Geometry = 11,
    Date = 12,
    Time = 13,
    Datetime = 14,
    Timestamp = 15,
    Year = 16,
}

impl Tag {
    /// The tag with this number; `None` also for the references 32 and 33, which only a guest's answer has.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Absent,
            2 => Self::Boolean,
            3 => Self::Int,
            4 => Self::Uint,
            5 => Self::Double,
            6 => Self::Decimal,
            7 => Self::Text,
            8 => Self::Bytes,
            9 => Self::Bits,
            10 => Self::Json,
            11 => Self::Geometry,
            12 => Self::Date,
            13 => Self::Time,
            14 => Self::Datetime,
            15 => Self::Timestamp,
            16 => Self::Year,
            _ => return None,
        })
    }

    /// Whether the payload is a span of the heap.
    pub const fn is_span(self) -> bool {
        matches!(self, Self::Decimal | Self::Text | Self::Bytes | Self::Bits | Self::Json | Self::Geometry)
    }
}

/// A cell as it is read. Units as in `wit/transform.wit`: days, microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract's table describes each")]
pub enum Value<'a> {
    Null,
    Absent,
    Boolean(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Decimal(&'a str),
    Text(&'a str),
    Bytes(&'a [u8]),
    Bits(&'a [u8]),
    Json(&'a str),
    Geometry(&'a [u8]),
    Date(i64),
    Time(i64),
    Datetime(i64),
    Timestamp(i64),
    Year(i64),
}

/// Cells of many rows: cell i is `tags[i]` with `words[i]`; texts and bytes lie in `heap` at `offset << 32 | length`.
///
/// Whoever fills it vouches for the spans, and that texts are UTF-8.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cells {
    /// One [`Tag`] number a cell.
    pub tags: Vec<u8>,
    /// The payloads.
    pub words: Vec<u64>,
    /// Texts and byte strings.
    pub heap: Vec<u8>,
}

impl Cells {
    /// Number of cells.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Forgets the cells and keeps the memory.
    pub fn clear(&mut self) {
        self.tags.clear();
        self.words.clear();
        self.heap.clear();
    }

    /// Appends a cell whose payload is a number.
    pub fn push_word(&mut self, tag: Tag, word: u64) {
        self.tags.push(tag as u8);
        self.words.push(word);
    }

    /// Appends a cell whose payload is text or bytes. The heap of a batch stays below 4 GiB: `batch.max_bytes` is far lower.
    pub fn push_span(&mut self, tag: Tag, bytes: &[u8]) {
        let offset = self.heap.len() as u64;
        self.heap.extend_from_slice(bytes);
        self.push_word(tag, offset << 32 | bytes.len() as u64);
    }

    /// Appends a copy of a value.
    pub fn push(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.push_word(Tag::Null, 0),
            Value::Absent => self.push_word(Tag::Absent, 0),
            Value::Boolean(b) => self.push_word(Tag::Boolean, b.into()),
            Value::Int(i) => self.push_word(Tag::Int, i as u64),
            Value::Uint(u) => self.push_word(Tag::Uint, u),
            Value::Double(d) => self.push_word(Tag::Double, d.to_bits()),
            Value::Decimal(s) => self.push_span(Tag::Decimal, s.as_bytes()),
            Value::Text(s) => self.push_span(Tag::Text, s.as_bytes()),
            Value::Bytes(b) => self.push_span(Tag::Bytes, b),
            Value::Bits(b) => self.push_span(Tag::Bits, b),
            Value::Json(s) => self.push_span(Tag::Json, s.as_bytes()),
            Value::Geometry(b) => self.push_span(Tag::Geometry, b),
            Value::Date(i) => self.push_word(Tag::Date, i as u64),
            Value::Time(i) => self.push_word(Tag::Time, i as u64),
            Value::Datetime(i) => self.push_word(Tag::Datetime, i as u64),
            Value::Timestamp(i) => self.push_word(Tag::Timestamp, i as u64),
            Value::Year(i) => self.push_word(Tag::Year, i as u64),
        }
    }

    /// The cell at `index`; absent where there is none, or where its span or tag is broken.
    pub fn get(&self, index: usize) -> Value<'_> {
        let (Some(&tag), Some(&word)) = (self.tags.get(index), self.words.get(index)) else { return Value::Absent };
        let Some(tag) = Tag::from_number(tag) else { return Value::Absent };
        match tag {
            Tag::Null => Value::Null,
            Tag::Absent => Value::Absent,
            Tag::Boolean => Value::Boolean(word != 0),
            Tag::Int => Value::Int(word as i64),
            Tag::Uint => Value::Uint(word),
            Tag::Double => Value::Double(f64::from_bits(word)),
            Tag::Decimal => self.text(word).map_or(Value::Absent, Value::Decimal),
            Tag::Text => self.text(word).map_or(Value::Absent, Value::Text),
            Tag::Bytes => self.span(word).map_or(Value::Absent, Value::Bytes),
            Tag::Bits => self.span(word).map_or(Value::Absent, Value::Bits),
            Tag::Json => self.text(word).map_or(Value::Absent, Value::Json),
            Tag::Geometry => self.span(word).map_or(Value::Absent, Value::Geometry),
            Tag::Date => Value::Date(word as i64),
            Tag::Time => Value::Time(word as i64),
            Tag::Datetime => Value::Datetime(word as i64),
            Tag::Timestamp => Value::Timestamp(word as i64),
            Tag::Year => Value::Year(word as i64),
        }
    }

    fn span(&self, word: u64) -> Option<&[u8]> {
        let start = (word >> 32) as usize;
        self.heap.get(start..start + (word as u32) as usize)
    }

    fn text(&self, word: u64) -> Option<&str> {
        std::str::from_utf8(self.span(word)?).ok()
    }
}

/// A column of a table, as the schema of its events tells it or as the configuration declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As in MySQL.
    pub name: Box<str>,
    /// The tag that a value which is neither null nor absent has.
    pub tag: Tag,
    /// Whether MySQL allows NULL.
    pub nullable: bool,
    /// Declared length or display width, where it is known.
    pub length: Option<u32>,
    /// Digits behind the point, where it is known.
    pub scale: Option<i32>,
    /// "decimal(10,2) unsigned" where it is known, else the schema's own name of the type.
    pub source_type: Box<str>,
}

/// One version of one table. The same table with other columns is another schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Unique within a lane.
    pub id: u32,
    /// MySQL's database.
    pub database: Box<str>,
    /// MySQL's table.
    pub table: Box<str>,
    /// In the order of the row image where the records have a schema, else as the configuration declares them.
    pub columns: Vec<Column>,
    /// Indexes into `columns`, in key order.
    pub primary_key: Vec<u32>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Inserted.
    Create = 0,
    /// Updated; its primary key is the same as before.
    Update = 1,
    /// Deleted, by an envelope with `op: d` or by a null value.
    Delete = 2,
    /// Read by a snapshot.
    Read = 3,
}

/// Whether a snapshot made an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Snapshot {
    /// The stream did: the row changed.
    #[default]
    No,
    /// An incremental snapshot did: it runs beside the stream and misses no deletion.
    Incremental,
    /// A snapshot of all rows did, and this is its first row, of all tables or of this one.
    Begins,
    /// A snapshot of all rows did.
    GoesOn,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeEvent {
    /// Index into [`RecordBatch::records`]. An update of the primary key that arrives as one record makes two events of it.
    pub record: u32,
    /// Kafka offset of the record.
    pub offset: i64,
    /// Index into [`ChangeBatch::schemas`].
    pub schema: u32,
    /// What happened.
    pub op: Op,
    /// `source.ts_ms` or better, in microseconds since the Unix epoch; Kafka's timestamp where there is no envelope.
    pub changed_at_us: i64,
    /// Which snapshot made the event, if one did; then `changed_at_us` says nothing about latency.
    pub snapshot: Snapshot,
    /// Whether the record's value was null: `before` then has the key columns and nothing else.
    pub null_value: bool,
    /// Whether the null value directly follows the `d` of the same key: a guest that saw the `d` does not see it again.
    pub follows_own_delete: bool,
    /// First cell of the image before the change; the image has a cell for each of the schema's columns.
    pub before: Option<u32>,
    /// First cell of the image after the change.
    pub after: Option<u32>,
}

impl ChangeEvent {
    /// First cell of the image that has the row's primary key: the after image, else the before image.
    pub fn key_image(&self) -> Option<u32> {
        self.after.or(self.before)
    }
}

/// Why a record that is no row change was passed over. It settles as `filtered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassedOver {
    /// Debezium's heartbeat.
    Heartbeat,
    /// Debezium's transaction metadata.
    Transaction,
    /// Debezium's schema change event.
    SchemaChange,
    /// An `op: m` logical message.
    Message,
    /// A null value without a key: Debezium sends one after the delete of a row of a table without a primary key.
    EmptyRecord,
}

/// A batch of records of one partition, decoded.
#[derive(Debug, Default)]
pub struct ChangeBatch {
    /// The records as they were read; dead letters need the original bytes.
    pub records: RecordBatch,
    /// Schemas that the events refer to.
    pub schemas: Vec<Arc<TableSchema>>,
    /// In offset order.
    pub events: Vec<ChangeEvent>,
    /// The rows of all events.
    pub cells: Cells,
    /// Records that are no row changes: index into the records, and why.
    pub passed_over: Vec<(u32, PassedOver)>,
    /// Records that emptied the table (`op: t`): indexes into the records.
    pub truncates: Vec<u32>,
    /// Records that could not be decoded: index into the records, and why.
    pub faults: Vec<(u32, crate::decode::Error)>,
}
