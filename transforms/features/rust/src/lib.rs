//! All that an SDK can do, done once. `transforms/features` has the same transform in each language, and a test compares what they say byte
//! for byte. The column `what` tells what to do with a row.

use serde::Deserialize;
use streamsync_sdk::text::{lower, upper};
use streamsync_sdk::{
    Changes, Column, Document, Field, Json, Op, OpenError, OwnedDecimal, Presence, Reject, Row, Table, Transform, Value, kind, log, metrics,
};

/// The route's `config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    ratio: Option<f64>,
    /// Whatever it is.
    nested: Option<serde_json::Value>,
}

/// One column of each kind, read as what it is.
struct Typed {
    boolean: Column<kind::Boolean>,
    int: Column<kind::Integer>,
    uint: Column<kind::Unsigned>,
    double: Column<kind::Double>,
    decimal: Column<kind::Decimal>,
    text: Column<kind::Text>,
    bytes: Column<kind::Bytes>,
    bits: Column<kind::Bits>,
    json: Column<kind::Json>,
    geometry: Column<kind::Geometry>,
    date: Column<kind::Date>,
    time: Column<kind::Time>,
    datetime: Column<kind::Datetime>,
    timestamp: Column<kind::Timestamp>,
    year: Column<kind::Integer>,
}

/// The kinds, in the order of the contract.
const KINDS: [&str; 15] = [
    "boolean",
    "int",
    "uint",
    "double",
    "decimal",
    "text",
    "bytes",
    "bits",
    "json",
    "geometry",
    "date",
    "time",
    "datetime",
    "timestamp",
    "year",
];

/// What other languages make of objects and lists.
const NESTED: &str = r#"{"a":[1,-2.5,"é \"q\"",true,null,{}],"b":{"c":[]}}"#;

/// Does what the column `what` says.
pub struct Features {
    what: Column<kind::Text>,
    text_before: Column<kind::Text>,
    typed: Typed,
    any: Vec<Column<kind::Any>>,
    all: Document,
    typed_fields: Vec<Field>,
    any_fields: Vec<Field>,
    op: Field,
    offset: Field,
    partition: Field,
    changed_at: Field,
    presence: Field,
    keyed: Document,
    part: Field,
    value: Field,
    whole: Document,
    everything: Field,
    config: Config,
    /// Columns of the primary key, and the route's targets, joined by commas.
    key: String,
    targets: String,
}

impl Transform for Features {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = Config;

    fn open(table: &Table<'_>, config: &Config) -> Result<Self, OpenError> {
        table.see_deletes();
        let what = table.column("what")?;
        let text_before = table.column_before("f_text")?;
        let typed = Typed {
            boolean: table.column("f_boolean")?,
            int: table.column("f_int")?,
            uint: table.column("f_uint")?,
            double: table.column("f_double")?,
            decimal: table.column("f_decimal")?,
            text: table.column("f_text")?,
            bytes: table.column("f_bytes")?,
            bits: table.column("f_bits")?,
            json: table.column("f_json")?,
            geometry: table.column("f_geometry")?,
            date: table.column("f_date")?,
            time: table.column("f_time")?,
            datetime: table.column("f_datetime")?,
            timestamp: table.column("f_timestamp")?,
            year: table.column("f_year")?,
        };
        let any = KINDS.iter().map(|kind| table.column(&format!("f_{kind}"))).collect::<Result<_, _>>()?;

        let mut all = table.document();
        all.copy("id")?.copy_as::<kind::Text>("f_text", "copied.text")?;
        let typed_fields = KINDS.iter().map(|kind| all.field(&format!("typed.{kind}"))).collect::<Result<_, _>>()?;
        let any_fields = KINDS.iter().map(|kind| all.field(&format!("any.{kind}"))).collect::<Result<_, _>>()?;
        let op = all.field("meta.op")?;
        let offset = all.field("meta.offset")?;
        let partition = all.field("meta.partition")?;
        let changed_at = all.field("meta.changed_at")?;
        let presence = all.field("meta.presence")?;
        let all = all.build();

        let mut keyed = table.document_for(&["keyed", "nowhere"]);
        keyed.key_copy("id")?;
        let part = keyed.key("part")?;
        let value = keyed.copy("what")?.field("value")?;
        let keyed = keyed.build();

        let mut whole = table.document_for(&["whole"]);
        let everything = whole.field("")?;
        let whole = whole.build();
        let schema = table.schema();
        let names = schema.primary_key.iter().filter_map(|index| schema.columns.get(*index as usize)).map(|column| column.name.as_str());
        let key = names.collect::<Vec<_>>().join(",");
        let targets = table.context().targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(",");
        Ok(Self {
            what,
            text_before,
            typed,
            any,
            all,
            typed_fields,
            any_fields,
            op,
            offset,
            partition,
            changed_at,
            presence,
            keyed,
            part,
            value,
            whole,
            everything,
            config: config.clone(),
            key,
            targets,
        })
    }

