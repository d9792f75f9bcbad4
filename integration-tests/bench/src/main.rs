//! What streamsync costs, as ratios of one run: figures of different runs, machines or hours are not comparable.
//!
//! Stages are timed one batch at a time, each kind in turn, so that whatever else the machine does falls on all of them alike; the
//! engine runs as the program that its users run, and takes turns with bare clients on the same servers. Started by
//! `cargo xtask bench`.
#![expect(clippy::print_stdout, reason = "a program that reports on the terminal")]

mod clients;
mod configuration;
mod drain;
mod drains;
mod events;
mod median;
mod native;
mod report;
mod stages;
mod topic;

use std::time::Instant;

use anyhow::{Context as _, Result};
use integration_tests::stores::Stores;

use crate::report::Report;

fn main() -> Result<()> {
    let begin = Instant::now();
    let say = move |line: &str| println!("[bench {:>3.0} s] {line}", begin.elapsed().as_secs_f64());
    let stages = stages::measure(&say).context("stages")?;
    if std::env::args().any(|argument| argument == "--stages") {
        println!("nanoseconds an event: {}", serde_json::to_string_pretty(&stages)?);
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let drains = runtime.block_on(async {
        say("starting Kafka, Redis and MongoDB");
        let stores = Stores::start().await.context("the systems do not start")?;
        if stores.behind_proxy {
            say("the Docker engine has another loopback than this: what its port proxy costs is in all figures");
        }
        let stand_in = stores.mongodb_stand_in.clone();
        if let Some(product) = &stand_in {
            say(&format!("MongoDB's place is taken by a stand-in, {product}: its figures are not MongoDB's"));
        }
        let drains = drains::measure(&stores, &say).await;
        stores.remove().await?;
        drains.map(|drains| (drains, stand_in))
    });
    let (drains, stand_in) = drains.context("the whole engine")?;
    let report = Report::new(stages, drains, stand_in);
    let file = report.write()?;
    println!("\n{}", report.markdown());
    println!("written to {}; the tables above are README's section Figures, ready to paste", file.display());
    Ok(())
}
