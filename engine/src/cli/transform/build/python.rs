//! Python: componentize-py puts the program and CPython into a component.

use std::process::Command;

use super::tool::{Tool, run};
use super::{Made, Project, Stop, WORLD, read, scratch};

const COMPONENTIZE: Tool = Tool {
    names: &["componentize-py"],
    variable: None,
    in_project: &[".venv/bin"],
    install: "pip install componentize-py==0.25.1 (it needs Python 3.10 or newer; a .venv in the project will do)",
};

pub(super) fn build(project: &Project) -> Result<Made, Stop> {
    let tool = COMPONENTIZE.find(&project.dir)?;
    let component = std::path::absolute(scratch(project)?.join("component.wasm")).map_err(|error| Stop::no(error.to_string()))?;
    let mut command = Command::new(tool);
    command
        .current_dir(&project.dir)
        .args(["--quiet", "--wit-path", "wit", "--world", WORLD, "componentize", "--stub-wasi", "transform", "-o"])
        .arg(&component);
    run(&mut command, "the build")?;
    Ok(Made::Component(read(&component)?))
}
