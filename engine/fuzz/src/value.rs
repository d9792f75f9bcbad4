//! One value of one column: the decoders of decimals, times and everything else, then the encoders of the stores.
//!
//! An input is a byte that chooses the column's type, and the value as JSON. What can be computed another way is compared with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use streamsync::change::{Cells, ChangeBatch, Value};
use streamsync::config::{DeclaredColumn, Format, RouteSettings, Wire};
use streamsync::decode::Decoder;
use streamsync::decode::declared::{BigintUnsignedMode, BinaryMode, DecimalMode, Modes, TimeMode, column};
use streamsync::fence::Generation;
use streamsync::plan::{self, WritePlan};
use streamsync::route::RoutedBatch;
use streamsync::source::{RecordBatch, TopicPartition};
use streamsync::transform::{GuestAction, GuestBatch, GuestGroup, GuestWrite, OpenedSchema, TAG_AFTER, wire};

use crate::stored::{check_batch, check_plan, route};

const TYPES: [&str; 34] = [
    "tinyint",
    "int",
    "bigint",
    "bigint unsigned",
    "int unsigned",
    "bool",
    "decimal(10,2)",
    "decimal(65,30)",
    "decimal(3,0)",
    "float",
    "double",
    "bit",
    "bit(9)",
    "bit(64)",
    "date",
    "time",
    "time(3)",
    "time(6)",
    "datetime",
    "datetime(3)",
    "datetime(6)",
    "timestamp",
    "timestamp(6)",
    "year",
    "char(3)",
    "varchar(10)",
    "text",
    "enum('a','b')",
    "set('a','b')",
    "json",
    "blob",
    "binary(4)",
    "geometry",
    "point",
];

pub(crate) fn run(data: &[u8]) {
    let Some((&choice, json)) = data.split_first() else { return };
    let types = TYPES.len();
    let (kind, modes) = (TYPES[usize::from(choice) % types], modes(usize::from(choice) / types));
    let Ok(json) = std::str::from_utf8(json) else { return };
    let id = column("id", "int", false, &modes).expect("a type");
    let declared = column("c", kind, true, &modes).expect("a type");
    let route = route(Format::Json { columns: vec![id, declared.clone()] }, "shop", "t");
    let batch = Decoder::new(Arc::clone(&route)).batch(record(json));
    check_batch(&batch);
    let Some(after) = batch.events.first().and_then(|event| event.after) else { return };
    let value = batch.cells.get(after as usize + 1);
    check_value(&declared, json, value);
    let date = if let Value::Date(days) = value { Some(days) } else { None };
    let plan = planned(&route, batch);
    check_plan(&plan);
    if let Some(days) = date {
        check_date(&plan, days);
    }
}

/// Eight bytes have room for seven ways to configure the connector.
fn modes(choice: usize) -> Modes {
    let mut modes = Modes::default();
    match choice {
        1 => modes.decimal = DecimalMode::String,
        2 => modes.numeric_decimals = true,
        3 => (modes.time, modes.binary) = (TimeMode::Isostring, BinaryMode::Hex),
        4 => (modes.time, modes.bigint_unsigned) = (TimeMode::Nanoseconds, BigintUnsignedMode::Precise),
        5 => (modes.time, modes.binary) = (TimeMode::Connect, BinaryMode::Base64UrlSafe),
        6 => (modes.time, modes.decimal) = (TimeMode::Microseconds, DecimalMode::Double),
        _ => {}
    }
    modes
}

