//! Columns whose types the configuration declares: MySQL's type and the connector's handling modes to tag and wire.

use serde::Deserialize;

use crate::change::Tag;
use crate::config::{DeclaredColumn, Wire};

/// `decimal.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecimalMode {
    /// Exact, in base64 (or as JSON numbers: [`Modes::numeric_decimals`]).
    #[default]
    Precise,
    /// Exact, as text.
    String,
    /// As a float: digits are lost.
    Double,
}

/// `time.precision.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeMode {
    /// The unit follows the column's precision; TIME is in microseconds.
    #[default]
    AdaptiveTimeMicroseconds,
    /// The unit follows the column's precision.
    Adaptive,
    /// Milliseconds: microseconds are lost.
    Connect,
    /// ISO texts; TIME below 0 and above a day is lost.
    Isostring,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds; years beyond 2262 are lost.
    Nanoseconds,
}

/// `binary.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BinaryMode {
    /// Bytes, which JSON has in base64.
    #[default]
    Bytes,
    /// Base64.
    Base64,
    /// URL-safe base64.
    Base64UrlSafe,
    /// Hexadecimal.
    Hex,
}

/// `bigint.unsigned.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BigintUnsignedMode {
    /// A signed integer: values from 2^63 on arrive negative, and are taken back to what they were.
    #[default]
    Long,
    /// A decimal.
    Precise,
}

/// The connector's handling modes; the defaults are Debezium's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modes {
    /// `decimal.handling.mode`.
    pub decimal: DecimalMode,
    /// `time.precision.mode`.
    pub time: TimeMode,
    /// `binary.handling.mode`.
    pub binary: BinaryMode,
    /// `bigint.unsigned.handling.mode`.
    pub bigint_unsigned: BigintUnsignedMode,
    /// `value.converter.decimal.format=NUMERIC`: precise decimals are JSON numbers.
    pub numeric_decimals: bool,
}

/// The column that a name, MySQL's type ("decimal(10,2) unsigned") and the connector's modes declare.
///
/// # Errors
/// The type is not MySQL's, or its arguments are not.
pub fn column(name: &str, source_type: &str, nullable: bool, modes: &Modes) -> Result<DeclaredColumn, String> {
    let mysql = MysqlType::parse(source_type)
        .ok_or_else(|| format!("{source_type:?} is not written as MySQL's types are: \"decimal(10,2) unsigned\""))?;
    let (tag, wire) = mysql.tag_and_wire(modes).ok_or_else(|| {
        format!(
            "{source_type:?} is no type of MySQL: write it as information_schema.columns.column_type has it, for example \"varchar(100)\""
        )
    })?;
    let (length, scale) = mysql.length_and_scale()?;
    Ok(DeclaredColumn { name: name.into(), source_type: source_type.trim().into(), tag, wire, nullable, length, scale })
}

/// A type as it is written: name, arguments, attributes.
pub(super) struct MysqlType {
    base: String,
    /// Numbers in parentheses; none for ENUM and SET, whose labels are not needed.
    arguments: Vec<u32>,
    unsigned: bool,
}

/// What stands in the parentheses, and behind them. A label of an ENUM may have parentheses of its own.
fn split_arguments(rest: &str) -> Option<(&str, &str)> {
    let mut in_label = false;
    let end = rest.bytes().position(|byte| {
        in_label ^= byte == b'\'';
        byte == b')' && !in_label
    })?;
    Some((rest.get(..end)?, rest.get(end + 1..)?))
}

impl MysqlType {
    pub(super) fn parse(source_type: &str) -> Option<Self> {
        let lower = source_type.trim().to_lowercase();
        // Parentheses that stand further behind are a default's or a comment's.
        let of_type = |base: &str| base.split_whitespace().nth(1).is_none() || base.starts_with("national ");
        let (base, arguments, attributes) = match lower.split_once('(') {
            Some((base, rest)) if of_type(base) => {
                let (arguments, attributes) = split_arguments(rest)?;
                (base.trim(), arguments, attributes.trim())
            }
            _ => {
                let words = lower.find([' ', '\t']).unwrap_or(lower.len());
                let (base, attributes) = lower.split_at_checked(words)?;
                (base, "", attributes.trim())
            }
        };
        let (base, attributes) = match (base, attributes) {
            ("double", "precision") => ("double", ""),
            other => other,
        };
        let base = base.strip_prefix("national ").unwrap_or(base);
        let arguments = match (base, arguments.trim()) {
            ("enum" | "set", _) | (_, "") => Vec::new(),
            (_, numbers) => numbers.split(',').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?,
        };
        // What else SHOW CREATE TABLE says of a column, its comment at last, stands behind these.
        let mut own = attributes.split_whitespace().take_while(|word| matches!(*word, "signed" | "unsigned" | "zerofill"));
        let unsigned = own.any(|word| word != "signed") || base == "serial";
        Some(Self { base: base.into(), arguments, unsigned })
    }

    /// DECIMAL's default is (10,0), and the fraction of a time has no digits.
    fn argument(&self, index: usize) -> Option<u32> {
        self.arguments.get(index).copied()
    }

