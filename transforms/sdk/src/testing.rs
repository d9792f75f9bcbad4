//! Runs a transform natively in its unit tests: rows go in as names and values, documents come out by field.
//!
//! ```
//! # use streamsync_sdk::{Changes, Document, NoConfig, OpenError, Reject, Row, Table, Transform};
//! # struct Cities { city: Document }
//! # impl Transform for Cities {
//! #     const NAME: &'static str = "cities";
//! #     const VERSION: &'static str = "1.0.0";
//! #     type Config = NoConfig;
//! #     fn open(table: &Table<'_>, _: &NoConfig) -> Result<Self, OpenError> {
//! #         let mut city = table.document();
//! #         city.copy("name")?;
//! #         Ok(Self { city: city.build() })
//! #     }
//! #     fn event(&self, _: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
//! #         changes.put(&self.city);
//! #         Ok(())
//! #     }
//! # }
//! use streamsync_sdk::contract::Tag;
//! use streamsync_sdk::testing::{Event, Harness, Owned, table};
//!
//! let cities = table("city_id", &[("city_id", Tag::Int), ("name", Tag::Text)]);
//! let mut harness = Harness::<Cities>::open(&cities, "{}", &["redis"]).expect("the table has what the transform reads");
//! let results = harness.run(&[Event::create(vec![("city_id", 1.into()), ("name", "Madrid".into())])]);
//! assert_eq!(results[0].document("redis").and_then(|city| city.get("name")), Some(&Owned::from("Madrid")));
//! ```
//!
//! Nothing of this is in a component.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::contract::{Batch, Cells, ColumnSchema, Context, Outcome, Plan, TableSchema, Tag, Target};
use crate::log::Level;
use crate::row::{CellReader, Op};
use crate::value::{Date, Datetime, Decimal, IntoCell, Time, Timestamp, Value};
use crate::{Guest, Transform};

/// A value of a row or of a document. [`decimal`], [`date`] and [`timestamp`] make those that have no type of their own in Rust.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract's table describes each")]
pub enum Owned {
    Null,
    Boolean(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Decimal(String),
    Text(String),
    Bytes(Vec<u8>),
    Bits(Vec<u8>),
    Json(String),
    Geometry(Vec<u8>),
    Date(i64),
    Time(i64),
    Datetime(i64),
    Timestamp(i64),
    Year(i64),
}

/// An exact decimal, in plain digits.
pub fn decimal(digits: &str) -> Owned {
    Owned::Decimal(digits.to_owned())
}

/// A day, since 1970-01-01.
pub fn date(days: i64) -> Owned {
    Owned::Date(days)
}

/// A moment, in microseconds since the Unix epoch.
pub fn timestamp(micros: i64) -> Owned {
    Owned::Timestamp(micros)
}

impl From<&str> for Owned {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Owned {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<bool> for Owned {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl Owned {
    fn push_to(&self, cells: &mut Cells) {
        let value = match self {
            Self::Null => Value::Null,
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Int(int) => Value::Int(*int),
            Self::Uint(uint) => Value::Uint(*uint),
            Self::Double(double) => Value::Double(*double),
            Self::Decimal(digits) => Value::Decimal(Decimal(digits)),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Bits(bits) => Value::Bits(bits),
            Self::Json(json) => Value::Json(json),
            Self::Geometry(bytes) => Value::Geometry(bytes),
            Self::Date(days) => Value::Date(Date { days: *days }),
            Self::Time(micros) => Value::Time(Time { micros: *micros }),
            Self::Datetime(micros) => Value::Datetime(Datetime { micros: *micros }),
            Self::Timestamp(micros) => Value::Timestamp(Timestamp { micros: *micros }),
            Self::Year(year) => Value::Year(*year),
        };
        push(cells, value);
    }

    /// `None` for what is absent.
    fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Absent => return None,
            Value::Null => Self::Null,
            Value::Boolean(boolean) => Self::Boolean(boolean),
            Value::Int(int) => Self::Int(int),
            Value::Uint(uint) => Self::Uint(uint),
            Value::Double(double) => Self::Double(double),
            Value::Decimal(Decimal(digits)) => Self::Decimal(digits.to_owned()),
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_owned()),
            Value::Bits(bits) => Self::Bits(bits.to_owned()),
            Value::Json(json) => Self::Json(json.to_owned()),
            Value::Geometry(bytes) => Self::Geometry(bytes.to_owned()),
            Value::Date(Date { days }) => Self::Date(days),
            Value::Time(Time { micros }) => Self::Time(micros),
            Value::Datetime(Datetime { micros }) => Self::Datetime(micros),
            Value::Timestamp(Timestamp { micros }) => Self::Timestamp(micros),
            Value::Year(year) => Self::Year(year),
        })
    }
}

