//! `simulate`: histories of the whole way in virtual time. `engine/tests/simulation` has them.

use anyhow::{Result, bail};

use crate::progress::{cargo, root, watch};

/// Up to here the build that the tests have anyway is soon enough done.
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
    let mut command = cargo();
    command.args(["test", "--quiet", "--test", "simulation"]);
    match what {
        What::Seed(seed) => command.args(["--workspace", "--", "--seed", &seed.to_string()]),
        What::Histories { from, count } => {
            command.args(if *count > MOST_IN_DEV { ["--release", "--package=streamsync"].as_slice() } else { ["--workspace"].as_slice() });
            command.args(["--", "--from", &from.to_string(), "--histories", &count.to_string()])
        }
    };
    if watch("simulating", command.current_dir(root()), |_| ())? { Ok(()) } else { bail!("the simulation failed; see above") }
}
