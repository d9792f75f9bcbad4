//! The planner against what its documentation promises.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod keys;
mod left_out;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::bson::{Bson, Document, RawDocumentBuf};
use proptest::prelude::*;

use super::{Error, Fault, MAX_DOCUMENT_BYTES, Planned, RecordFault, TargetSettings, WritePlan, build};
use crate::change::{Cells, ChangeBatch, ChangeEvent, Column, Op, TableSchema, Tag, Value};
use crate::config::{Format, OnTruncate, Place, RedisForm, RouteSettings, TransformSettings};
use crate::fence::Generation;
use crate::route::RoutedBatch;
use crate::source::{RecordBatch, TopicPartition};
use crate::transform::{GuestAction, GuestBatch, GuestGroup, GuestWrite, OpenedSchema, TAG_AFTER, wire};

const MODULE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn target(name: &str, place: Place) -> Arc<TargetSettings> {
    let sink = usize::from(matches!(place, Place::MongoDb { .. }));
    Arc::new(TargetSettings { name: name.into(), sink, place, explicit_keys: true, ttl_seconds: None })
}

fn redis(form: RedisForm) -> Arc<TargetSettings> {
    target("redis", Place::Redis { prefix: "t".into(), form })
}

fn mongodb() -> Arc<TargetSettings> {
    target("mongodb", Place::MongoDb { collection: "t".into() })
}

fn route(targets: Vec<Arc<TargetSettings>>) -> Arc<RouteSettings> {
    Arc::new(RouteSettings {
        name: "t".into(),
        topic: "t".into(),
        database: "shop".into(),
        table: "t".into(),
        format: Format::JsonWithSchema,
        transform: TransformSettings {
            module: "t.wasm".into(),
            sha256: None,
            signature_key: None,
            config: "{}".into(),
            call_timeout: Duration::from_secs(1),
            max_memory_bytes: 1 << 24,
            max_output_bytes: 1 << 24,
            max_log_lines: 10,
            max_failures: 100,
            shadow: None,
        },
        targets,
        on_truncate: OnTruncate::Halt,
    })
}

fn schema(keys: usize) -> Arc<TableSchema> {
    let column = |name: &str| Column {
        name: name.into(),
        tag: Tag::Text,
        nullable: true,
        length: None,
        scale: None,
        source_type: "varchar(20)".into(),
    };
    Arc::new(TableSchema {
        id: 1,
        database: "shop".into(),
        table: "t".into(),
        columns: ["a", "b", "c"].map(column).into(),
        primary_key: (0..keys as u32).collect(),
    })
}

fn output(target: &str, key: &[&str], fields: &[&str]) -> wire::Output {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    wire::Output { target: target.into(), key: owned(key), fields: owned(fields) }
}

/// A batch in the making: each event is a record of its own unless `same_record` joins it to the one before.
struct Maker {
    route: Arc<RouteSettings>,
    opened: Arc<OpenedSchema>,
    batch: ChangeBatch,
    answer: Cells,
    writes: Vec<GuestWrite>,
}

impl Maker {
    fn new(targets: Vec<Arc<TargetSettings>>, keys: usize, outputs: Vec<wire::Output>) -> Self {
        let route = route(targets);
        let plan = wire::Plan { before: vec![], after: vec![], sees_deletes: false, outputs };
        let opened = Arc::new(OpenedSchema::new(schema(keys), &route, plan).expect("the plan is allowed"));
        let mut batch =
            ChangeBatch { records: RecordBatch::new(TopicPartition { topic: "t".into(), partition: 3 }), ..ChangeBatch::default() };
        batch.schemas.push(Arc::clone(&opened.schema));
        Self { route, opened, batch, answer: Cells::default(), writes: Vec::new() }
    }

