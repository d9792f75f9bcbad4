//! The languages' own tools: found on the search path or in the project, named with the command that installs them where they are missing.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Stop;

/// A tool by its names, the best first, and how it is installed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) names: &'static [&'static str],
    /// A variable that names another one.
    pub(super) variable: Option<&'static str>,
    /// Directories of the project in which a copy of its own may lie.
    pub(super) in_project: &'static [&'static str],
    /// What to type.
    pub(super) install: &'static str,
}

impl Tool {
    /// The tool's path, or what to type to have it.
    pub(super) fn find(self, project: &Path) -> Result<PathBuf, Stop> {
        self.find_in(project, &env::var_os("PATH").unwrap_or_default())
    }

    pub(super) fn find_in(self, project: &Path, search_path: &OsStr) -> Result<PathBuf, Stop> {
        if let Some(named) = self.variable.and_then(env::var_os).filter(|named| !named.is_empty()) {
            return Ok(named.into());
        }
        let own = self.in_project.iter().map(|dir| project.join(dir));
        let dirs: Vec<PathBuf> = own.chain(env::split_paths(search_path)).collect();
        let candidates = self.names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        // Relative to the project, the path would be looked up from the directory that the tool runs in.
        let found = candidates.into_iter().find(|path| is_executable(path)).map(|path| std::path::absolute(&path).unwrap_or(path));
        found.ok_or_else(|| {
            let name = self.names.first().copied().unwrap_or_default();
            Stop::no(format!("{name} is not installed: {}; then build again", self.install))
        })
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Runs a tool; what it says goes to the terminal.
pub(super) fn run(command: &mut Command, what: &str) -> Result<(), Stop> {
    let program = command.get_program().display().to_string();
    // Its stdout is not what was asked for: everything that is told goes to stderr.
    command.stdout(std::io::stderr());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Stop::no(format!("{what} failed, {program} ended with {status}: its messages are above"))),
        Err(error) => Err(Stop::no(format!("{program} can't be started: {error}"))),
    }
}
