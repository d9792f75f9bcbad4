//! Real Debezium events to rows. The corpus is MySQL 9.7 and Debezium 3.6; `corpus/sql` has the statements behind it, `*.expected` the rows.
//! `UPDATE_EXPECTED=1` writes the expected files anew: read the difference against the SQL before committing it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use streamsync::change::{ChangeBatch, Tag, Value};
use streamsync::config::{DeclaredColumn, Format, OnTruncate, RouteSettings, TransformSettings};
use streamsync::decode::Decoder;
use streamsync::decode::declared::{BigintUnsignedMode, BinaryMode, DecimalMode, Modes, TimeMode, column};
use streamsync::source::{RecordBatch, TopicPartition};

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// A record of the corpus.
#[derive(Clone, Debug)]
struct Record {
    topic: String,
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn records(file: &str) -> Vec<Record> {
    let text = std::fs::read_to_string(corpus(file)).unwrap();
    let bytes = |v: &serde_json::Value| v.as_str().map(|s| s.as_bytes().to_vec());
    let parse = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        Record {
            topic: line["topic"].as_str().unwrap().into(),
            offset: line["offset"].as_i64().unwrap(),
            timestamp: line["timestamp"].as_i64().unwrap(),
            key: bytes(&line["key"]),
            value: bytes(&line["value"]),
        }
    };
    let mut records: Vec<Record> = text.lines().map(parse).collect();
    records.sort_by(|a, b| (&a.topic, a.offset).cmp(&(&b.topic, b.offset)));
    records
}

fn columns(table: &str, modes: &Modes) -> Vec<DeclaredColumn> {
    let text = std::fs::read_to_string(corpus("columns.tsv")).unwrap();
    let of_table = text.lines().filter_map(|line| line.strip_prefix(table)?.strip_prefix('\t'));
    of_table
        .map(|line| {
            let [name, source_type, null] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            column(name, source_type, null == "null", modes).unwrap()
        })
        .collect()
}

fn route(table: &str, format: Format) -> Arc<RouteSettings> {
    let transform = TransformSettings {
        module: PathBuf::new().into(),
        sha256: None,
        signature_key: None,
        config: String::new(),
        call_timeout: Duration::ZERO,
        max_memory_bytes: 0,
        max_output_bytes: 0,
        max_log_lines: 0,
        max_failures: 100,
        shadow: None,
    };
    Arc::new(RouteSettings {
        name: table.into(),
        topic: String::new(),
        database: "ecommerce".into(),
        table: table.into(),
        format,
        transform,
        targets: Vec::new(),
        on_truncate: OnTruncate::Halt,
    })
}

fn declared(table: &str, modes: &Modes) -> Decoder {
    Decoder::new(route(table, Format::Json { columns: columns(table, modes) }))
}

fn with_schema(table: &str) -> Decoder {
    Decoder::new(route(table, Format::JsonWithSchema))
}

fn batch(records: &[Record]) -> RecordBatch {
    let mut batch = RecordBatch::new(TopicPartition { topic: "t".into(), partition: 0 });
    for r in records {
        batch.push(r.offset, Some(r.timestamp), r.key.as_deref(), r.value.as_deref(), []).unwrap();
    }
    batch
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |s, b| s + &format!("{b:02x}"))
}

fn show(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Absent => "absent".into(),
        Value::Boolean(b) => format!("boolean {b}"),
        Value::Int(n) => format!("int {n}"),
        Value::Uint(n) => format!("uint {n}"),
        Value::Double(n) => format!("double {n:e}"),
        Value::Decimal(s) => format!("decimal {s}"),
        Value::Text(s) if s.len() > 200 => format!("text of {} bytes", s.len()),
        Value::Text(s) => format!("text {s:?}"),
        Value::Bytes(b) if b.len() > 200 => format!("bytes, {}", b.len()),
        Value::Bytes(b) => format!("bytes {}", hex(b)),
        Value::Bits(b) => format!("bits {}", hex(b)),
        Value::Json(s) => format!("json {s}"),
        Value::Geometry(b) => format!("geometry {}", hex(b)),
        Value::Date(n) => format!("date {n}"),
        Value::Time(n) => format!("time {n}"),
        Value::Datetime(n) => format!("datetime {n}"),
        Value::Timestamp(n) => format!("timestamp {n}"),
        Value::Year(n) => format!("year {n}"),
    }
}

type Row = BTreeMap<String, String>;

fn row(batch: &ChangeBatch, schema: u32, first: u32) -> Vec<(String, String)> {
    let columns = batch.schemas[schema as usize].columns.iter().enumerate();
    columns.map(|(i, c)| (c.name.to_string(), show(batch.cells.get(first as usize + i)))).collect()
}

