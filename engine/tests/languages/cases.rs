//! Events: recorded ones of the corpus, and made ones that have all there is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamsync::change::{ChangeBatch, ChangeEvent, Column, Op, Snapshot, TableSchema, Tag, Value};
use streamsync::config::RouteSettings;
use streamsync::decode::Decoder;
use streamsync::route::{RoutedBatch, Router};
use streamsync::source::{RecordBatch, TopicPartition};

/// Files of the corpus whose records have their schema with them.
const RECORDED: [&str; 5] = ["01_snapshot", "02_crud", "03_pk_update", "04_truncate", "06_ddl"];

/// A transform and what it is given.
pub(crate) struct Case {
    /// Of the transform.
    pub(crate) name: &'static str,
    pub(crate) config: &'static str,
    /// File with what is expected.
    expected: &'static str,
    events: Events,
}

enum Events {
    Recorded,
    Made { schema: Arc<TableSchema>, rows: Vec<Change> },
}

/// A change, made by hand.
struct Change {
    op: Op,
    before: Option<Image>,
    after: Option<Image>,
}

type Image = BTreeMap<String, Value<'static>>;

impl Case {
    /// All recorded events of a table.
    pub(crate) fn recorded(name: &'static str) -> Self {
        Self { name, config: "{}", expected: "", events: Events::Recorded }
    }

    /// The events, by so many.
    pub(crate) fn batches(&self, route: &Arc<RouteSettings>, size: usize) -> Vec<RoutedBatch> {
        match &self.events {
            Events::Recorded => recorded(route, size),
            Events::Made { schema, rows } => {
                rows.chunks(size).enumerate().map(|(index, rows)| made(route, schema, rows, (index * size) as i64)).collect()
            }
        }
    }

    /// Compares with the file; recorded events have none, because the transforms' own tests say what is right.
    pub(crate) fn compare(&self, text: &str) {
        assert!(!text.is_empty(), "{}: nothing was said", self.name);
        if self.expected.is_empty() {
            return;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/languages").join(self.expected);
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, text).expect("written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        for (line, (said, expected)) in text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(said, expected, "{}, line {}", self.expected, line + 1);
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "{}", self.expected);
    }
}

fn corpus(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file)
}

fn recorded(route: &Arc<RouteSettings>, size: usize) -> Vec<RoutedBatch> {
    let mut records: Vec<serde_json::Value> = Vec::new();
    for file in RECORDED {
        let text = std::fs::read_to_string(corpus(&format!("{file}.ecom_schema.jsonl"))).unwrap();
        let of_file = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut of_table: Vec<_> =
            of_file.filter(|record| record["topic"].as_str().unwrap().rsplit('.').next() == Some(&*route.table)).collect();
        of_table.sort_by_key(|record| record["offset"].as_i64());
        records.extend(of_table);
    }
    assert!(records.len() > 5, "{}: {} records", route.table, records.len());
    let mut decoder = Decoder::new(Arc::clone(route));
    let router = Router::new(Arc::clone(route));
    let numbered: Vec<_> = records.iter().enumerate().collect();
    let batch = |records: &[(usize, &serde_json::Value)]| {
        let mut batch = RecordBatch::new(TopicPartition::new("t", 0));
        for (offset, record) in records {
            let (key, value) = (record["key"].as_str().map(str::as_bytes), record["value"].as_str().map(str::as_bytes));
            batch.push(*offset as i64, record["timestamp"].as_i64(), key, value, []).unwrap();
        }
        router.route(decoder.batch(batch))
    };
    numbered.chunks(size).map(batch).collect()
}

fn made(route: &Arc<RouteSettings>, schema: &Arc<TableSchema>, rows: &[Change], first: i64) -> RoutedBatch {
    let mut batch = ChangeBatch { records: RecordBatch::new(TopicPartition::new("t", 3)), ..ChangeBatch::default() };
    batch.schemas.push(Arc::clone(schema));
    for (index, change) in rows.iter().enumerate() {
        let offset = first + index as i64;
        batch.records.push(offset, None, None, None, []).expect("small");
        let cells = &mut batch.cells;
        let mut image = |image: &Option<Image>| {
            let first = cells.len() as u32;
            let image = image.as_ref()?;
            for column in &schema.columns {
                cells.push(image.get(&*column.name).copied().unwrap_or(Value::Absent));
            }
            Some(first)
        };
        let (before, after) = (image(&change.before), image(&change.after));
        batch.events.push(ChangeEvent {
            record: index as u32,
            offset,
            schema: 0,
            op: change.op,
            changed_at_us: 1_700_000_000_000_000 - offset,
            snapshot: Snapshot::No,
            null_value: false,
            follows_own_delete: false,
            before,
            after,
        });
    }
    RoutedBatch { route: Arc::clone(route), batch, faults: vec![] }
}

