//! Values as a transform holds them: exact decimals, dates and moments, and how each becomes a cell.

use std::borrow::Cow;
use std::fmt;

use crate::contract::Tag;

/// Any value of a row. Units: days, microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract's table describes each")]
pub enum Value<'a> {
    Null,
    /// The column is not in this image of the row, which is not NULL.
    Absent,
    Boolean(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Decimal(Decimal<'a>),
    Text(&'a str),
    Bytes(&'a [u8]),
    Bits(&'a [u8]),
    Json(&'a str),
    Geometry(&'a [u8]),
    Date(Date),
    Time(Time),
    Datetime(Datetime),
    Timestamp(Timestamp),
    Year(i64),
}

/// An exact decimal, in plain digits: "-12.340".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal<'a>(pub &'a str);

/// Why a decimal has no minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// It has digits other than 0 behind those that are asked for.
    Inexact,
    /// It does not fit 64 bits.
    TooLarge,
    /// It is not written as a decimal.
    Malformed,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inexact => "the decimal is finer than a minor unit",
            Self::TooLarge => "the decimal does not fit 64 bits in minor units",
            Self::Malformed => "the decimal is not written in plain digits",
        })
    }
}

impl std::error::Error for DecimalError {}

impl<'a> Decimal<'a> {
    /// The digits, as MySQL has them.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The decimal times 10^`digits`, exactly: "-12.34" has -1234 minor units of 2 digits.
    pub fn minor_units(self, digits: usize) -> Result<i64, DecimalError> {
        let (negative, unsigned) = match self.0.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.0),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let kept = fraction.len().min(digits);
        let (fraction, finer) = fraction.split_at_checked(kept).ok_or(DecimalError::Malformed)?;
        if whole.is_empty() || !finer.bytes().all(|digit| digit == b'0') {
            let plain = !whole.is_empty() && finer.bytes().all(|digit| digit.is_ascii_digit());
            return Err(if plain { DecimalError::Inexact } else { DecimalError::Malformed });
        }
        // Counted downwards, so that the smallest number fits too.
        let mut units: i64 = 0;
        for byte in whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', digits - kept)) {
            if !byte.is_ascii_digit() {
                return Err(DecimalError::Malformed);
            }
            units = units.checked_mul(10).and_then(|units| units.checked_sub(i64::from(byte - b'0'))).ok_or(DecimalError::TooLarge)?;
        }
        if negative { Ok(units) } else { units.checked_neg().ok_or(DecimalError::TooLarge) }
    }
}

/// A day, without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Since 1970-01-01.
    pub days: i64,
}

/// MySQL's TIME, which may be negative or longer than a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// In microseconds.
    pub micros: i64,
}

/// A day and a time, without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datetime {
    /// In microseconds since 1970-01-01 00:00.
    pub micros: i64,
}

impl Datetime {
    /// The day on which it lies.
    pub fn date(self) -> Date {
        Date { days: self.micros.div_euclid(86_400_000_000) }
    }
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// In microseconds since the Unix epoch, UTC.
    pub micros: i64,
}

/// JSON as a field: an array, or an object whose members are not known in `open`. The host refuses what does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// A decimal that the transform computed, in plain digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedDecimal(pub String);

impl OwnedDecimal {
    /// The inverse of [`Decimal::minor_units`]: -5 of 2 digits is -0.05.
    pub fn from_minor_units(units: i64, digits: usize) -> Self {
        let sign = if units < 0 { "-" } else { "" };
        // At least one digit stands before the point.
        let plain = format!("{:0>1$}", units.unsigned_abs(), digits.saturating_add(1));
        Self(match plain.split_at_checked(plain.len().saturating_sub(digits)) {
            Some((whole, fraction)) if digits > 0 => format!("{sign}{whole}.{fraction}"),
            _ => format!("{sign}{plain}"),
        })
    }

    /// To read it as one of a row is read.
    pub fn as_decimal(&self) -> Decimal<'_> {
        Decimal(&self.0)
    }
}

/// What may become a field. `None` becomes null; a field that is never set is not in the document.
pub trait IntoCell {
    /// The cell's tag and payload; texts and bytes go to the end of `heap`.
    fn into_cell(self, heap: &mut Vec<u8>) -> (Tag, u64);
}

fn span(tag: Tag, bytes: &[u8], heap: &mut Vec<u8>) -> (Tag, u64) {
    let offset = heap.len() as u64;
    heap.extend_from_slice(bytes);
    (tag, offset << 32 | bytes.len() as u64)
}

impl IntoCell for Value<'_> {
    fn into_cell(self, heap: &mut Vec<u8>) -> (Tag, u64) {
        match self {
            Value::Null => (Tag::Null, 0),
            Value::Absent => (Tag::Absent, 0),
            Value::Boolean(value) => value.into_cell(heap),
            Value::Int(value) => value.into_cell(heap),
            Value::Uint(value) => value.into_cell(heap),
            Value::Double(value) => value.into_cell(heap),
            Value::Decimal(value) => value.into_cell(heap),
            Value::Text(value) => value.into_cell(heap),
            Value::Bytes(value) => value.into_cell(heap),
            Value::Bits(value) => span(Tag::Bits, value, heap),
            Value::Json(value) => Json(value).into_cell(heap),
            Value::Geometry(value) => span(Tag::Geometry, value, heap),
            Value::Date(value) => value.into_cell(heap),
            Value::Time(value) => value.into_cell(heap),
            Value::Datetime(value) => value.into_cell(heap),
            Value::Timestamp(value) => value.into_cell(heap),
            Value::Year(value) => (Tag::Year, value as u64),
        }
    }
}

