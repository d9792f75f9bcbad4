//! Go: its own compiler, for WASI preview 1, whose calls are answered inside of the component.
//!
//! The usual adapter would trap ("cannot leave component instance"): Go's runtime asks for the time while the host lowers a list into its
//! memory, where a component may call nobody.

use std::process::Command;

use super::tool::{Tool, run};
use super::{Made, Project, Stop, read, scratch};

const GO: Tool = Tool {
    names: &["go"],
    variable: None,
    in_project: &[],
    install: "install Go 1.26 or newer, https://go.dev/dl, or your distribution's package golang-go",
};

pub(super) fn build(project: &Project) -> Result<Made, Stop> {
    let go = GO.find(&project.dir)?;
    let module = std::path::absolute(scratch(project)?.join("core.wasm")).map_err(|error| Stop::no(error.to_string()))?;
    let mut command = Command::new(go);
    command.current_dir(&project.dir).env("GOOS", "wasip1").env("GOARCH", "wasm").env("CGO_ENABLED", "0");
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&module).arg(".");
    run(&mut command, "the build")?;
    Ok(Made::Plain(read(&module)?))
}