fn push(cells: &mut Cells, value: impl IntoCell) {
    let (tag, word) = value.into_cell(&mut cells.heap);
    cells.tags.push(tag as u8);
    cells.words.extend_from_slice(&word.to_le_bytes());
}

/// A row as names and values. Columns that are not named are absent.
pub type Image = Vec<(&'static str, Owned)>;

/// A change of a row.
#[derive(Clone, Debug)]
pub struct Event {
    op: Op,
    before: Image,
    after: Image,
}

impl Event {
    /// An insert.
    pub fn create(after: Image) -> Self {
        Self { op: Op::Create, before: Vec::new(), after }
    }

    /// An update.
    pub fn update(before: Image, after: Image) -> Self {
        Self { op: Op::Update, before, after }
    }

    /// A delete, for transforms that see deletes.
    pub fn delete(before: Image) -> Self {
        Self { op: Op::Delete, before, after: Vec::new() }
    }

    /// A snapshot's row.
    pub fn read(after: Image) -> Self {
        Self { op: Op::Read, before: Vec::new(), after }
    }
}

/// A table whose columns are all nullable, but for its primary key: one column, or several joined by commas.
pub fn table(primary_key: &str, columns: &[(&str, Tag)]) -> TableSchema {
    let key: Vec<&str> = primary_key.split(',').collect();
    let column = |(name, tag): &(&str, Tag)| ColumnSchema {
        name: (*name).to_owned(),
        tag: *tag as u8,
        nullable: !key.contains(name),
        length: None,
        scale: None,
        source_type: format!("{tag:?}").to_lowercase(),
    };
    let index = |name: &&str| (0..).zip(columns).find(|(_, column)| column.0 == *name).map(|(index, _)| index);
    TableSchema {
        id: 1,
        database: "ecommerce".to_owned(),
        table: "rows".to_owned(),
        columns: columns.iter().map(column).collect(),
        primary_key: key.iter().filter_map(index).collect(),
    }
}

/// A document, by field; a nested field's name has its dots.
pub type Fields = BTreeMap<String, Owned>;

/// What became of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventResult {
    /// By target. An explicit key's parts are among the fields, as `key:<name>`.
    pub puts: Vec<(String, Fields)>,
    /// By target, with an explicit key's parts.
    pub deletes: Vec<(String, Fields)>,
    /// In seconds, of each put; 0 leaves it to the target.
    pub ttl_seconds: Vec<u32>,
    /// Code and message.
    pub rejected: Option<(String, String)>,
    /// The row has no document.
    pub skipped: bool,
}

impl EventResult {
    /// The document that a target gets.
    pub fn document(&self, target: &str) -> Option<&Fields> {
        self.puts.iter().find(|(name, _)| name == target).map(|(_, fields)| fields)
    }

    /// The code with which the event was rejected.
    pub fn reject_code(&self) -> Option<&str> {
        self.rejected.as_ref().map(|(code, _)| code.as_str())
    }
}

/// A transform, opened for one table.
pub struct Harness<T: Transform> {
    guest: Guest<T>,
    schema: TableSchema,
    plan: Plan,
}

impl<T: Transform> Harness<T> {
    /// Configures and opens a transform as the host does. The error is what the host would report.
    pub fn open(schema: &TableSchema, config: &str, targets: &[&str]) -> Result<Self, String> {
        let targets = targets.iter().map(|name| Target { name: (*name).to_owned(), sink: "memory".to_owned() });
        let mut guest = Guest::init(Context { config: config.to_owned(), targets: targets.collect() })?;
        let plan = guest.open(schema)?;
        Ok(Self { guest, schema: schema.clone(), plan })
    }

