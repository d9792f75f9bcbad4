//! A compiler for WebAssembly: the one in use, or one that can be had. Which, is found by trying.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::debian;

/// What transforms are built for: a target without an operating system, so without imports.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

const RUSTUP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
const SAY_SO_EVERY: Duration = Duration::from_secs(10);

/// A compiler that was seen to build for [`TARGET`].
#[derive(Debug)]
pub(super) struct Compiler {
    /// `None`: the one that cargo takes by itself.
    tools: Option<Tools>,
    /// "rustc 1.95.0 (59807616e 2026-04-14)"
    pub(super) version: String,
}

/// A compiler that lies apart.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) rustc: PathBuf,
    pub(super) linker: PathBuf,
}

impl Compiler {
    /// Makes cargo build with this compiler: for the host too, because macros are loaded into it.
    pub(super) fn apply_to(&self, cargo: &mut Command) {
        if let Some(tools) = &self.tools {
            cargo.env("RUSTC", &tools.rustc).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &tools.linker);
        }
    }
}

/// What the compiler in use calls itself.
pub(super) fn version_in_use() -> Option<String> {
    version(&rustc_in_use())
}

/// Finds a compiler: the one in use, one fetched earlier, the one in use after `rustup target add`, Debian's.
///
/// # Errors
/// None can be had; the message has what was tried, and what to install.
pub(super) fn find(root: &Path, progress: &mut dyn FnMut(&str)) -> Result<Compiler> {
    let scratch = root.join("target/guests/compiler-check");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let mut tried = Vec::new();
    match check(None, &scratch) {
        Ok(compiler) => return Ok(compiler),
        Err(reason) => tried.push(format!("the compiler in use: {reason:#}")),
    }
    if let Some(tools) = debian::fetched() {
        match check(Some(tools), &scratch) {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => tried.push(format!("Debian's compiler, fetched earlier: {reason:#}")),
        }
    }
    match rustup_target_add(progress).and_then(|()| check(None, &scratch)) {
        Ok(compiler) => return Ok(compiler),
        Err(reason) => tried.push(format!("rustup target add {TARGET}: {reason:#}")),
    }
    match debian::fetch(progress).and_then(|tools| check(Some(tools), &scratch)) {
        Ok(compiler) => return Ok(compiler),
        Err(reason) => tried.push(format!("Debian's compiler: {reason:#}")),
    }
    bail!(
        "no compiler for {TARGET} can be had. Install the target (`rustup target add {TARGET}`, or your distribution's package) and try \
         again. Tried:\n- {}",
        tried.join("\n- ")
    )
}

/// Builds and links an empty module: a target may be known but not installed, and a linker missing.
fn check(tools: Option<Tools>, scratch: &Path) -> Result<Compiler> {
    let source = scratch.join("check.rs");
    fs::write(&source, "").with_context(|| format!("cannot write {}", source.display()))?;
    let rustc = tools.as_ref().map_or_else(rustc_in_use, |tools| tools.rustc.clone().into());
    let mut command = Command::new(&rustc);
    command.args(["--target", TARGET, "--crate-type", "cdylib", "--out-dir"]).arg(scratch).arg(&source);
    if let Some(tools) = &tools {
        command.arg("-C").arg(format!("linker={}", tools.linker.display()));
    }
    let output = command.output().with_context(|| format!("cannot start {}", rustc.display()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("{}", message.lines().find(|line| line.starts_with("error")).unwrap_or("it fails without a message"));
    }
    let version = version(&rustc).with_context(|| format!("{} does not tell its version", rustc.display()))?;
    Ok(Compiler { tools, version })
}

fn rustc_in_use() -> OsString {
    env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn version(rustc: &OsString) -> Option<String> {
    let output = Command::new(rustc).arg("--version").output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rustup_target_add(progress: &mut dyn FnMut(&str)) -> Result<()> {
    progress(&format!("adding {TARGET} with rustup"));
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]);
    run_bounded(&mut command, RUSTUP_LIMIT, progress)
}

/// Runs a command that may hang on a network that swallows what it sends.
pub(super) fn run_bounded(command: &mut Command, limit: Duration, progress: &mut dyn FnMut(&str)) -> Result<()> {
    let name = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    // Read beside the waiting, because a full pipe would stop the child.
    let messages = child.stderr.take().map(|mut stderr| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read is all that there is to say.
            stderr.read_to_end(&mut text).map(|_| text).unwrap_or_default()
        })
    });
    let started = Instant::now();
    let mut said = started;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {name}"))? {
            if status.success() {
                return Ok(());
            }
            let messages = messages.and_then(|reader| reader.join().ok()).unwrap_or_default();
            let messages = String::from_utf8_lossy(&messages);
            let last = messages.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
            bail!("{name} ended with {status}: {}", last.trim());
        }
        if started.elapsed() > limit {
            stop(&mut child);
            bail!("{name} did not finish within {} s", limit.as_secs());
        }
        if said.elapsed() > SAY_SO_EVERY {
            said = Instant::now();
            progress(&format!("still waiting for {name}, {} s of {} s at most", started.elapsed().as_secs(), limit.as_secs()));
        }
        thread::sleep(POLL);
    }
}

/// It may have ended in the meantime; either way nothing is left to do.
fn stop(child: &mut Child) {
    if child.kill().is_ok() {
        drop(child.wait());
    }
}
