//! Keys of several columns, none of which is taken for another, whatever characters they hold; and keys of a type that only rows tell.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::stack::Stack;
use integration_tests::tables::{ACCOUNTS, COMPOSITE};

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let table = "CREATE TABLE composite (
        tenant VARCHAR(20) COLLATE utf8mb4_bin NOT NULL,
        region INT NOT NULL,
        seq BIGINT UNSIGNED NOT NULL,
        payload VARCHAR(100),
        PRIMARY KEY (region, tenant, seq)
    );
    INSERT INTO composite VALUES ('acme', 1, 1, 'one'), ('acme', 1, 18446744073709551615, 'max'), ('zeta', -2, 1, NULL);
    CREATE TABLE accounts (
        customer_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
        name VARCHAR(100),
        email VARCHAR(100),
        address VARCHAR(255),
        created_at TIMESTAMP NULL
    );
    INSERT INTO accounts VALUES (1, 'one', 'ONE@example.com', NULL, NULL), (18446744073709551615, 'max', NULL, 'here', '2024-05-06 07:08:09');";
    let case = Case::with_sql(stack, "composite", &[COMPOSITE, ACCOUNTS], table).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.wait_equal(&mut worker).await?;
    case.sql(
        "INSERT INTO composite VALUES ('a:b', 1, 2, 'x'), ('a', 1, 2, 'y'), ('a%3Ab', 1, 2, 'z'), ('{a}', 1, 2, 'w'), ('', 1, 2, 'empty'), ('A', 1, 2, 'case');
         UPDATE composite SET payload = 'changed' WHERE tenant = 'acme' AND seq = 1;
         UPDATE composite SET seq = 9223372036854775808 WHERE tenant = 'zeta';
         DELETE FROM composite WHERE seq = 18446744073709551615;
         DELETE FROM accounts;",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    // Behind the null records that follow the deletes, in whichever partition they are.
    case.sql(
        "INSERT INTO accounts (customer_id, name) VALUES (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f'), (7, 'g'), (8, 'h'), (9, 'i'), (10, 'j'), (11, 'k')",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    let letters = worker.metrics().await?.sum("streamsync_dead_letters_total", &[]);
    ensure!(letters == 0.0, "{letters} records were given up: a deleted row's null record needs no more than its key");
    worker.stop().await
}
