//! C: zig's clang for WebAssembly with its C library; what that asks of a system is answered inside of the component.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tool::{Tool, run};
use super::{Made, Project, Stop, read, scratch};

const ZIG: Tool = Tool {
    names: &["zig", "python-zig"],
    variable: Some("ZIG"),
    in_project: &[".venv/bin"],
    install: "pip install ziglang==0.17.1, or https://ziglang.org/download",
};
/// The compiler as a package of Python's.
const PYTHON: Tool = Tool { names: &["python3"], variable: None, in_project: &[".venv/bin"], install: "install Python 3" };

/// A megabyte, as Rust's guests have; zig's own default of 16 MiB would be each instance's memory.
const STACK: &str = "-Wl,-z,stack-size=1048576";

pub(super) fn build(project: &Project) -> Result<Made, Stop> {
    let mut command = zig(&project.dir)?;
    let module = std::path::absolute(scratch(project)?.join("core.wasm")).map_err(|error| Stop::no(error.to_string()))?;
    command.current_dir(&project.dir).args([
        "cc",
        "-target",
        "wasm32-wasi",
        "-mexec-model=reactor",
        STACK,
        "-O2",
        // The SDK and the transform are two files, and most of an event's time would go into calls from one to the other.
        "-flto",
        "-s",
        "-Wall",
        "-Wextra",
    ]);
    command.args(sources(&project.dir)?).arg("-o").arg(&module);
    run(&mut command, "the build")?;
    Ok(Made::Plain(read(&module)?))
}

/// zig itself, or Python's package of it.
fn zig(project: &Path) -> Result<Command, Stop> {
    let missing = match ZIG.find(project) {
        Ok(zig) => return Ok(Command::new(zig)),
        Err(missing) => missing,
    };
    let Ok(python) = PYTHON.find(project) else { return Err(missing) };
    let is_there = Command::new(&python).args(["-c", "import ziglang"]).output().is_ok_and(|output| output.status.success());
    if !is_there {
        return Err(missing);
    }
    let mut command = Command::new(python);
    command.args(["-m", "ziglang"]);
    Ok(command)
}

/// All C files of the project's directory, by name: the SDK's and the author's.
fn sources(dir: &Path) -> Result<Vec<PathBuf>, Stop> {
    let files = std::fs::read_dir(dir).map_err(|error| Stop::usage(format!("{} can't be read: {error}", dir.display())))?;
    let is_source = |path: &PathBuf| path.extension().is_some_and(|end| end == "c");
    let mut sources: Vec<PathBuf> = files.filter_map(|file| Some(PathBuf::from(file.ok()?.file_name()))).filter(is_source).collect();
    sources.sort();
    Ok(sources)
}