fn record(json: &str) -> RecordBatch {
    let value = format!(
        r#"{{"before":null,"after":{{"id":1,"c":{json}}},"source":{{"db":"shop","table":"t","ts_ms":5,"snapshot":"false"}},"op":"c"}}"#
    );
    let mut records = RecordBatch::new(TopicPartition::new("t", 0));
    records.push(7, Some(5), Some(br#"{"id":1}"#), Some(value.as_bytes()), []).expect("small");
    records
}

fn check_value(column: &DeclaredColumn, json: &str, value: Value<'_>) {
    // A value that closes the row and goes on is another row, which is not compared.
    let Ok(parsed) = serde_json::from_str::<serde_json::Value>(json) else { return };
    if let Value::Decimal(text) = value {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let only_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        assert!(!whole.is_empty() && only_digits(whole) && only_digits(fraction), "{text:?} is no decimal");
        let needless = whole != "0" && whole.starts_with('0');
        assert!(column.wire != Wire::Base64Decimal || !needless, "{text:?} has needless zeros");
    }
    if let (Value::Decimal(text), Wire::Base64Decimal, Some(encoded)) = (value, column.wire, parsed.as_str())
        && let Ok(bytes) = STANDARD.decode(encoded)
        && bytes.len() <= 16
    {
        assert_eq!(text, decimal(&bytes, column.scale.unwrap_or_default().cast_unsigned() as usize));
    }
    if let (Value::Int(number), Some(expected)) = (value, parsed.as_i64()) {
        assert_eq!(number, expected);
    }
    if let (Value::Date(days), Wire::Days, Some(expected)) = (value, column.wire, parsed.as_i64()) {
        assert_eq!(days, expected);
    }
    if let (Value::Text(text), Some(expected)) = (value, parsed.as_str()) {
        // Debezium escapes the commas of an ENUM's labels in the stream.
        let is_enum = column.source_type == "io.debezium.data.Enum"
            || column.source_type.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("enum"));
        assert_eq!(text, if is_enum { expected.replace("\\,", ",") } else { expected.to_owned() });
    }
}

/// Big-endian two's complement, the way a school does it.
fn decimal(bytes: &[u8], scale: usize) -> String {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let mut word = [fill; 16];
    word[16 - bytes.len()..].copy_from_slice(bytes);
    let number = i128::from_be_bytes(word);
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if negative { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A guest that passes the column on to every target.
fn planned(route: &Arc<RouteSettings>, batch: ChangeBatch) -> WritePlan {
    let schema = Arc::clone(batch.schemas.first().expect("the row's schema"));
    let output = |target: &str| wire::Output { target: target.to_owned(), key: vec![], fields: vec!["id".to_owned(), "c".to_owned()] };
    let said =
        wire::Plan { before: vec![], after: vec![0, 1], sees_deletes: false, outputs: ["redis", "mongodb", "hash"].map(output).into() };
    let opened = Arc::new(OpenedSchema::new(schema, route, said).expect("an allowed plan"));
    let mut cells = Cells::default();
    let mut writes = Vec::new();
    for output in 0..3 {
        writes.push(GuestWrite { event: 0, action: GuestAction::Put { output, first_cell: cells.len() as u32, ttl_seconds: 0 } });
        for column in 0..2_u64 {
            cells.tags.push(TAG_AFTER);
            cells.words.push(column);
        }
    }
    let group = GuestGroup { opened, events: vec![0], writes, cells };
    let routed = RoutedBatch { route: Arc::clone(route), batch, faults: vec![] };
    plan::build(GuestBatch { routed, groups: vec![group], faults: vec![], canary: None }, Generation::FIRST, "0123456789abcdef")
}

/// Dates against another program's calendar.
fn check_date(plan: &WritePlan, days: i64) {
    let millis = days.saturating_mul(86_400_000);
    let expected = bson::DateTime::from_millis(millis).try_to_rfc3339_string();
    let sink = plan.sinks.first().expect("the first sink");
    let (Some(document), Ok(expected)) = (sink.writes.first().and_then(|write| write.document), expected) else { return };
    let json: serde_json::Value = serde_json::from_slice(sink.slice(document)).expect("JSON");
    if let (Some(found), true) = (json.get("c").and_then(serde_json::Value::as_str), (-719_162..=2_932_896).contains(&days)) {
        assert_eq!(Some(found), expected.get(..10), "{days} days");
    }
}
