//! A table changes under the connector: columns come, go and change their type; and the whole log, with both schemas in it, is read again.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::tables::{CHANGED_WARES, WARES};

use crate::replay::wait_settled;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let table = "CREATE TABLE wares (id INT PRIMARY KEY, label VARCHAR(20), colour VARCHAR(20), price DECIMAL(8, 2));
    INSERT INTO wares VALUES (1, 'one', 'red', 1.10), (2, 'two', NULL, 2.20), (3, 'three', 'blue', NULL), (4, 'four', 'red', 4.40);";
    let mut case = Case::with_sql(stack, "schema_changes", &[WARES], table).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql(
        "UPDATE wares SET label = 'streamed' WHERE id = 1;\nINSERT INTO wares VALUES (5, 'five', 'green', 5.50), (6, 'six', 'red', 6.60);",
    )
    .await?;
    case.wait_equal(&mut worker).await?;

    case.sql(
        "ALTER TABLE wares ADD COLUMN stock INT NOT NULL DEFAULT 7 AFTER id, DROP COLUMN colour, MODIFY price DECIMAL(10, 3);
         INSERT INTO wares (id, label, price) VALUES (11, 'eleven', 1.125), (12, 'twelve', NULL), (13, 'thirteen', 3.375), (14, 'fourteen', 4.5);
         UPDATE wares SET label = 'changed' WHERE id IN (1, 2);
         DELETE FROM wares WHERE id IN (4, 5);",
    )
    .await?;
    case.tables = vec![CHANGED_WARES];
    wait_settled(&worker, case.records()?).await?;
    until("all changes are in the stores", async || {
        let changed = case.checker.redis_documents("wares").await?;
        let keys: Vec<&str> = changed.keys().map(String::as_str).collect();
        ensure!(keys == ["wares:1", "wares:11", "wares:12", "wares:13", "wares:14", "wares:2", "wares:3", "wares:6"], "{keys:?}");
        ensure!(changed.get("wares:2").is_some_and(|row| row.contains("changed")), "{changed:?}");
        Ok(())
    })
    .await?;
    // What ALTER TABLE does to the rows is in no event: those that nobody has written since are as they were.
    let untouched = case.checker.redis_documents("wares").await?.remove("wares:3").unwrap_or_default();
    ensure!(untouched.contains("blue") && !untouched.contains("stock"), "row 3 was not written since the change, and is {untouched}");
    case.sql("UPDATE wares SET label = CONCAT(label, '!');").await?;
    case.wait_equal(&mut worker).await?;
    let records = case.records()?;
    wait_settled(&worker, records).await?;
    let metrics = worker.metrics().await?;
    ensure!(metrics.sum("streamsync_dead_letters_total", &[]) == 0.0, "a change of the table cost letters");
    worker.stop().await?;

    let before = case.contents().await?;
    until("the group is set back", async || case.topics.rewind(&case.group(), &case.topic("wares"))).await?;
    let mut worker = case.start_worker().await?;
    wait_settled(&worker, records).await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await?;
    ensure!(case.contents().await? == before, "the replay over a change of the table has changed what the stores hold");
    Ok(())
}
