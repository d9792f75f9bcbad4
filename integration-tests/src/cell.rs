//! A value of a MySQL column, and how a store must hold it: the checker's own reading of the promise, not the engine's code.

use anyhow::{Context as _, Result};
use bson::Bson;
use serde_json::Value;

/// What a column holds, from the text that MySQL prints for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// A truth value that a transform computed.
    Bool(bool),
    /// Every integer that fits.
    Int(i64),
    /// BIGINT UNSIGNED.
    Uint(u64),
    /// As MySQL prints it.
    Decimal(String),
    /// FLOAT: a store may hold any double that is this single.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// Texts, ENUM and SET.
    Text(String),
    /// Byte strings, and BIT(n) with the highest byte first.
    Bytes(Vec<u8>),
    /// Compared as JSON, not as text: MySQL prints it otherwise than the binlog has it.
    Json(Value),
    /// `2024-02-29`.
    Date(String),
    /// `-01:02:03.004`, with as many groups of three digits as say something.
    Time(String),
    /// `2024-02-29T12:34:56.789`; no zone.
    Datetime(String),
    /// The same in UTC, with `Z`.
    Timestamp(String),
}

/// How a column's text is read.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// TINYINT to BIGINT, YEAR.
    Int,
    /// BIGINT UNSIGNED.
    Uint,
    /// DECIMAL, NUMERIC.
    Decimal,
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// CHAR, VARCHAR, TEXT, ENUM, SET.
    Text,
    /// BINARY, VARBINARY, BLOB, BIT, VECTOR.
    Bytes,
    /// POINT without a reference system: MySQL puts four bytes before the WKB.
    Geometry,
    /// JSON.
    Json,
    /// DATE.
    Date,
    /// TIME.
    Time,
    /// DATETIME.
    Datetime,
    /// TIMESTAMP, read in a session whose zone is UTC.
    Timestamp,
}

impl Cell {
    /// Reads a column of a result that came as text.
    ///
    /// # Errors
    /// The text is none of that kind.
    pub fn read(kind: Kind, value: Option<&[u8]>) -> Result<Self> {
        let Some(bytes) = value else { return Ok(Self::Null) };
        let text = || std::str::from_utf8(bytes).with_context(|| format!("{kind:?} is no text"));
        Ok(match kind {
            Kind::Int => Self::Int(text()?.parse()?),
            Kind::Uint => Self::Uint(text()?.parse()?),
            Kind::Decimal => Self::Decimal(text()?.to_owned()),
            Kind::Float => Self::Float(text()?.parse()?),
            Kind::Double => Self::Double(text()?.parse()?),
            Kind::Text => Self::Text(text()?.to_owned()),
            Kind::Bytes => Self::Bytes(bytes.to_vec()),
            Kind::Geometry => Self::Bytes(bytes.get(4..).context("a geometry is longer")?.to_vec()),
            Kind::Json => Self::Json(serde_json::from_slice(bytes)?),
            Kind::Date => Self::Date(text()?.to_owned()),
            Kind::Time => Self::Time(shorten_fraction(text()?)),
            Kind::Datetime => Self::Datetime(shorten_fraction(text()?).replace(' ', "T")),
            Kind::Timestamp => Self::Timestamp(format!("{}Z", shorten_fraction(text()?).replace(' ', "T"))),
        })
    }

    /// Whether a JSON document holds exactly this.
    #[must_use]
    #[expect(clippy::float_cmp, clippy::cast_possible_truncation, reason = "exactness is what is checked; a FLOAT is a single")]
    pub fn is_json(&self, held: &Value) -> bool {
        match self {
            Self::Null => held.is_null(),
            Self::Bool(value) => held.as_bool() == Some(*value),
            Self::Int(value) => held.is_i64() && held.as_i64() == Some(*value),
            Self::Uint(value) => held.as_u64() == Some(*value),
            Self::Float(value) => held.as_f64().is_some_and(|held| held as f32 == *value),
            Self::Double(value) => held.as_f64() == Some(*value),
            Self::Bytes(value) => held.as_str().is_some_and(|held| held == base64(value)),
            Self::Json(value) => same_json(value, held),
            Self::Decimal(text) | Self::Text(text) | Self::Date(text) | Self::Time(text) | Self::Datetime(text) | Self::Timestamp(text) => {
                held.as_str() == Some(text)
            }
        }
    }

