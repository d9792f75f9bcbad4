//! One command for each thing a developer does, on a machine with Rust and a C toolchain.

mod bench;
mod chaos;
mod ci;
mod connect;
mod contract;
mod demo;
mod docker;
mod fuzz;
mod guests;
mod images;
mod languages;
mod mutants;
mod packages;
mod progress;
mod proxies;
mod pull;
mod seed;
mod simulate;
mod stack;
mod stores;
mod suite;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, then show the main job in one process: a shop, a Kafka in process, the transforms, the sinks
    Demo {
        /// Handed to `streamsync demo`: --changes N, --redis URL, --mongodb URL, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the default transforms into target/guests
    Guests,
    /// Build the templates of all languages, and what shows all that an SDK can do, into target/languages
    Languages,
    /// Find or start a Docker engine, and pull or build the images of the stack and of the tests
    Images,
    /// Start the real stack in Docker, seed it, and say what to try
    Up {
        /// Customers that MySQL has; the first one's arrival in Redis shows that the way is open
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        customers: u32,
        /// Orders, and as many shipments
        #[arg(long, default_value_t = 100)]
        orders: u32,
    },
    /// Remove the stack and its data
    Down,
    /// All tests, those on the real systems included
    Test,
    /// Build what is shipped, and measure it: stages, the component beside native code, drains beside bare clients
    Bench {
        /// The stages without IO alone: a minute, and nothing to profile but them. No server is started, nothing is written.
        #[arg(long)]
        stages: bool,
        /// Another build of streamsync: both drain into Redis and MongoDB in turn, and nothing else is measured. What a change costs
        #[arg(long, value_name = "PROGRAM", conflicts_with = "stages")]
        beside: Option<std::path::PathBuf>,
    },
    /// Histories of the whole way in virtual time, with every fault there is: the engine's own workers and sinks
    Simulate {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        histories: u64,
        /// The first one's seed
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// This one alone, told step by step
        #[arg(long, conflicts_with_all = ["histories", "from"])]
        seed: Option<u64>,
    },
    /// Faults on the real systems: kills, zombies, cuts, stores that lose data; then both stores must equal MySQL
    Chaos {
        /// Which ones; all where none is named
        scenarios: Vec<String>,
    },
    /// Feed what reads foreign bytes, and what decides which offset is kept, with arbitrary ones: each target from the repository's corpus
    Fuzz {
        /// For each target
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// One target alone
        target: Option<String>,
    },
    /// Bugs on purpose, one at a time, which the simulation must catch
    Mutants {
        /// How many histories each of them gets at most
        #[arg(long, default_value_t = 10_000)]
        histories: u64,
    },
    /// Format, lints, dependencies, then all tests
    Ci {
        /// And then, for an hour or more: all of chaos, a minute of each fuzz target, 100,000 histories; each part whatever came of the others
        #[arg(long)]
        long: bool,
    },
    /// Small checks of the tree itself
    Tidy,
}

fn main() -> ExitCode {
    // The clock of all progress lines starts here.
    progress::elapsed();
    let outcome = match Arguments::parse().command {
        Command::Demo { arguments } => demo::demo(&arguments),
        Command::Guests => build_guests().map(|dir| progress::say(format_args!("the transforms are in {}", dir.display()))),
        Command::Languages => build_languages(),
        Command::Images => stack::images(),
        Command::Up { customers, orders } => stack::up(customers, orders),
        Command::Down => stack::down(),
        Command::Test => suite::test(),
        Command::Bench { stages, beside } => bench::bench(stages, beside.as_deref()),
        Command::Simulate { seed: Some(seed), .. } => simulate::simulate(&simulate::What::Seed(seed)),
        Command::Simulate { histories, from, seed: None } => simulate::simulate(&simulate::What::Histories { from, count: histories }),
        Command::Chaos { scenarios } => chaos::chaos(&scenarios),
        Command::Fuzz { seconds, target } => fuzz::fuzz(seconds, target.as_deref()),
        Command::Mutants { histories } => mutants::mutants(histories).map(drop),
        Command::Ci { long } => ci::ci(long),
        Command::Tidy => tidy::tidy(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Builds the transforms where they changed, and returns the folder that they lie in.
fn build_guests() -> anyhow::Result<PathBuf> {
    let built = guests::build(&progress::root(), &mut |line| progress::say(line))?;
    for guests::Component { name, path, sha256, bytes, imports } in &built.components {
        let (path, kib, imports) = (path.display(), bytes / 1024, imports.join(", "));
        progress::say(format_args!("transform {name}: {path}, {kib} KiB, sha256 {sha256}, imports {imports}"));
    }
    Ok(progress::root().join("target/guests"))
}

/// What `cargo xtask test` compares, for `cargo test --workspace --test languages` alone.
fn build_languages() -> anyhow::Result<()> {
    languages::prepare()?;
    let guests = build_guests()?;
    progress::run("building streamsync", progress::cargo().args(["build", "--workspace", "--bins"]))?;
    let folder = languages::provide(&progress::programs("debug").join("streamsync"), &guests)?;
    progress::say(format_args!("STREAMSYNC_TEST_LANGUAGES={}", folder.display()));
    Ok(())
}
