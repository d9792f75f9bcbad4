//! The contract's records as plain structs; see `wit/transform.wit` for what they mean.
//!
//! A transform's author needs only [`Context`], [`Target`] and the schema; the rest is for whoever calls a [`crate::Guest`].

/// What a cell is. The numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Out only: the column of the after image, unchanged.
    After = 32,
    /// Out only: the column of the before image, unchanged.
    Before = 33,
}

impl Tag {
    const ALL: [Self; 19] = [
        Self::Null,
        Self::Absent,
        Self::Boolean,
        Self::Int,
        Self::Uint,
        Self::Double,
        Self::Decimal,
        Self::Text,
        Self::Bytes,
        Self::Bits,
        Self::Json,
        Self::Geometry,
        Self::Date,
        Self::Time,
        Self::Datetime,
        Self::Timestamp,
        Self::Year,
        Self::After,
        Self::Before,
    ];

    /// The tag with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| *tag as u8 == number)
    }
}

/// Cell i is `tags[i]` with the 64 bits at `words[8 * i]`, little-endian; texts and bytes lie in `heap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract describes each")]
pub struct Cells {
    pub tags: Vec<u8>,
    pub words: Vec<u8>,
    pub heap: Vec<u8>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSchema {
    /// As in MySQL.
    pub name: String,
    /// The number of the [`Tag`] that a value which is neither null nor absent has.
    pub tag: u8,
    /// Whether MySQL allows NULL.
    pub nullable: bool,
    /// Declared length or display width, where MySQL has one.
    pub length: Option<u32>,
    /// Digits behind the point.
    pub scale: Option<i32>,
    /// "decimal(10,2) unsigned"
    pub source_type: String,
}

/// One version of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSchema {
    /// Unique within an instance of the guest.
    pub id: u32,
    /// MySQL's database.
    pub database: String,
    /// MySQL's table.
    pub table: String,
    /// In the order of the row.
    pub columns: Vec<ColumnSchema>,
    /// Indexes into `columns`, in key order; empty: the table has no key.
    pub primary_key: Vec<u32>,
}

/// A shape of documents, for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name of a target that the route configures.
    pub target: String,
    /// Names of the key's parts; empty: the row's primary key.
    pub key: Vec<String>,
    /// Names of the fields; a dot nests.
    pub fields: Vec<String>,
}

/// What a guest reads of a schema's events, and what it writes for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Columns of the before image that cross.
    pub before: Vec<u32>,
    /// Columns of the after image that cross.
    pub after: Vec<u32>,
    /// Whether deletes come to the guest.
    pub sees_deletes: bool,
    /// What may be written.
    pub outputs: Vec<Output>,
}

/// Change events of one schema and one partition, in offset order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// [`TableSchema::id`].
    pub schema: u32,
    /// Kafka's partition.
    pub partition: u32,
    /// 24 bytes an event.
    pub events: Vec<u8>,
    /// What crosses of each event, one event after the other.
    pub cells: Cells,
}

/// What became of a batch's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// 16 bytes a step.
    pub steps: Vec<u8>,
    /// Each step's cells, one step after the other.
    pub cells: Cells,
}

/// A target that the route configures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, which a document may be made for.
    pub name: String,
    /// "redis", "mongodb" or "memory".
    pub sink: String,
}

/// The route that the transform serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// JSON: the route's `config`.
    pub config: String,
    /// In the route's order.
    pub targets: Vec<Target>,
}

/// Bytes of an event's header in [`Batch::events`].
pub(crate) const EVENT_BYTES: usize = 24;

/// What a step of [`Outcome::steps`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Action {
    Put = 0,
    Delete = 1,
    Skip = 2,
    Reject = 3,
}
