//! `simulate`: histories of the whole way in virtual time. `engine/tests/simulation` has them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::{cargo, root, watch};

/// Up to here a build with the dependencies that the tests have anyway is soon enough done.
const MOST_IN_DEV: u64 = 50_000;

/// What to simulate.
pub(crate) enum What {
    /// One history, told step by step.
    Seed(u64),
    /// That many histories, from this seed on.
    Histories {
        /// The first seed.
        from: u64,
        /// How many.
        count: u64,
    },
}

/// Runs it with its progress on the terminal.
pub(crate) fn simulate(what: &What) -> Result<()> {
    if watch("simulating", command(what).current_dir(root()), |_| ())? { Ok(()) } else { bail!("the simulation failed; see above") }
}

/// Builds what is needed, and runs it.
pub(crate) fn command(what: &What) -> Command {
    let mut command = cargo();
    command.args(["test", "--quiet", "--test", "simulation"]);
    match what {
        What::Seed(seed) => command.args(["--workspace", "--", "--seed", &seed.to_string()]),
        What::Histories { from, count } => {
            if *count > MOST_IN_DEV {
                command.args(["--release", "--package=streamsync"]);
            } else {
                command.arg("--workspace");
            }
            command.args(["--", "--from", &from.to_string(), "--histories", &count.to_string()])
        }
    };
    command
}
