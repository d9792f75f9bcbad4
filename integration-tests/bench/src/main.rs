//! What streamsync costs, as ratios of one run: figures of different runs, machines or hours are not comparable.
//!
//! Stages are timed one batch at a time, each kind in turn, so that whatever else the machine does falls on all of them alike; the
//! engine runs as the program that its users run, and takes turns with bare clients on the same servers. Started by
//! `cargo xtask bench`.
#![expect(clippy::print_stdout, reason = "a program that reports on the terminal")]

mod beside;
mod clients;
mod configuration;
mod drain;
mod drains;
mod events;
mod hanging;
mod median;
mod native;
mod report;
mod stages;
mod topic;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use integration_tests::stores::Stores;

use crate::report::Report;

fn main() -> Result<()> {
    let begin = Instant::now();
    let say = move |line: &str| println!("[bench {:>3.0} s] {line}", begin.elapsed().as_secs_f64());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--stages"] => {
            println!("nanoseconds an event: {}", serde_json::to_string_pretty(&stages::measure(&say).context("stages")?)?);
        }
        ["--beside", other] => {
            let (table, _) = on_servers(&say, async |stores| beside::compare(stores, Path::new(other), &say).await)?;
            println!("\n{table}");
        }
        [] => {
            let stages = stages::measure(&say).context("stages")?;
            let (drains, stand_in) = on_servers(&say, async |stores| drains::measure(stores, &say).await)?;
            let report = Report::new(stages, drains, stand_in);
            let file = report.write()?;
            println!("\n{}", report.markdown());
            println!("written to {}; the tables above are for docs/figures.md, the first one for README too", file.display());
        }
        other => bail!("{other:?} is not understood: --stages, --beside PROGRAM, or nothing"),
    }
    Ok(())
}

/// Starts the servers, measures on them, and removes them. Returned beside what was measured is what stands in for MongoDB.
fn on_servers<T>(say: &dyn Fn(&str), measure: impl AsyncFnOnce(&Stores) -> Result<T>) -> Result<(T, Option<String>)> {
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(async {
        say("starting Kafka, Redis and MongoDB");
        let stores = Stores::start().await.context("the systems do not start")?;
        if stores.behind_proxy {
            say("the Docker engine has another loopback than this: what its port proxy costs is in all figures");
        }
        let stand_in = stores.mongodb_stand_in.clone();
        if let Some(product) = &stand_in {
            say(&format!("MongoDB's place is taken by a stand-in, {product}: its figures are not MongoDB's"));
        }
        let measured = measure(&stores).await;
        stores.remove().await?;
        measured.map(|measured| (measured, stand_in))
    });
    measured.context("the whole engine")
}