    /// What the transform told the host in `open`.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the events as one batch: a result for each.
    ///
    /// # Panics
    /// Where the outcome breaks the contract, which the SDK must not let happen.
    #[expect(clippy::expect_used, reason = "for tests, where a broken contract must be loud")]
    pub fn run(&mut self, events: &[Event]) -> Vec<EventResult> {
        let outcome = self.guest.apply(&self.batch(events)).expect("the schema was opened");
        self.read(events, &outcome).expect("the outcome keeps to the contract")
    }

    fn batch(&self, events: &[Event]) -> Batch {
        let mut batch = Batch { schema: self.schema.id, ..Batch::default() };
        for (offset, event) in (0_u64..).zip(events) {
            let op: u32 = match event.op {
                Op::Create => 0,
                Op::Update => 1,
                Op::Delete => 2,
                Op::Read => 3,
            };
            batch.events.extend_from_slice(&offset.to_le_bytes());
            batch.events.extend_from_slice(&1_700_000_000_000_000_i64.to_le_bytes());
            batch.events.extend_from_slice(&u64::from(op).to_le_bytes());
            for (image, columns) in [(&event.before, &self.plan.before), (&event.after, &self.plan.after)] {
                for column in columns {
                    match self.value(image, *column) {
                        Some(value) => value.push_to(&mut batch.cells),
                        None => push(&mut batch.cells, Value::Absent),
                    }
                }
            }
        }
        batch
    }

    fn value<'i>(&self, image: &'i Image, column: u32) -> Option<&'i Owned> {
        let name = &self.schema.columns.get(column as usize)?.name;
        image.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// `None` where the outcome breaks the contract.
    fn read(&self, events: &[Event], outcome: &Outcome) -> Option<Vec<EventResult>> {
        let mut results = vec![EventResult::default(); events.len()];
        let cells = CellReader::new(&outcome.cells);
        let mut next = 0;
        for step in outcome.steps.chunks(16) {
            let number = |at: usize| Some(u32::from_le_bytes(step.get(at..at + 4)?.try_into().ok()?));
            let (event, action, output, ttl) = (number(0)? as usize, number(4)?, number(8)? as usize, number(12)?);
            let (event, result) = (events.get(event)?, results.get_mut(event)?);
            match action {
                0 | 1 => {
                    let output = self.plan.outputs.get(output)?;
                    let key = output.key.iter().map(|name| format!("key:{name}"));
                    let fields = output.fields.iter().filter(|_| action == 0).cloned();
                    let mut document = Fields::new();
                    for (index, name) in (next..).zip(key.chain(fields)) {
                        let tag = Tag::from_number(*outcome.cells.tags.get(index)?)?;
                        let value = match tag {
                            Tag::After | Tag::Before => {
                                let column = outcome.cells.words.get(8 * index..).and_then(|words| words.first_chunk())?;
                                let image = if tag == Tag::After { &event.after } else { &event.before };
                                self.value(image, u64::from_le_bytes(*column) as u32).cloned()
                            }
                            _ => Owned::of(cells.get(index)),
                        };
                        document.extend(value.map(|value| (name, value)));
                    }
                    next += output.key.len() + if action == 0 { output.fields.len() } else { 0 };
                    if action == 0 {
                        result.puts.push((output.target.clone(), document));
                        result.ttl_seconds.push(ttl);
                    } else {
                        result.deletes.push((output.target.clone(), document));
                    }
                }
                2 => result.skipped = true,
                3 => {
                    let (Value::Text(code), Value::Text(message)) = (cells.get(next), cells.get(next + 1)) else { return None };
                    result.rejected = Some((code.to_owned(), message.to_owned()));
                    next += 2;
                }
                _ => return None,
            }
        }
        (next == outcome.cells.tags.len()).then_some(results)
    }
}

const MAX_RECORDED: usize = 1000;

thread_local! {
    static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static METRICS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) fn record_log(level: Level, message: &str) {
    LOGS.with_borrow_mut(|logs| {
        if logs.len() < MAX_RECORDED {
            logs.push((level, message.to_owned()));
        }
    });
}

pub(crate) fn record_metric(counter: &'static str, delta: u32) {
    METRICS.with_borrow_mut(|metrics| *metrics.entry(counter).or_default() += u64::from(delta));
}

/// The lines that transforms have written in this thread since the last call, the first thousand of them.
pub fn take_logs() -> Vec<(Level, String)> {
    LOGS.take()
}

/// What transforms have counted in this thread since the last call.
pub fn take_metrics() -> BTreeMap<&'static str, u64> {
    METRICS.take()
}