/// What became of a batch, a line for each event, record passed over, truncate and fault.
fn render(batch: &ChangeBatch) -> String {
    let mut lines: Vec<(u32, String)> = Vec::new();
    for e in &batch.events {
        let schema = &batch.schemas[e.schema as usize];
        let key: Vec<&str> = schema.primary_key.iter().map(|&c| &*schema.columns[c as usize].name).collect();
        let mut line = format!("{:?} {}({}) schema {} at {}", e.op, schema.table, key.join(","), schema.id, e.changed_at_us);
        for (flag, name) in [
            (e.snapshot != streamsync::change::Snapshot::No, "snapshot"),
            (e.null_value, "null value"),
            (e.follows_own_delete, "follows own delete"),
        ] {
            if flag {
                write!(line, ", {name}").unwrap();
            }
        }
        for (name, image) in [("before", e.before), ("after", e.after)] {
            if let Some(first) = image {
                let cells: Vec<String> = row(batch, e.schema, first).into_iter().map(|(c, v)| format!("{c} = {v}")).collect();
                write!(line, "\n    {name}: {}", cells.join(", ")).unwrap();
            }
        }
        lines.push((e.record, line));
    }
    lines.extend(batch.passed_over.iter().map(|(r, why)| (*r, format!("passed over: {why:?}"))));
    lines.extend(batch.truncates.iter().map(|r| (*r, "truncate".into())));
    lines.extend(batch.faults.iter().map(|(r, e)| (*r, format!("fault {}: {e}", e.code()))));
    lines.sort_by_key(|(r, _)| *r);
    lines.iter().fold(String::new(), |s, (r, line)| s + &format!("{} {line}\n", batch.records.records[*r as usize].offset))
}

/// Decodes a file, each topic by its own decoder, one record a batch or all in one: both must say the same.
fn decode(file: &str, decoder: impl Fn(&str) -> Decoder) -> String {
    let records = records(file);
    let mut out = String::new();
    for group in records.chunk_by(|a, b| a.topic == b.topic) {
        let table = group[0].topic.rsplit('.').next().unwrap();
        let whole = render(&decoder(table).batch(batch(group)));
        let mut one_by_one = decoder(table);
        let singles: String = group.iter().map(|r| render(&one_by_one.batch(batch(std::slice::from_ref(r))))).collect();
        assert_eq!(whole, singles, "{file}: {}", group[0].topic);
        write!(out, "== {}\n{whole}", group[0].topic).unwrap();
    }
    out
}

fn check(file: &str, decoder: impl Fn(&str) -> Decoder) {
    compare(&file.replace(".jsonl", ".expected"), &decode(file, decoder));
}

fn compare(file: &str, actual: &str) {
    let expected = corpus(file);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&expected, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&expected).unwrap_or_default();
    for (line, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "{file}, line {}", line + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "{file}");
}

#[test]
fn events_with_schema() {
    for file in ["02_crud", "03_pk_update", "04_truncate", "06_ddl"] {
        check(&format!("{file}.ecom_schema.jsonl"), with_schema);
    }
    check("04_truncate.ecom_full_schema.jsonl", with_schema);
}

#[test]
fn events_without_schema() {
    for file in ["02_crud.ecommerce", "03_pk_update.ecommerce", "04_truncate.ecom_full"] {
        check(&format!("{file}.jsonl"), |table| declared(table, &Modes::default()));
    }
}

#[test]
fn heartbeats_transactions_and_incremental_snapshots_are_told_apart() {
    let counts = |file: &str, decoder: fn(&str) -> Decoder| {
        let mut counts = BTreeMap::<String, u32>::new();
        for line in decode(file, decoder).lines().filter(|l| !l.starts_with("==") && !l.starts_with(' ')) {
            let kind = line.split_once(' ').unwrap().1;
            let kind = if kind.starts_with("fault") || kind.starts_with("passed") { kind } else { kind.split_whitespace().next().unwrap() };
            let snapshot = if line.contains(", snapshot") { " snapshot" } else { "" };
            *counts.entry(format!("{kind}{snapshot}")).or_default() += 1;
        }
        counts.into_iter().map(|(k, n)| format!("{k}: {n}")).collect::<Vec<_>>().join("; ")
    };
    let plain = |table: &str| declared(table, &Modes::default());
    assert_eq!(
        counts("08_incremental_snapshot.inc.jsonl", plain),
        "Create: 77; Delete: 1; Read snapshot: 65; Update: 145; passed over: Transaction: 446"
    );
    assert_eq!(counts("05_transactions.ecom_full.jsonl", plain), "Create: 57; Delete: 3; Update: 14; passed over: Transaction: 12");
    assert_eq!(
        counts("05_transactions.ecom_full_schema.jsonl", with_schema),
        "Create: 57; Delete: 3; Update: 14; passed over: Transaction: 12"
    );
    let heartbeats = |table: &str| if table == "ecom_full" { declared(table, &Modes::default()) } else { with_schema(table) };
    assert_eq!(counts("09_heartbeat.jsonl", heartbeats), "passed over: Heartbeat: 20");
    let snapshot = counts("01_snapshot.ecom_schema.jsonl", with_schema);
    assert!(snapshot.contains("passed over: SchemaChange: 24") && snapshot.contains("Read snapshot: 16"), "{snapshot}");
    let snapshot = counts("01_snapshot.ecommerce.jsonl", plain);
    assert!(snapshot.contains("passed over: SchemaChange: 24") && snapshot.contains("Read snapshot: 16"), "{snapshot}");
}

