//! A store that goes away and comes back: the worker waits, nothing is lost, and nothing goes to the dead letters.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::store::Store;
use integration_tests::worker::Worker;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let (redis, mongodb) = tokio::try_join!(stack.own_redis("redis-away"), stack.own_mongodb("mongodb-away"))?;
    let case = Case::shop_on(stack, "sink_away", 2, &redis, &mongodb).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql("INSERT INTO customers (customer_id, name) VALUES (1, 'before');").await?;
    case.wait_equal(&mut worker).await?;
    away_and_back(&case, &mut worker, &redis, 100).await?;
    away_and_back(&case, &mut worker, &mongodb, 200).await?;

    // Paused: connections stay open and nothing answers.
    mongodb.container.pause().await?;
    change(&case, 300).await?;
    mongodb.container.unpause().await?;
    case.wait_equal(&mut worker).await?;

    let dead = worker.metrics().await?.sum("streamsync_dead_letters_total", &[]);
    ensure!(dead == 0.0, "{dead} records were given up because a store was away");
    worker.stop().await?;
    redis.container.rm().await?;
    mongodb.container.rm().await?;
    Ok(())
}

async fn away_and_back(case: &Case, worker: &mut Worker, store: &Store, first: u32) -> Result<()> {
    store.stop().await?;
    change(case, first).await?;
    // The changes are in Kafka before the store is back: the worker has met its absence.
    let expected = i64::from(first);
    until("the changes are in Kafka", async || {
        let records = case.records()?;
        ensure!(records >= expected, "{records} records");
        Ok(())
    })
    .await?;
    worker.assert_alive()?;
    store.start().await?;
    case.wait_equal(worker).await
}

/// A hundred records more.
async fn change(case: &Case, first: u32) -> Result<()> {
    let values: Vec<String> = (first..first + 99).map(|id| format!("({id}, 'Name {id}')")).collect();
    let insert = format!("INSERT INTO customers (customer_id, name) VALUES {};", values.join(","));
    case.sql(&format!("{insert}\nUPDATE customers SET name = 'changed {first}' WHERE customer_id = 1;")).await
}
