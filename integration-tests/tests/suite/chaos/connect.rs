//! Debezium's faults.

use anyhow::{Result, ensure};
use integration_tests::deadline::until;
use integration_tests::store;
use serde_json::Value;

use super::ground::Ground;
use super::rig::{Rig, Verdict};

/// It had not stored how far it has come: what it wrote since comes once more, as other records.
pub(crate) async fn connect_killed(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "connect_killed", 2).await?;
    rig.fault("kill -9 of Kafka Connect, started again: changes come twice");
    store::kill(rig.ground.stack.connect_worker()?).await?;
    rig.ground.stack.connect_worker()?.start().await?;
    rig.ground.stack.wait_for_connect().await?;
    rig.case.wait_for_connector(rig.case.name).await?;
    rig.judge().await
}

/// The connector begins again with a new snapshot, which says nothing of the rows that were deleted meanwhile: both stores keep them,
/// and the routes are unproven, until `rebuild` has swept.
pub(crate) async fn connect_offsets_deleted(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "connect_offsets_deleted", 2).await?;
    rig.fault("the connector's offsets deleted while rows are deleted, a new snapshot; then rebuild");
    rig.changes(300).await?;
    let client = reqwest::Client::new();
    let url = rig.case.connector(rig.case.name);
    client.put(format!("{url}/stop")).send().await?.error_for_status()?;
    until("the connector has stopped", async || {
        // REST says so before the task has stopped; until then it refuses to delete the offsets.
        client.delete(format!("{url}/offsets")).send().await?.error_for_status()?;
        let left: Value = client.get(format!("{url}/offsets")).send().await?.json().await?;
        ensure!(left.pointer("/offsets").and_then(Value::as_array).is_some_and(Vec::is_empty), "it has offsets: {left}");
        Ok(())
    })
    .await?;
    rig.close_shop().await?;
    // Nobody will ever hear of these deletions.
    rig.case.sql("DELETE FROM shipping_info;").await?;
    client.put(format!("{url}/resume")).send().await?.error_for_status()?;
    rig.case.wait_for_connector(rig.case.name).await?;
    rig.case.sql("INSERT INTO customers (customer_id, name) VALUES (1000, 'after the snapshot');").await?;
    until("the new snapshot is in both stores", async || {
        let documents = rig.case.checker.redis_documents("customers").await?;
        ensure!(documents.contains_key("customers:1000"), "not yet");
        Ok(())
    })
    .await?;
    let ghosts = rig.case.checker.redis_documents("shipping_info").await?;
    ensure!(!ghosts.is_empty(), "the deleted rows left no document: the scenario shows nothing");
    // The route of the emptied table has no row of the new snapshot to tell by; all of the others have.
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
    for route in ["customers", "orders", "shipping_info"] {
        rig.rebuild(route).await?;
    }
    rig.restart(0).await?;
    rig.restart(1).await?;
    rig.healed();
    until("no route is unproven", async || {
        for route in ["customers", "orders", "shipping_info"] {
            ensure!(rig.unproven(route).await? == 0.0, "{route} is");
        }
        Ok(())
    })
    .await?;
    rig.judge().await
}
