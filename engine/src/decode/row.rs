//! A row image into cells: columns are found by position once a row of their shape was seen, else by name.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::cell::{CellSeed, Refusal, may_be_unavailable};
use super::reader::Reader;
use super::{Error, FaultSlot};
use crate::change::{Cells, Column, Tag};
use crate::config::DeclaredColumn;

/// The columns of a row image, or of a key, and how their values are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) columns: Vec<Column>,
    readers: Vec<Reader>,
    /// ENUM columns, whose labels Debezium escapes in the stream but not in snapshots.
    enums: Vec<usize>,
}

impl Shape {
    /// The shape that columns declare, by the configuration or by a schema.
    pub(super) fn new(declared: &[DeclaredColumn]) -> Result<Self, Error> {
        let mut shape =
            Self { columns: Vec::with_capacity(declared.len()), readers: Vec::with_capacity(declared.len()), enums: Vec::new() };
        for (index, column) in declared.iter().enumerate() {
            let unsupported = || Error::UnsupportedType { column: column.name.clone(), type_name: column.source_type.clone() };
            shape.readers.push(Reader::of(column.tag, column.wire, column.scale, column.length).ok_or_else(unsupported)?);
            if shape.find(&column.name).is_some() {
                return Err(Error::Duplicate { place: format!("column {}", column.name) });
            }
            let is_enum = column.source_type.get(..4).is_some_and(|t| t.eq_ignore_ascii_case("enum"));
            if is_enum || column.source_type == "io.debezium.data.Enum" {
                shape.enums.push(index);
            }
            shape.columns.push(Column {
                name: column.name.as_str().into(),
                tag: column.tag,
                nullable: column.nullable,
                length: column.length,
                scale: column.scale,
                source_type: column.source_type.as_str().into(),
            });
        }
        Ok(shape)
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| *c.name == *name)
    }

    /// Whether rows of this shape have the columns of a key, and the key's values can be read as theirs. A key's schema says less: Debezium
    /// propagates source types for rows alone.
    pub(super) fn reads(&self, key: &Self) -> bool {
        key.columns.iter().zip(&key.readers).all(|(column, reader)| {
            let own = self.find(&column.name).and_then(|index| self.readers.get(index));
            own.is_some_and(|own| own.reads_form_of(*reader))
        })
    }

    /// A column of an update whose new value is Debezium's mark and not the row's own. Where the old image has the same text it was a value of
    /// the row before, and still is.
    pub(super) fn unavailable(&self, before: Option<u32>, after: u32, cells: &Cells) -> Option<String> {
        let is_mark = |column: &usize| {
            let new = cells.get(after as usize + column);
            may_be_unavailable(new) && before.is_none_or(|before| cells.get(before as usize + column) != new)
        };
        (0..self.columns.len()).find(is_mark).map(|column| self.name(column))
    }

    fn name(&self, index: usize) -> String {
        self.columns.get(index).map(|c| c.name.to_string()).unwrap_or_default()
    }

    /// Takes back the escaping of commas in ENUM labels, which Debezium does for events of the binlog alone.
    pub(super) fn unescape_enums(&self, first: u32, cells: &mut Cells) {
        for column in &self.enums {
            let index = first as usize + column;
            let crate::change::Value::Text(label) = cells.get(index) else { continue };
            if !label.contains("\\,") {
                continue;
            }
            let label = label.replace("\\,", ",");
            let word = (cells.heap.len() as u64) << 32 | label.len() as u64;
            cells.heap.extend_from_slice(label.as_bytes());
            if let Some(w) = cells.words.get_mut(index) {
                *w = word;
            }
        }
    }
}

/// Reads one image. What it is for decides how strict it is.
pub(super) struct RowSeed<'a> {
    pub(super) shape: &'a Shape,
    /// For messages: "before", "after" or "key".
    pub(super) image: &'static str,
    /// The column expected at each position; learned from the rows themselves.
    pub(super) order: &'a mut Vec<u32>,
    pub(super) cells: &'a mut Cells,
    /// Set where a value may be Debezium's mark of an unavailable one, or the row's own.
    pub(super) ambiguous: &'a mut bool,
    /// Set where the error is not the JSON's.
    pub(super) fault: &'a FaultSlot,
    /// Whether every column must be there.
    pub(super) whole: bool,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    /// First cell of the image; `None`: the image is null.
    type Value = Option<u32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl RowSeed<'_> {
    fn fail<E: serde::de::Error>(self, fault: Error) -> E {
        self.fault.set(Some(fault));
        E::custom("fault")
    }

    fn not_an_object<E: serde::de::Error>(self) -> E {
        let place = self.image;
        self.fail(Error::Member { place, expected: "an object with the row's columns" })
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Option<u32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let first = self.cells.len();
        let width = self.shape.columns.len();
        self.cells.tags.resize(first + width, Tag::Absent as u8);
        self.cells.words.resize(first + width, 0);
        let mut seen = 0;
        loop {
            let expected = self.order.get(seen).map_or(seen, |&c| c as usize);
            let Some(name) = map.next_key_seed(NameSeed { shape: self.shape, expected })? else { break };
            let column = match name {
                Name::Known(column) => column,
                Name::Unknown(column) => {
                    let image = self.image;
                    return Err(self.fail(Error::UnknownColumn { image, column }));
                }
            };
            if column != expected {
                if self.order.len() <= seen {
                    self.order.extend(self.order.len() as u32..=seen as u32);
                }
                if let Some(position) = self.order.get_mut(seen) {
                    *position = column as u32;
                }
            }
            seen += 1;
            let index = first + column;
            if self.cells.tags.get(index) != Some(&(Tag::Absent as u8)) {
                let place = format!("column {} of the {} image", self.shape.name(column), self.image);
                return Err(self.fail(Error::Duplicate { place }));
            }
            let Some(&reader) = self.shape.readers.get(column) else { break };
            let mut refusal = None;
            let (cells, ambiguous) = (&mut *self.cells, &mut *self.ambiguous);
            let seed = CellSeed { reader, cells, index, ambiguous, refusal: &mut refusal };
            if let Err(error) = map.next_value_seed(seed) {
                let (image, column) = (self.image, self.shape.name(column));
                return Err(match refusal {
                    Some(Refusal::Unavailable) => self.fail(Error::UnavailableValue { image, column }),
                    Some(Refusal::Mismatch) => self.fail(Error::Value { image, column, expected: reader.expected() }),
                    None => error,
                });
            }
        }
        if self.whole && seen < width {
            let absent = |c: &usize| self.cells.tags.get(first + c) == Some(&(Tag::Absent as u8));
            let column = self.shape.name((0..width).find(absent).unwrap_or_default());
            let image = self.image;
            return Err(self.fail(Error::IncompleteRow { image, column }));
        }
        Ok(Some(first as u32))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Err(self.not_an_object())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(self.not_an_object())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(self.not_an_object())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(self.not_an_object())
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(self.not_an_object())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(self.not_an_object())
    }
}

enum Name {
    Known(usize),
    Unknown(String),
}

/// A column's name: the expected one, else looked up.
struct NameSeed<'a> {
    shape: &'a Shape,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        if self.shape.columns.get(self.expected).is_some_and(|c| *c.name == *name) {
            return Ok(Name::Known(self.expected));
        }
        Ok(self.shape.find(name).map_or_else(|| Name::Unknown(name.into()), Name::Known))
    }
}
