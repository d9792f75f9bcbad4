//! Documents as JSON text, and as the fields of a Redis hash.
//!
//! Integers are JSON numbers of any size, decimals are texts (exact), times are ISO 8601, bytes are base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cell::Cell;
use super::{Refused, Unstorable, calendar};
use crate::change::Tag;
use crate::transform::{Op, Shape};

/// Deepest nesting of a document in any sink; MongoDB's own limit.
pub(super) const MAX_DEPTH: usize = 100;

/// Appends the document of a shape.
pub(super) fn document<'a>(out: &mut Vec<u8>, shape: &Shape, cell: impl Fn(u32) -> Cell<'a>) -> Result<(), Refused> {
    if shape.whole {
        let cell = cell(0);
        return whole(cell).map(|text| out.extend_from_slice(text)).map_err(|why| Refused::new("", why));
    }
    out.push(b'{');
    members(out, &shape.ops, &cell)?;
    out.push(b'}');
    Ok(())
}

fn members<'a>(out: &mut Vec<u8>, ops: &[Op], cell: &impl Fn(u32) -> Cell<'a>) -> Result<(), Refused> {
    for op in ops {
        match op {
            Op::Leaf { name, cell: index } => {
                let value = cell(*index);
                if value.tag != Tag::Absent {
                    comma(out);
                    out.extend_from_slice(&name.json);
                    self::value(out, value).map_err(|why| Refused::new(&name.plain, why))?;
                }
            }
            Op::Enter { name, .. } => {
                comma(out);
                out.extend_from_slice(&name.json);
                out.push(b'{');
            }
            Op::Leave => out.push(b'}'),
        }
    }
    Ok(())
}

fn comma(out: &mut Vec<u8>) {
    // A value never ends with an opening brace, so this is the first member of its object.
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// The text of a whole document, which must be a JSON object.
pub(super) fn whole(cell: Cell<'_>) -> Result<&[u8], Unstorable> {
    if cell.tag != Tag::Json {
        return Err(Unstorable::NotAnObject);
    }
    let text = checked(cell)?.trim_ascii();
    if text.first() == Some(&b'{') { Ok(text) } else { Err(Unstorable::NotAnObject) }
}

/// The bytes of a JSON cell. A guest's were parsed when its answer was checked; a column's are parsed here.
pub(super) fn checked(cell: Cell<'_>) -> Result<&[u8], Unstorable> {
    if cell.column.is_some() {
        serde_json::from_slice::<serde::de::IgnoredAny>(cell.bytes).map_err(|_| Unstorable::BrokenJson)?;
    }
    if nesting(cell.bytes) >= MAX_DEPTH { Err(Unstorable::TooDeep) } else { Ok(cell.bytes) }
}

/// The depth of well-formed JSON.
fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Appends one value.
pub(super) fn value(out: &mut Vec<u8>, cell: Cell<'_>) -> Result<(), Unstorable> {
    match cell.tag {
        Tag::Null | Tag::Absent => out.extend_from_slice(b"null"),
        Tag::Json => out.extend_from_slice(checked(cell)?),
        Tag::Text => string(out, cell.bytes),
        Tag::Boolean | Tag::Int | Tag::Uint | Tag::Year | Tag::Double => plain(out, cell)?,
        Tag::Decimal | Tag::Bytes | Tag::Bits | Tag::Geometry | Tag::Date | Tag::Time | Tag::Datetime | Tag::Timestamp => {
            out.push(b'"');
            plain(out, cell)?;
            out.push(b'"');
        }
    }
    Ok(())
}

/// Appends the text of one value without quotes; a text as it is.
pub(super) fn plain(out: &mut Vec<u8>, cell: Cell<'_>) -> Result<(), Unstorable> {
    match cell.tag {
        Tag::Null | Tag::Absent => {}
        Tag::Boolean => out.extend_from_slice(if cell.word != 0 { b"true" } else { b"false" }),
        Tag::Int | Tag::Year => out.extend_from_slice(itoa::Buffer::new().format(cell.word as i64).as_bytes()),
        Tag::Uint => out.extend_from_slice(itoa::Buffer::new().format(cell.word).as_bytes()),
        Tag::Double => {
            let number = f64::from_bits(cell.word);
            if !number.is_finite() {
                return Err(Unstorable::NotFinite);
            }
            out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
        }
        Tag::Decimal | Tag::Text => out.extend_from_slice(cell.bytes),
        Tag::Json => out.extend_from_slice(checked(cell)?),
        Tag::Bytes | Tag::Bits | Tag::Geometry => base64(out, cell.bytes),
        Tag::Date => calendar::date(out, cell.word as i64)?,
        Tag::Time => calendar::time(out, cell.word as i64),
        Tag::Datetime => calendar::datetime(out, cell.word as i64)?,
        Tag::Timestamp => {
            calendar::datetime(out, cell.word as i64)?;
            out.push(b'Z');
        }
    }
    Ok(())
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what padded base64 takes, so that nothing is left to be handled.
    let written = out.get_mut(start..).map_or(0, |room| STANDARD.encode_slice(bytes, room).unwrap_or(0));
    out.truncate(start + written);
}

/// Appends a JSON string of UTF-8 bytes.
pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
        let (clean, special) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((&byte, behind)) = special.split_first() else { break };
        escape(out, byte);
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends the top-level fields as a Redis hash has them: name and value, each as a u32 length and bytes. Values are plain text;
/// nested documents are JSON. A null has no field, because a hash has no null.
pub(super) fn hash<'a>(out: &mut Vec<u8>, shape: &Shape, cell: impl Fn(u32) -> Cell<'a>) -> Result<(), Refused> {
    let start = out.len();
    if shape.whole {
        let text = whole(cell(0)).map_err(|why| Refused::new("", why))?;
        hash_members(out, text).map_err(|why| Refused::new("", why))?;
    }
    let mut ops = shape.ops.as_slice();
    while let Some((op, behind)) = ops.split_first() {
        ops = behind;
        match op {
            Op::Leaf { name, cell: index } => {
                let value = cell(*index);
                if !value.is_missing() {
                    hash_field(out, name.plain.as_bytes(), |out| plain(out, value)).map_err(|why| Refused::new(&name.plain, why))?;
                }
            }
            Op::Enter { name, ops: inside } => {
                let (nested, after) = ops.split_at(ops.len().min(*inside));
                ops = after;
                hash_field(out, name.plain.as_bytes(), |out| {
                    out.push(b'{');
                    members(out, nested, &cell)
                    // The nested operations end with the `Leave` that closes this object.
                })?;
            }
            Op::Leave => {}
        }
    }
    if out.len() == start { Err(Refused::new("", Unstorable::EmptyHash)) } else { Ok(()) }
}

fn hash_field<E>(out: &mut Vec<u8>, name: &[u8], value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(name);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    value(out)?;
    let length = (out.len() - length_at - 4) as u32;
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// The members of a whole document: texts without quotes, everything else as its JSON.
fn hash_members(out: &mut Vec<u8>, object: &[u8]) -> Result<(), Unstorable> {
    use serde_json::value::RawValue;
    let members: std::collections::BTreeMap<String, &RawValue> = serde_json::from_slice(object).map_err(|_| Unstorable::BrokenJson)?;
    for (name, value) in members {
        let raw = value.get();
        if raw == "null" {
            continue;
        }
        let text: std::borrow::Cow<'_, str> = match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(raw).map_err(|_| Unstorable::BrokenJson)?.into(),
            _ => raw.into(),
        };
        hash_field(out, name.as_bytes(), |out| {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        })?;
    }
    Ok(())
}
