//! Keys, of the row's primary key or of the parts that a guest named (docs/decisions/0005-stored-keys.md).
//!
//! Two rows never share a key. In Redis each part has `%`, `:`, `{` and `}` escaped, so that the parts can be told apart and no
//! part chooses a cluster slot. In MongoDB one part is a scalar, several are a document with a fixed order.

use super::cell::Cell;
use super::{Unstorable, bson, json};
use crate::change::Tag;

/// Appends a Redis key. `explicit`: the parts' types are not those of fixed columns, except where a part is a primary-key column.
pub(super) fn redis<'a>(out: &mut Vec<u8>, prefix: &str, parts: impl Iterator<Item = (Cell<'a>, bool)>) -> Result<(), Unstorable> {
    out.extend_from_slice(prefix.as_bytes());
    for (part, fixed_type) in parts {
        out.push(b':');
        let part = normal(part)?;
        let start = out.len();
        match part.tag {
            Tag::Text if fixed_type => escaped(out, part.bytes),
            Tag::Text => free_text(out, part.bytes),
            Tag::Bytes | Tag::Bits if !fixed_type => {
                // No escape begins so: "x" is no hexadecimal digit.
                out.extend_from_slice(b"%x");
                json::plain(out, part)?;
            }
            Tag::Time | Tag::Datetime | Tag::Timestamp => {
                json::plain(out, part)?;
                let text = out.split_off(start);
                escaped(out, &text);
            }
            Tag::Null | Tag::Absent | Tag::Boolean | Tag::Int | Tag::Uint | Tag::Double | Tag::Decimal => json::plain(out, part)?,
            Tag::Bytes | Tag::Bits | Tag::Json | Tag::Geometry | Tag::Date | Tag::Year => json::plain(out, part)?,
        }
    }
    Ok(())
}

/// Appends the type and the value of `_id`. `names` are those of the parts, in their order.
pub(super) fn mongodb<'a, 'n>(
    out: &mut Vec<u8>,
    mut parts: impl ExactSizeIterator<Item = (Cell<'a>, bool)>,
    names: impl Iterator<Item = &'n str>,
) -> Result<(), Unstorable> {
    let type_at = out.len();
    out.push(bson::DOCUMENT);
    if parts.len() == 1 {
        let Some((part, fixed_type)) = parts.next() else { return Err(Unstorable::NullKey) };
        let kind = bson_part(out, normal(part)?, fixed_type, 1)?;
        bson::set_type(out, type_at, kind);
        return Ok(());
    }
    let start = bson::begin(out);
    for ((part, fixed_type), name) in parts.zip(names) {
        let element_at = out.len();
        out.push(0);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        let kind = bson_part(out, normal(part)?, fixed_type, 2)?;
        bson::set_type(out, element_at, kind);
    }
    bson::end(out, start);
    Ok(())
}

/// Appends a part's value and returns its type. Times, and decimals and moments that BSON can't hold, are texts there, which begin with a
/// digit or `-`: a free text that begins so has a `%` in front, and so has one that begins with `%`.
fn bson_part(out: &mut Vec<u8>, part: Cell<'_>, fixed_type: bool, depth: usize) -> Result<u8, Unstorable> {
    match part.bytes.first() {
        Some(b'0'..=b'9' | b'-' | b'%') if part.tag == Tag::Text && !fixed_type => {
            let marked = [b"%", part.bytes].concat();
            bson::value(out, Cell { bytes: &marked, ..part }, depth)
        }
        _ => bson::value(out, part, depth),
    }
}

/// Equal numbers have one form, and what is no key is refused.
fn normal(part: Cell<'_>) -> Result<Cell<'_>, Unstorable> {
    match part.tag {
        Tag::Null | Tag::Absent => Err(Unstorable::NullKey),
        Tag::Json | Tag::Geometry => Err(Unstorable::KeyType),
        // MySQL holds 0 and -0 for equal, so they are one row.
        Tag::Double if f64::from_bits(part.word) == 0.0 => Ok(Cell { word: 0, ..part }),
        Tag::Boolean | Tag::Int | Tag::Uint | Tag::Double | Tag::Decimal | Tag::Text | Tag::Bytes | Tag::Bits => Ok(part),
        Tag::Date | Tag::Time | Tag::Datetime | Tag::Timestamp | Tag::Year => Ok(part),
    }
}

fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b':' => out.extend_from_slice(b"%3A"),
            b'{' => out.extend_from_slice(b"%7B"),
            b'}' => out.extend_from_slice(b"%7D"),
            _ => out.push(byte),
        }
    }
}

/// A text that could be taken for a number, a time or a truth value has its first character escaped, so that 1 and "1" differ.
fn free_text(out: &mut Vec<u8>, text: &[u8]) {
    match text.split_first() {
        Some((&first, rest)) if first.is_ascii_digit() || first == b'-' || text == b"true" || text == b"false" => {
            let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
            out.extend_from_slice(&[b'%', hex(first >> 4), hex(first & 15)]);
            escaped(out, rest);
        }
        _ => escaped(out, text),
    }
}
