//! One value of JSON into one cell, as its column's type demands. Nothing is read through a float that is none.
#![expect(clippy::wildcard_enum_match_arm, reason = "a type fits few forms of JSON; all others are a mismatch")]

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sonic_rs::LazyValue;

use super::reader::{Reader, Unit};
use super::{decimal, temporal};
use crate::change::{Cells, Tag, Value};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What Debezium writes where the binlog has no value. It is also a text that anyone may have typed into a row.
const UNAVAILABLE: &[u8] = b"__debezium_unavailable_value";

/// Whether a value reads like Debezium's mark. Texts and bytes alone can be both, the mark and a row's own value.
pub(super) fn may_be_unavailable(value: Value<'_>) -> bool {
    match value {
        Value::Text(text) => text.as_bytes() == UNAVAILABLE,
        Value::Bytes(bytes) => bytes == UNAVAILABLE,
        _ => false,
    }
}

/// Why a value did not become a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not what the type says.
    Mismatch,
    /// Debezium's mark for a value that the binlog does not have, in a column that can't hold it as a value of its own.
    Unavailable,
}

/// Reads one value into the cell at `index`, which exists already.
pub(super) struct CellSeed<'a> {
    pub(super) reader: Reader,
    pub(super) cells: &'a mut Cells,
    pub(super) index: usize,
    /// Set where the value may be Debezium's mark or the row's own: the cell has it, and what the record is decides.
    pub(super) ambiguous: &'a mut bool,
    /// Set where the error is the value's, not the JSON's.
    pub(super) refusal: &'a mut Option<Refusal>,
}