    /// Whether a BSON document holds exactly this, in the right type.
    #[must_use]
    #[expect(clippy::float_cmp, clippy::cast_possible_truncation, reason = "exactness is what is checked; a FLOAT is a single")]
    pub fn is_bson(&self, held: &Bson) -> bool {
        match self {
            Self::Null => held == &Bson::Null,
            Self::Bool(value) => held.as_bool() == Some(*value),
            Self::Int(value) => held.as_i64() == Some(*value),
            Self::Uint(value) => match i64::try_from(*value) {
                Ok(value) => held.as_i64() == Some(value),
                Err(_) => is_decimal(held, &value.to_string()),
            },
            Self::Decimal(text) if significant_digits(text) > 34 => held.as_str() == Some(text),
            Self::Decimal(text) => is_decimal(held, text),
            Self::Float(value) => held.as_f64().is_some_and(|held| held as f32 == *value),
            Self::Double(value) => held.as_f64() == Some(*value),
            Self::Bytes(value) => matches!(held, Bson::Binary(binary) if binary.bytes == *value),
            Self::Json(value) => same_json(value, &as_json(held)),
            Self::Date(day) => is_moment(held, &format!("{day}T00:00:00Z")),
            Self::Datetime(text) | Self::Timestamp(text) if text.trim_end_matches('Z').len() > "2024-02-29T12:34:56.789".len() => {
                held.as_str() == Some(text)
            }
            Self::Datetime(text) => is_moment(held, &format!("{text}Z")),
            Self::Timestamp(text) => is_moment(held, text),
            Self::Text(text) | Self::Time(text) => held.as_str() == Some(text),
        }
    }

    /// As a part of a Redis key.
    #[must_use]
    pub fn as_key(&self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Decimal(text) | Self::Date(text) => text.clone(),
            Self::Text(text) => text.replace('%', "%25").replace(':', "%3A").replace('{', "%7B").replace('}', "%7D"),
            other => format!("{other:?} is no key of these cases"),
        }
    }
}

/// `12:34:56.120000` as `12:34:56.120`, `12:34:56.000` as `12:34:56`.
fn shorten_fraction(text: &str) -> String {
    let Some((whole, fraction)) = text.split_once('.') else { return text.to_owned() };
    let padded = format!("{fraction:0<6}");
    if padded == "000000" {
        whole.to_owned()
    } else if let Some(millis) = padded.strip_suffix("000") {
        format!("{whole}.{millis}")
    } else {
        format!("{whole}.{padded}")
    }
}

fn significant_digits(decimal: &str) -> usize {
    decimal.chars().filter(char::is_ascii_digit).collect::<String>().trim_start_matches('0').len()
}

fn is_decimal(held: &Bson, text: &str) -> bool {
    text.parse::<bson::Decimal128>().is_ok_and(|wanted| held == &Bson::Decimal128(wanted))
}

fn is_moment(held: &Bson, rfc3339: &str) -> bool {
    bson::DateTime::parse_rfc3339_str(rfc3339).is_ok_and(|wanted| held == &Bson::DateTime(wanted))
}

/// Numbers are compared by value: JSON has one kind of them.
fn same_json(wanted: &Value, held: &Value) -> bool {
    match (wanted, held) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64())),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same_json(a, b)))
        }
        (a, b) => a == b,
    }
}

/// What a JSON column's value may be in BSON.
fn as_json(held: &Bson) -> Value {
    match held {
        Bson::Null => Value::Null,
        Bson::Boolean(value) => Value::from(*value),
        Bson::Int32(value) => Value::from(*value),
        Bson::Int64(value) => Value::from(*value),
        Bson::Double(value) => Value::from(*value),
        Bson::String(text) => Value::from(text.as_str()),
        Bson::Array(values) => Value::Array(values.iter().map(as_json).collect()),
        Bson::Document(fields) => Value::Object(fields.iter().map(|(name, value)| (name.clone(), as_json(value))).collect()),
        other => Value::from(format!("{other:?} stands for no JSON")),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |six: u32| LETTERS.get((six & 63) as usize).map_or('=', |letter| char::from(*letter));
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            out.push(if place <= chunk.len() { letter(group >> (18 - 6 * place)) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{base64, shorten_fraction, significant_digits};

    #[test]
    fn bytes_as_base64() {
        for (bytes, expected) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\x00\xfe\xff", "/wD+/w==")] {
            assert_eq!(base64(bytes), expected);
        }
    }

    #[test]
    fn fractions_are_as_short_as_they_can_be() {
        for (text, expected) in [("1:2:3", "1:2:3"), ("3.000", "3"), ("3.5", "3.500"), ("3.004000", "3.004"), ("3.000001", "3.000001")] {
            assert_eq!(shorten_fraction(text), expected);
        }
    }

    #[test]
    fn leading_zeros_are_not_significant() {
        assert_eq!(significant_digits("-0.010"), 2);
        assert_eq!(significant_digits("1234.50"), 6);
    }
}
