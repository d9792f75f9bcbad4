//! Stores that lose everything while a worker runs, with every connection open and nothing to write: noticed, and filled again from the log.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::stack::Stack;
use integration_tests::worker::Worker;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "healed").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    let values: Vec<String> = (1..=200).map(|id| format!("({id}, 'Name {id}')")).collect();
    case.sql(&format!(
        "INSERT INTO customers (customer_id, name) VALUES {};
         DELETE FROM customers WHERE customer_id % 5 = 0;",
        values.join(",")
    ))
    .await?;
    case.wait_equal(&mut worker).await?;
    let rebalances = rebalances(&worker).await?;

    let mut redis = case.checker.redis.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHDB").exec_async(&mut redis).await?;
    ensure!(case.assert_equal().await.is_err(), "an emptied Redis equals MySQL");
    case.wait_equal(&mut worker).await?;

    case.checker.mongodb.drop().await?;
    ensure!(case.assert_equal().await.is_err(), "an emptied MongoDB equals MySQL");
    case.wait_equal(&mut worker).await?;

    // In the middle of traffic, too.
    redis::cmd("FLUSHDB").exec_async(&mut redis).await?;
    case.sql("UPDATE customers SET name = 'changed' WHERE customer_id % 2 = 0;\nDELETE FROM customers WHERE customer_id = 7;").await?;
    case.wait_equal(&mut worker).await?;

    let metrics = worker.metrics().await?;
    for sink in ["redis", "mongodb"] {
        let rewinds = metrics.sum("streamsync_rewinds_total", &[("sink", sink)]);
        ensure!(rewinds >= 1.0, "{sink} was emptied, and the worker counts {rewinds} rewinds");
    }
    ensure!(metrics.sum("streamsync_rebalances_total", &[]) == rebalances, "the worker has left its group to heal a store");
    let dead = metrics.sum("streamsync_dead_letters_total", &[]);
    ensure!(dead == 0.0, "{dead} records were given up because a store was emptied");
    worker.stop().await
}

async fn rebalances(worker: &Worker) -> Result<f64> {
    Ok(worker.metrics().await?.sum("streamsync_rebalances_total", &[]))
}
