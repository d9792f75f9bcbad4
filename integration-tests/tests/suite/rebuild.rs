//! What only an operator can mend: a second snapshot that hides a deletion, and a topic that was created again.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::reader::Reader;
use integration_tests::stack::Stack;
use integration_tests::worker::Worker;

const CUSTOMERS: [(&str, &str); 1] = [("route", "customers")];

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "rebuild").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    let values: Vec<String> = (1..=60).map(|id| format!("({id}, 'Name {id}')")).collect();
    case.sql(&format!("INSERT INTO customers (customer_id, name) VALUES {};", values.join(","))).await?;
    case.wait_equal(&mut worker).await?;
    a_second_snapshot_hides_a_deletion(&case, worker).await?;
    a_rebuild_sweeps_what_a_snapshot_does_not_bring(&case).await?;
    a_topic_is_created_again(&case).await
}

/// Rows go while no connector looks, and the next one begins with a snapshot: nothing in the log ever tells of the deletion.
async fn a_second_snapshot_hides_a_deletion(case: &Case, worker: Worker) -> Result<()> {
    case.disconnect(case.name).await?;
    case.sql("SET sql_log_bin = 0;\nDELETE FROM customers WHERE customer_id IN (3, 30);").await?;
    snapshot(case, "rebuild_second", 58).await?;
    until("the route says that it is unproven", async || unproven(&worker, 1.0).await).await?;
    ensure!(case.assert_equal().await.is_err(), "the stores should hold two rows that MySQL has not");
    worker.stop().await?;

    // A restart does not forget it.
    let worker = case.start_worker().await?;
    until("the restarted worker says so as well", async || unproven(&worker, 1.0).await).await?;
    let (done, said) = case.attempt(&["rebuild", "--route", "customers", "--after-snapshot"]).await?;
    ensure!(!done && said.contains("reads topic") && said.contains("Stop them"), "a running worker should forbid a rebuild: {said}");
    worker.stop().await?;
    case.disconnect("rebuild_second").await
}

async fn a_rebuild_sweeps_what_a_snapshot_does_not_bring(case: &Case) -> Result<()> {
    let stay: Vec<i64> = (10..=29).chain(31..=60).collect();
    let reader = Reader::open(&case.checker, "customers", &stay).await?;
    command(case, &["rebuild", "--route", "customers", "--after-snapshot"], "generation 2 begins").await?;
    let mut worker = case.start_worker().await?;
    snapshot(case, "rebuild_third", 58).await?;
    ensure!(case.assert_equal().await.is_err(), "nothing may be swept before the snapshot is known to be complete");
    command(case, &["rebuild", "--route", "customers", "--snapshot-complete"], "the snapshot ends").await?;
    case.wait_equal(&mut worker).await?;
    until("the route is proven", async || unproven(&worker, 0.0).await).await?;
    let swept = worker.metrics().await?.sum("streamsync_swept_total", &[]);
    ensure!(swept == 4.0, "two rows in two stores were to be swept, and {swept} were");
    let looks = reader.close().await.context("readers are to be served throughout a rebuild")?;
    ensure!(looks >= 10, "the stores were looked at {looks} times during the rebuild: that shows nothing");
    case.sql(
        "UPDATE customers SET name = 'changed' WHERE customer_id = 1;\nINSERT INTO customers (customer_id, name) VALUES (3, 'again');",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    command(case, &["generation", "show", "--route", "customers"], "rebuild of generation 2").await?;
    worker.stop().await?;
    case.disconnect("rebuild_third").await
}

async fn a_topic_is_created_again(case: &Case) -> Result<()> {
    let topic = case.topic("customers");
    case.topics.delete(&topic).await?;
    case.topics.create(&topic, 2).await?;
    let worker = case.start_worker().await?;
    until("the route halts", async || {
        let halted = worker.metrics().await?.sum("streamsync_route_halted", &CUSTOMERS);
        ensure!(halted == 1.0, "streamsync_route_halted is {halted}");
        Ok(())
    })
    .await?;
    let log = std::fs::read_to_string(case.log())?;
    ensure!(
        log.contains("was deleted and created again") && log.contains("streamsync generation next --route customers"),
        "the log names neither what happened nor what helps"
    );
    worker.stop_halted().await?;
    command(case, &["generation", "next", "--route", "customers"], "generation 3 begins").await?;
    let mut worker = case.start_worker().await?;
    snapshot(case, "rebuild_fourth", 59).await?;
    case.wait_equal(&mut worker).await?;
    case.sql("DELETE FROM customers WHERE customer_id < 20;\nUPDATE customers SET name = 'on' WHERE customer_id = 25;").await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await
}

/// Carried out at the first attempt: a worker that has stopped has left the group.
async fn command(case: &Case, arguments: &[&str], expected: &str) -> Result<()> {
    let (done, said) = case.attempt(arguments).await?;
    ensure!(done && said.contains(expected), "{arguments:?} said: {said}");
    Ok(())
}

/// A connector without offsets, and all the rows that it reads first.
async fn snapshot(case: &Case, connector: &str, rows: i64) -> Result<()> {
    let before = case.records()?;
    case.connect_as(connector).await?;
    until("the snapshot is in Kafka", async || {
        let found = case.records()?;
        ensure!(found >= before + rows, "{found} records, {rows} more than {before} are expected");
        Ok(())
    })
    .await
}

async fn unproven(worker: &Worker, expected: f64) -> Result<()> {
    let found = worker.metrics().await?.sum("streamsync_route_unproven", &CUSTOMERS);
    ensure!(found == expected, "streamsync_route_unproven is {found}");
    Ok(())
}