impl CellSeed<'_> {
    fn refuse<E: serde::de::Error>(self, refusal: Refusal) -> E {
        *self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn mismatch<E: serde::de::Error>(self) -> E {
        self.refuse(Refusal::Mismatch)
    }

    fn word<E: serde::de::Error>(mut self, word: Option<u64>) -> Result<(), E> {
        let Some(word) = word else { return Err(self.mismatch()) };
        self.set(self.reader.tag(), word);
        Ok(())
    }

    fn set(&mut self, tag: Tag, word: u64) {
        if let (Some(t), Some(w)) = (self.cells.tags.get_mut(self.index), self.cells.words.get_mut(self.index)) {
            *t = tag as u8;
            *w = word;
        }
    }

    /// Lets `write` append to the heap and makes the cell point to what it wrote.
    fn span<E: serde::de::Error>(mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Result<(), E> {
        let start = self.cells.heap.len();
        if write(&mut self.cells.heap).is_none() {
            return Err(self.mismatch());
        }
        let written = self.cells.heap.get(start..).unwrap_or_default();
        if written == UNAVAILABLE {
            match self.reader.tag() {
                Tag::Text | Tag::Bytes => *self.ambiguous = true,
                _ => return Err(self.refuse(Refusal::Unavailable)),
            }
        }
        let word = (start as u64) << 32 | written.len() as u64;
        self.set(self.reader.tag(), word);
        Ok(())
    }

    fn copy<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.span(|heap| {
            heap.extend_from_slice(text.as_bytes());
            Some(())
        })
    }

    /// A value whose text as it stands matters: decimals and arrays.
    fn raw<E: serde::de::Error>(mut self, raw: &LazyValue<'_>) -> Result<(), E> {
        let text = raw.as_raw_str();
        if text == "null" {
            self.set(Tag::Null, 0);
            return Ok(());
        }
        let reader = self.reader;
        match (reader, text.as_bytes().first()) {
            (Reader::Array, Some(b'[')) => self.copy(text),
            (Reader::Decimal(_) | Reader::DecimalUint, Some(b'"')) => {
                let unescaped;
                let inner = match text.get(1..text.len().saturating_sub(1)) {
                    Some(inner) if !inner.contains('\\') => inner,
                    _ => {
                        unescaped = sonic_rs::from_str::<String>(text).map_err(E::custom)?;
                        &unescaped
                    }
                };
                self.unscaled(inner)
            }
            (Reader::Decimal(scale), Some(b'-' | b'0'..=b'9')) => self.span(|heap| decimal::from_text(text, scale, heap)),
            (Reader::DecimalUint, Some(b'0'..=b'9')) => self.word(text.parse().ok()),
            _ => Err(self.mismatch()),
        }
    }

    /// An unscaled decimal in base64.
    fn unscaled<E: serde::de::Error>(self, base64: &str) -> Result<(), E> {
        let mut buffer = [0; 96];
        // A value that is longer is no decimal of MySQL's; it may be the mark of an unavailable one, which has 28 bytes.
        let Ok(len) = BASE64.decode_slice(base64, &mut buffer) else { return Err(self.mismatch()) };
        let bytes = buffer.get(..len).unwrap_or_default();
        match self.reader {
            Reader::Decimal(scale) => self.span(|heap| decimal::from_unscaled(bytes, scale?, heap)),
            _ => self.word(unsigned_from_be(bytes)),
        }
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let reader = self.reader;
        match reader {
            Reader::Span(_) => self.copy(text),
            Reader::Base64 => self.span(|heap| BASE64.decode_vec(text, heap).ok()),
            Reader::Base64Url => self.span(|heap| BASE64_URL.decode_vec(text, heap).ok()),
            Reader::Hex => self.span(|heap| hex(text, heap)),
            Reader::Bits(length) => self.span(|heap| bits(text, length, heap)),
            Reader::DecimalText(scale) => self.span(|heap| decimal::from_text(text, scale, heap)),
            Reader::Date(Unit::Iso) => self.moment(text, temporal::date(text)),
            Reader::Time(Unit::Iso) => self.moment(text, temporal::time(text)),
            Reader::Datetime(Unit::Iso) => self.moment(text, temporal::datetime(text)),
            Reader::Timestamp(Unit::Iso) => self.moment(text, temporal::timestamp(text)),
            _ => Err(self.mismatch()),
        }
    }

    fn moment<E: serde::de::Error>(self, text: &str, number: Option<i64>) -> Result<(), E> {
        if text.as_bytes() == UNAVAILABLE {
            return Err(self.refuse(Refusal::Unavailable));
        }
        self.word(number.map(i64::cast_unsigned))
    }

    fn integer<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        let word = match self.reader {
            Reader::Int | Reader::Year | Reader::WrappedUint | Reader::Date(Unit::Days) => Some(number),
            Reader::Boolean if matches!(number, 0 | 1) => Some(number),
            Reader::Uint if number >= 0 => Some(number),
            Reader::Time(unit) | Reader::Datetime(unit) | Reader::Timestamp(unit) => match unit {
                Unit::Millis => number.checked_mul(1000),
                Unit::Micros => Some(number),
                // MySQL has no finer unit than microseconds: a rest would be another source's.
                Unit::Nanos => (number % 1000 == 0).then_some(number / 1000),
                Unit::Days | Unit::Iso => None,
            },
            Reader::Double => Some((number as f64).to_bits().cast_signed()).filter(|_| number.unsigned_abs() <= 1 << 53),
            _ => None,
        };
        self.word(word.map(i64::cast_unsigned))
    }
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.reader {
            Reader::Decimal(_) | Reader::DecimalUint | Reader::Array => self.raw(&LazyValue::deserialize(deserializer)?),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for CellSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reader.expected())
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.set(Tag::Null, 0);
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.reader {
            // A TINYINT(1) is a boolean or a number as the connector's converters have it, in snapshot and stream not always alike.
            Reader::Boolean | Reader::Int => self.word(Some(value.into())),
            _ => Err(self.mismatch()),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match (self.reader, i64::try_from(value)) {
            (Reader::Uint | Reader::WrappedUint, _) => self.word(Some(value)),
            (_, Ok(value)) => self.integer(value),
            (_, Err(_)) => Err(self.mismatch()),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.reader {
            Reader::Double => self.word(Some(value.to_bits())),
            _ => Err(self.mismatch()),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // The structs of a schema's types have fixed members; others (a point's x and y) say the same again.
        let (mut bytes, mut number) = (Vec::new(), None);
        let mut found = false;
        while let Some(name) = map.next_key::<StructMember>()? {
            match (name, self.reader) {
                (StructMember::Wkb, Reader::Geometry) | (StructMember::Value, Reader::VariableScale) => {
                    let text: Option<std::borrow::Cow<'_, str>> = map.next_value()?;
                    let Some(text) = text else { continue };
                    bytes.clear();
                    if BASE64.decode_vec(text.as_bytes(), &mut bytes).is_err() {
                        return Err(self.mismatch());
                    }
                    found = true;
                }
                (StructMember::Srid, Reader::Geometry) | (StructMember::Scale, Reader::VariableScale) => number = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match self.reader {
            Reader::Geometry if found => self.span(|heap| ewkb(&bytes, number, heap)),
            Reader::VariableScale if found => self.span(|heap| decimal::from_unscaled(&bytes, number?, heap)),
            _ => Err(self.mismatch()),
        }
    }
}

/// A member of a struct that is a value.
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum StructMember {
    Wkb,
    Srid,
    Scale,
    Value,
    #[serde(other)]
    Other,
}

fn unsigned_from_be(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.first().is_some_and(|b| b & 0x80 != 0) {
        return None;
    }
    bytes.iter().try_fold(0_u64, |n, &b| n.checked_mul(256)?.checked_add(b.into()))
}

fn hex(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    for [high, low] in pairs {
        out.push(digit(*high)? << 4 | digit(*low)?);
    }
    rest.is_empty().then_some(())
}

/// BIT(n): little-endian bytes in base64 to big-endian ones, as many as n bits need.
fn bits(text: &str, length: Option<u32>, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    BASE64.decode_vec(text, out).ok()?;
    if let Some(length) = length {
        let wanted = length.div_ceil(8) as usize;
        if length == 0 || length > 1 << 16 || out.get(start..)?.iter().skip(wanted).any(|&b| b != 0) {
            return None;
        }
        out.resize(start + wanted, 0);
        let unused = out.last().map_or(0, |&last| u32::from(last) >> (length - 8 * (wanted as u32 - 1)));
        if unused != 0 {
            return None;
        }
    }
    out.get_mut(start..)?.reverse();
    Some(())
}

/// WKB and SRID to EWKB: the flag in the type and the SRID behind it, where there is one.
fn ewkb(wkb: &[u8], srid: Option<i32>, out: &mut Vec<u8>) -> Option<()> {
    const HAS_SRID: u32 = 0x2000_0000;
    let (order, rest) = wkb.split_first()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let little = match order {
        0 => false,
        1 => true,
        _ => return None,
    };
    let number = if little { u32::from_le_bytes(*kind) } else { u32::from_be_bytes(*kind) };
    let Some(srid) = srid.filter(|_| number & HAS_SRID == 0) else {
        out.extend_from_slice(wkb);
        return Some(());
    };
    let bytes = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
    out.push(*order);
    out.extend_from_slice(&bytes(number | HAS_SRID));
    out.extend_from_slice(&bytes(srid.cast_unsigned()));
    out.extend_from_slice(rest);
    Some(())
}
