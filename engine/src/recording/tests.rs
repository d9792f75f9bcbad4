#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use super::*;

fn event() -> RecordedEvent {
    RecordedEvent {
        topic: "t".into(),
        partition: 2,
        offset: 7,
        timestamp_ms: Some(1),
        timestamp_type: Some("CreateTime".into()),
        key: Some(b"{\"id\":1}".to_vec()),
        value: Some(vec![0xff, 0, b'a']),
        headers: vec![("a".into(), Some(b"x".to_vec())), ("b".into(), None), ("c".into(), Some(vec![0xfe]))],
    }
}

#[test]
fn a_record_is_what_it_was() {
    let nulls = RecordedEvent { key: None, value: None, headers: Vec::new(), timestamp_ms: None, timestamp_type: None, ..event() };
    for event in [event(), nulls] {
        assert_eq!(parse(&format!("\n{}\n\n", event.line())).expect("a record"), [event]);
    }
    assert!(event().line().contains(r#""value_base64":"/wBh""#), "{}", event().line());
}

#[test]
fn what_is_no_record_has_its_line() {
    let good = event().line();
    let cases = [
        ("{", "EOF while parsing an object (column 1)"),
        (r#"{"topic":"t","partition":0}"#, "missing field `offset` (column 27)"),
        (r#"{"topic":"t","partition":0,"offset":0,"values":null}"#, "unknown field `values`"),
        (r#"{"topic":"t","partition":0,"offset":0,"value_base64":"?"}"#, "value_base64 is not base64"),
        (r#"{"topic":"t","partition":0,"offset":0,"key":"a","key_base64":"YQ=="}"#, "key and key_base64 are both set"),
        ("event 0:1", "expected value (column 1)"),
    ];
    for (line, expected) in cases {
        let error = parse(&format!("{good}\n{line}\n")).expect_err("no record");
        assert!(error.line == 2 && error.what.starts_with(expected), "{expected}: {error}");
    }
}

#[test]
fn batches_are_of_one_partition_and_in_offset_order() {
    let at = |partition, offset| RecordedEvent { partition, offset, ..event() };
    let events = [at(1, 5), at(0, 9), at(1, 4), at(0, 8), at(1, 6)];
    let batches = batches(&events, 2).expect("small");
    let offsets: Vec<(i32, Vec<i64>)> =
        batches.iter().map(|batch| (batch.source.partition, batch.records.iter().map(|r| r.offset).collect())).collect();
    assert_eq!(offsets, [(0, vec![8, 9]), (1, vec![4, 5]), (1, vec![6])]);
}

#[test]
fn the_table_is_that_of_the_first_row_change() {
    let with = |value: &str| RecordedEvent { value: Some(value.into()), ..event() };
    let events = [
        event(),
        with(r#"{"ts_ms":1}"#),
        with(r#"{"schema":{},"payload":{"source":{"db":"shop","table":"orders"}}}"#),
        with(r#"{"source":{"db":"shop","table":"others"}}"#),
    ];
    assert_eq!(table_of(&events), Some(("shop".into(), "orders".into())));
    assert_eq!(table_of(events.get(3..).unwrap_or_default()), Some(("shop".into(), "others".into())));
    assert_eq!(table_of(events.get(..2).unwrap_or_default()), None);
}
