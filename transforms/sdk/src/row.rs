//! A row as `event` sees it: typed values by the columns that `open` resolved.

use crate::changes::Reject;
use crate::contract::{Cells, EVENT_BYTES};
use crate::kind::Kind;
use crate::table::{Column, Image};
use crate::value::{Date, Datetime, Decimal, Time, Timestamp, Value};

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Inserted.
    Create,
    /// Updated; its primary key is the same as before.
    Update,
    /// Deleted. Comes only after [`crate::Table::see_deletes`].
    Delete,
    /// Read by a snapshot.
    Read,
}

/// A value that a column may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence<V> {
    /// The column is not in this image of the row: so the before image of a create, or the after image of a delete.
    Absent,
    /// NULL.
    Null,
    /// Neither.
    Present(V),
}

/// One change of one row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// What happened.
    pub op: Op,
    /// Kafka's partition.
    pub partition: u32,
    /// Kafka's offset.
    pub offset: u64,
    /// When the row changed, in microseconds since the Unix epoch.
    pub changed_at_us: i64,
    cells: CellReader<'a>,
    first_before: usize,
    first_after: usize,
}

impl<'a> Row<'a> {
    /// The column's value, or `None` where it is NULL. A column that is absent rejects the event: see [`Self::presence`].
    #[inline]
    pub fn get<K: Kind>(&self, column: Column<K>) -> Result<Option<K::Value<'a>>, Reject> {
        match self.presence(column)? {
            Presence::Present(value) => Ok(Some(value)),
            Presence::Null => Ok(None),
            Presence::Absent => Err(absent::<K>()),
        }
    }

    /// The column's value where absent is told from NULL.
    #[inline]
    pub fn presence<K: Kind>(&self, column: Column<K>) -> Result<Presence<K::Value<'a>>, Reject> {
        let first = match column.image {
            Image::Before => self.first_before,
            Image::After => self.first_after,
        };
        match self.cells.get(first + column.index) {
            Value::Null => Ok(Presence::Null),
            Value::Absent => Ok(Presence::Absent),
            value => K::read(value).map(Presence::Present).ok_or_else(wrong_kind::<K>),
        }
    }
}

#[cold]
fn absent<K: Kind>() -> Reject {
    Reject::new("absent-column", format!("a column that should be {} is absent from the row image", K::NAME))
}

#[cold]
fn wrong_kind<K: Kind>() -> Reject {
    Reject::new("wrong-kind", format!("a column whose schema says {} has a value of another kind", K::NAME))
}

/// An event's header and the cells that follow it, taken apart.
pub(crate) fn read_row<'a>(
    header: &[u8; EVENT_BYTES],
    partition: u32,
    cells: CellReader<'a>,
    first_before: usize,
    first_after: usize,
) -> Row<'a> {
    let [o0, o1, o2, o3, o4, o5, o6, o7, c0, c1, c2, c3, c4, c5, c6, c7, op, ..] = *header;
    Row {
        op: match op {
            0 => Op::Create,
            1 => Op::Update,
            2 => Op::Delete,
            _ => Op::Read,
        },
        partition,
        offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
        changed_at_us: i64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
        cells,
        first_before,
        first_after,
    }
}

/// Cells of a batch, for reading by index. What does not hold together reads as absent.
#[derive(Clone, Copy)]
pub(crate) struct CellReader<'a> {
    tags: &'a [u8],
    words: &'a [u8],
    heap: &'a [u8],
    /// The heap as text, where all of it is: then a text needs no check of its own.
    text: Option<&'a str>,
}

impl<'a> CellReader<'a> {
    pub(crate) fn new(cells: &'a Cells) -> Self {
        Self { tags: &cells.tags, words: &cells.words, heap: &cells.heap, text: std::str::from_utf8(&cells.heap).ok() }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Value<'a> {
        let word = self.words.get(8 * index..).and_then(|words| words.first_chunk());
        let (Some(tag), Some(word)) = (self.tags.get(index), word) else { return Value::Absent };
        let word = u64::from_le_bytes(*word);
        match tag {
            0 => Some(Value::Null),
            2 => Some(Value::Boolean(word != 0)),
            3 => Some(Value::Int(word as i64)),
            4 => Some(Value::Uint(word)),
            5 => Some(Value::Double(f64::from_bits(word))),
            6 => self.text(word).map(|text| Value::Decimal(Decimal(text))),
            7 => self.text(word).map(Value::Text),
            8 => self.bytes(word).map(Value::Bytes),
            9 => self.bytes(word).map(Value::Bits),
            10 => self.text(word).map(Value::Json),
            11 => self.bytes(word).map(Value::Geometry),
            12 => Some(Value::Date(Date { days: word as i64 })),
            13 => Some(Value::Time(Time { micros: word as i64 })),
            14 => Some(Value::Datetime(Datetime { micros: word as i64 })),
            15 => Some(Value::Timestamp(Timestamp { micros: word as i64 })),
            16 => Some(Value::Year(word as i64)),
            _ => None,
        }
        .unwrap_or(Value::Absent)
    }

    #[inline]
    fn bytes(&self, span: u64) -> Option<&'a [u8]> {
        let (start, length) = ((span >> 32) as usize, span as u32 as usize);
        self.heap.get(start..start.checked_add(length)?)
    }

    #[inline]
    fn text(&self, span: u64) -> Option<&'a str> {
        let (start, length) = ((span >> 32) as usize, span as u32 as usize);
        match self.text {
            Some(text) => text.get(start..start.checked_add(length)?),
            None => std::str::from_utf8(self.bytes(span)?).ok(),
        }
    }
}
