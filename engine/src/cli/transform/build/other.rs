//! Any other language: the author's own command, and the file that it leaves.

use std::process::Command;

use super::tool::run;
use super::{Made, Project, Stop};
use crate::cli::transform::project::{Built, Recipe};

pub(super) fn build(project: &Project, recipe: &Recipe) -> Result<Made, Stop> {
    if let Some((program, arguments)) = recipe.command.split_first() {
        let mut command = Command::new(program);
        command.current_dir(&project.dir).args(arguments);
        run(&mut command, "the build")?;
    }
    match &recipe.built {
        Built::Component(file) => Ok(Made::Component(read(project, recipe, file)?)),
        Built::Core(file) => {
            let bytes = read(project, recipe, file)?;
            // Its text will do too: what a small language's compiler writes, or a person.
            let module = wat::parse_bytes(&bytes).map_err(|error| Stop::no(format!("{file} is no WebAssembly module: {error}")))?;
            Ok(Made::Plain(module.into_owned()))
        }
    }
}

fn read(project: &Project, recipe: &Recipe, file: &str) -> Result<Vec<u8>, Stop> {
    let path = project.dir.join(file);
    std::fs::read(&path).map_err(|error| {
        let remedy =
            if recipe.command.is_empty() { "transform.toml has no `command` that would make it" } else { "the command made no such file" };
        Stop::no(format!("{} can't be read: {error}; {remedy}", path.display()))
    })
}
