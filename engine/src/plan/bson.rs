//! Documents as BSON, written by hand: a length is a patch of four bytes behind its content.
//!
//! Integers are Int64, decimals Decimal128 up to 34 digits and text beyond, dates BSON dates where a millisecond is exact and
//! ISO 8601 text where it is not, so that no value is ever rounded.

use super::cell::Cell;
use super::json::MAX_DEPTH;
use super::{Refused, Unstorable, calendar, decimal128, json, json_to_bson};
use crate::change::Tag;
use crate::transform::{Op, Shape};

pub(super) const DOUBLE: u8 = 0x01;
pub(super) const STRING: u8 = 0x02;
pub(super) const DOCUMENT: u8 = 0x03;
pub(super) const ARRAY: u8 = 0x04;
pub(super) const BINARY: u8 = 0x05;
pub(super) const BOOLEAN: u8 = 0x08;
pub(super) const DATE: u8 = 0x09;
pub(super) const NULL: u8 = 0x0a;
pub(super) const INT32: u8 = 0x10;
pub(super) const INT64: u8 = 0x12;
pub(super) const DECIMAL128: u8 = 0x13;

const MICROS_A_MILLI: i64 = 1000;
const MILLIS_A_DAY: i64 = 86_400_000;

/// Appends the elements of a shape; the caller opens and closes the document.
pub(super) fn elements<'a>(out: &mut Vec<u8>, shape: &Shape, cell: impl Fn(u32) -> Cell<'a>) -> Result<(), Refused> {
    if shape.whole {
        let refuse = |why| Refused::new("", why);
        let text = json::whole(cell(0)).map_err(refuse)?;
        return json_to_bson::members(out, text).map_err(refuse);
    }
    let mut open = Vec::new();
    for op in &shape.ops {
        match op {
            Op::Leaf { name, cell: index } => {
                let value = cell(*index);
                if value.tag != Tag::Absent {
                    element(out, &name.bson, value, open.len() + 1).map_err(|why| Refused::new(&name.plain, why))?;
                }
            }
            Op::Enter { name, .. } => {
                out.push(DOCUMENT);
                out.extend_from_slice(&name.bson);
                open.push(begin(out));
            }
            Op::Leave => {
                if let Some(start) = open.pop() {
                    end(out, start);
                }
            }
        }
    }
    Ok(())
}

/// Begins a document; its end needs the returned position.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

/// Ends a document.
pub(super) fn end(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    let length = (out.len() - start) as u32;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Appends an element: type, name with its NUL, value. `depth` is that of the document around it; the outermost has 1.
pub(super) fn element(out: &mut Vec<u8>, name: &[u8], cell: Cell<'_>, depth: usize) -> Result<(), Unstorable> {
    let type_at = out.len();
    out.push(0);
    out.extend_from_slice(name);
    let kind = value(out, cell, depth)?;
    set_type(out, type_at, kind);
    Ok(())
}

pub(super) fn set_type(out: &mut [u8], at: usize, kind: u8) {
    if let Some(place) = out.get_mut(at) {
        *place = kind;
    }
}

/// Appends a value and returns its type.
pub(super) fn value(out: &mut Vec<u8>, cell: Cell<'_>, depth: usize) -> Result<u8, Unstorable> {
    let signed = cell.word as i64;
    Ok(match cell.tag {
        Tag::Null | Tag::Absent => NULL,
        Tag::Boolean => {
            out.push(u8::from(cell.word != 0));
            BOOLEAN
        }
        Tag::Int | Tag::Year => int64(out, signed),
        Tag::Uint if signed >= 0 => int64(out, signed),
        Tag::Uint => {
            out.extend_from_slice(&decimal128::from_u64(cell.word));
            DECIMAL128
        }
        Tag::Double => {
            out.extend_from_slice(&cell.word.to_le_bytes());
            if !f64::from_bits(cell.word).is_finite() {
                return Err(Unstorable::NotFinite);
            }
            DOUBLE
        }
        Tag::Decimal => match decimal128::from_text(cell.bytes) {
            Some(bytes) => {
                out.extend_from_slice(&bytes);
                DECIMAL128
            }
            None => string(out, cell.bytes),
        },
        Tag::Text => string(out, cell.bytes),
        Tag::Bytes | Tag::Bits | Tag::Geometry => {
            out.extend_from_slice(&(cell.bytes.len() as u32).to_le_bytes());
            out.push(0);
            out.extend_from_slice(cell.bytes);
            BINARY
        }
        Tag::Json => json_to_bson::value(out, json::checked(cell)?, depth)?,
        Tag::Date => {
            let millis = signed.checked_mul(MILLIS_A_DAY).ok_or(Unstorable::DateRange)?;
            out.extend_from_slice(&millis.to_le_bytes());
            DATE
        }
        Tag::Datetime | Tag::Timestamp if signed % MICROS_A_MILLI == 0 => {
            out.extend_from_slice(&(signed / MICROS_A_MILLI).to_le_bytes());
            DATE
        }
        Tag::Datetime => text(out, |out| calendar::datetime(out, signed))?,
        Tag::Timestamp => text(out, |out| {
            calendar::datetime(out, signed)?;
            out.push(b'Z');
            Ok(())
        })?,
        Tag::Time => text(out, |out| {
            calendar::time(out, signed);
            Ok(())
        })?,
    })
}

pub(super) fn int64(out: &mut Vec<u8>, number: i64) -> u8 {
    out.extend_from_slice(&number.to_le_bytes());
    INT64
}

pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) -> u8 {
    out.extend_from_slice(&(text.len() as u32 + 1).to_le_bytes());
    out.extend_from_slice(text);
    out.push(0);
    STRING
}

fn text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unstorable>) -> Result<u8, Unstorable> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    out.push(0);
    let length = (out.len() - start - 4) as u32;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(STRING)
}

/// Whether a document that begins inside one of this depth is one too deep.
pub(super) fn too_deep(depth: usize) -> bool {
    depth >= MAX_DEPTH
}
