//! `demo`: builds what the demo needs, then becomes it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::progress::{cargo, programs, root, run, say};

/// Builds the guests and the engine and starts `streamsync demo`; does not return when that works.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    let guests = crate::build_guests()?;
    run("building streamsync (minutes the first time, seconds afterwards)", cargo().args(["build", "--workspace", "--bin", "streamsync"]))?;
    say("starting the demo");
    let program = programs("debug").join("streamsync");
    let mut command = Command::new(&program);
    command.current_dir(root()).arg("demo").arg("--modules").arg(guests).args(arguments);
    // The demo takes this process's place: Ctrl-C and the exit code are its own.
    Err(command.exec()).with_context(|| format!("start {}", program.display()))
}
