//! A changed primary key leaves nothing under the old key, and the exact row under the new one.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::stack::Stack;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "key_change").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql(
        "INSERT INTO customers (customer_id, name, email) VALUES (1, 'one', 'one@example.com'), (2, 'two', 'two@example.com');
         INSERT INTO orders (order_id, customer_id, total_amount) VALUES (1, 1, 1.50);
         INSERT INTO shipping_info (shipping_id, order_id, status) VALUES (1, 1, 'preparing'), (2, 1, 'preparing');",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    // Onto free keys, onto a key that another row has just left, and back again; the last one changes other columns too.
    case.sql(
        "UPDATE customers SET customer_id = 20, name = 'twenty' WHERE customer_id = 2;
         UPDATE shipping_info SET shipping_id = 30 WHERE shipping_id = 1;
         UPDATE shipping_info SET shipping_id = 1 WHERE shipping_id = 2;
         UPDATE shipping_info SET shipping_id = 2, status = 'delivered' WHERE shipping_id = 30;",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    let keys: Vec<String> = case.checker.redis_documents("customers").await?.into_keys().collect();
    ensure!(keys == ["customers:1", "customers:20"], "{keys:?}");
    worker.stop().await
}
