//! What the commands say on the terminal, and how they run other programs: every step shows the seconds since the start, every
//! program that fails shows the end of what it printed.
#![expect(clippy::print_stdout, reason = "the one module that writes to the terminal")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

static START: OnceLock<Instant> = OnceLock::new();

/// Variables that `cargo run` sets for the program it runs.
const OF_THIS_CRATE: [&str; 6] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "OUT_DIR"];

/// Seconds since the command started.
pub(crate) fn elapsed() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_secs()
}

/// One line with the time since the start.
pub(crate) fn say(message: impl std::fmt::Display) {
    println!("[{:>4} s] {message}", elapsed());
}

/// One line as it is, for closing lines and lines to paste.
pub(crate) fn plain(message: impl std::fmt::Display) {
    println!("{message}");
}

/// The repository's root: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), std::path::Path::to_path_buf)
}

/// `target`, or where cargo was told to build.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Kept between runs and never depended on: downloads, the base image's archive, tools.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither HOME nor XDG_CACHE_HOME is set: set one to a folder for the cache")?;
    let dir = home.join("streamsync");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// A cargo command in the repository's root; by the toolchain that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    // What cargo told this program of itself. Handed on, it makes build scripts that ask for it run again, and with them all
    // that stands on their crates, each time between a cargo that a person types and one that is started from here.
    for (name, _) in std::env::vars_os() {
        let of_this_crate = name.to_str().is_some_and(|name| OF_THIS_CRATE.iter().any(|prefix| name.starts_with(prefix)));
        if of_this_crate {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs it with its output on the terminal.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    say(what);
    let status = command.status().with_context(|| format!("{what}: start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{what}: {} ended with {status}", command.get_program().display());
    }
    Ok(())
}

/// Runs it quietly: what it prints is kept, and shown in the error where it fails or passes its time.
pub(crate) fn capture(what: &str, command: &mut Command, limit: Duration) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what}: start {:?}", command.get_program()))?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || read_all(out.as_mut()));
    let errors = std::thread::spawn(move || read_all(err.as_mut()));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("{what}: not done within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let printed = reader.join().unwrap_or_default();
    let complained = errors.join().unwrap_or_default();
    if !status.success() {
        bail!("{what}: {status}\n{}", tail(&format!("{printed}{complained}"), 30));
    }
    Ok(printed)
}

/// Runs it with its output on the terminal, and hands each line of standard output to `see`.
pub(crate) fn watch(what: &str, command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    say(what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what}: start {:?}", command.get_program()))?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            see(&line);
            plain(&line);
        }
    }
    Ok(child.wait()?.success())
}

fn read_all(pipe: Option<&mut impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read before a fault is still worth showing.
        if let Err(error) = pipe.read_to_end(&mut bytes) {
            bytes.extend_from_slice(format!("\n(output lost: {error})").as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