    fn event(&mut self, op: Op, row: [Value<'_>; 3]) -> u32 {
        let offset = 100 + self.batch.records.records.len() as i64;
        self.batch.records.push(offset, None, None, None, []).expect("small");
        let first = self.batch.cells.len() as u32;
        row.into_iter().for_each(|value| self.batch.cells.push(value));
        let (before, after) = if op == Op::Delete { (Some(first), None) } else { (None, Some(first)) };
        self.batch.events.push(ChangeEvent {
            record: self.batch.records.records.len() as u32 - 1,
            offset,
            schema: 0,
            op,
            changed_at_us: 7,
            snapshot: crate::change::Snapshot::No,
            null_value: false,
            follows_own_delete: false,
            before,
            after,
        });
        self.batch.events.len() as u32 - 1
    }

    fn put(&mut self, event: u32, output: u32, cells: &[Value<'_>]) {
        let first_cell = self.answer.len() as u32;
        cells.iter().for_each(|value| self.answer.push(*value));
        self.writes.push(GuestWrite { event, action: GuestAction::Put { output, first_cell, ttl_seconds: 0 } });
    }

    fn skip(&mut self, event: u32) {
        self.writes.push(GuestWrite { event, action: GuestAction::Skip });
    }

    fn plan(self) -> WritePlan {
        let events = (0..self.batch.events.len() as u32).collect();
        let group = GuestGroup { opened: self.opened, events, writes: self.writes, cells: self.answer };
        let routed = RoutedBatch { route: self.route, batch: self.batch, faults: vec![] };
        build(GuestBatch { routed, groups: vec![group], faults: vec![], canary: None }, Generation::FIRST, MODULE)
    }
}

const ROW: [Value<'static>; 3] = [Value::Int(1), Value::Text("b"), Value::Null];

fn stored(plan: &WritePlan) -> Vec<(String, Option<String>)> {
    let sink = &plan.sinks[0];
    let text = |bytes| String::from_utf8(sink.slice(bytes).to_vec()).expect("Redis keys and documents are text");
    sink.writes.iter().map(|w| (text(w.key), w.document.map(text))).collect()
}

fn error(plan: &WritePlan) -> &Error {
    let Fault::Plan(error) = &plan.faults[0].fault else { unreachable!("a fault of the planner") };
    error
}

/// One document with one field `f`, in each form.
fn one(place: Arc<TargetSettings>, field: &str, value: Value<'_>) -> WritePlan {
    let name = place.name.clone();
    let mut maker = Maker::new(vec![place], 1, vec![output(&name, &[], &[field])]);
    let event = maker.event(Op::Create, ROW);
    maker.put(event, 0, &[value]);
    maker.plan()
}

fn values() -> Vec<(Value<'static>, &'static str, Bson)> {
    let decimal = |text: &str| Bson::Decimal128(bson::Decimal128::from_str(text).unwrap());
    let bytes = |bytes: &[u8]| Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: bytes.into() });
    let date = |millis| Bson::DateTime(bson::DateTime::from_millis(millis));
    let text = |text: &str| Bson::String(text.into());
    vec![
        (Value::Null, "null", Bson::Null),
        (Value::Boolean(true), "true", Bson::Boolean(true)),
        (Value::Int(i64::MIN), "-9223372036854775808", Bson::Int64(i64::MIN)),
        (Value::Uint(7), "7", Bson::Int64(7)),
        (Value::Uint(u64::MAX), "18446744073709551615", decimal("18446744073709551615")),
        (Value::Double(0.1), "0.1", Bson::Double(0.1)),
        (Value::Double(1e300), "1e300", Bson::Double(1e300)),
        (Value::Decimal("-12.340"), r#""-12.340""#, decimal("-12.340")),
        (
            Value::Decimal("12345678901234567890123456789012345"),
            r#""12345678901234567890123456789012345""#,
            text("12345678901234567890123456789012345"),
        ),
        (Value::Text("a\"\\\n\t\u{1}é😀\0"), r#""a\"\\\n\t\u0001é😀\u0000""#, text("a\"\\\n\t\u{1}é😀\0")),
        (Value::Text(""), r#""""#, text("")),
        (Value::Bytes(&[0, 255, 1, 2]), r#""AP8BAg==""#, bytes(&[0, 255, 1, 2])),
        (Value::Bits(&[5]), r#""BQ==""#, bytes(&[5])),
        (Value::Geometry(b"wkb"), r#""d2ti""#, bytes(b"wkb")),
        (
            Value::Json(r#"{"a":[1,2.5,null,true]}"#),
            r#"{"a":[1,2.5,null,true]}"#,
            Bson::Document(bson::doc! {"a": [1i64, 2.5, Bson::Null, true]}),
        ),
        (Value::Json("18446744073709551615"), "18446744073709551615", decimal("18446744073709551615")),
        (Value::Json(r#""\u00e9\ud83d\ude00""#), r#""\u00e9\ud83d\ude00""#, text("é😀")),
        (Value::Json(r#"{"$set":{"a.b":1}}"#), r#"{"$set":{"a.b":1}}"#, Bson::Document(bson::doc! {"$set": {"a.b": 1i64}})),
        (Value::Date(19_782), r#""2024-02-29""#, date(1_709_164_800_000)),
        (Value::Time(-3_723_004_000), r#""-01:02:03.004""#, text("-01:02:03.004")),
        (Value::Datetime(1_709_210_096_789_000), r#""2024-02-29T12:34:56.789""#, date(1_709_210_096_789)),
        (Value::Datetime(1_709_210_096_789_012), r#""2024-02-29T12:34:56.789012""#, text("2024-02-29T12:34:56.789012")),
        (Value::Timestamp(1_709_210_096_000_000), r#""2024-02-29T12:34:56Z""#, date(1_709_210_096_000)),
        (Value::Timestamp(1), r#""1970-01-01T00:00:00.000001Z""#, text("1970-01-01T00:00:00.000001Z")),
        (Value::Year(2024), "2024", Bson::Int64(2024)),
    ]
}

#[test]
fn each_value_in_json_and_bson() {
    for (value, json, expected) in values() {
        let plan = one(redis(RedisForm::String), "f", value);
        assert_eq!(stored(&plan), [("t:1".to_owned(), Some(format!("{{\"f\":{json}}}")))], "{value:?}");
        serde_json::from_str::<serde_json::Value>(&format!("{{\"f\":{json}}}")).expect("well-formed");
        let plan = one(mongodb(), "f", value);
        let sink = &plan.sinks[0];
        let raw = RawDocumentBuf::from_bytes(sink.slice(sink.writes[0].document.unwrap()).to_vec()).expect("well-formed");
        let document = Document::try_from(raw).expect("well-formed");
        assert_eq!(document.keys().map(String::as_str).collect::<Vec<_>>(), ["_id", "f", "_sync"]);
        assert_eq!(document.get("f"), Some(&expected), "{value:?}");
        assert_eq!(document.get("_id"), Some(&Bson::Int64(1)));
    }
}

#[test]
fn the_version_ends_a_mongodb_document() {
    let plan = one(mongodb(), "f", Value::Int(1));
    let sink = &plan.sinks[0];
    let write = &sink.writes[0];
    let document = Document::try_from(RawDocumentBuf::from_bytes(sink.slice(write.document.unwrap()).to_vec()).unwrap()).unwrap();
    let sync = document.get_document("_sync").unwrap();
    assert_eq!(sync, &bson::doc! {"v": write.fence.number(), "p": 3i32, "m": "0123456789abcdef", "h": write.content as i64});
    assert_eq!(sink.slice(write.key)[0], 0x12);
    assert_eq!(write.fence.offset(), 100);
    assert_eq!((&*sink.module, sink.partition), ("0123456789abcdef", 3));
}

#[test]
fn dots_nest() {
    let fields = ["a", "b.c", "d", "b.e.f", "g.h"];
    let cells = [Value::Int(1), Value::Int(2), Value::Absent, Value::Int(3), Value::Absent];
    let made = |place: Arc<TargetSettings>| {
        let name = place.name.clone();
        let mut maker = Maker::new(vec![place], 1, vec![output(&name, &[], &fields)]);
        let event = maker.event(Op::Create, ROW);
        maker.put(event, 0, &cells);
        maker.plan()
    };
    assert_eq!(stored(&made(redis(RedisForm::String)))[0].1.as_deref(), Some(r#"{"a":1,"b":{"c":2,"e":{"f":3}},"g":{}}"#));
    let plan = made(mongodb());
    let raw = plan.sinks[0].slice(plan.sinks[0].writes[0].document.unwrap()).to_vec();
    let mut document = Document::try_from(RawDocumentBuf::from_bytes(raw).unwrap()).unwrap();
    document.remove("_sync");
    assert_eq!(document, bson::doc! {"_id": 1i64, "a": 1i64, "b": {"c": 2i64, "e": {"f": 3i64}}, "g": {}});
    let plan = made(redis(RedisForm::Hash));
    assert_eq!(hash_of(&plan), [("a", "1"), ("b", r#"{"c":2,"e":{"f":3}}"#), ("g", "{}")].map(owned));
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.into(), b.into())
}

fn hash_of(plan: &WritePlan) -> Vec<(String, String)> {
    let sink = &plan.sinks[0];
    let mut rest = sink.slice(sink.writes[0].document.unwrap());
    let mut next = || {
        let (length, behind) = rest.split_at_checked(4)?;
        let (text, behind) = behind.split_at(u32::from_le_bytes(length.try_into().unwrap()) as usize);
        rest = behind;
        Some(String::from_utf8(text.to_vec()).unwrap())
    };
    let mut fields = Vec::new();
    while let Some(name) = next() {
        fields.push((name, next().unwrap()));
    }
    fields
}

#[test]
fn whole_documents() {
    let text = r#" {"n": 1, "s": "a\u00e9", "o": {"$x": [1]}, "z": null} "#;
    assert_eq!(stored(&one(redis(RedisForm::Json), "", Value::Json(text)))[0].1.as_deref(), Some(text.trim()));
    let hash = hash_of(&one(redis(RedisForm::Hash), "", Value::Json(text)));
    assert_eq!(hash, [("n", "1"), ("o", r#"{"$x": [1]}"#), ("s", "aé")].map(owned));
    let plan = one(mongodb(), "", Value::Json(text));
    let raw = plan.sinks[0].slice(plan.sinks[0].writes[0].document.unwrap()).to_vec();
    let mut document = Document::try_from(RawDocumentBuf::from_bytes(raw).unwrap()).unwrap();
    document.remove("_sync");
    assert_eq!(document, bson::doc! {"_id": 1i64, "n": 1i64, "s": "aé", "o": {"$x": [1i64]}, "z": Bson::Null});
}

#[test]
fn what_can_not_be_stored() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let large = "x".repeat(MAX_DOCUMENT_BYTES);
    let cases = [
        (redis(RedisForm::String), "f", Value::Double(f64::NAN), "not-finite"),
        (mongodb(), "f", Value::Double(f64::INFINITY), "not-finite"),
        (redis(RedisForm::String), "f", Value::Date(i64::MAX), "date-range"),
        (mongodb(), "f", Value::Date(i64::MAX), "date-range"),
        (redis(RedisForm::String), "f", Value::Datetime(i64::MIN), "date-range"),
        (redis(RedisForm::String), "f", Value::Json(&deep), "too-deep"),
        (mongodb(), "f", Value::Json(&deep), "too-deep"),
        (redis(RedisForm::String), "f", Value::Text(&large), "too-large"),
        (mongodb(), "f", Value::Text(&large), "too-large"),
        (mongodb(), "f", Value::Json(r#"{"a\u0000":1}"#), "nul-in-name"),
        (mongodb(), "f", Value::Json(r#""\ud800""#), "broken-json"),
        (mongodb(), "", Value::Json(r#"{"$set":1}"#), "reserved-name"),
        (mongodb(), "", Value::Json(r#"{"_id":1}"#), "reserved-name"),
        (mongodb(), "", Value::Json(r#"{"a.b":1}"#), "reserved-name"),
        (mongodb(), "", Value::Json("[1]"), "not-an-object"),
        (redis(RedisForm::String), "", Value::Text("{}"), "not-an-object"),
        (redis(RedisForm::Hash), "f", Value::Null, "empty-hash"),
    ];
    for (place, field, value, code) in cases {
        let shown = format!("{place:?} {code}");
        let plan = one(place, field, value);
        assert_eq!(error(&plan).code(), code, "{shown}");
        assert_eq!(plan.planned, [Planned::Faulty], "{shown}");
        assert!(plan.sinks[0].writes.is_empty(), "{shown}");
    }
}

#[test]
fn a_column_s_json_is_checked() {
    let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &[], &["f"])]);
    for json in ["{\"a\":1}", "{broken"] {
        let event = maker.event(Op::Create, [Value::Int(event_key(json)), Value::Json(json), Value::Null]);
        let first_cell = maker.answer.len() as u32;
        maker.answer.tags.push(TAG_AFTER);
        maker.answer.words.push(1);
        maker.writes.push(GuestWrite { event, action: GuestAction::Put { output: 0, first_cell, ttl_seconds: 0 } });
    }
    let plan = maker.plan();
    assert_eq!(plan.planned, [Planned::Writes, Planned::Faulty]);
    assert_eq!(stored(&plan), [("t:7".to_owned(), Some("{\"f\":{\"a\":1}}".to_owned()))]);
    assert_eq!(error(&plan).code(), "broken-json");
}

fn event_key(json: &str) -> i64 {
    json.len() as i64
}

#[test]
fn the_last_write_of_a_key_wins_and_what_can_not_be_stored_displaces_nothing() {
    let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &[], &["f"])]);
    for value in [Value::Int(1), Value::Int(2), Value::Double(f64::NAN)] {
        let event = maker.event(Op::Update, ROW);
        maker.put(event, 0, &[value]);
    }
    let event = maker.event(Op::Create, [Value::Int(2), Value::Null, Value::Null]);
    maker.skip(event);
    maker.event(Op::Delete, [Value::Int(3), Value::Null, Value::Null]);
    let plan = maker.plan();
    assert_eq!(plan.planned, [Planned::Superseded, Planned::Writes, Planned::Faulty, Planned::Writes, Planned::Writes]);
    let expected = [("t:1", Some("{\"f\":2}")), ("t:2", None), ("t:3", None)];
    assert_eq!(stored(&plan), expected.map(|(key, document)| (key.to_owned(), document.map(str::to_owned))));
    assert_eq!(plan.sinks[0].writes[0].fence.offset(), 101);
    assert_eq!(plan.changed_at, [Some((7, false)); 5]);
}

#[test]
fn a_record_writes_all_or_nothing() {
    let outputs = vec![output("redis", &[], &["f"]), output("mongodb", &[], &["f"])];
    let mut maker = Maker::new(vec![redis(RedisForm::String), mongodb()], 1, outputs);
    let old = maker.event(Op::Delete, [Value::Int(8), Value::Null, Value::Null]);
    let new = maker.event(Op::Create, ROW);
    maker.batch.events[new as usize].record = maker.batch.events[old as usize].record;
    maker.put(new, 0, &[Value::Int(1)]);
    maker.put(new, 1, &[Value::Json(r#""\udc00""#)]);
    let plan = maker.plan();
    assert!(plan.sinks.iter().all(|sink| sink.writes.is_empty()));
    assert_eq!(plan.planned[0], Planned::Faulty);
    assert_eq!(plan.faults.len(), 1);
}

#[test]
fn an_answer_says_all_that_the_row_has() {
    let outputs = vec![output("redis", &[], &["f"]), output("mongodb", &[], &["f"]), output("redis", &["a", "kind"], &["f"])];
    let mut maker = Maker::new(vec![redis(RedisForm::String), mongodb()], 1, outputs);
    let event = maker.event(Op::Update, ROW);
    maker.put(event, 1, &[Value::Int(1)]);
    let plan = maker.plan();
    assert_eq!(stored(&plan), [("t:1".to_owned(), None)]);
    assert!(plan.sinks[1].writes[0].document.is_some());
}

#[test]
fn a_null_value_behind_a_delete_that_the_guest_saw_says_nothing_more() {
    let check = |sees_deletes: bool, expected: [Planned; 2], stored_keys: usize| {
        let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &[], &["f"])]);
        Arc::get_mut(&mut maker.opened).expect("not shared yet").sees_deletes = sees_deletes;
        let delete = maker.event(Op::Delete, ROW);
        let null = maker.event(Op::Delete, ROW);
        maker.batch.events[null as usize].null_value = true;
        maker.batch.events[null as usize].follows_own_delete = true;
        if sees_deletes {
            maker.put(delete, 0, &[Value::Boolean(true)]);
        }
        let plan = maker.plan();
        assert_eq!(plan.planned, expected);
        assert_eq!(stored(&plan).iter().filter(|(_, document)| document.is_some()).count(), stored_keys);
    };
    // The guest marked the document instead of deleting it: the null value must not undo that.
    check(true, [Planned::Writes, Planned::Filtered], 1);
    check(false, [Planned::Superseded, Planned::Writes], 0);
}

#[test]
fn a_fault_of_an_earlier_stage_keeps_its_record_out() {
    let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &[], &["f"])]);
    let event = maker.event(Op::Create, ROW);
    maker.put(event, 0, &[Value::Int(1)]);
    let group =
        GuestGroup { opened: Arc::clone(&maker.opened), events: vec![event], writes: maker.writes.clone(), cells: maker.answer.clone() };
    let rejected = crate::transform::Error::Rejected { code: "c".into(), message: "m".into() };
    let faults = vec![RecordFault { record: 0, fault: Fault::Transform(rejected) }];
    let routed = RoutedBatch { route: maker.route, batch: maker.batch, faults: vec![] };
    let plan = build(GuestBatch { routed, groups: vec![group], faults, canary: None }, Generation::FIRST, MODULE);
    assert_eq!((plan.planned.as_slice(), plan.faults.len()), ([Planned::Faulty].as_slice(), 1));
    assert!(plan.sinks[0].writes.is_empty());
}

#[test]
fn two_puts_of_one_event_to_one_key() {
    let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &[], &["f"]), output("redis", &[], &["g"])]);
    let event = maker.event(Op::Update, ROW);
    maker.put(event, 0, &[Value::Int(1)]);
    maker.put(event, 1, &[Value::Int(1)]);
    assert_eq!(error(&maker.plan()).code(), "two-puts");
    for (last, expected) in [(40, None), (7, Some("two-puts"))] {
        let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &["k"], &["f"])]);
        let event = maker.event(Op::Update, ROW);
        for key in (0..40).chain([last]) {
            maker.put(event, 0, &[Value::Int(key), Value::Int(1)]);
        }
        let plan = maker.plan();
        assert_eq!(plan.faults.first().map(|_| error(&plan).code()), expected, "of many");
    }
}

#[test]
fn a_key_without_a_value() {
    let mut maker = Maker::new(vec![redis(RedisForm::String)], 1, vec![output("redis", &[], &["f"])]);
    let event = maker.event(Op::Create, [Value::Null, Value::Null, Value::Null]);
    maker.put(event, 0, &[Value::Int(1)]);
    assert_eq!(error(&maker.plan()).code(), "null-key");
}

#[test]
fn composite_keys() {
    let key = |place: Arc<TargetSettings>, row| {
        let name = place.name.clone();
        let mut maker = Maker::new(vec![place], 2, vec![output(&name, &[], &["f"])]);
        maker.event(Op::Delete, row);
        let plan = maker.plan();
        let sink = &plan.sinks[0];
        sink.slice(sink.writes[0].key).to_vec()
    };
    let row = [Value::Text("a:b{%}"), Value::Uint(u64::MAX), Value::Null];
    assert_eq!(key(redis(RedisForm::String), row), b"t:a%3Ab%7B%25%7D:18446744073709551615");
    let id = key(mongodb(), row);
    assert_eq!(id[0], 3);
    let max = bson::Decimal128::from_str("18446744073709551615").unwrap();
    let expected = bson::doc! {"a": "a:b{%}", "b": max};
    assert_eq!(Document::try_from(RawDocumentBuf::from_bytes(id[1..].to_vec()).unwrap()).unwrap(), expected);
}

/// Target, key and offset of each mark.
fn marked(plan: &WritePlan) -> Vec<(String, String, i64)> {
    let of_sink = |marks: &super::SinkWrites| {
        let mark = |mark: &super::FencedWrite| {
            assert_eq!(mark.document, None);
            let target = &marks.targets[mark.target as usize].name;
            (target.clone(), String::from_utf8_lossy(marks.slice(mark.key)).into_owned(), mark.fence.offset())
        };
        marks.writes.iter().map(mark).collect::<Vec<_>>()
    };
    plan.marks.iter().flat_map(of_sink).collect()
}

#[test]
fn the_keys_of_what_is_given_up_are_known() {
    let row = |key| [Value::Int(key), Value::Text("b"), Value::Null];
    let mark = |target: &str, key: &str, offset: i64| (target.to_owned(), key.to_owned(), offset);
    let targets = || vec![redis(RedisForm::String), mongodb()];
    let outputs = || vec![output("redis", &[], &["f"]), output("mongodb", &["k"], &["f"])];
    let mut maker = Maker::new(targets(), 1, outputs());
    for key in [1, 2, 3, 2] {
        let event = maker.event(Op::Update, row(key));
        let field = if key == 2 { Value::Double(f64::NAN) } else { Value::Int(1) };
        maker.put(event, 0, &[field]);
        maker.put(event, 1, &[Value::Text("explicit"), Value::Int(1)]);
    }
    let plan = maker.plan();
    assert_eq!(plan.planned, [Planned::Writes, Planned::Faulty, Planned::Writes, Planned::Faulty]);
    // The default key and the explicit one, each with the last of its faulty records.
    assert_eq!(marked(&plan), [mark("redis", "t:2", 103), mark("mongodb", "\u{2}\t\0\0\0explicit\0", 103)]);

    // A guest that failed on the event has named no explicit key; one that could not open the schema has named no output.
    let mut maker = Maker::new(targets(), 1, outputs());
    let event = maker.event(Op::Delete, row(7));
    let failed = |maker: Maker, opened: bool| {
        let error = crate::transform::Error::TimedOut { timeout_ms: 1 };
        let fault = RecordFault { record: event, fault: Fault::Transform(error) };
        let group = GuestGroup { opened: maker.opened, events: vec![event], writes: vec![], cells: Cells::default() };
        let routed = RoutedBatch { route: maker.route, batch: maker.batch, faults: vec![] };
        let groups = if opened { vec![group] } else { vec![] };
        marked(&build(GuestBatch { routed, groups, faults: vec![fault], canary: None }, Generation::FIRST, MODULE))
    };
    assert_eq!(failed(maker, true), [mark("redis", "t:7", 100)]);
    let plain = |target: Arc<TargetSettings>| Arc::new(TargetSettings { explicit_keys: false, ..(*target).clone() });
    let mut maker = Maker::new(vec![plain(redis(RedisForm::String)), mongodb()], 1, outputs());
    maker.event(Op::Delete, row(7));
    assert_eq!(failed(maker, false), [mark("redis", "t:7", 100)]);

    // A key without a value is the key of nothing.
    let mut maker = Maker::new(targets(), 1, outputs());
    maker.event(Op::Delete, [Value::Null, Value::Null, Value::Null]);
    assert_eq!(failed(maker, true), []);
}

proptest! {
    #[test]
    fn bson_is_always_well_formed(text in any::<String>(), number in any::<i64>(), bits in any::<u64>(), bytes in any::<Vec<u8>>()) {
        let values = [
            Value::Text(&text), Value::Int(number), Value::Double(f64::from_bits(bits)), Value::Bytes(&bytes), Value::Date(number),
            Value::Time(number), Value::Datetime(number), Value::Timestamp(number), Value::Uint(bits),
        ];
        for value in values {
            let plan = one(mongodb(), "f", value);
            let Some(write) = plan.sinks[0].writes.first() else { continue };
            let raw = plan.sinks[0].slice(write.document.unwrap()).to_vec();
            prop_assert!(RawDocumentBuf::from_bytes(raw).is_ok_and(|raw| Document::try_from(raw).is_ok()));
        }
    }

    #[test]
    fn any_json_is_either_refused_or_well_formed(json in json_value(4)) {
        let text = json.to_string();
        for value in [Value::Json(&text), Value::Text(&text)] {
            let plan = one(redis(RedisForm::String), "f", value);
            let document: serde_json::Value = serde_json::from_str(stored(&plan)[0].1.as_deref().unwrap()).unwrap();
            let expected = if matches!(value, Value::Json(_)) { json.clone() } else { text.clone().into() };
            prop_assert_eq!(&document["f"], &expected);
        }
        let plan = one(mongodb(), "f", Value::Json(&text));
        if let Some(write) = plan.sinks[0].writes.first() {
            let raw = RawDocumentBuf::from_bytes(plan.sinks[0].slice(write.document.unwrap()).to_vec()).unwrap();
            let document = Document::try_from(raw).unwrap();
            prop_assert_eq!(json_of(document.get("f").unwrap()), json);
        }
    }
}

fn json_of(bson: &Bson) -> serde_json::Value {
    if let Bson::Array(items) = bson {
        return items.iter().map(json_of).collect();
    }
    if let Bson::Document(members) = bson {
        return members.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
    }
    let text = bson.as_str().map(Into::into);
    let scalar = text.or_else(|| bson.as_bool().map(Into::into)).or_else(|| bson.as_i64().map(Into::into));
    scalar.unwrap_or_else(|| {
        assert_eq!(bson, &Bson::Null);
        serde_json::Value::Null
    })
}

/// JSON without the numbers that BSON has other types for.
fn json_value(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map("[a-z.\"é]{1,5}", inner, 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
}
