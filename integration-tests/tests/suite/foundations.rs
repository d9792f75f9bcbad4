//! What the other cases stand on: the connector as `deploy/` has it writes each change once, typed by its schema, NULL as NULL.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use rdkafka::message::Message as _;
use serde_json::{Value, json};

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "foundations").await?;
    case.sql("INSERT INTO customers (customer_id, name, created_at) VALUES (1, 'snapshot', NULL);").await?;
    case.connect().await?;
    until("the snapshot", async || {
        ensure!(case.records()? == 1, "{} records", case.records()?);
        Ok(())
    })
    .await?;
    case.sql("INSERT INTO customers (customer_id, name) VALUES (2, 'stream');\nDELETE FROM customers WHERE customer_id = 1;").await?;
    until("the stream", async || {
        ensure!(case.records()? == 4, "{} records", case.records()?);
        Ok(())
    })
    .await?;
    let mut seen: Vec<(i64, String)> = Vec::new();
    for record in case.topics.read_all(&case.topic("customers"))? {
        let key: Value = serde_json::from_slice(record.key().context("a record has no key")?)?;
        let id = key.pointer("/payload/customer_id").and_then(Value::as_i64).context("the key has no schema and payload")?;
        let Some(value) = record.payload() else {
            seen.push((id, "tombstone".to_owned()));
            continue;
        };
        let value: Value = serde_json::from_slice(value)?;
        ensure!(value.get("schema").is_some_and(Value::is_object), "the value has no schema");
        let op = value.pointer("/payload/op").and_then(Value::as_str).context("the value has no op")?;
        if op == "r" {
            ensure!(value.pointer("/payload/after/created_at") == Some(&json!(null)), "a NULL became the column's default");
        }
        seen.push((id, op.to_owned()));
    }
    seen.sort();
    let expected = [(1, "d"), (1, "r"), (1, "tombstone"), (2, "c")].map(|(id, op)| (id, op.to_owned()));
    ensure!(seen == expected, "{seen:?}");
    Ok(())
}
