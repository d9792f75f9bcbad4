//! Python and JavaScript: componentize-py and componentize-qjs put the program and its interpreter into a component.

use std::process::Command;

use super::tool::{Tool, run};
use super::{Made, Project, Stop, WORLD, read, scratch};

const PYTHON: Tool = Tool {
    names: &["componentize-py"],
    variable: None,
    in_project: &[".venv/bin"],
    install: "pip install componentize-py==0.25.1 (it needs Python 3.10 or newer; a .venv in the project will do)",
};

const JS: Tool = Tool {
    names: &["componentize-qjs"],
    variable: None,
    in_project: &["node_modules/.bin"],
    install: "npm install -g componentize-qjs@0.4.5 (it needs Node.js 18 or newer)",
};

pub(super) fn python(project: &Project) -> Result<Made, Stop> {
    build(project, PYTHON, &["--quiet", "--wit-path", "wit", "--world", WORLD, "componentize", "--stub-wasi", "transform", "-o"])
}

pub(super) fn js(project: &Project) -> Result<Made, Stop> {
    build(project, JS, &["--wit", "wit", "--world", WORLD, "--js", "transform.js", "--sync", "--stub-wasi", "--output"])
}

/// The last argument is that of the component's path, which the tools print: within the project, where they run.
fn build(project: &Project, tool: Tool, arguments: &[&str]) -> Result<Made, Stop> {
    let tool = tool.find(&project.dir)?;
    let component = scratch(project)?.join("component.wasm");
    let mut command = Command::new(tool);
    command.current_dir(&project.dir).args(arguments).arg(component.strip_prefix(&project.dir).unwrap_or(&component));
    run(&mut command, "the build")?;
    Ok(Made::Component(read(&component)?))
}