    /// BIGINT UNSIGNED, by whatever name.
    pub(super) fn is_unsigned_bigint(&self) -> bool {
        matches!(self.base.as_str(), "bigint" | "int8" | "serial") && self.unsigned
    }

    /// DECIMAL, by whatever name.
    pub(super) fn is_decimal(&self) -> bool {
        matches!(self.base.as_str(), "decimal" | "numeric" | "dec" | "fixed")
    }

    fn length_and_scale(&self) -> Result<(Option<u32>, Option<i32>), String> {
        if self.is_decimal() {
            let (precision, scale) = (self.argument(0).unwrap_or(10), self.argument(1).unwrap_or(0));
            if precision == 0 || precision > 65 || scale > 30 || scale > precision {
                return Err(format!("decimal({precision},{scale}) is beyond MySQL's decimal(65,30)"));
            }
            return Ok((Some(precision), Some(scale.cast_signed())));
        }
        if self.base == "bit" {
            let bits = self.argument(0).unwrap_or(1);
            return if (1..=64).contains(&bits) { Ok((Some(bits), None)) } else { Err(format!("bit({bits}) is beyond MySQL's bit(64)")) };
        }
        if matches!(self.base.as_str(), "time" | "datetime" | "timestamp") {
            let digits = self.argument(0).unwrap_or(0);
            return if digits <= 6 { Ok((Some(digits), None)) } else { Err(format!("{}({digits}) is beyond MySQL's 6 digits", self.base)) };
        }
        Ok((self.argument(0), self.argument(1).map(u32::cast_signed)))
    }

    fn tag_and_wire(&self, modes: &Modes) -> Option<(Tag, Wire)> {
        let precise = if modes.numeric_decimals { Wire::NumericDecimal } else { Wire::Base64Decimal };
        if self.is_unsigned_bigint() {
            return Some(match modes.bigint_unsigned {
                BigintUnsignedMode::Long => (Tag::Uint, Wire::WrappedInteger),
                BigintUnsignedMode::Precise => (Tag::Uint, precise),
            });
        }
        if self.is_decimal() {
            return Some(match modes.decimal {
                DecimalMode::Precise => (Tag::Decimal, precise),
                DecimalMode::String => (Tag::Decimal, Wire::Text),
                // The digits are lost already: to call it a decimal would promise what is not there.
                DecimalMode::Double => (Tag::Double, Wire::Number),
            });
        }
        Some(match self.base.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "int1" | "int2" | "int3" | "int4" | "int8" | "bool"
            | "boolean" => (Tag::Int, Wire::Integer),
            "float" | "double" | "real" | "float4" | "float8" => (Tag::Double, Wire::Number),
            "bit" if self.argument(0).unwrap_or(1) == 1 => (Tag::Boolean, Wire::Boolean),
            "bit" => (Tag::Bits, Wire::Base64Bits),
            "char" | "varchar" | "nchar" | "nvarchar" | "character" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
                (Tag::Text, Wire::Text)
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => match modes.binary {
                BinaryMode::Bytes | BinaryMode::Base64 => (Tag::Bytes, Wire::Base64),
                BinaryMode::Base64UrlSafe => (Tag::Bytes, Wire::Base64Url),
                BinaryMode::Hex => (Tag::Bytes, Wire::Hex),
            },
            "json" => (Tag::Json, Wire::JsonText),
            "vector" => (Tag::Json, Wire::Array),
            "date" if modes.time == TimeMode::Isostring => (Tag::Date, Wire::Iso),
            "date" => (Tag::Date, Wire::Days),
            "time" => (Tag::Time, self.time_wire(modes.time)),
            "datetime" => (Tag::Datetime, self.datetime_wire(modes.time)),
            // A text with a zone in every mode.
            "timestamp" => (Tag::Timestamp, Wire::Iso),
            "year" => (Tag::Year, Wire::Integer),
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geometrycollection"
            | "geomcollection" => (Tag::Geometry, Wire::Geometry),
            _ => return None,
        })
    }

    fn time_wire(&self, mode: TimeMode) -> Wire {
        match mode {
            TimeMode::Adaptive if self.argument(0).unwrap_or(0) <= 3 => Wire::Millis,
            TimeMode::AdaptiveTimeMicroseconds | TimeMode::Adaptive | TimeMode::Microseconds => Wire::Micros,
            TimeMode::Connect => Wire::Millis,
            TimeMode::Isostring => Wire::Iso,
            TimeMode::Nanoseconds => Wire::Nanos,
        }
    }

    fn datetime_wire(&self, mode: TimeMode) -> Wire {
        match mode {
            TimeMode::AdaptiveTimeMicroseconds | TimeMode::Adaptive if self.argument(0).unwrap_or(0) <= 3 => Wire::Millis,
            TimeMode::AdaptiveTimeMicroseconds | TimeMode::Adaptive | TimeMode::Microseconds => Wire::Micros,
            TimeMode::Connect => Wire::Millis,
            TimeMode::Isostring => Wire::Iso,
            TimeMode::Nanoseconds => Wire::Nanos,
        }
    }
}
