//! Rows that were there before the connector arrive as a snapshot, later ones as changes, and none is lost between the two.

use std::sync::Arc;

use anyhow::Result;
use integration_tests::case::Case;
use integration_tests::stack::Stack;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "snapshot").await?;
    case.sql(
        "INSERT INTO customers (name, email, address, created_at) VALUES
           ('  Ada Lovelace ', 'Ada@Example.COM', '12 St James''s Sq', '2024-01-01 00:00:00'),
           ('José Ñandú 🦤', 'jose@example.com', 'C/ Mayor 1\\nMadrid', '2024-02-29 23:59:59'),
           ('王小明', 'wang@example.com', NULL, '2038-01-19 03:14:07');
         INSERT INTO orders (customer_id, total_amount, status) VALUES (1, 99.99, 'pending'), (2, 0.00, 'Delivered'), (1, -12345678.90, 'refund');
         INSERT INTO shipping_info (order_id, shipping_address, shipping_method, estimated_delivery, status) VALUES
           (1, 'C/ Mayor 1', 'Express', '2024-03-05', 'preparing'), (2, NULL, NULL, NULL, NULL);",
    )
    .await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    // While the snapshot may still be running.
    case.sql(
        "INSERT INTO customers (name, email) VALUES ('Grace', 'grace@example.com');
         UPDATE orders SET status = 'paid' WHERE order_id = 1;
         DELETE FROM shipping_info WHERE shipping_id = 2;",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    case.sql("UPDATE customers SET address = 'Hopper Avenue 9' WHERE name = 'Grace';").await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await
}
