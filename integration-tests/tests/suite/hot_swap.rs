//! The module's file is replaced while the shop goes on: no event lost or twice, and a bad file changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::worker::Worker;

const SWAPS: u32 = 4;
const ROWS: u32 = 20;
/// Between two rounds of the shop: a machine that is slow to compile a module must not get a backlog that it can't settle.
const PACE: Duration = Duration::from_millis(200);

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "hot_swap").await?;
    case.connect().await?;
    let component = case.component("customers")?;
    let module = case.dir().join("customers.wasm");
    std::fs::write(&module, &component)?;
    let mut worker = case.start_worker_with(&[("customers", module.clone())], &[]).await?;
    let mut shop = Shop { case: &case, rows: 0 };
    shop.work().await?;
    case.wait_equal(&mut worker).await?;

    let rebalances = worker.metrics().await?.sum("streamsync_rebalances_total", &[]);
    for number in 1..=SWAPS {
        replace(&module, &version(&component, number))?;
        shop.work_until(&worker, "swapped", number).await?;
        shop.work().await?;
    }
    // The newest goes on running.
    replace(&module, b"\0asm\x01\0\0\0")?;
    shop.work_until(&worker, "refused", 1).await?;
    shop.work().await?;
    case.wait_equal(&mut worker).await?;

    let records = case.topics.count(&case.topic("customers"))?;
    let counted = until("every record has its outcome", async || {
        let metrics = worker.metrics().await?;
        let settled = metrics.sum("streamsync_records_total", &[("route", "customers")]);
        ensure!(settled == records as f64, "{settled} of {records} records");
        Ok(metrics)
    })
    .await?;
    let consumed = counted.sum("streamsync_records_consumed_total", &[("route", "customers")]);
    ensure!(consumed == records as f64, "{consumed} records were read, the topic has {records}");
    ensure!(counted.sum("streamsync_rebalances_total", &[]) == rebalances, "the group was rebalanced");
    for result in ["duplicate", "stale", "conflict", "refused"] {
        let writes = counted.sum("streamsync_writes_total", &[("result", result)]);
        ensure!(writes == 0.0, "{writes} writes were {result}: an event came twice");
    }
    let modules: BTreeSet<String> = case
        .checker
        .mongodb_documents("customers")
        .await?
        .iter()
        .map(|document| Ok(document.get_document("_sync")?.get_str("m")?.to_owned()))
        .collect::<Result<_>>()
        .context("the stored versions")?;
    ensure!(modules.len() > SWAPS as usize, "documents of {} modules", modules.len());

    let of_kafka = [("route", "customers"), ("from", "kafka")];
    let all = counted.sum("streamsync_end_to_end_seconds_count", &of_kafka);
    let [kafka, route] = of_kafka;
    let within = counted.sum("streamsync_end_to_end_seconds_bucket", &[kafka, route, ("le", "1")]);
    println!("hot_swap: {within} of {all} events settled within a second of Kafka's timestamp, over {SWAPS} swaps");
    worker.stop().await
}

/// Changes customers all the while.
struct Shop<'c> {
    case: &'c Case,
    rows: u32,
}

impl Shop<'_> {
    async fn work(&mut self) -> Result<()> {
        let first = self.rows + 1;
        self.rows += ROWS;
        let values: Vec<String> = (first..=self.rows).map(|id| format!("({id}, 'Name {id}', 'mail{id}@example.com')")).collect();
        let statements = format!(
            "INSERT INTO customers (customer_id, name, email) VALUES {};\n\
             UPDATE customers SET address = 'moved {first}' WHERE customer_id >= {first} AND customer_id % 10 = 0;\n\
             DELETE FROM customers WHERE customer_id = {first};",
            values.join(",")
        );
        self.case.sql(&statements).await
    }

    async fn work_until(&mut self, worker: &Worker, result: &str, number: u32) -> Result<()> {
        let mut done = false;
        while !done {
            self.work().await?;
            let swaps = worker.metrics().await?.sum("streamsync_module_swaps_total", &[("route", "customers"), ("result", result)]);
            ensure!(swaps <= f64::from(number), "{swaps} modules {result}");
            done = swaps == f64::from(number);
            tokio::time::sleep(PACE).await;
            ensure!(self.rows < 100_000, "no module was {result} in all that time");
        }
        Ok(())
    }
}

/// The same component with another digest: a section of its own, which no host looks at, has the number.
fn version(component: &[u8], number: u32) -> Vec<u8> {
    let mut own = vec![7];
    own.extend_from_slice(b"version");
    own.extend_from_slice(&number.to_le_bytes());
    [component, &[0, own.len() as u8], &own].concat()
}

/// As an operator does it: whole, by renaming.
fn replace(module: &std::path::Path, content: &[u8]) -> Result<()> {
    let new = module.with_extension("new");
    std::fs::write(&new, content)?;
    Ok(std::fs::rename(new, module)?)
}
