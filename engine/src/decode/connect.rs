//! Kafka Connect's schemas: what a record with `schema` and `payload` tells about its columns. A schema is parsed once; its bytes are
//! remembered, and a record that begins with the same bytes is not parsed up to its payload.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Error;
use super::declared::MysqlType;
use super::row::Shape;
use crate::change::{PassedOver, Tag};
use crate::config::{DeclaredColumn, Wire};

/// Schemas remembered: of key and value each as many as versions of a table may alternate.
const REMEMBERED: usize = 8;
/// A longer schema is parsed each time.
const MAX_REMEMBERED_BYTES: usize = 4 << 20;

/// What the schema of a value says.
#[derive(Debug)]
pub(super) enum ValueSchema {
    /// Rows of this shape.
    Row(Arc<Shape>),
    /// No row.
    PassedOver(PassedOver),
}

/// The bytes of a key or value before its payload.
type Prefix = Box<[u8]>;

/// A remembered schema: `{"schema":…,"payload":` as it stands, and what was read from it.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    entries: Vec<(Prefix, Result<Arc<T>, Error>)>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

/// What a record with a schema holds.
pub(super) struct WithSchema<'a, T> {
    pub(super) schema: Arc<T>,
    pub(super) payload: &'a str,
    /// Offset of the payload in the part.
    pub(super) at: usize,
}

impl<T> Remembered<T> {
    /// Splits a key or value into its schema and its payload; `read` reads a schema that is not remembered.
    pub(super) fn split<'a>(
        &mut self,
        part: &'static str,
        bytes: &'a [u8],
        read: impl FnOnce(&ConnectSchema) -> Result<T, Error>,
    ) -> Result<WithSchema<'a, T>, Error> {
        if let Some(index) = self.entries.iter().position(|(prefix, _)| bytes.starts_with(prefix))
            && let Some((prefix, schema)) = self.entries.get(index)
            && let at = prefix.len()
            && let Some(payload) = closed_payload(part, bytes, at)?
        {
            let schema = schema.clone()?;
            self.entries.swap(0, index);
            return Ok(WithSchema { schema, payload, at });
        }
        let text = super::text(part, bytes)?;
        let members: Members<'a> = serde_json::from_str(text).map_err(|e| {
            if e.is_data() { Error::NoSchema { part } } else { Error::Json { part, message: "bad syntax", at: e.column() } }
        })?;
        let (Some(raw_schema), Some(payload)) = (members.schema, members.payload) else { return Err(Error::NoSchema { part }) };
        let payload = payload.get();
        let at = payload.as_ptr() as usize - text.as_ptr() as usize;
        let schema = serde_json::from_str::<ConnectSchema>(raw_schema.get())
            .map_err(|_| Error::BadSchema { part, message: "it is not what Kafka Connect's JsonConverter writes".into() })
            .and_then(|schema| read(&schema))
            .map(Arc::new);
        let is_last = text.get(at + payload.len()..).is_some_and(|rest| rest.trim() == "}");
        if is_last && at <= MAX_REMEMBERED_BYTES {
            self.entries.insert(0, (text.get(..at).unwrap_or_default().as_bytes().into(), schema.clone()));
            self.entries.truncate(REMEMBERED);
        }
        Ok(WithSchema { schema: schema?, payload, at })
    }
}

/// The payload from byte `at` on, where the envelope closes at its end.
fn closed_payload<'a>(part: &'static str, bytes: &'a [u8], at: usize) -> Result<Option<&'a str>, Error> {
    let rest = bytes.get(at..).unwrap_or_default();
    let text = super::text(part, rest)
        .map_err(|e| if let Error::Utf8 { at: inner, .. } = e { Error::Utf8 { part, at: at + inner } } else { e })?;
    Ok(text.trim_end().strip_suffix('}'))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// A schema as JsonConverter writes it.
#[derive(Debug, Deserialize)]
pub(super) struct ConnectSchema {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default)]
    fields: Vec<ConnectSchema>,
    field: Option<String>,
}

