//! Records that are no Debezium events go to the dead-letter topic with their bytes and the reason, and nothing waits for them.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::topics::header;
use rdkafka::message::Message as _;

const KEY: &[u8] = br#"{"schema":null,"payload":{"customer_id":7}}"#;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "poison").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql("INSERT INTO customers (customer_id, name) VALUES (1, 'before');").await?;
    case.wait_equal(&mut worker).await?;

    let deep = "[".repeat(10_000);
    let poison: [&[u8]; 4] = [b"{\"schema\":", b"not json", b"{\"some\":\"other shape\"}", deep.as_bytes()];
    let topic = case.topic("customers");
    let mut places = Vec::new();
    for (partition, value) in [0, 1, 0, 1].into_iter().zip(poison) {
        places.push((case.topics.produce(&topic, partition, KEY, value).await?, value));
    }
    case.sql(
        "INSERT INTO customers (customer_id, name) VALUES (2, 'after'), (3, 'after'), (4, 'after');
         UPDATE customers SET name = 'after' WHERE customer_id = 1;
         INSERT INTO orders (order_id, customer_id, total_amount) VALUES (1, 1, 5.00);",
    )
    .await?;
    case.wait_equal(&mut worker).await?;

    let letters = case.dead_letter_topic();
    until("the dead letters", async || {
        let count = case.topics.count(&letters)?;
        ensure!(count >= 4, "{count} dead letters");
        Ok(())
    })
    .await?;
    let kept = case.topics.read_all(&letters)?;
    ensure!(kept.len() == poison.len(), "{} dead letters for {} records", kept.len(), poison.len());
    for ((partition, offset), value) in places {
        let letter = kept
            .iter()
            .find(|letter| {
                header(letter, "streamsync.partition") == Some(partition.to_string())
                    && header(letter, "streamsync.offset") == Some(offset.to_string())
            })
            .with_context(|| format!("no dead letter names partition {partition}, offset {offset}"))?;
        ensure!(letter.payload() == Some(value), "the dead letter has other bytes than the record");
        ensure!(letter.key() == Some(KEY), "the dead letter has another key than the record");
        ensure!(header(letter, "streamsync.topic").as_deref() == Some(topic.as_str()), "the dead letter does not name its topic");
        for name in ["streamsync.stage", "streamsync.code", "streamsync.message"] {
            ensure!(header(letter, name).is_some_and(|text| !text.is_empty()), "the dead letter has no {name}");
        }
    }
    let counted = worker.metrics().await?.sum("streamsync_dead_letters_total", &[]);
    ensure!(counted == 4.0, "the metrics count {counted} dead letters");
    worker.stop().await
}
