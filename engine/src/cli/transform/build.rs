//! `streamsync transform build`: a project's component, by its language's own tools.
//!
//! A recipe a language makes a core module or a component; what is left to do is done here, so that nobody needs `wasm-tools`.

mod c;
mod componentize;
mod go;
mod names;
mod other;
mod rust;
mod tool;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::inspect::{load, outside, outside_text};
use super::project::{Builder, CONTRACT, Language, Project};
use super::{Stop, write_whole};
use crate::cli::{say, say_error};

/// The world of the contract.
const WORLD: &str = "transformer";

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct BuildArguments {
    /// The project's directory.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// What a recipe made.
enum Made {
    /// A core module that carries its contract with it, as wit-bindgen's do.
    Typed(Vec<u8>),
    /// A core module that has the contract's names alone. What it imports of WASI is answered inside of the component.
    Plain(Vec<u8>),
    /// A component.
    Component(Vec<u8>),
}

/// Builds, checks and describes.
pub(super) fn build(arguments: &BuildArguments) -> Result<(), Stop> {
    let began = Instant::now();
    let project = Project::open(&arguments.dir)?;
    say_error(&match &project.builder {
        Builder::Language(language) => format!("building {} with the tools of {}", project.name, language.word()),
        Builder::Own(recipe) if recipe.command.is_empty() => format!("building {} of what is there", project.name),
        Builder::Own(recipe) => format!("building {} with {}", project.name, recipe.command.join(" ")),
    });
    let made = match &project.builder {
        Builder::Language(Language::Rust) => rust::build(&project)?,
        Builder::Language(Language::Go) => go::build(&project)?,
        Builder::Language(Language::Js) => componentize::js(&project)?,
        Builder::Language(Language::Python) => componentize::python(&project)?,
        Builder::Language(Language::C) => c::build(&project)?,
        Builder::Own(recipe) => other::build(&project, recipe)?,
    };
    let component = component(&project, made)?;
    let path = project.module();
    write_whole(&path, |file| file.write_all(&component))?;
    let outside = outside(&path)?;
    say(&format!("module    {}, built in {:.1} s", path.display(), began.elapsed().as_secs_f64()));
    outside_text(&outside).iter().for_each(|line| say(line));
    load(&path)
}

fn component(project: &Project, made: Made) -> Result<Vec<u8>, Stop> {
    let what = match &project.builder {
        Builder::Language(language) => format!("what {} built", language.word()),
        Builder::Own(recipe) => recipe.built.file().to_owned(),
    };
    let refuse = |error: String| Stop::no(format!("{what} does not become a component: {error}"));
    match made {
        Made::Component(bytes) => Ok(bytes),
        Made::Typed(module) => encoded(&module, false).map_err(refuse),
        Made::Plain(module) => encoded(&embed(project, module)?, true).map_err(refuse),
    }
}

/// `without_system`: what the module imports of WASI is answered inside of the component.
fn encoded(module: &[u8], without_system: bool) -> Result<Vec<u8>, String> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module).map_err(|error| format!("{error:#}"))?;
    if without_system {
        let adapter = wat::parse_str(include_str!("../../../../transforms/wasi-none.wat")).map_err(|error| error.to_string())?;
        encoder.adapter("wasi_snapshot_preview1", &adapter).map_err(|error| format!("{error:#}"))?;
    }
    encoder.encode().map_err(|error| format!("{error:#}"))
}

/// A module with the contract's names and types, as the component's encoder wants them.
fn embed(project: &Project, module: Vec<u8>) -> Result<Vec<u8>, Stop> {
    let path = project.contract();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // A project that `new` has not written need not have a copy: no SDK in it is made for a certain version.
        Err(error) if matches!(project.builder, Builder::Own(_)) && error.kind() == std::io::ErrorKind::NotFound => CONTRACT.to_owned(),
        Err(error) => {
            return Err(Stop::usage(format!(
                "{} can't be read: {error}; `streamsync transform new` writes it into each project",
                path.display()
            )));
        }
    };
    let refuse = |error: String| Stop::usage(format!("{} is not the contract any more: {error}", path.display()));
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str(&path, &text).map_err(|error| refuse(format!("{error:#}")))?;
    let world = resolve.select_world(&[package], Some(WORLD)).map_err(|error| refuse(format!("{error:#}")))?;
    let mut module = names::in_full(module, &resolve, world).map_err(|error| Stop::no(format!("what was built is no module: {error}")))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).map_err(|error| refuse(format!("{error:#}")))?;
    Ok(module)
}

/// Where the tools' own files go.
fn scratch(project: &Project) -> Result<PathBuf, Stop> {
    let dir = project.dir.join("build");
    std::fs::create_dir_all(&dir).map_err(|error| Stop::no(format!("{} can't be made: {error}", dir.display())))?;
    Ok(dir)
}

fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    std::fs::read(path).map_err(|error| Stop::no(format!("the build made no {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
