//! What a run says: `target/bench.json`, and the tables of docs/figures.md.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use integration_tests::stack::repository;
use serde::Serialize;

use crate::drain::Drain;
use crate::drains::Drains;
use crate::median::median;
use crate::stages::{BATCH, Stages};

/// The figures that the project promises; those which are no ratios have their unit in the name, or are events a second.
#[derive(Debug, Serialize)]
struct Ratios {
    /// Time of the component over time of the native transform, from bytes to both documents; at most 1.3.
    wasm_to_native: f64,
    /// Events a second and core, from bytes without schema to both documents; at least 400,000.
    decode_to_plan_per_core: f64,
    /// Events a second with schema over those without; at least 0.7.
    with_schema_to_without: f64,
    /// Records a second into Redis over the bare client's writes; at least 0.8.
    redis_to_client: f64,
    /// Records a second into MongoDB over the bare client's writes; at least 0.8.
    mongodb_to_client: f64,
    /// Records a second into Redis beside a route whose module hangs over those without one; at least 0.95.
    beside_hanging_to_alone: f64,
    /// The most memory that any worker took, in 10^6 bytes; below 150.
    rss_mb: f64,
}

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    date: String,
    machine: String,
    /// The product in MongoDB's place, where it is not MongoDB.
    mongodb_stand_in: Option<String>,
    ratios: Ratios,
    /// Records a second into both sinks over what the slower one takes from its bare client.
    both_to_slower_client: f64,
    stages_ns: Stages,
    drains: Drains,
}

impl Report {
    pub(crate) fn new(stages: Stages, drains: Drains, stand_in: Option<String>) -> Self {
        let ratios = Ratios {
            wasm_to_native: stages.total / stages.total_native,
            decode_to_plan_per_core: 1e9 / stages.total,
            with_schema_to_without: stages.total / stages.total_with_schema,
            redis_to_client: Drains::to(&drains.redis_client, &drains.redis),
            mongodb_to_client: Drains::to(&drains.mongodb_client, &drains.mongodb),
            beside_hanging_to_alone: Drains::to(&rates(&drains.beside_none), &drains.beside_hanging),
            rss_mb: drains.peak_rss_mb(),
        };
        let slower = median(&drains.redis_client).min(median(&drains.mongodb_client));
        let date = bson::DateTime::now().try_to_rfc3339_string().unwrap_or_default();
        Self {
            date: date.get(..10).unwrap_or_default().to_owned(),
            machine: machine(),
            mongodb_stand_in: stand_in,
            both_to_slower_client: median(&rates(&drains.both)) / slower,
            ratios,
            stages_ns: stages,
            drains,
        }
    }

    /// Writes `target/bench.json`.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), |dir| repository().join(dir));
        let file = target.join("bench.json");
        std::fs::write(&file, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// The tables of docs/figures.md; README has the first.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("Measured on {}, {}", self.date, self.machine);
        if let Some(product) = &self.mongodb_stand_in {
            text.push_str(&format!("; MongoDB's place was taken by a stand-in, {product}"));
        }
        text.push_str(".\n\n| Ratio | Measured | Aim |\n| --- | --- | --- |\n");
        self.ratio_rows().into_iter().for_each(|(what, measured, aim)| line(&mut text, &[what, &measured, aim]));
        text.push_str("\n| Stage | ns an event |\n| --- | --- |\n");
        self.stage_rows().into_iter().for_each(|(what, nanos)| line(&mut text, &[&what, &format!("{nanos:.0}")]));
        text.push_str("\n| Drain, 4 partitions | records/s | records a CPU second of the worker | peak MB |\n| --- | --- | --- | --- |\n");
        for (what, drains) in self.drain_rows() {
            let (of_cpu, peak) = (
                median(&drains.iter().map(|drain| drain.records_per_cpu_second).collect::<Vec<_>>()),
                drains.iter().map(|drain| drain.peak_rss_mb).fold(0.0, f64::max),
            );
            line(&mut text, &[what, &thousands(median(&rates(drains))), &thousands(of_cpu), &format!("{peak:.0}")]);
        }
        line(&mut text, &["bare client of Redis", &thousands(median(&self.drains.redis_client)), "", ""]);
        line(&mut text, &["bare client of MongoDB", &thousands(median(&self.drains.mongodb_client)), "", ""]);
        text
    }

