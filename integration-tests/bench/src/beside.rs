//! Another build of `streamsync` beside this one, in turn on the same servers: what a change costs, or brings.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::stores::Stores;
use integration_tests::worker::program;

use crate::configuration::{self, Sink};
use crate::drain::Drain;
use crate::drains::Bench;
use crate::events::Events;
use crate::median::median;
use crate::topic::{SHORT_TOPIC, TOPIC};

/// Few rounds would show the machine and not the builds.
const ROUNDS: usize = 7;
const REDIS_RECORDS: u64 = 300_000;
/// For a server that is slow; all of its topic.
const MONGODB_RECORDS: u64 = 24_000;

/// The drains of both builds into one kind of sink, round by round.
struct Compared {
    sink: &'static str,
    this: Vec<Drain>,
    other: Vec<Drain>,
}

/// Lets both builds drain the same backlog, and returns a table.
pub(crate) async fn compare(stores: &Stores, other: &Path, say: &dyn Fn(&str)) -> Result<String> {
    ensure!(other.is_file(), "{} is no program", other.display());
    let events = Events::plain()?;
    let mut bench = Bench::begin(stores, &events, say).await?;
    bench.preload_short(&events, MONGODB_RECORDS).await?;
    let redis = into(&mut bench, other, "Redis", REDIS_RECORDS).await.context("Redis")?;
    let mongodb = into(&mut bench, other, "MongoDB", MONGODB_RECORDS).await.context("MongoDB")?;
    Ok(table(&[redis, mongodb]))
}

async fn into(bench: &mut Bench<'_>, other: &Path, sink: &'static str, records: u64) -> Result<Compared> {
    let this = program()?;
    let mut compared = Compared { sink, this: Vec::new(), other: Vec::new() };
    for round in 0..ROUNDS {
        // They change places: whoever is second finds another machine.
        for is_this in [round % 2 == 0, round % 2 == 1] {
            let (program, name, drains) =
                if is_this { (&*this, "this", &mut compared.this) } else { (other, "other", &mut compared.other) };
            bench.empty_redis().await?;
            let database = bench.next_name(name);
            let (topic, sink) = match sink {
                "Redis" => (TOPIC, Sink::Redis(bench.redis_url())),
                _ => (SHORT_TOPIC, bench.mongodb_sink(&database)),
            };
            let route = configuration::route(topic, false, &[sink])?;
            drains
                .push(bench.drain_by(program, name, &route, Duration::ZERO, records).await.with_context(|| program.display().to_string())?);
            bench.drop_mongodb(&database).await?;
        }
    }
    Ok(compared)
}

/// Ratios are medians of each round's; above 1 this build does more.
fn table(all: &[Compared]) -> String {
    let head = "| Drain, 4 partitions | this build, records/s | the other | ratio | records a CPU second | the other | ratio |\n\
                | --- | --- | --- | --- | --- | --- | --- |\n";
    all.iter().map(row).fold(head.to_owned(), |table, row| table + &row)
}

fn row(Compared { sink, this, other }: &Compared) -> String {
    let cells = |figure: fn(&Drain) -> f64| {
        let of = |drains: &[Drain]| drains.iter().map(figure).collect::<Vec<f64>>();
        let ratios: Vec<f64> = this.iter().zip(other).map(|(this, other)| figure(this) / figure(other)).collect();
        format!("{:.0} | {:.0} | {:.2}", median(&of(this)), median(&of(other)), median(&ratios))
    };
    format!("| {sink} | {} | {} |\n", cells(|drain| drain.records_per_second), cells(|drain| drain.records_per_cpu_second))
}

#[cfg(test)]
mod tests {
    use super::{Compared, table};
    use crate::drain::Drain;

    #[test]
    fn a_ratio_is_this_build_s_part_of_the_other() {
        let drain = |records_per_second| Drain { records_per_second, records_per_cpu_second: 50.0, peak_rss_mb: 0.0 };
        let compared = Compared { sink: "Redis", this: vec![drain(90.0), drain(80.0)], other: vec![drain(100.0), drain(100.0)] };
        assert_eq!(table(&[compared]).lines().last(), Some("| Redis | 85 | 100 | 0.85 | 50 | 50 | 1.00 |"));
    }
}
