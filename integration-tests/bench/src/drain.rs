//! One worker, a process of its own, drains the backlog into its sinks: records a second, processor time, peak memory.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use integration_tests::stack::free_port;
use integration_tests::worker::Worker;
use serde::Serialize;

use crate::configuration;

/// Between two looks at the counters, each of which costs the worker the time to write all of its metrics.
const LOOK: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(120);
/// Ticks of /proc a second, on every Linux.
const TICKS: f64 = 100.0;

/// What a drain came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Drain {
    pub(crate) records_per_second: f64,
    pub(crate) records_per_cpu_second: f64,
    pub(crate) peak_rss_mb: f64,
}

/// What was seen at one moment.
struct Seen {
    at: Instant,
    records: f64,
    cpu_seconds: f64,
}

/// Lets a new consumer group drain `records` orders by the routes of this text. Joining the group and starting up are not measured: the clock runs
/// from the first write, or from `warm_up` after it, to the last acknowledgement, as the bare clients' does.
pub(crate) async fn drain(program: &Path, name: &str, kafka: &str, routes: &str, warm_up: Duration, records: u64) -> Result<Drain> {
    let dir = tempfile::tempdir()?;
    let port = free_port()?;
    let file = dir.path().join("streamsync.toml");
    std::fs::write(&file, configuration::worker(name, kafka, port, routes))?;
    let mut worker = Worker::start_program(program, &file, port, &dir.path().join("worker.log"), &[]).await?;
    let id = worker.id().context("the worker has stopped")?;
    let begin = Instant::now();
    let mut wanted = records as f64;
    let of_orders = ("route", configuration::ORDERS);
    let mut writing_since = None;
    let mut first: Option<Seen> = None;
    let last = loop {
        worker.assert_alive()?;
        let metrics = worker.metrics().await?;
        let seen =
            Seen { at: Instant::now(), records: metrics.sum("streamsync_records_total", &[of_orders]), cpu_seconds: cpu_seconds(id)? };
        let records = seen.records;
        let lost = metrics.sum("streamsync_dead_letters_total", &[of_orders]);
        ensure!(lost == 0.0, "{lost} records were dead-lettered");
        if seen.records >= wanted && (first.is_some() || warm_up.is_zero()) {
            let applied = metrics.sum("streamsync_records_total", &[of_orders, ("outcome", "applied")]);
            ensure!(applied == seen.records, "{applied} of {} records were applied: the store was not empty", seen.records);
            break seen;
        }
        // A batch that is prepared is about to be written.
        if writing_since.is_none() && metrics.sum("streamsync_batch_records_count", &[]) > 0.0 {
            writing_since = Some(seen.at);
        }
        if first.is_none() && writing_since.is_some_and(|since| since.elapsed() >= warm_up) {
            if !warm_up.is_zero() {
                wanted += seen.records;
            }
            first = Some(seen);
        }
        if begin.elapsed() >= LIMIT {
            bail!("{records} of {wanted} records drained within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    };
    let peak_rss_mb = peak_rss_mb(id)?;
    worker.kill().await?;
    let first = first.context("the drain was over before it could be measured: the backlog is too small")?;
    let done = last.records - first.records;
    Ok(Drain {
        records_per_second: done / (last.at - first.at).as_secs_f64(),
        records_per_cpu_second: done / (last.cpu_seconds - first.cpu_seconds).max(1.0 / TICKS),
        peak_rss_mb,
    })
}

/// User and system time of a process so far.
fn cpu_seconds(id: u32) -> Result<f64> {
    let file = format!("/proc/{id}/stat");
    let stat = read(&file)?;
    // The second field is the program's name in parentheses, which may hold spaces; utime and stime are the 14th and the 15th.
    let behind = stat.rsplit_once(')').map(|(_, behind)| behind).with_context(|| format!("{file} has no name"))?;
    let ticks: Vec<f64> = behind.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// The most memory that a process has had resident.
fn peak_rss_mb(id: u32) -> Result<f64> {
    let file = format!("/proc/{id}/status");
    let status = read(&file)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).with_context(|| format!("{file} has no VmHWM"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(Path::new(file)).with_context(|| format!("read {file}: processor time and memory are measured on Linux alone"))
}
