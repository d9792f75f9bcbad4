//! A simulation of the whole way, in virtual time: MySQL, its connector, Kafka, one to three workers, Redis and MongoDB, and everything that
//! can happen to them. The workers, their lanes and both sinks are the engine's own; one seed makes one history.
//!
//!     cargo xtask simulate --histories 1000000
//!     cargo xtask simulate --seed 42
#![allow(
    clippy::expect_used,
    clippy::unreachable,
    clippy::wildcard_enum_match_arm,
    clippy::ptr_arg,
    clippy::type_complexity,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a test fails by panicking, and a simulated server knows what is asked of it alone"
)]

#[path = "../fixtures/component.rs"]
mod component;
mod connector;
mod dice;
mod group;
mod history;
mod kafka;
mod mongodb;
mod mysql;
mod network;
mod process;
mod redis;
mod setting;
mod worker;
mod world;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A history is thousands of small pieces, made and dropped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of a plain `cargo test`; `cargo xtask test` asks for more.
const DEFAULT_HISTORIES: u64 = 100;

/// So many of the first are played twice.
const REPEATED: u64 = 20;

struct Arguments {
    seed: Option<u64>,
    from: u64,
    histories: u64,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            say(&error);
            return ExitCode::FAILURE;
        }
    };
    match arguments.seed {
        Some(seed) => replay(seed),
        None => histories(arguments.from, arguments.histories),
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { seed: None, from: 0, histories: DEFAULT_HISTORIES };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || given.next().and_then(|text| text.parse().ok()).ok_or(format!("{name} needs a number"));
        match &*name {
            "--seed" => arguments.seed = Some(number()?),
            "--from" => arguments.from = number()?,
            "--histories" => arguments.histories = number()?,
            // What `cargo test` hands to every test.
            _ => {}
        }
    }
    Ok(arguments)
}

fn say(line: &str) {
    // Without a terminal there is nobody to tell.
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// One history, told step by step.
fn replay(seed: u64) -> ExitCode {
    let found = history::play(seed, true);
    found.story.iter().for_each(|line| say(line));
    found.violations.iter().for_each(|violation| say(&format!("seed {seed}: {violation}")));
    if found.violations.is_empty() {
        say(&format!("seed {seed}: everything holds"));
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// What is told of a seed must be the same each time: else no failure could be replayed.
fn twice(seed: u64) -> history::Found {
    let (mut found, again) = (history::play(seed, true), history::play(seed, true));
    if let Some((a, b)) = found.story.iter().zip(&again.story).find(|(a, b)| a != b) {
        found.violations.push(format!("two runs of it differ, so that something in it hangs on more than the seed:\n{a}\n{b}"));
    }
    found
}

/// Many, on all cores; ends at the first that fails.
fn histories(from: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let end = from + count;
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let found = if seed < from + REPEATED { twice(seed) } else { history::play(seed, false) };
                    if !found.violations.is_empty() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                        found.violations.iter().for_each(|violation| say(&format!("seed {seed}: {violation}")));
                    }
                }
            });
        }
        scope.spawn(|| progress(&next, &failed, from, end, began));
    });
    let failed = failed.load(Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    if failed == u64::MAX {
        say(&format!("{count} histories in {seconds:.1} s: everything holds"));
        say("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    say(&format!("seed {failed} fails; replay it, told step by step, with: cargo xtask simulate --seed {failed}"));
    say("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::FAILURE
}

fn progress(next: &AtomicU64, failed: &AtomicU64, from: u64, end: u64, began: Instant) {
    let mut told = Instant::now();
    while next.load(Ordering::Relaxed) < end && failed.load(Ordering::Relaxed) == u64::MAX {
        std::thread::sleep(Duration::from_millis(50));
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            let done = next.load(Ordering::Relaxed).saturating_sub(from);
            say(&format!("{done} of {} histories, {:.0} a second", end - from, done as f64 / began.elapsed().as_secs_f64()));
        }
    }
}
