//! A Docker engine: the one that answers, or one that is installed and started here (Debian, as root).

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::progress::{cache_dir, capture, say};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
const START_LIMIT: Duration = Duration::from_secs(60);

/// `docker …`
pub(crate) fn docker() -> Command {
    let mut command = Command::new("docker");
    // Debian's package has no buildx; the classic builder does all that these Dockerfiles ask for.
    command.env("DOCKER_BUILDKIT", "0").env("DOCKER_CLI_HINTS", "false");
    command
}

/// Finds, or installs and starts, a Docker engine.
pub(crate) fn engine() -> Result<()> {
    if let Some(version) = version() {
        say(format_args!("Docker engine {version}"));
        return Ok(());
    }
    let root = capture("id", Command::new("id").arg("-u"), ANSWER_LIMIT).is_ok_and(|id| id.trim() == "0");
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "no Docker engine answers (`docker version`). Start one, and see that this user may use it; on Debian, run as root, \
             this command installs and starts one by itself"
        );
    }
    install(&["docker.io", "iptables"])?;
    start()
}

/// Installs the packages that are missing.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("these packages are missing and this machine has no apt-get: {}. Install them and run again", missing.join(", "));
    }
    say(format_args!("apt-get install {}", missing.join(" ")));
    capture("apt-get update", Command::new("apt-get").args(["update", "-qq"]), INSTALL_LIMIT)?;
    // RUNLEVEL=1 keeps the packages' own service scripts from starting anything: this command does that itself.
    let mut apt = Command::new("apt-get");
    apt.env("RUNLEVEL", "1").env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    capture("apt-get install", &mut apt, INSTALL_LIMIT)?;
    Ok(())
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Status}", package]);
    capture("dpkg-query", &mut query, ANSWER_LIMIT).is_ok_and(|status| status.contains("ok installed"))
}

fn version() -> Option<String> {
    let answer = capture("docker version", docker().args(["version", "--format", "{{.Server.Version}}"]), ANSWER_LIMIT).ok()?;
    let version = answer.trim();
    (!version.is_empty()).then(|| version.to_owned())
}

fn start() -> Result<()> {
    let log = cache_dir()?.join("dockerd.log");
    if Path::new("/run/systemd/system").exists() {
        capture("systemctl start docker", Command::new("systemctl").args(["start", "docker"]), START_LIMIT)?;
    } else {
        say(format_args!("starting dockerd; its log is {}", log.display()));
        let out = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let err = out.try_clone()?;
        // A session of its own: the engine stays when this command ends.
        Command::new("setsid").arg("dockerd").stdin(Stdio::null()).stdout(out).stderr(err).spawn().context("start dockerd")?;
    }
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Some(version) = version() {
            say(format_args!("Docker engine {version}"));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    bail!("dockerd does not answer after {} s; {} says why (it needs root, iptables and cgroups)", START_LIMIT.as_secs(), log.display())
}

/// Whether an image of that name is here.
pub(crate) fn has_image(name: &str) -> bool {
    capture("docker image inspect", docker().args(["image", "inspect", "--format", "{{.Id}}", name]), ANSWER_LIMIT).is_ok()
}

/// Labels of the containers that stand, for a signal's sake.
static STANDING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Containers that are removed, with their volumes, when this goes, whatever happens before, and when a signal ends the command.
pub(crate) struct Labelled(String);

impl Labelled {
    /// Before the first of them is started.
    pub(crate) fn new(label: String) -> Result<Self> {
        static AWAITED: OnceLock<std::io::Result<()>> = OnceLock::new();
        if let Err(error) = AWAITED.get_or_init(await_signal) {
            bail!("signals can't be handled: {error}");
        }
        standing().push(label.clone());
        Ok(Self(label))
    }
}

impl Drop for Labelled {
    fn drop(&mut self) {
        standing().retain(|label| *label != self.0);
        remove(&self.0);
    }
}

/// A label is pushed or taken out at once, so a poisoned list is as good as another.
fn standing() -> MutexGuard<'static, Vec<String>> {
    STANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At a signal the containers go, and then this command. What it has started gets a terminal's signal by itself.
fn await_signal() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        say("ended by a signal; removing the containers");
        for label in standing().iter() {
            remove(label);
        }
        std::process::exit(128 + signal);
    });
    Ok(())
}

fn remove(label: &str) {
    let filter = format!("label={label}");
    let listed = capture("docker ps", docker().args(["ps", "-aq", "--filter", &filter]), ANSWER_LIMIT);
    let ids: Vec<String> = listed.iter().flat_map(|ids| ids.split_whitespace()).map(str::to_owned).collect();
    if ids.is_empty() {
        return;
    }
    if let Err(error) = capture("docker rm", docker().args(["rm", "-f", "-v"]).args(&ids), Duration::from_secs(120)) {
        say(format_args!("containers labelled {label} may be left over: {error:#}"));
    }
}
