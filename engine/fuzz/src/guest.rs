//! What a guest answers: every tag, span, index, count and name is checked before it is used.
//!
//! An input is the number of steps, the number of cells, the steps, the cells' tags and words, and the heap.

use std::sync::Arc;

use streamsync::change::{ChangeBatch, ChangeEvent, Column, Op, Snapshot, TableSchema, Tag, Value};
use streamsync::config::Format;
use streamsync::fence::Generation;
use streamsync::plan;
use streamsync::route::RoutedBatch;
use streamsync::source::{RecordBatch, TopicPartition};
use streamsync::transform::{GuestBatch, OpenedSchema, answer, wire};

use crate::input::Input;
use crate::stored::{check_plan, route};

const MAX_OUTPUT_BYTES: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (steps, cells) = (usize::from(input.byte() & 15), usize::from(input.byte() & 63));
    // One number may be wrong: the lengths don't fit each other then.
    let off = usize::from(input.byte() == 255);
    let steps = input.bytes(16 * steps + off).to_vec();
    let tags = input.bytes(cells).to_vec();
    let words = input.bytes(8 * cells).to_vec();
    let outcome = wire::Outcome { steps, cells: wire::Cells { tags, words, heap: input.rest().to_vec() } };

    let route = route(Format::JsonWithSchema, "shop", "t");
    let batch = batch();
    let schema = Arc::clone(batch.schemas.first().expect("one"));
    let output = |target: &str, key: &[&str], fields: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        wire::Output { target: target.to_owned(), key: owned(key), fields: owned(fields) }
    };
    let outputs = vec![
        output("redis", &[], &["a", "b.c", "b.d"]),
        output("mongodb", &["id", "part"], &["a", "b"]),
        output("hash", &[], &["a", "b"]),
        output("mongodb", &[], &[""]),
    ];
    let said = wire::Plan { before: vec![0, 1, 2], after: vec![0, 1, 2], sees_deletes: true, outputs };
    let Ok(opened) = OpenedSchema::new(schema, &route, said) else { unreachable!("an allowed plan") };
    let events: Vec<u32> = (0..batch.events.len() as u32).collect();
    let Ok(answer) = answer(&Arc::new(opened), events.clone(), &events, outcome, MAX_OUTPUT_BYTES) else { return };
    for write in &answer.group.writes {
        assert!((write.event as usize) < batch.events.len());
    }
    for (event, error) in &answer.rejects {
        assert!((*event as usize) < batch.events.len());
        let code = error.code();
        assert!(!code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_graphic()), "{code:?}");
    }
    let routed = RoutedBatch { route, batch, faults: vec![] };
    check_plan(&plan::build(
        GuestBatch { routed, groups: vec![answer.group], faults: vec![], canary: None },
        Generation::FIRST,
        "0123456789abcdef",
    ));
}

/// An insert, an update and a delete of a row with a number, a text and a decimal.
fn batch() -> ChangeBatch {
    let column = |name: &str, tag| Column { name: name.into(), tag, nullable: true, length: None, scale: None, source_type: "fuzz".into() };
    let schema = TableSchema {
        id: 1,
        database: "shop".into(),
        table: "t".into(),
        columns: vec![column("id", Tag::Int), column("name", Tag::Text), column("price", Tag::Decimal)],
        primary_key: vec![0],
    };
    let mut batch =
        ChangeBatch { records: RecordBatch::new(TopicPartition::new("t", 0)), schemas: vec![Arc::new(schema)], ..ChangeBatch::default() };
    for (record, op) in [Op::Create, Op::Update, Op::Delete].into_iter().enumerate() {
        let offset = record as i64;
        batch.records.push(offset, None, None, None, []).expect("small");
        let image = batch.cells.len() as u32;
        [Value::Int(7), Value::Text("n\u{e4}me"), Value::Decimal("1.50")].into_iter().for_each(|value| batch.cells.push(value));
        let (before, after) = match op {
            Op::Create | Op::Read => (None, Some(image)),
            Op::Update => (Some(image), Some(image)),
            Op::Delete => (Some(image), None),
        };
        batch.events.push(ChangeEvent {
            record: record as u32,
            offset,
            schema: 0,
            op,
            changed_at_us: 0,
            snapshot: Snapshot::No,
            null_value: false,
            follows_own_delete: false,
            before,
            after,
        });
    }
    batch
}
