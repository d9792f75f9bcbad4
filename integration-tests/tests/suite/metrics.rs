//! What `/metrics` says is what happened: every record has one outcome, and the sums are those of the topics.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::metrics::Metrics;
use integration_tests::stack::Stack;

const OUTCOMES: [&str; 5] = ["applied", "superseded", "stale", "filtered", "dead_lettered"];

/// Records with this outcome.
pub(crate) fn outcome(metrics: &Metrics, outcome: &str) -> f64 {
    metrics.sum("streamsync_records_total", &[("outcome", outcome)])
}

/// Records with any outcome.
pub(crate) fn settled(metrics: &Metrics) -> f64 {
    metrics.sum("streamsync_records_total", &[])
}

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "metrics_case").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    // Once this row is there the snapshot has its position: each later change is a record of its own.
    case.sql("INSERT INTO customers (customer_id, name) VALUES (9, 'first');").await?;
    case.wait_equal(&mut worker).await?;
    case.sql(
        "INSERT INTO customers (customer_id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c');
         UPDATE customers SET name = 'd' WHERE customer_id = 1;
         DELETE FROM customers WHERE customer_id = 2;
         INSERT INTO orders (order_id, customer_id, total_amount) VALUES (1, 1, 5.00);",
    )
    .await?;
    case.topics.produce(&case.topic("orders"), 0, b"{}", b"broken").await?;
    case.wait_equal(&mut worker).await?;
    // 4 inserts, 1 update, 1 delete with its tombstone, 1 order, 1 broken record.
    let expected = 9.0;
    until("every record has an outcome", async || {
        let metrics = worker.metrics().await?;
        ensure!(settled(&metrics) == expected, "{} of {expected} records are settled", settled(&metrics));
        Ok(())
    })
    .await?;
    ensure!(case.records()? == 9, "the topics hold {} records", case.records()?);
    let metrics = worker.metrics().await?;
    let by_outcome: f64 = OUTCOMES.iter().map(|name| outcome(&metrics, name)).sum();
    ensure!(by_outcome == expected, "an outcome has another name: {by_outcome} of {expected}");
    ensure!(outcome(&metrics, "dead_lettered") == 1.0, "{} dead-lettered records", outcome(&metrics, "dead_lettered"));
    ensure!(metrics.sum("streamsync_dead_letters_total", &[("route", "orders")]) == 1.0, "the dead letter is counted under its route");
    let route = |name: &str| metrics.sum("streamsync_records_total", &[("route", name)]);
    ensure!(route("customers") == 7.0 && route("orders") == 2.0, "customers {}, orders {}", route("customers"), route("orders"));
    ensure!(worker.is_ready().await?, "a worker that has settled everything is ready");
    worker.stop().await
}
