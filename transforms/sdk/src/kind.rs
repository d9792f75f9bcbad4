//! Kinds of columns: what a transform asks of a column in `open`, where it is checked once, and gets from every row.

use crate::contract::Tag;
use crate::value::{self, Value};

/// A kind of column. The types of this module are all there are.
pub trait Kind {
    /// What a row gives.
    type Value<'a>;
    /// For messages: "text".
    const NAME: &'static str;
    /// Whether a column with this tag is of this kind.
    fn accepts(tag: Tag) -> bool;
    /// The value, where it is of this kind.
    fn read(value: Value<'_>) -> Option<Self::Value<'_>>;
}

/// Each line: documentation, the kind and its name, what a row gives, the tags, and how the value is read.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal => $value:ty, $tags:pat, $($read:pat => $result:expr),+;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $kind {}

        impl Kind for $kind {
            type Value<'a> = $value;
            const NAME: &'static str = $name;

            fn accepts(tag: Tag) -> bool {
                matches!(tag, $tags)
            }

            #[inline]
            fn read(value: Value<'_>) -> Option<Self::Value<'_>> {
                match value {
                    $($read => $result,)+
                    #[allow(unreachable_patterns, reason = "the kind of any value reads every value")]
                    _ => None,
                }
            }
        })*
    };
}

kinds! {
    /// CHAR, VARCHAR, TEXT, an ENUM's label, a SET's labels joined by commas.
    Text "text" => &'a str, Tag::Text, Value::Text(text) => Some(text);
    /// Signed integers, and YEAR.
    Integer "an integer" => i64, Tag::Int | Tag::Year, Value::Int(int) | Value::Year(int) => Some(int);
    /// BIGINT UNSIGNED.
    Unsigned "an unsigned integer" => u64, Tag::Uint, Value::Uint(uint) => Some(uint);
    /// FLOAT and DOUBLE.
    Double "a floating-point number" => f64, Tag::Double, Value::Double(double) => Some(double);
    /// BOOLEAN, where the host knows it as such.
    Boolean "a boolean" => bool, Tag::Boolean, Value::Boolean(boolean) => Some(boolean);
    /// DECIMAL, exactly.
    Decimal "an exact decimal" => value::Decimal<'a>, Tag::Decimal, Value::Decimal(decimal) => Some(decimal);
    /// BINARY, VARBINARY, BLOB.
    Bytes "bytes" => &'a [u8], Tag::Bytes, Value::Bytes(bytes) => Some(bytes);
    /// BIT(n), big-endian. [`Value::Bits`] sets it.
    Bits "bits" => &'a [u8], Tag::Bits, Value::Bits(bits) => Some(bits);
    /// JSON, as MySQL emitted it.
    Json "JSON" => &'a str, Tag::Json, Value::Json(json) => Some(json);
    /// A geometry, as EWKB. [`Value::Geometry`] sets it.
    Geometry "a geometry" => &'a [u8], Tag::Geometry, Value::Geometry(ewkb) => Some(ewkb);
    /// DATE.
    Date "a date" => value::Date, Tag::Date, Value::Date(date) => Some(date);
    /// TIME.
    Time "a time" => value::Time, Tag::Time, Value::Time(time) => Some(time);
    /// DATETIME.
    Datetime "a datetime" => value::Datetime, Tag::Datetime, Value::Datetime(datetime) => Some(datetime);
    /// TIMESTAMP.
    Timestamp "a timestamp" => value::Timestamp, Tag::Timestamp, Value::Timestamp(timestamp) => Some(timestamp);
    /// TIMESTAMP or DATETIME: microseconds since 1970-01-01 00:00, in UTC or without a zone.
    Moment "a timestamp or datetime" => i64, Tag::Timestamp | Tag::Datetime,
        Value::Timestamp(timestamp) => Some(timestamp.micros), Value::Datetime(datetime) => Some(datetime.micros);
    /// Any column.
    Any "any value" => Value<'a>, _, any => Some(any);
}
