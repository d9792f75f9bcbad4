//! The promises, one module each, on the real systems. Started by `cargo xtask test`; a word on the command line chooses cases.
//! `cargo xtask chaos` starts the same program for the scenarios of `chaos` alone.
#![expect(clippy::print_stdout, reason = "a test harness reports on the terminal")]

mod all_types;
mod chaos;
mod checker;
mod composite_key;
mod crud;
mod foundations;
mod healed;
mod hot_swap;
mod live_changes;
mod metrics;
mod poison;
mod primary_key_change;
mod rebuild;
mod redrive;
mod replay;
mod restart;
mod schema_changes;
mod sink_away;
mod snapshot_then_stream;
mod truncate;
mod unlogged;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use integration_tests::stack::Stack;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use chaos::{Chaos, Choice};

/// Cases that run beside each other: they wait for most of their time.
const BESIDE: usize = 4;

type Case = fn(&Runtime, &Arc<Stack>) -> Result<()>;

/// A case's function, awaited on the suite's runtime.
macro_rules! cases {
    ($($module:ident),* $(,)?) => {
        [$((stringify!($module), (|runtime, stack| runtime.block_on($module::run(stack))) as Case)),*]
    };
}

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(BESIDE));
    let cases = cases![
        foundations,
        checker,
        snapshot_then_stream,
        crud,
        primary_key_change,
        composite_key,
        all_types,
        restart,
        replay,
        sink_away,
        healed,
        rebuild,
        poison,
        redrive,
        hot_swap,
        live_changes,
        truncate,
        schema_changes,
        unlogged,
        metrics,
    ];
    if arguments.list {
        libtest_mimic::run(&arguments, cases.map(|(name, _)| Trial::test(name, || Ok(()))).into()).exit();
    }
    let only_chaos = std::env::var("STREAMSYNC_TEST_CHAOS").ok().map(|names| Choice::read(&names)).transpose()?;
    let runtime = Arc::new(Runtime::new()?);
    let start = Instant::now();
    let stack = Arc::new(runtime.block_on(Stack::start()).context("the systems do not start")?);
    println!("MySQL, Kafka, Kafka Connect, Redis and MongoDB answer after {:.0?}", start.elapsed());
    if let Some(product) = stack.mongodb_stand_in() {
        println!("MongoDB is a stand-in: {product}");
    }
    let passed = match only_chaos {
        Some(choice) => run_chaos(arguments, &choice, &runtime, &stack)?,
        None => {
            let trials = cases.map(|(name, case)| {
                let (runtime, stack) = (Arc::clone(&runtime), Arc::clone(&stack));
                Trial::test(name, move || case(&runtime, &stack).map_err(|error| Failed::from(format!("{error:#}"))))
            });
            let cases_passed = !libtest_mimic::run(&arguments, trials.into()).has_failed();
            // After the cases: they share the broker that the scenarios kill.
            run_chaos(arguments, &Choice::Short, &runtime, &stack)? && cases_passed
        }
    };
    // All cases have ended, so that this is the last one that holds it.
    if let Some(stack) = Arc::into_inner(stack) {
        runtime.block_on(stack.remove())?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all of the chosen scenarios ended equal; their table is printed.
fn run_chaos(mut arguments: Arguments, choice: &Choice, runtime: &Arc<Runtime>, stack: &Arc<Stack>) -> Result<bool> {
    let chaos = Chaos::new();
    let trials = chaos.trials(choice, runtime, stack);
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, trials);
    for line in chaos.report() {
        println!("{line}");
    }
    runtime.block_on(chaos.remove())?;
    Ok(!conclusion.has_failed())
}
