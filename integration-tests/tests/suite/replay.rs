//! The whole log read again from its beginning changes nothing: no document, no version.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::metrics::Metrics;
use integration_tests::stack::Stack;
use integration_tests::tables::SHOP;
use integration_tests::worker::Worker;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "replay").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    for id in 1..=50 {
        case.sql(&format!(
            "INSERT INTO customers (customer_id, name) VALUES ({id}, 'first');
             INSERT INTO orders (order_id, customer_id, total_amount, status) VALUES ({id}, {id}, 1.00, 'pending');
             UPDATE customers SET name = 'second' WHERE customer_id = {id};
             UPDATE orders SET status = 'paid' WHERE order_id = {id};"
        ))
        .await?;
    }
    case.sql("DELETE FROM orders WHERE order_id % 3 = 0;\nDELETE FROM customers WHERE customer_id % 3 = 0;").await?;
    case.wait_equal(&mut worker).await?;
    // The stores are equal before the last deletes' null records are read, and these are writes too.
    let records = case.records()?;
    wait_settled(&worker, records).await?;
    worker.stop().await?;

    let before = case.contents().await?;
    for table in SHOP {
        // The coordinator may take a moment until it knows that the group's last member has left.
        until("the group is set back", async || case.topics.rewind(&case.group(), &case.topic(table.name))).await?;
    }
    let mut worker = case.start_worker().await?;
    wait_settled(&worker, records).await?;
    let metrics = worker.metrics().await?;
    let applied = crate::metrics::outcome(&metrics, "applied");
    ensure!(applied == 0.0, "{applied} records of the replay were applied");
    assert_outcomes(&metrics, records)?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await?;
    let after = case.contents().await?;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).take(3).collect();
    ensure!(before.len() == after.len() && changed.is_empty(), "the replay changed what the stores hold: {changed:?}");
    Ok(())
}

/// Waits until a worker has settled as many records as that.
pub(crate) async fn wait_settled(worker: &Worker, records: i64) -> Result<()> {
    until("the whole log was read", async || {
        let settled = crate::metrics::settled(&worker.metrics().await?);
        ensure!(settled >= count(records), "{settled} of {records} records are settled");
        Ok(())
    })
    .await
}

fn assert_outcomes(metrics: &Metrics, records: i64) -> Result<()> {
    let settled = crate::metrics::settled(metrics);
    ensure!(settled == count(records), "{settled} outcomes for {records} records");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred records")]
fn count(records: i64) -> f64 {
    records as f64
}
