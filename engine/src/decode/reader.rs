//! How a column's values stand in JSON, and what is made of them: tag and wire in one, checked once.
#![expect(clippy::wildcard_enum_match_arm, reason = "few of all pairs of tag and wire go together")]

use crate::change::Tag;
use crate::config::Wire;

/// Units of a number that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
    Iso,
}

/// How a column's values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Boolean,
    Int,
    Uint,
    WrappedUint,
    DecimalUint,
    Double,
    /// Base64 of the unscaled value, or a JSON number: as Kafka Connect's own reader, because key and value may differ in `decimal.format`.
    Decimal(Option<i32>),
    DecimalText(Option<i32>),
    VariableScale,
    Span(Tag),
    Array,
    Base64,
    Base64Url,
    Hex,
    Bits(Option<u32>),
    Geometry,
    Date(Unit),
    Time(Unit),
    Datetime(Unit),
    Timestamp(Unit),
    Year,
}

impl Reader {
    /// Whether it reads what the other one reads, though perhaps as another type: MySQL's unsigned bigints, and decimals that stand as texts, are told
    /// by the source type alone.
    pub(super) fn reads_form_of(self, other: Self) -> bool {
        let integer = |reader| matches!(reader, Self::Int | Self::Uint | Self::WrappedUint);
        let decimal = |reader| matches!(reader, Self::Decimal(_) | Self::DecimalUint);
        let text = |reader| matches!(reader, Self::Span(Tag::Text) | Self::DecimalText(_));
        self == other || [integer, decimal, text].iter().any(|form| form(self) && form(other))
    }

    /// The reader of a column; `None` where tag and wire do not go together.
    pub(super) fn of(tag: Tag, wire: Wire, scale: Option<i32>, length: Option<u32>) -> Option<Self> {
        let unit = match wire {
            Wire::Days => Some(Unit::Days),
            Wire::Millis => Some(Unit::Millis),
            Wire::Micros => Some(Unit::Micros),
            Wire::Nanos => Some(Unit::Nanos),
            Wire::Iso => Some(Unit::Iso),
            _ => None,
        };
        Some(match (tag, wire) {
            (Tag::Boolean, Wire::Boolean) => Self::Boolean,
            (Tag::Int, Wire::Integer) => Self::Int,
            (Tag::Uint, Wire::Integer) => Self::Uint,
            (Tag::Uint, Wire::WrappedInteger) => Self::WrappedUint,
            (Tag::Uint, Wire::Base64Decimal | Wire::NumericDecimal) => Self::DecimalUint,
            (Tag::Double, Wire::Number | Wire::Integer) => Self::Double,
            (Tag::Decimal, Wire::Base64Decimal | Wire::NumericDecimal) => Self::Decimal(scale),
            (Tag::Decimal, Wire::Text) => Self::DecimalText(scale),
            (Tag::Decimal, Wire::VariableScale) => Self::VariableScale,
            (Tag::Text, Wire::Text) => Self::Span(Tag::Text),
            (Tag::Json, Wire::JsonText) => Self::Span(Tag::Json),
            (Tag::Json, Wire::Array) => Self::Array,
            (Tag::Bytes, Wire::Base64) => Self::Base64,
            (Tag::Bytes, Wire::Base64Url) => Self::Base64Url,
            (Tag::Bytes, Wire::Hex) => Self::Hex,
            (Tag::Bits, Wire::Base64Bits) => Self::Bits(length),
            (Tag::Geometry, Wire::Geometry) => Self::Geometry,
            (Tag::Year, Wire::Integer) => Self::Year,
            (Tag::Date, _) => Self::Date(unit.filter(|u| matches!(u, Unit::Days | Unit::Iso))?),
            (Tag::Time, _) => Self::Time(unit.filter(|u| *u != Unit::Days)?),
            (Tag::Datetime, _) => Self::Datetime(unit.filter(|u| *u != Unit::Days)?),
            (Tag::Timestamp, _) => Self::Timestamp(unit.filter(|u| *u != Unit::Days)?),
            _ => return None,
        })
    }

    /// For messages: "… is not {expected}".
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Int => "an integer of 64 bits",
            Self::Uint => "an integer of 64 bits without sign",
            Self::WrappedUint => "an integer of 64 bits (bigint.unsigned.handling.mode=long)",
            Self::DecimalUint => "a BIGINT UNSIGNED (bigint.unsigned.handling.mode=precise)",
            Self::Double => "a number",
            Self::Decimal(_) => "a decimal of its scale, in base64 or as a JSON number (decimal.handling.mode=precise)",
            Self::DecimalText(_) => "a decimal of its scale, as text (decimal.handling.mode=string)",
            Self::VariableScale => "a struct of scale and value",
            Self::Span(Tag::Json) => "a text with JSON",
            Self::Span(_) => "a text",
            Self::Array => "an array of numbers",
            Self::Base64 => "base64 (binary.handling.mode=bytes or base64)",
            Self::Base64Url => "URL-safe base64 (binary.handling.mode=base64-url-safe)",
            Self::Hex => "hexadecimal (binary.handling.mode=hex)",
            Self::Bits(_) => "bits of its length, in base64",
            Self::Geometry => "a struct of wkb and srid",
            Self::Date(Unit::Iso) => "an ISO date (time.precision.mode=isostring)",
            Self::Date(_) => "a date in days",
            Self::Time(Unit::Iso) => "an ISO time (time.precision.mode=isostring)",
            Self::Datetime(Unit::Iso) => "an ISO date and time (time.precision.mode=isostring)",
            Self::Timestamp(Unit::Iso) => "an ISO date and time with a zone",
            Self::Time(_) | Self::Datetime(_) | Self::Timestamp(_) => {
                "a time that microseconds can hold, in the unit of its time.precision.mode"
            }
            Self::Year => "a year",
        }
    }

    /// The tag of the cells that it writes.
    pub(super) const fn tag(self) -> Tag {
        match self {
            Self::Boolean => Tag::Boolean,
            Self::Int => Tag::Int,
            Self::Uint | Self::WrappedUint | Self::DecimalUint => Tag::Uint,
            Self::Double => Tag::Double,
            Self::Decimal(_) | Self::DecimalText(_) | Self::VariableScale => Tag::Decimal,
            Self::Span(tag) => tag,
            Self::Array => Tag::Json,
            Self::Base64 | Self::Base64Url | Self::Hex => Tag::Bytes,
            Self::Bits(_) => Tag::Bits,
            Self::Geometry => Tag::Geometry,
            Self::Date(_) => Tag::Date,
            Self::Time(_) => Tag::Time,
            Self::Datetime(_) => Tag::Datetime,
            Self::Timestamp(_) => Tag::Timestamp,
            Self::Year => Tag::Year,
        }
    }
}