    fn ratio_rows(&self) -> Vec<(&'static str, String, &'static str)> {
        let ratios = &self.ratios;
        vec![
            ("component to native transform, time from bytes to both documents", format!("{:.2}", ratios.wasm_to_native), "at most 1.3"),
            ("with schema to without, events a second", format!("{:.2}", ratios.with_schema_to_without), "at least 0.7"),
            ("drain into Redis to a bare client's fenced scripts", format!("{:.2}", ratios.redis_to_client), "at least 0.8"),
            ("drain into MongoDB to a bare client's conditional upserts", format!("{:.2}", ratios.mongodb_to_client), "at least 0.8"),
            ("drain into both to the bare client of the slower", format!("{:.2}", self.both_to_slower_client), "0.9"),
            (
                "drain into Redis beside a route whose module hangs to one without",
                format!("{:.2}", ratios.beside_hanging_to_alone),
                "at least 0.95",
            ),
            ("events a second and core, from bytes to both documents", thousands(ratios.decode_to_plan_per_core), "at least 400,000"),
            ("peak memory of a worker with a backlog, MB", format!("{:.0}", ratios.rss_mb), "below 150"),
        ]
    }

    fn stage_rows(&self) -> Vec<(String, f64)> {
        let stages = &self.stages_ns;
        vec![
            (format!("decode, {} bytes without schema", stages.event_bytes), stages.decode),
            (format!("decode, {} bytes with schema", stages.event_with_schema_bytes), stages.decode_with_schema),
            (format!("transform: lower, component, lift; batches of {BATCH}"), stages.transform),
            ("transform: lower, native, lift".to_owned(), stages.transform_native),
            ("plan: keys, fences, coalescing for two targets".to_owned(), stages.plan),
            ("plan: JSON document".to_owned(), stages.json),
            ("plan: BSON document".to_owned(), stages.bson),
            ("all, without schema".to_owned(), stages.total),
        ]
    }

    fn drain_rows(&self) -> [(&'static str, &[Drain]); 6] {
        let drains = &self.drains;
        [
            ("null sinks", &drains.null),
            ("Redis", &drains.redis),
            ("Redis, after some seconds", &drains.beside_none),
            ("the same beside a route whose module hangs", &drains.beside_hanging),
            ("MongoDB", &drains.mongodb),
            ("Redis and MongoDB at once", &drains.both),
        ]
    }
}

fn line(text: &mut String, cells: &[&str]) {
    text.push_str(&format!("| {} |\n", cells.join(" | ")));
}

fn rates(drains: &[Drain]) -> Vec<f64> {
    drains.iter().map(|drain| drain.records_per_second).collect()
}

/// Three digits that matter, `412,000`: the others are noise.
fn thousands(number: f64) -> String {
    let magnitude = 10_f64.powi((number.max(1.0).log10().floor() as i32 - 2).max(0));
    let digits = format!("{:.0}", (number / magnitude).round() * magnitude);
    let first = match digits.len() % 3 {
        0 => 3,
        rest => rest,
    };
    let (head, tail) = digits.split_at_checked(first).unwrap_or((&digits, ""));
    let groups = tail.as_bytes().chunks(3).map(String::from_utf8_lossy);
    groups.fold(head.to_owned(), |text, group| format!("{text},{group}"))
}

/// Cores, memory and processor, as far as the system tells.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kib: u64 = field("/proc/meminfo", "MemTotal").and_then(|total| total.trim_end_matches(" kB").parse().ok()).unwrap_or_default();
    format!("{cores} cores of {processor}, {} GB, servers on the same machine", kib * 1024 / 1_000_000_000)
}
