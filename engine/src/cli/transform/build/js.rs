//! JavaScript: componentize-qjs puts the program and QuickJS into a component.

use std::process::Command;

use super::tool::{Tool, run};
use super::{Made, Project, Stop, WORLD, read, scratch};

const COMPONENTIZE: Tool = Tool {
    names: &["componentize-qjs"],
    variable: None,
    in_project: &["node_modules/.bin"],
    install: "npm install -g componentize-qjs@0.4.5 (it needs Node.js 18 or newer)",
};

pub(super) fn build(project: &Project) -> Result<Made, Stop> {
    let tool = COMPONENTIZE.find(&project.dir)?;
    let component = std::path::absolute(scratch(project)?.join("component.wasm")).map_err(|error| Stop::no(error.to_string()))?;
    let mut command = Command::new(tool);
    command
        .current_dir(&project.dir)
        .args(["--wit", "wit", "--world", WORLD, "--js", "transform.js", "--sync", "--stub-wasi", "--output"])
        .arg(&component);
    run(&mut command, "the build")?;
    Ok(Made::Component(read(&component)?))
}