impl<T: IntoCell> IntoCell for Option<T> {
    fn into_cell(self, heap: &mut Vec<u8>) -> (Tag, u64) {
        self.map_or((Tag::Null, 0), |value| value.into_cell(heap))
    }
}

/// Each line: a type, and the cell that it becomes.
macro_rules! into_cell {
    ($($type:ty => |$value:ident, $heap:ident| $cell:expr;)*) => {
        $(impl IntoCell for $type {
            fn into_cell(self, $heap: &mut Vec<u8>) -> (Tag, u64) {
                let $value = self;
                $cell
            }
        })*
    };
}

into_cell! {
    bool => |value, _heap| (Tag::Boolean, u64::from(value));
    i64 => |value, _heap| (Tag::Int, value as u64);
    i32 => |value, _heap| (Tag::Int, i64::from(value) as u64);
    u32 => |value, _heap| (Tag::Int, u64::from(value));
    u64 => |value, _heap| (Tag::Uint, value);
    f64 => |value, _heap| (Tag::Double, value.to_bits());
    &str => |value, heap| span(Tag::Text, value.as_bytes(), heap);
    String => |value, heap| span(Tag::Text, value.as_bytes(), heap);
    Cow<'_, str> => |value, heap| span(Tag::Text, value.as_bytes(), heap);
    &[u8] => |value, heap| span(Tag::Bytes, value, heap);
    Decimal<'_> => |value, heap| span(Tag::Decimal, value.0.as_bytes(), heap);
    OwnedDecimal => |value, heap| span(Tag::Decimal, value.0.as_bytes(), heap);
    Date => |value, _heap| (Tag::Date, value.days as u64);
    Time => |value, _heap| (Tag::Time, value.micros as u64);
    Datetime => |value, _heap| (Tag::Datetime, value.micros as u64);
    Timestamp => |value, _heap| (Tag::Timestamp, value.micros as u64);
}

impl<T: AsRef<str>> IntoCell for Json<T> {
    fn into_cell(self, heap: &mut Vec<u8>) -> (Tag, u64) {
        span(Tag::Json, self.0.as_ref().as_bytes(), heap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_exact_minor_units_or_none() {
        let cases = [
            ("0.00", 2, Ok(0)),
            ("99.99", 2, Ok(9999)),
            ("-12345678.90", 2, Ok(-1_234_567_890)),
            ("-0.05", 2, Ok(-5)),
            ("7", 2, Ok(700)),
            ("1.2000", 2, Ok(120)),
            ("1.2001", 2, Err(DecimalError::Inexact)),
            ("12", 0, Ok(12)),
            ("92233720368547758.07", 2, Ok(i64::MAX)),
            ("-92233720368547758.08", 2, Ok(i64::MIN)),
            ("92233720368547758.08", 2, Err(DecimalError::TooLarge)),
            ("99999999999999999999999999999999999.99", 2, Err(DecimalError::TooLarge)),
            ("", 2, Err(DecimalError::Malformed)),
            ("-", 2, Err(DecimalError::Malformed)),
            (".5", 2, Err(DecimalError::Malformed)),
            ("1e3", 2, Err(DecimalError::Malformed)),
            ("1.00x", 2, Err(DecimalError::Malformed)),
            ("1.é5", 1, Err(DecimalError::Malformed)),
            ("--1", 2, Err(DecimalError::Malformed)),
        ];
        for (digits, scale, expected) in cases {
            assert_eq!(Decimal(digits).minor_units(scale), expected, "{digits:?} with {scale} digits");
        }
    }

    #[test]
    fn minor_units_become_the_decimal_that_has_them() {
        let cases = [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (-5, 2, "-0.05"),
            (5, 2, "0.05"),
            (-99, 2, "-0.99"),
            (-100, 2, "-1.00"),
            (1234, 3, "1.234"),
            (-7, 0, "-7"),
            (i64::MAX, 2, "92233720368547758.07"),
            (i64::MIN, 2, "-92233720368547758.08"),
            (i64::MIN, 25, "-0.0000009223372036854775808"),
        ];
        for (units, digits, expected) in cases {
            let made = OwnedDecimal::from_minor_units(units, digits);
            assert_eq!((made.0.as_str(), made.as_decimal().minor_units(digits)), (expected, Ok(units)));
        }
    }

    #[test]
    fn a_datetime_before_the_epoch_lies_on_the_day_it_began() {
        assert_eq!(Datetime { micros: -1 }.date(), Date { days: -1 });
        assert_eq!(Datetime { micros: 86_400_000_000 }.date(), Date { days: 1 });
    }
}