impl ConnectSchema {
    fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|f| f.field.as_deref() == Some(name))
    }

    fn parameter<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.parameters.get(name)?.parse().ok()
    }

    /// What records with this schema as their value's are.
    pub(super) fn value(&self) -> Result<ValueSchema, Error> {
        match self.name.as_deref() {
            Some("io.debezium.connector.common.Heartbeat") => return Ok(ValueSchema::PassedOver(PassedOver::Heartbeat)),
            Some("io.debezium.connector.common.TransactionMetadataValue") => return Ok(ValueSchema::PassedOver(PassedOver::Transaction)),
            Some(name) if name.starts_with("io.debezium.connector.") && name.ends_with(".SchemaChangeValue") => {
                return Ok(ValueSchema::PassedOver(PassedOver::SchemaChange));
            }
            _ => {}
        }
        if self.field("op").is_none() {
            return Err(Error::NotAnEnvelope);
        }
        match (self.field("after").or_else(|| self.field("before")), self.field("message")) {
            (Some(row), _) => Ok(ValueSchema::Row(Arc::new(row.shape("value")?))),
            (None, Some(_)) => Ok(ValueSchema::PassedOver(PassedOver::Message)),
            (None, None) => Err(Error::NotAnEnvelope),
        }
    }

    /// The shape of the struct that this schema is of.
    pub(super) fn shape(&self, part: &'static str) -> Result<Shape, Error> {
        if self.kind != "struct" || self.fields.is_empty() {
            return Err(Error::BadSchema { part, message: "it is no struct with a field for each column".into() });
        }
        Shape::new(&self.fields.iter().map(|f| f.column(part)).collect::<Result<Vec<_>, _>>()?)
    }

    fn column(&self, part: &'static str) -> Result<DeclaredColumn, Error> {
        let name = self.field.clone().ok_or_else(|| Error::BadSchema { part, message: "a field has no name".into() })?;
        let type_name = self.name.as_deref().unwrap_or(&self.kind);
        let source_type = self.source_type();
        let Some((tag, wire)) = self.tag_and_wire(source_type.as_deref()) else {
            return Err(Error::UnsupportedType { column: name, type_name: format!("{type_name} ({})", self.kind) });
        };
        let length = ["__debezium.source.column.length", "connect.decimal.precision", "length"].iter().find_map(|p| self.parameter(p));
        let scale = ["scale", "__debezium.source.column.scale"].iter().find_map(|p| self.parameter(p));
        let source_type = source_type.unwrap_or_else(|| type_name.into());
        Ok(DeclaredColumn { name, source_type, tag, wire, nullable: self.optional, length, scale })
    }

    /// MySQL's type as `column.propagate.source.type` tells it: "decimal(10,2) unsigned".
    fn source_type(&self) -> Option<String> {
        let full = self.parameters.get("__debezium.source.column.type")?.to_lowercase();
        let (base, rest) = full.split_once(' ').map_or((full.as_str(), String::new()), |(base, rest)| (base, format!(" {rest}")));
        let length = self.parameters.get("__debezium.source.column.length");
        let scale = self.parameters.get("__debezium.source.column.scale");
        Some(match (length, scale) {
            (Some(length), Some(scale)) => format!("{base}({length},{scale}){rest}"),
            (Some(length), None) => format!("{base}({length}){rest}"),
            (None, _) => format!("{base}{rest}"),
        })
    }

    /// The tag of a column's values and how they stand in JSON, by the schema's name and type. In `bigint.unsigned.handling.mode=long` a schema
    /// does not tell BIGINT UNSIGNED from BIGINT: the column is an int then, unless the source type is propagated. So it is with
    /// `binary.handling.mode=base64` or `hex`, and with `decimal.handling.mode=string`, whose columns are texts.
    fn tag_and_wire(&self, source_type: Option<&str>) -> Option<(Tag, Wire)> {
        // By any of MySQL's names: a schema has the one that CREATE TABLE was given.
        let mysql = source_type.and_then(MysqlType::parse);
        let is_unsigned_bigint = mysql.as_ref().is_some_and(MysqlType::is_unsigned_bigint);
        let of = |kind: &str, tag, wire| (self.kind == kind).then_some((tag, wire));
        match self.name.as_deref() {
            Some("org.apache.kafka.connect.data.Decimal") if is_unsigned_bigint => of("bytes", Tag::Uint, Wire::Base64Decimal),
            Some("org.apache.kafka.connect.data.Decimal") => {
                self.parameter::<i32>("scale")?;
                of("bytes", Tag::Decimal, Wire::Base64Decimal)
            }
            Some("org.apache.kafka.connect.data.Date" | "io.debezium.time.Date") => of("int32", Tag::Date, Wire::Days),
            Some("org.apache.kafka.connect.data.Time" | "io.debezium.time.Time") => of("int32", Tag::Time, Wire::Millis),
            Some("io.debezium.time.MicroTime") => of("int64", Tag::Time, Wire::Micros),
            Some("io.debezium.time.NanoTime") => of("int64", Tag::Time, Wire::Nanos),
            Some("org.apache.kafka.connect.data.Timestamp" | "io.debezium.time.Timestamp") => of("int64", Tag::Datetime, Wire::Millis),
            Some("io.debezium.time.MicroTimestamp") => of("int64", Tag::Datetime, Wire::Micros),
            Some("io.debezium.time.NanoTimestamp") => of("int64", Tag::Datetime, Wire::Nanos),
            Some("io.debezium.time.ZonedTimestamp") => of("string", Tag::Timestamp, Wire::Iso),
            Some("io.debezium.time.IsoDate") => of("string", Tag::Date, Wire::Iso),
            Some("io.debezium.time.IsoTime") => of("string", Tag::Time, Wire::Iso),
            Some("io.debezium.time.IsoTimestamp") => of("string", Tag::Datetime, Wire::Iso),
            Some("io.debezium.time.Year") => of("int32", Tag::Year, Wire::Integer),
            Some("io.debezium.data.Json") => of("string", Tag::Json, Wire::JsonText),
            Some("io.debezium.data.Bits") => of("bytes", Tag::Bits, Wire::Base64Bits),
            Some("io.debezium.data.VariableScaleDecimal") => of("struct", Tag::Decimal, Wire::VariableScale),
            Some("io.debezium.data.FloatVector" | "io.debezium.data.DoubleVector") => of("array", Tag::Json, Wire::Array),
            Some(name) if name.starts_with("io.debezium.data.geometry.") => of("struct", Tag::Geometry, Wire::Geometry),
            // Enum, EnumSet, Uuid, ZonedTime, Xml: texts, whatever else they are.
            Some(_) => of("string", Tag::Text, Wire::Text),
            None => Some(match self.kind.as_str() {
                "boolean" => (Tag::Boolean, Wire::Boolean),
                "int64" if is_unsigned_bigint => (Tag::Uint, Wire::WrappedInteger),
                "int8" | "int16" | "int32" | "int64" => (Tag::Int, Wire::Integer),
                "float" | "double" => (Tag::Double, Wire::Number),
                "string" if mysql.as_ref().is_some_and(MysqlType::is_decimal) => (Tag::Decimal, Wire::Text),
                "string" => (Tag::Text, Wire::Text),
                "bytes" => (Tag::Bytes, Wire::Base64),
                _ => return None,
            }),
        }
    }
}
