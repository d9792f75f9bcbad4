//! What the connector does not tell of stays in the stores as it was: rows changed with `sql_log_bin=0`, and those of a cascading foreign key,
//! which MySQL writes to the binlog since 9.6 and Debezium 3.6.1 passes over.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::tables::{CHILDREN, PARENTS};

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let tables = "CREATE TABLE parents (id INT PRIMARY KEY, note VARCHAR(20));
    CREATE TABLE children (id INT PRIMARY KEY, parent_id INT, note VARCHAR(20),
        FOREIGN KEY (parent_id) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE);
    INSERT INTO parents VALUES (1, 'one'), (2, 'two'), (3, 'three');
    INSERT INTO children VALUES (11, 1, 'a'), (12, 1, 'b'), (21, 2, 'c'), (31, 3, 'd'), (32, 3, 'e');";
    let case = Case::with_sql(stack, "unlogged", &[PARENTS, CHILDREN], tables).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.wait_equal(&mut worker).await?;
    // Behind the snapshot, which would hide what follows.
    case.sql("INSERT INTO parents VALUES (4, 'streamed');").await?;
    case.wait_equal(&mut worker).await?;

    case.sql(
        "DELETE FROM parents WHERE id = 1;
         UPDATE parents SET id = 20 WHERE id = 2;
         SET sql_log_bin = 0;
         DELETE FROM children WHERE id = 31;
         SET sql_log_bin = 1;
         UPDATE children SET note = 'changed' WHERE id = 32;
         INSERT INTO children VALUES (41, 4, 'changed'), (42, 4, 'changed'), (43, 4, 'changed'), (44, 4, 'changed');",
    )
    .await?;
    case.checker.wait_equal(&[PARENTS]).await?;
    until("what came after them is in the stores", async || {
        let held = case.checker.redis_documents("children").await?;
        let changed = held.values().filter(|row| row.contains("changed")).count();
        ensure!(changed == 5, "{held:?}");
        Ok(())
    })
    .await?;
    let held = case.checker.redis_documents("children").await?;
    let stale = ["11", "12", "21", "31"].map(|id| held.get(&format!("children:{id}")).cloned().unwrap_or_default());
    ensure!(
        stale.iter().all(|row| !row.is_empty()),
        "a deletion that was not logged, or by a cascade, shows: docs/guarantees.md promises less: {held:?}"
    );
    ensure!(stale[2].contains("\"parent_id\":2,"), "an update by a cascade shows: docs/guarantees.md promises less: {held:?}");
    worker.stop().await
}
