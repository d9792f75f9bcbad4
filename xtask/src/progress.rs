//! What the commands say on the terminal, and how they run other programs: every step shows the seconds since the start, every
//! program that fails shows the end of what it printed.
#![expect(clippy::print_stdout, reason = "the one module that writes to the terminal")]

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

static START: OnceLock<Instant> = OnceLock::new();

/// Variables that `cargo run` sets for the program it runs.
const OF_THIS_CRATE: [&str; 6] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "OUT_DIR"];

/// Variables that tell cargo where to build; the first counts before the second.
const TARGET_DIRS: [&str; 2] = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];

/// For what a program says of itself.
pub(crate) const ASK_LIMIT: Duration = Duration::from_secs(30);

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
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// `target`, or where cargo was told to build, by a variable or in its own configuration.
pub(crate) fn target_dir() -> PathBuf {
    static ASKED: OnceLock<PathBuf> = OnceLock::new();
    // A cargo that does not say it builds nothing either, and then says why.
    ASKED.get_or_init(|| ask_target_dir().unwrap_or_else(|_| root().join("target"))).clone()
}

/// In the folder that the command was started in, as the cargo that built this program was: a relative path counts from there.
fn ask_target_dir() -> Result<PathBuf> {
    let mut metadata = Command::new(cargo_program());
    metadata.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(root().join("Cargo.toml"));
    let metadata: serde_json::Value = serde_json::from_str(&capture("cargo metadata", &mut metadata, ASK_LIMIT)?)?;
    metadata.get("target_directory").and_then(serde_json::Value::as_str).map(PathBuf::from).context("cargo names no target directory")
}

/// The folder of a profile's programs, `debug` or `release`. It lies beside the one that cargo has put this program into: `build.target`
/// has one more folder on the way.
pub(crate) fn programs(profile: &str) -> PathBuf {
    let own = std::env::current_exe().ok();
    let profiles = own.as_deref().and_then(Path::parent).and_then(Path::parent);
    profiles.map_or_else(target_dir, Path::to_path_buf).join(profile)
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
    let mut command = Command::new(cargo_program());
    command.current_dir(root()).stdin(Stdio::null());
    if TARGET_DIRS.iter().any(|name| std::env::var_os(name).is_some()) {
        // A relative path would count from the root now.
        command.env(TARGET_DIRS[0], target_dir());
    }
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

/// The cargo that runs this, so that both are of one toolchain.
pub(crate) fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
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