/// A connector of the corpus: how its file is decoded, and what its modes lose or name otherwise.
struct Connector {
    name: &'static str,
    /// `None`: with schema.
    modes: Option<Modes>,
    /// Columns (by prefix) whose values or tags its modes can't keep.
    lost: &'static [&'static str],
}

fn connectors() -> Vec<Connector> {
    let modes = Modes::default();
    let precise = Modes { bigint_unsigned: BigintUnsignedMode::Precise, ..modes };
    vec![
        Connector { name: "at_default", modes: Some(modes), lost: &[] },
        Connector { name: "at_nodefault", modes: Some(Modes { decimal: DecimalMode::String, ..modes }), lost: &[] },
        Connector { name: "at_numeric", modes: Some(Modes { numeric_decimals: true, ..precise }), lost: &[] },
        Connector {
            name: "at_string_micro",
            modes: Some(Modes { decimal: DecimalMode::String, time: TimeMode::Microseconds, binary: BinaryMode::Base64UrlSafe, ..precise }),
            lost: &[],
        },
        Connector {
            name: "at_double_iso",
            modes: Some(Modes { decimal: DecimalMode::Double, time: TimeMode::Isostring, binary: BinaryMode::Hex, ..modes }),
            // A double has no 65 digits, and an ISO time neither sign nor more than a day.
            lost: &["c_dec", "c_numeric", "c_time"],
        },
        // The schema does not tell BIGINT UNSIGNED from BIGINT.
        Connector { name: "at_default_schema", modes: None, lost: &["id", "c_bigint_u"] },
        // Nor from DECIMAL(20); years beyond 2262 are no nanoseconds.
        Connector { name: "at_nano_schema", modes: None, lost: &["id", "c_bigint_u", "c_datetime"] },
        // Decimals and bytes are texts without a mark, times end at milliseconds and at a day.
        Connector {
            name: "at_string_connect_schema",
            modes: None,
            lost: &[
                "id",
                "c_bigint_u",
                "c_dec",
                "c_numeric",
                "c_binary",
                "c_varbinary",
                "c_tinyblob",
                "c_blob",
                "c_mediumblob",
                "c_longblob",
                "c_time",
                "c_datetime6",
                "c_dt_default",
            ],
        },
    ]
}

/// The rows of a connector's file by their note: of the after images, and of the last delete.
fn rows(connector: &Connector, file: &str) -> Vec<(String, Row)> {
    let mut decoder = connector.modes.map_or_else(|| with_schema("all_types"), |modes| declared("all_types", &modes));
    let batch = decoder.batch(batch(&records(file)));
    assert_eq!(batch.faults, [], "{file}");
    let images = batch.events.iter().filter(|e| !e.null_value).map(|e| (e, e.key_image().unwrap()));
    images
        .map(|(e, image)| {
            let row: Row = row(&batch, e.schema, image).into_iter().collect();
            (format!("{:?} {}", e.op, row["note"]), row)
        })
        .collect()
}

/// All modes that keep a value say the same of it.
#[test]
fn all_types_are_equal_in_all_modes() {
    let connectors = connectors();
    for part in ["30_snapshot", "31_stream"] {
        let reference = rows(&connectors[0], &format!("{part}_at_default.jsonl"));
        assert!(reference.len() >= 8);
        for connector in &connectors[1..] {
            let file = format!("{part}_{}.jsonl", connector.name);
            if !corpus(&file).exists() {
                continue;
            }
            let rows = rows(connector, &file);
            assert_eq!(rows.len(), reference.len(), "{file}");
            for ((note, row), (expected_note, expected)) in rows.iter().zip(&reference) {
                assert_eq!(note, expected_note, "{file}");
                for (column, value) in row {
                    // Where NULL becomes the column's default differs: replace.null.with.default is off in one connector.
                    let by_default = connector.name == "at_nodefault" && value == "NULL";
                    // The time of the insert, and what enable.time.adjuster changes.
                    let by_clock = column == "c_dt_default";
                    let is_lost = connector.lost.iter().any(|lost| column.starts_with(lost));
                    if !by_default && !by_clock && !is_lost {
                        assert_eq!(value, &expected[column], "{file}: {note}: {column}");
                    }
                }
            }
        }
    }
}

