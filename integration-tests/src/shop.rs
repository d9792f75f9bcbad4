//! A shop that changes the main job's three tables for as long as it is let: the same keys again and again, so that rows come, change,
//! go, come back and change their keys.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mysql_async::prelude::Queryable as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Few enough that every key changes many times.
const KEYS: u64 = 120;
/// Between two statements: some hundred changes a second.
const PAUSE: Duration = Duration::from_millis(3);

/// A running shop.
pub struct Shop {
    stop: watch::Sender<bool>,
    working: JoinSet<Result<u64>>,
}

impl Shop {
    /// Opens it on a database's tables. The same seed gives the same statements.
    #[must_use]
    pub fn open(mysql: &mysql_async::Pool, schema: &str, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut working = JoinSet::new();
        working.spawn(work(mysql.clone(), schema.to_owned(), seed, stopped));
        Self { stop, working }
    }

    /// Closes it, and returns how many statements it has made.
    ///
    /// # Errors
    /// MySQL refused one.
    pub async fn close(mut self) -> Result<u64> {
        self.stop.send_replace(true);
        self.working.join_next().await.context("the shop has no task")??
    }
}

async fn work(mysql: mysql_async::Pool, schema: String, seed: u64, stopped: watch::Receiver<bool>) -> Result<u64> {
    let mut connection = mysql.get_conn().await?;
    connection.query_drop(format!("USE {schema}")).await?;
    let mut chance = Chance(seed | 1);
    let mut statements = 0;
    while !*stopped.borrow() {
        let statement = statement(&mut chance, statements);
        connection.query_drop(&statement).await.with_context(|| format!("the shop's {statement:?}"))?;
        statements += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(statements)
}

/// One that MySQL takes whatever its tables hold; some change nothing.
fn statement(chance: &mut Chance, number: u64) -> String {
    const STATUS: [&str; 6] = ["pending", "paid", "Shipped", "delivered", "cancelled", "refund"];
    let (key, other) = (chance.below(KEYS) + 1, chance.below(KEYS) + 1);
    let status = STATUS.get(usize::try_from(chance.below(6)).unwrap_or_default()).copied().unwrap_or("pending");
    match chance.below(16) {
        0..=2 => format!(
            "INSERT INTO customers (customer_id, name, email, address) VALUES ({key}, ' Name {number} ', 'Mail{key}@Example.com', 'Street {number}')
             ON DUPLICATE KEY UPDATE name = ' Name {number} ', address = NULLIF('Street {number}', 'Street {other}')"
        ),
        3 => format!("UPDATE customers SET address = 'moved {number}' WHERE customer_id BETWEEN {key} AND {key} + 5"),
        4 => format!("DELETE FROM customers WHERE customer_id = {key} AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = {key})"),
        5..=7 => format!(
            "INSERT INTO orders (order_id, customer_id, total_amount, status)
             SELECT {key}, customer_id, {number}.25, '{status}' FROM customers WHERE customer_id >= {other} ORDER BY customer_id LIMIT 1
             ON DUPLICATE KEY UPDATE total_amount = {number}.75, status = '{status}'"
        ),
        8 => format!("UPDATE orders SET total_amount = total_amount + 0.01 WHERE order_id BETWEEN {key} AND {key} + 8"),
        9 => format!("DELETE FROM orders WHERE order_id = {key} AND NOT EXISTS (SELECT 1 FROM shipping_info s WHERE s.order_id = {key})"),
        10..=12 => format!(
            "INSERT INTO shipping_info (shipping_id, order_id, shipping_address, shipping_method, estimated_delivery, status)
             SELECT {key}, order_id, 'Street {number}', 'Express', '2026-03-01', '{status}' FROM orders WHERE order_id >= {other} ORDER BY order_id LIMIT 1
             ON DUPLICATE KEY UPDATE shipping_address = NULL, status = '{status}'"
        ),
        13 => format!("DELETE FROM shipping_info WHERE shipping_id IN ({key}, {other})"),
        // A primary key changes, unless the new one is taken.
        14 => format!("UPDATE IGNORE shipping_info SET shipping_id = {other}, status = 'rebooked' WHERE shipping_id = {key}"),
        _ => format!("UPDATE shipping_info SET status = '{status}', shipping_method = 'Standard' WHERE shipping_id BETWEEN {key} AND {key} + 3"),
    }
}

/// xorshift64: enough chance for a shop, and the same one for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit.max(1)
    }
}
