//! Debezium's faults.

use anyhow::{Result, ensure};
use integration_tests::deadline::until;
use integration_tests::{store, web};
use serde_json::Value;

use super::ground::Ground;
use super::rig::{Rig, Verdict};

const ROUTES: [&str; 3] = ["customers", "orders", "shipping_info"];

/// It had not stored how far it has come: what it wrote since comes once more, as other records.
pub(crate) async fn connect_killed(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "connect_killed", 2).await?;
    rig.fault("kill -9 of Kafka Connect, started again: changes come twice");
    store::kill(rig.ground.stack.connect_worker()?).await?;
    rig.ground.stack.connect_worker()?.start().await?;
    rig.ground.stack.wait_for_connect().await?;
    rig.case.wait_for_connector(rig.case.name).await?;
    rig.healed();
    rig.judge().await
}

/// The connector begins again with a new snapshot, which says nothing of the rows that were deleted meanwhile: both stores keep them,
/// and the routes are unproven, until a rebuild from yet another snapshot has swept.
pub(crate) async fn connect_offsets_deleted(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "connect_offsets_deleted", 2).await?;
    rig.fault("the connector's offsets deleted while rows are deleted, a new snapshot; then rebuild");
    rig.changes(300).await?;
    rig.close_shop().await?;
    begin_again(&rig, "DELETE FROM shipping_info;\nDELETE FROM orders WHERE order_id % 3 = 0;", 1000).await?;
    ensure!(rig.case.assert_equal().await.is_err(), "the deleted rows left no document: the scenario shows nothing");
    // A table that is empty has no row of the new snapshot to tell by.
    for route in ["customers", "orders"] {
        until("the route reports itself unproven", async || {
            ensure!(rig.unproven(route).await? > 0.0, "{route} does not");
            Ok(())
        })
        .await?;
    }
    // The command is refused while a worker has the topic.
    rig.stop(0).await?;
    rig.stop(1).await?;
    for route in ROUTES {
        rig.rebuild(route, &["--after-snapshot"]).await?;
    }
    rig.restart(0).await?;
    rig.restart(1).await?;
    begin_again(&rig, "", 2000).await?;
    for route in ["customers", "orders"] {
        rig.rebuild(route, &["--snapshot-complete"]).await?;
    }
    // No row has come of the table that is empty, which only an operator can know for right.
    let (done, said) = rig.case.attempt(&["rebuild", "--route", "shipping_info", "--snapshot-complete"]).await?;
    ensure!(!done && said.contains("--accept-empty"), "a rebuild that would remove everything was not refused: {said}");
    rig.rebuild("shipping_info", &["--snapshot-complete", "--accept-empty"]).await?;
    rig.healed();
    until("no route is unproven", async || {
        for route in ROUTES {
            ensure!(rig.unproven(route).await? == 0.0, "{route} is");
        }
        Ok(())
    })
    .await?;
    rig.judge().await
}

/// Deletes the connector's offsets, runs statements of which nobody will ever hear, and waits until a new snapshot is in the stores.
async fn begin_again(rig: &Rig<'_>, unheard: &str, marker: u32) -> Result<()> {
    let (client, url) = (web::client()?, rig.case.connector(rig.case.name));
    client.put(format!("{url}/stop")).send().await?.error_for_status()?;
    until("the connector's offsets are deleted", async || {
        // REST says that it has stopped before its task has; until then it refuses.
        client.delete(format!("{url}/offsets")).send().await?.error_for_status()?;
        let left: Value = client.get(format!("{url}/offsets")).send().await?.json().await?;
        ensure!(left.pointer("/offsets").and_then(Value::as_array).is_some_and(Vec::is_empty), "it has offsets: {left}");
        Ok(())
    })
    .await?;
    if !unheard.is_empty() {
        rig.case.sql(unheard).await?;
    }
    client.put(format!("{url}/resume")).send().await?.error_for_status()?;
    rig.case.wait_for_connector(rig.case.name).await?;
    // The row may be part of the snapshot; what changes it then is of the stream, and behind every row of the snapshot.
    rig.case.sql(&format!("INSERT INTO customers (customer_id, name) VALUES ({marker}, 'new');")).await?;
    wait_for_name(rig, marker, "new").await?;
    rig.case.sql(&format!("UPDATE customers SET name = 'streamed' WHERE customer_id = {marker};")).await?;
    wait_for_name(rig, marker, "streamed").await
}

async fn wait_for_name(rig: &Rig<'_>, customer: u32, name: &str) -> Result<()> {
    until("the row is in Redis", async || {
        let documents = rig.case.checker.redis_documents("customers").await?;
        let document = documents.get(&format!("customers:{customer}")).cloned().unwrap_or_default();
        ensure!(document.contains(&format!("\"{name}\"")), "customer {customer} is {document:?}");
        Ok(())
    })
    .await
}