/// The rows of `sql/03_all_types_rows.sql`, NULLs left out; read beside the statements.
#[test]
fn all_types_are_as_inserted() {
    let mut out = String::new();
    for (note, row) in rows(&connectors()[0], "30_snapshot_at_default.jsonl") {
        writeln!(out, "== {note}").unwrap();
        let clock = "c_dt_default";
        row.iter().filter(|(c, v)| *v != "NULL" && *c != clock).for_each(|(c, v)| writeln!(out, "{c} = {v}").unwrap());
    }
    compare("30_snapshot_at_default.expected", &out);
}

#[test]
fn large_values() {
    let columns = [("id", "int", false), ("t", "longtext", true), ("b", "longblob", true)];
    let columns = columns.map(|(name, source_type, null)| column(name, source_type, null, &Modes::default()).unwrap());
    let mut decoder = Decoder::new(route("big", Format::Json { columns: columns.to_vec() }));
    let rows: Vec<Record> = records("10_large_values.ecommerce.jsonl").into_iter().filter(|r| r.topic.ends_with(".big")).collect();
    let batch = decoder.batch(batch(&rows));
    assert_eq!(batch.faults, []);
    let after = |event: usize, column: usize| batch.cells.get(batch.events[event].after.unwrap() as usize + column);
    assert_eq!(after(0, 1), Value::Text(&"x😀".repeat(20000)));
    assert_eq!(after(1, 2), Value::Bytes(&[0, 0xff].repeat(60000)));
    assert_eq!(after(2, 1), Value::Text(&format!("{}y", "x😀".repeat(20000))));
}

/// Columns for the records of the file of cases; their names are those which only look like an envelope's.
fn odd_columns() -> Vec<DeclaredColumn> {
    let columns = [
        ("payload", "int"),
        ("op", "varchar(9)"),
        ("after", "decimal(5,2)"),
        ("schema", "bigint unsigned"),
        ("_id", "bit(12)"),
        ("$set", "json"),
        ("a.b", "timestamp(6)"),
        ("e", "enum('a,b','c')"),
    ];
    columns.map(|(name, source_type)| column(name, source_type, true, &Modes::default()).unwrap()).to_vec()
}

/// What SHOW CREATE TABLE says of a column besides its type is none of it.
#[test]
fn a_column_s_definition_may_say_more_than_its_type() {
    let tag = |text: &str| column("c", text, true, &Modes::default()).map(|column| (column.tag, column.length));
    assert_eq!(tag("bigint comment 'was unsigned (zerofill) before'").unwrap().0, Tag::Int);
    assert_eq!(tag("int default (5)").unwrap().0, Tag::Int);
    assert_eq!(tag("bigint(20) unsigned default '0'").unwrap().0, Tag::Uint);
    assert_eq!(tag("datetime(3) default current_timestamp(3) on update current_timestamp(3)").unwrap(), (Tag::Datetime, Some(3)));
    assert_eq!(tag("enum('a)','b') charset utf8mb4").unwrap().0, Tag::Text);
    assert!(tag("varchar(9").is_err());
}

/// `cases.txt`: a title after `#`, then lines with key and value in turn (`null`: none), then `=>` and what becomes of them.
#[test]
fn cases() {
    let text = std::fs::read_to_string(corpus("cases.txt")).unwrap();
    let mut actual = String::new();
    for case in text.split("\n\n").filter(|c| !c.trim().is_empty()) {
        let (input, _) = case.split_once("\n=>").unwrap();
        let (title, input) = input.split_once('\n').unwrap();
        let part = |s: &str| (s != "null").then(|| s.as_bytes().to_vec());
        let lines: Vec<&str> = input.lines().collect();
        let records: Vec<Record> = (lines.chunks(2).enumerate())
            .map(|(i, kv)| Record { topic: String::new(), offset: i as i64, timestamp: 7, key: part(kv[0]), value: part(kv[1]) })
            .collect();
        let format = if title.starts_with("# with schema") { Format::JsonWithSchema } else { Format::Json { columns: odd_columns() } };
        let rendered = render(&Decoder::new(route("t", format)).batch(batch(&records)));
        write!(actual, "{title}\n{input}\n=>\n{}\n", rendered.trim_end().to_owned() + "\n").unwrap();
    }
    compare("cases.txt", &actual);
}

