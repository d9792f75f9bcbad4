//! TRUNCATE, which the shipped connector tells of: the table's route halts, because no key says what is to go; told so, it clears its targets.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::tables::{CUSTOMERS, ORDERS};

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    // Only a topic of one partition has all that came before a truncate in its order.
    let mut case = Case::shop_on(stack, "truncate", 1, &stack.redis, &stack.mongodb).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql(
        "INSERT INTO customers (customer_id, name) VALUES (1, 'one');
         INSERT INTO orders (order_id, customer_id, total_amount) VALUES (1, 1, 1.50);
         INSERT INTO shipping_info (shipping_id, order_id, status) VALUES (1, 1, 'preparing'), (2, 1, 'preparing');",
    )
    .await?;
    case.wait_equal(&mut worker).await?;

    case.sql(
        "TRUNCATE TABLE shipping_info;
         INSERT INTO shipping_info (shipping_id, order_id, status) VALUES (2, 1, 'delivered'), (3, 1, 'preparing');
         UPDATE customers SET name = 'changed' WHERE customer_id = 1;",
    )
    .await?;
    until("the route halts", async || {
        let halted = worker.metrics().await?.sum("streamsync_route_halted", &[("route", "shipping_info")]);
        ensure!(halted == 1.0, "streamsync_route_halted is {halted}");
        Ok(())
    })
    .await?;
    let log = std::fs::read_to_string(case.log())?;
    let told = ["the table was truncated", "on_truncate", "streamsync rebuild --route shipping_info --after-snapshot"];
    ensure!(told.iter().all(|words| log.contains(words)), "the log lacks one of {told:?}");
    case.checker.wait_equal(&[CUSTOMERS, ORDERS]).await?;
    let kept: Vec<String> = case.checker.redis_documents("shipping_info").await?.into_keys().collect();
    ensure!(kept == ["shipping_info:1", "shipping_info:2"], "a route that has halted holds {kept:?}");
    worker.stop_halted().await?;

    case.on_truncate = Some("clear");
    let mut worker = case.start_worker().await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await
}
