//! `chaos`: faults on the real systems, one scenario after the other, and what each cost.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::docker::Labelled;
use crate::packages::install;
use crate::progress::{cargo, plain, root, say, watch};
use crate::suite;

const CLOCK_PACKAGE: &str = "faketime";
const COUNT: &str = " scenarios ended equal";

/// Runs the named scenarios, or all. The last line has their number.
pub(crate) fn chaos(scenarios: &[String]) -> Result<()> {
    suite::provide()?;
    let guests = crate::build_guests()?;
    // One scenario moves a worker's clock; where the package can't be had, that scenario says so.
    if Path::new("/usr/bin/apt-get").exists()
        && let Err(error) = install(&[CLOCK_PACKAGE])
    {
        say(format_args!("{CLOCK_PACKAGE} could not be installed: {error:#}"));
    }
    // The same selection of packages as in `test`: the engine with its failpoints is among them.
    crate::progress::run("compiling the suite and streamsync", cargo().args(["test", "--workspace", "--no-run", "--quiet"]))?;
    let _removed_at_the_end = Labelled::new(suite::label())?;
    let mut command = suite::command(&guests);
    command.env("STREAMSYNC_TEST_CHAOS", if scenarios.is_empty() { "all".to_owned() } else { scenarios.join(",") });
    let (ok, count) = counted(&mut command)?;
    plain(&count);
    if ok { Ok(()) } else { bail!("not all scenarios ended equal") }
}

/// Whether the program ended with success, and the line that counts the scenarios.
fn counted(command: &mut Command) -> Result<(bool, String)> {
    let mut count = None;
    let ok = watch("the scenarios on MySQL, Debezium, Kafka, Redis and MongoDB", command.current_dir(root()), |line| {
        if line.ends_with(COUNT) {
            count = Some(line.to_owned());
        }
    })?;
    match count {
        Some(count) => Ok((ok, count)),
        None => bail!("the scenarios did not run; the messages stand above"),
    }
}
