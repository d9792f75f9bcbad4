//! Inserts, updates and deletes of all three tables, NULL and empty texts among them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::stack::Stack;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "crud").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    for id in 1..=20 {
        case.sql(&format!(
            "INSERT INTO customers (customer_id, name, email) VALUES ({id}, ' Name {id} ', 'Mail{id}@Example.com');
             INSERT INTO orders (order_id, customer_id, total_amount, status) VALUES ({id}, {id}, {id}.10, 'pending');
             INSERT INTO shipping_info (shipping_id, order_id, shipping_method, status) VALUES ({id}, {id}, 'Standard', 'preparing');"
        ))
        .await?;
    }
    case.wait_equal(&mut worker).await?;

    case.sql(
        "UPDATE customers SET name = NULL, email = NULL WHERE customer_id = 1;
         UPDATE customers SET name = '', address = '' WHERE customer_id = 2;
         UPDATE orders SET total_amount = NULL, status = NULL WHERE order_id = 3;
         UPDATE orders SET total_amount = -99999999.99, status = 'CANCELLED' WHERE order_id = 4;
         UPDATE orders SET total_amount = total_amount * 2, status = 'paid' WHERE order_id > 10;
         UPDATE shipping_info SET status = 'Delivered', estimated_delivery = '9999-12-31' WHERE shipping_id = 5;
         UPDATE shipping_info SET status = 'lost', estimated_delivery = '1970-01-01' WHERE shipping_id = 6;",
    )
    .await?;
    case.wait_equal(&mut worker).await?;

    case.sql(
        "DELETE FROM shipping_info WHERE shipping_id > 15;
         DELETE FROM orders WHERE order_id > 15;
         DELETE FROM customers WHERE customer_id > 15;
         INSERT INTO customers (customer_id, name) VALUES (16, 'again');",
    )
    .await?;
    case.wait_equal(&mut worker).await?;

    case.sql("DELETE FROM shipping_info; DELETE FROM orders; DELETE FROM customers;".replace("; ", ";\n").as_str()).await?;
    case.wait_equal(&mut worker).await?;
    ensure!(case.contents().await?.is_empty(), "documents are left over: {:?}", case.contents().await?);
    worker.stop().await
}