    fn event(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        if row.op == Op::Delete {
            changes.delete(&self.all);
            changes.put(&self.keyed).set(self.part, "gone").set(self.value, row.get(self.text_before)?);
            return Ok(());
        }
        match row.get(self.what)?.unwrap_or_default() {
            "all" => self.put_all(row, changes),
            "ttl" => {
                changes.put(&self.keyed).ttl_seconds(60).set(self.part, "a").set(self.value, row.get(self.typed.text)?);
                Ok(())
            }
            "two" => {
                changes.put(&self.keyed).set(self.part, "a");
                changes.put(&self.keyed).set(self.part, "b").set(self.value, true);
                changes.put(&self.all).set(self.op, "two");
                Ok(())
            }
            "delete" => {
                changes.delete(&self.keyed).set(self.part, "a");
                Ok(())
            }
            "whole" => {
                changes.put(&self.whole).set(self.everything, row.get(self.typed.json)?.map(Json));
                Ok(())
            }
            "nested" => {
                changes.put(&self.whole).set(self.everything, Json(NESTED));
                Ok(())
            }
            "absent" => {
                self.set_typed(changes, 1, Value::Absent, 5, Value::Null);
                Ok(())
            }
            "minor" => {
                let minor = row.get(self.typed.decimal)?.map(|decimal| decimal.minor_units(2)).transpose()?;
                self.set_typed(changes, 1, minor.map_or(Value::Null, Value::Int), 5, Value::Absent);
                Ok(())
            }
            "from minor" => self.put_from_minor(row, changes),
            "year" => {
                changes.put(&self.all).set(self.op, Value::Year(2155));
                Ok(())
            }
            "table" => {
                changes.put(&self.all).set(self.op, self.key.as_str()).set(self.presence, self.targets.as_str());
                Ok(())
            }
            "config" => {
                let nested = self.config.nested.as_ref().map(|json| Json(json.to_string()));
                changes.put(&self.all).set(self.op, self.config.ratio).set(self.presence, nested);
                Ok(())
            }
            // What a language lets pass, its SDK must refuse: JavaScript, Go. The field lists what it did not.
            "mistakes" => {
                changes.put(&self.all).set(self.op, "");
                Ok(())
            }
            // In C alone a time to live can be set without a document.
            "ttl alone" => Err(Reject::new(
                "ttl-without-put",
                "the transform sets a time to live where no put is open: set it after the put that it is of",
            )),
            "case" => self.put_cases(row, changes),
            "log" => {
                log::debug("debug");
                log::info("info");
                log::warn("warn");
                log::error("error");
                metrics::add("seen", 2);
                metrics::add("seen", 3);
                changes.skip();
                Ok(())
            }
            "skip" => {
                changes.skip();
                Ok(())
            }
            "reject" => {
                changes.put(&self.all).set(self.op, "taken back");
                Err(Reject::new("on-purpose", "é, on purpose"))
            }
            "field of a delete" => {
                changes.delete(&self.keyed).set(self.part, "a").set(self.value, 1_i64);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Features {
    fn put_all(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        let t = &self.typed;
        let values = [
            row.get(t.boolean)?.map(Value::Boolean),
            row.get(t.int)?.map(Value::Int),
            row.get(t.uint)?.map(Value::Uint),
            row.get(t.double)?.map(Value::Double),
            row.get(t.decimal)?.map(Value::Decimal),
            row.get(t.text)?.map(Value::Text),
            row.get(t.bytes)?.map(Value::Bytes),
            row.get(t.bits)?.map(Value::Bits),
            row.get(t.json)?.map(Value::Json),
            row.get(t.geometry)?.map(Value::Geometry),
            row.get(t.date)?.map(Value::Date),
            row.get(t.time)?.map(Value::Time),
            row.get(t.datetime)?.map(Value::Datetime),
            row.get(t.timestamp)?.map(Value::Timestamp),
            row.get(t.year)?.map(Value::Int),
        ];
        let op = match row.op {
            Op::Create => "create",
            Op::Update => "update",
            Op::Delete => "delete",
            Op::Read => "read",
        };
        let presence = match row.presence(self.text_before)? {
            Presence::Absent => "absent",
            Presence::Null => "null",
            Presence::Present(_) => "present",
        };
        let any = self.any.iter().map(|column| row.get(*column)).collect::<Result<Vec<_>, _>>()?;
        let mut put = changes.put(&self.all);
        for (field, value) in self.typed_fields.iter().zip(values) {
            put = put.set(*field, value);
        }
        for (field, value) in self.any_fields.iter().zip(any) {
            put = put.set(*field, value);
        }
        put.set(self.op, op)
            .set(self.offset, row.offset)
            .set(self.partition, row.partition)
            .set(self.changed_at, row.changed_at_us)
            .set(self.presence, presence);
        Ok(())
    }

    /// Sets two of the typed fields.
    fn set_typed(&self, changes: &mut Changes, first: usize, value: Value<'_>, second: usize, other: Value<'_>) {
        let mut put = changes.put(&self.all);
        for (index, value) in [(first, value), (second, other)] {
            if let Some(field) = self.typed_fields.get(index) {
                put = put.set(*field, value);
            }
        }
    }

    fn put_from_minor(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        let decimal = |digits| Ok::<_, Reject>(row.get(self.typed.int)?.map(|units| OwnedDecimal::from_minor_units(units, digits)));
        let (whole, cents, fine) = (decimal(0)?, decimal(2)?, decimal(20)?);
        changes.put(&self.all).set(self.op, whole).set(self.presence, cents).set(self.partition, fine);
        Ok(())
    }

    fn put_cases(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        let text = row.get(self.typed.text)?.unwrap_or_default();
        changes.put(&self.all).set(self.op, text.trim()).set(self.presence, upper(text)).set(self.partition, lower(text));
        Ok(())
    }
}

streamsync_sdk::export!(Features);
