//! Invented events, for a table of which nothing was recorded: two columns, as Debezium writes them.

use serde_json::{Value, json};

use crate::recording::RecordedEvent;

/// What the generic transform makes of [`events`].
pub(super) const EXPECTED: &str = r#"# Invented events of an invented table: record real ones with `streamsync capture`, then `streamsync transform test --update`.

0:0 read id = int 1
  put mongodb, redis
    id = int 1
    name = text "first"

0:1 create id = int 2
  put mongodb, redis
    id = int 2
    name = null

0:2 update id = int 2
  put mongodb, redis
    id = int 2
    name = text "second"

0:3 delete id = int 1
  delete
"#;

/// A read, a create, an update and a delete.
pub(in crate::cli::transform) fn events(database: &str, table: &str) -> Vec<RecordedEvent> {
    let row = |id: i64, name: Option<&str>| json!({ "id": id, "name": name });
    let changes = [
        ("r", None, Some(row(1, Some("first")))),
        ("c", None, Some(row(2, None))),
        ("u", Some(row(2, None)), Some(row(2, Some("second")))),
        ("d", Some(row(1, Some("first"))), None),
    ];
    let topic = format!("{}.{database}.{table}", super::DATABASE);
    let event = |(offset, (op, before, after)): (i64, (&str, Option<Value>, Option<Value>))| {
        let id = after.as_ref().or(before.as_ref()).and_then(|row| row.get("id")).cloned();
        let key = json!({ "schema": key_schema(&topic), "payload": { "id": id } });
        let snapshot = if op == "r" { "true" } else { "false" };
        let source = json!({ "db": database, "table": table, "ts_ms": 1_700_000_000_000_i64 + offset, "snapshot": snapshot });
        let payload = json!({ "before": before, "after": after, "source": source, "op": op, "ts_ms": 1_700_000_000_000_i64 + offset });
        let value = json!({ "schema": value_schema(&topic), "payload": payload });
        RecordedEvent {
            topic: topic.clone(),
            partition: 0,
            offset,
            timestamp_ms: Some(1_700_000_000_000 + offset),
            timestamp_type: Some("CreateTime".into()),
            key: Some(key.to_string().into_bytes()),
            value: Some(value.to_string().into_bytes()),
            headers: Vec::new(),
        }
    };
    (0..).zip(changes).map(event).collect()
}

fn columns() -> Value {
    json!([{ "type": "int64", "optional": false, "field": "id" }, { "type": "string", "optional": true, "field": "name" }])
}

fn key_schema(topic: &str) -> Value {
    let fields = [json!({ "type": "int64", "optional": false, "field": "id" })];
    json!({ "type": "struct", "fields": fields, "optional": false, "name": format!("{topic}.Key") })
}

fn value_schema(topic: &str) -> Value {
    let row =
        |field: &str| json!({ "type": "struct", "fields": columns(), "optional": true, "name": format!("{topic}.Value"), "field": field });
    let text = |field: &str| json!({ "type": "string", "optional": true, "field": field });
    let number = |field: &str| json!({ "type": "int64", "optional": true, "field": field });
    let source = [number("ts_ms"), text("snapshot"), text("db"), text("table")];
    let source =
        json!({ "type": "struct", "fields": source, "optional": false, "name": "io.debezium.connector.mysql.Source", "field": "source" });
    json!({
        "type": "struct",
        "fields": [row("before"), row("after"), source, text("op"), number("ts_ms")],
        "optional": false,
        "name": format!("{topic}.Envelope"),
    })
}