fn schema(table: &str, columns: &[(&str, Tag)]) -> Arc<TableSchema> {
    let column = |(name, tag): &(&str, Tag)| Column {
        name: (*name).into(),
        tag: *tag,
        nullable: true,
        length: None,
        scale: None,
        source_type: "x".into(),
    };
    Arc::new(TableSchema {
        id: 1,
        database: "ecommerce".into(),
        table: table.into(),
        columns: columns.iter().map(column).collect(),
        primary_key: vec![0],
    })
}

fn image(values: &[(&str, Value<'static>)]) -> Image {
    values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

const ORDERS: [(&str, Tag); 6] = [
    ("order_id", Tag::Int),
    ("customer_id", Tag::Int),
    ("total_amount", Tag::Decimal),
    ("status", Tag::Text),
    ("created_at", Tag::Timestamp),
    ("updated_at", Tag::Timestamp),
];

/// So many updates of orders as they usually are.
pub(crate) fn updates(count: usize) -> Case {
    let row = |index: usize| {
        let after = image(&[
            ("order_id", Value::Int(10_000 + index as i64)),
            ("customer_id", Value::Int(1000 + (index % 37) as i64)),
            ("total_amount", Value::Decimal(["17.00", "904.35", "99.99", "1250.10"][index % 4])),
            ("status", Value::Text(["pending", "paid", "shipped", "delivered", "cancelled"][index % 5])),
            ("created_at", Value::Timestamp(1_732_283_409_000_000)),
            ("updated_at", Value::Timestamp(1_732_283_409_000_000)),
        ]);
        Change { op: Op::Update, before: Some(after.clone()), after: Some(after) }
    };
    let rows = (0..count).map(row).collect();
    Case { name: "orders", config: "{}", expected: "", events: Events::Made { schema: schema("orders", &ORDERS), rows } }
}

/// Orders with statuses and totals as nobody would write them, some of them rejected.
pub(crate) fn orders() -> Case {
    let totals = [
        "0.00",
        "99.99",
        "-0.01",
        "-12345678.90",
        "7",
        "1.2000",
        "1.2001",
        "92233720368547758.07",
        "-92233720368547758.08",
        "92233720368547758.08",
        "99999999999999999999999999999999999.99",
    ];
    let statuses = [
        "paid",
        " Delivered\t",
        "größe",
        "\u{a0}ﬁn\u{2003}",
        "已付款",
        "ΌΣΟΣ",
        "",
        "refunded",
        "\u{feff}x",
        "\u{85}y",
        "ŉ ǰ ΐ ΰ և ᾳ ᾼ",
        "İ i ı",
        "odd",
    ];
    let mut rows = Vec::new();
    for index in 0..150_usize {
        let total = if index % 17 == 3 { Value::Null } else { Value::Decimal(totals[index % totals.len()]) };
        let status = if index % 19 == 4 { Value::Null } else { Value::Text(statuses[index % statuses.len()]) };
        let mut after = image(&[
            ("order_id", Value::Int(index as i64)),
            ("customer_id", Value::Int(1)),
            ("total_amount", total),
            ("status", status),
            ("created_at", Value::Timestamp(1_709_287_200_000_000)),
            ("updated_at", Value::Null),
        ]);
        if index % 23 == 5 {
            after.remove("status");
        }
        let op = [Op::Create, Op::Update, Op::Read][index % 3];
        rows.push(Change { op, before: (op == Op::Update).then(|| after.clone()), after: Some(after) });
        if index % 29 == 6 {
            let before = image(&[("order_id", Value::Int(index as i64))]);
            rows.push(Change { op: Op::Delete, before: Some(before), after: None });
        }
    }
    let config =
        r#"{"permitted_status": [" paid", "Delivered", "GRÖSSE", "fin", "已付款", "όσος", "", "REFUNDED", "y", "ŉ ǰ ΐ ΰ և ᾳ ᾼ", "İ i ı"]}"#;
    Case { name: "orders", config, expected: "orders.expected", events: Events::Made { schema: schema("orders", &ORDERS), rows } }
}

/// One row for each thing that the features transform does, and values of all kinds at their limits.
#[expect(clippy::too_many_lines, reason = "a table of rows")]
pub(crate) fn features() -> Case {
    let columns = [
        ("id", Tag::Int),
        ("what", Tag::Text),
        ("f_boolean", Tag::Boolean),
        ("f_int", Tag::Int),
        ("f_uint", Tag::Uint),
        ("f_double", Tag::Double),
        ("f_decimal", Tag::Decimal),
        ("f_text", Tag::Text),
        ("f_bytes", Tag::Bytes),
        ("f_bits", Tag::Bits),
        ("f_json", Tag::Json),
        ("f_geometry", Tag::Geometry),
        ("f_date", Tag::Date),
        ("f_time", Tag::Time),
        ("f_datetime", Tag::Datetime),
        ("f_timestamp", Tag::Timestamp),
        ("f_year", Tag::Year),
    ];
    let small = image(&[
        ("f_boolean", Value::Boolean(false)),
        ("f_int", Value::Int(i64::MIN)),
        ("f_uint", Value::Uint(0)),
        ("f_double", Value::Double(-0.0)),
        ("f_decimal", Value::Decimal("-99999999999999999999999999999999999.999999999999999999999999999999")),
        ("f_text", Value::Text("")),
        ("f_bytes", Value::Bytes(b"")),
        ("f_bits", Value::Bits(b"\0")),
        ("f_json", Value::Json("{}")),
        ("f_geometry", Value::Geometry(b"\x01")),
        ("f_date", Value::Date(-719_162)),
        ("f_time", Value::Time(-3_020_399_000_000)),
        ("f_datetime", Value::Datetime(-62_135_596_800_000_000)),
        ("f_timestamp", Value::Timestamp(-1)),
        ("f_year", Value::Year(0)),
    ]);
    let large = image(&[
        ("f_boolean", Value::Boolean(true)),
        ("f_int", Value::Int(i64::MAX)),
        ("f_uint", Value::Uint(u64::MAX)),
        ("f_double", Value::Double(f64::MAX)),
        ("f_decimal", Value::Decimal("0.000000000000000000000000000001")),
        ("f_text", Value::Text("Ünï\u{1F9A4}\0 \" \\ 王")),
        ("f_bytes", Value::Bytes(b"\0\xff\x80\xfe")),
        ("f_bits", Value::Bits(b"\x01\xff")),
        ("f_json", Value::Json(r#"{"a": [1, 2.50, "é"], "b": null}"#)),
        ("f_geometry", Value::Geometry(b"\x01\x01\0\0\0\xff")),
        ("f_date", Value::Date(2_932_896)),
        ("f_time", Value::Time(3_020_399_999_999)),
        ("f_datetime", Value::Datetime(253_402_300_799_999_999)),
        ("f_timestamp", Value::Timestamp(253_402_300_799_999_999)),
        ("f_year", Value::Year(2155)),
    ]);
    let usual = {
        let mut usual = large.clone();
        usual.extend(image(&[
            ("f_int", Value::Int(-7)),
            ("f_uint", Value::Uint(1 << 63)),
            ("f_double", Value::Double(0.1)),
            ("f_decimal", Value::Decimal("-12.340")),
            ("f_text", Value::Text("plain")),
            ("f_timestamp", Value::Timestamp(1_700_000_000_123_456)),
        ]));
        usual
    };
    let nulls: Image = columns.iter().skip(2).map(|(name, _)| ((*name).to_owned(), Value::Null)).collect();
    let mut rows = Vec::new();
    let mut row = |op, what: &'static str, before: Option<&Image>, after: &Image| {
        let id = rows.len() as i64;
        let with_key = |image: &Image| {
            let mut image = image.clone();
            image.extend(self::image(&[("id", Value::Int(id)), ("what", Value::Text(what))]));
            image
        };
        rows.push(Change { op, before: before.map(with_key), after: Some(with_key(after)) });
    };
    for after in [&usual, &small, &large, &nulls] {
        row(Op::Create, "all", None, after);
        row(Op::Update, "all", Some(&nulls), after);
        row(Op::Update, "all", Some(after), after);
        row(Op::Read, "ttl", None, after);
        row(Op::Create, "whole", None, after);
        row(Op::Create, "minor", None, after);
    }
    for what in ["two", "delete", "absent", "log", "skip", "reject", "field of a delete", "nothing"] {
        row(Op::Create, what, None, &usual);
        row(Op::Create, "all", None, &usual);
    }
    let partial: Image = usual.clone().into_iter().filter(|(name, _)| name != "f_geometry").collect();
    row(Op::Update, "all", Some(&usual), &partial);
    for text in TEXTS {
        let mut after = usual.clone();
        after.insert("f_text".into(), Value::Text(text));
        row(Op::Create, "case", None, &after);
    }
    for decimal in DECIMALS {
        let mut after = usual.clone();
        after.insert("f_decimal".into(), Value::Decimal(decimal));
        row(Op::Create, "minor", None, &after);
    }
    for units in [0, 5, -5, -99, -100, 1_234_567] {
        let mut after = usual.clone();
        after.extend(image(&[("f_int", Value::Int(units))]));
        row(Op::Create, "from minor", None, &after);
    }
    for after in [&small, &large, &nulls] {
        row(Op::Create, "from minor", None, after);
    }
    for what in ["year", "table", "config", "mistakes", "ttl alone"] {
        row(Op::Create, what, None, &usual);
    }
    for before in [&usual, &nulls] {
        let mut before = before.clone();
        before.extend(image(&[("id", Value::Int(1000)), ("what", Value::Text("all"))]));
        rows.push(Change { op: Op::Delete, before: Some(before), after: None });
    }
    // As after compaction: the key alone.
    rows.push(Change { op: Op::Delete, before: Some(image(&[("id", Value::Int(1001))])), after: None });
    // Objects and lists, of which two languages make JSON by themselves.
    let mut after = usual.clone();
    after.extend(image(&[("id", Value::Int(1002)), ("what", Value::Text("nested"))]));
    rows.push(Change { op: Op::Create, before: None, after: Some(after) });
    Case {
        name: "features",
        config: r#"{"nested":{"a":[1,2.5,"é"],"b":null},"ratio":0.1}"#,
        expected: "features.expected",
        events: Events::Made { schema: schema("features", &columns), rows },
    }
}

const TEXTS: [&str; 20] = [
    "Plain 7",
    " \t\r\n\u{b}\u{c}x y \u{a0}\u{1680}\u{2000}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{85}",
    "\u{1c}\u{1f}\u{200b}\u{feff}\u{180e}not white space\u{feff}\u{200b}\u{1f}\u{1c}",
    "",
    "   ",
    "Straße ŉ ǰ",
    "ΐ ΰ ὐ ὒ ὔ ὖ ᾲ ᾳ ᾴ ᾶ ᾷ ᾼ ῂ ῃ ῄ ῆ ῇ ῌ ῒ ῖ ῗ ῢ ῤ ῦ ῧ ῲ ῳ ῴ ῶ ῷ ῼ",
    "ᾀᾁᾂᾃᾄᾅᾆᾇᾈᾉᾊᾋᾌᾍᾎᾏᾐᾗᾘᾟᾠᾧᾨᾯ",
    "ﬀﬁﬂﬃﬄﬅﬆ ﬓﬔﬕﬖﬗ և ẖẗẘẙẚ",
    "ΌΣΟΣ ΣΑΣ. Σ ΑΣ' ΑΣ'Α Α.Σ ΣΣ 1Σ",
    "İSTANBUL ıi",
    "ПРИВЕТ Привет ЪЫ Ѐ",
    "ǅ ǆ Ǆ ǈ ǋ ǲ",
    "ÅÄÖ ÿ Ÿ µ ſ K Å Ω",
    "Ⅷ ⓐ Ⓩ",
    "Ꭰ ꭰ ა Ა Ⴀ ⴀ",
    "𐐀 𐐨 𞤀 𞤢 𑢠",
    "王小明 🦤 ñ",
    "ẞ ß",
    "ʼn Ə ə ɐ Ɐ ᵽ Ᵽ",
];

const DECIMALS: [&str; 10] = [
    "0",
    "-0",
    "-0.00",
    "7",
    "1.2000",
    "1.2001",
    "92233720368547758.07",
    "-92233720368547758.08",
    "92233720368547758.08",
    "-92233720368547758.09",
];