#[test]
fn hostile_bytes_are_faults() {
    let code = |key: &[u8], value: &[u8], format: Format| {
        let record = Record { topic: String::new(), offset: 0, timestamp: 0, key: Some(key.into()), value: Some(value.into()) };
        let batch = Decoder::new(route("t", format)).batch(batch(&[record]));
        assert!(batch.cells.is_empty() && batch.events.is_empty());
        batch.faults[0].1.code()
    };
    let plain = || Format::Json { columns: odd_columns() };
    let deep = |n: usize, open: &str| [br#"{"source":"#.to_vec(), open.repeat(n).into_bytes()].concat();
    for format in [plain(), Format::JsonWithSchema] {
        assert_eq!(code(b"{}", b"\xff\xfe", format.clone()), "invalid-utf8");
        assert_eq!(code(b"{}", b"", format.clone()), "bad-json");
        assert_eq!(code(b"{}", b"\0", format.clone()), "bad-json");
        assert_eq!(
            code(b"{}", &b"[".repeat(20 << 20), format.clone()),
            if matches!(format, Format::JsonWithSchema) { "bad-json" } else { "too-deep" }
        );
    }
    assert_eq!(code(b"{}", &deep(10_000, "["), plain()), "too-deep");
    assert_eq!(code(b"{}", &deep(1_000_000, r#"{"a":"#), plain()), "too-deep");
    let in_schema = [br#"{"schema":"#.to_vec(), b"[".repeat(10_000), b"]".repeat(10_000), br#","payload":{}}"#.to_vec()].concat();
    assert_eq!(code(b"{}", &in_schema, Format::JsonWithSchema), "bad-schema");
    let in_payload = [br#"{"schema":{},"payload":"#.to_vec(), b"[".repeat(10_000), b"]".repeat(10_000), b"}".to_vec()].concat();
    assert_eq!(code(b"{}", &in_payload, Format::JsonWithSchema), "bad-schema");
}

/// Real records, to be broken.
fn samples() -> Vec<(Record, bool)> {
    let of = |file: &str, schema| records(file).into_iter().map(move |r| (r, schema)).collect::<Vec<_>>();
    let (plain, schema) = (of("31_stream_at_default.jsonl", false), of("02_crud.ecom_schema.jsonl", true));
    [&plain[1..4], &plain[10..], &schema[..]].concat()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(key: Vec<u8>, value: Vec<u8>, schema: bool) {
        let record = Record { topic: String::new(), offset: 0, timestamp: i64::MAX, key: Some(key), value: Some(value) };
        let mut decoder = if schema { with_schema("orders") } else { declared("orders", &Modes::default()) };
        decoder.batch(batch(&[record]));
    }

    /// A byte changed, a piece cut out or doubled: no panic, every cell in place, and nothing that is no JSON is taken for a row.
    #[test]
    fn broken_records_never_panic(sample: prop::sample::Index, at: prop::sample::Index, len in 0_usize..40, byte: u8, how in 0..3, in_key: bool) {
        let samples = samples();
        let (mut record, schema) = sample.get(&samples).clone();
        let part = if in_key { &mut record.key } else { &mut record.value };
        if let Some(bytes) = part.as_mut().filter(|b| !b.is_empty()) {
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                _ => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        let table = if record.topic.ends_with("all_types") { "all_types".into() } else { record.topic.rsplit('.').next().unwrap().to_owned() };
        let mut decoder = if schema { with_schema(&table) } else { declared(&table, &Modes::default()) };
        let intact: Vec<Record> = samples.iter().filter(|(r, _)| r.topic == record.topic).map(|(r, _)| r.clone()).collect();
        decoder.batch(batch(&intact));
        let batch = decoder.batch(batch(&[record.clone()]));
        for event in &batch.events {
            let width = batch.schemas[event.schema as usize].columns.len();
            for image in [event.before, event.after].into_iter().flatten() {
                prop_assert!(image as usize + width <= batch.cells.len());
            }
            if let Some(value) = &record.value {
                let parsed = serde_json::from_slice::<serde_json::Value>(value);
                prop_assert!(parsed.is_ok(), "{parsed:?}");
            }
        }
        let settled = batch.events.len() + batch.faults.len() + batch.passed_over.len() + batch.truncates.len();
        prop_assert!(settled == 1 || settled == 2);
    }
}
