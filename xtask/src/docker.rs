//! A Docker engine: the one that answers, or one that is installed and started here (Debian, as root). And what is removed from it again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::packages::{install, may_install};
use crate::progress::{cache_dir, capture, say};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_secs(60);
const REMOVE_LIMIT: Duration = Duration::from_secs(120);

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
    if !may_install() {
        bail!(
            "no Docker engine answers (`docker version`). Install one (on Debian `apt-get install docker.io iptables`), start it, and see that \
             this user may use it; on Debian, run as root, this command does so by itself"
        );
    }
    install(&["docker.io", "iptables"])?;
    start()
}

/// Where `docker` finds its engine by a context, for testcontainers, which reads `DOCKER_HOST` and knows nothing of contexts.
pub(crate) fn host() -> Option<String> {
    if std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let mut inspect = docker();
    inspect.args(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]);
    // A `docker` without contexts has its engine at the usual place.
    let host = capture("docker context inspect", &mut inspect, ANSWER_LIMIT).unwrap_or_default().trim().to_owned();
    (!host.is_empty()).then_some(host)
}

/// The version of the engine that answers.
pub(crate) fn version() -> Option<String> {
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

/// Containers that are removed, with their volumes and networks, when this goes, whatever happens before, and when a signal ends the command.
pub(crate) struct Labelled(String);

impl Labelled {
    /// Before the first of them is started.
    pub(crate) fn new(label: String) -> Result<Self> {
        static AWAITED: OnceLock<std::io::Result<()>> = OnceLock::new();
        if let Err(error) = AWAITED.get_or_init(await_signal) {
            bail!("signals can't be handled: {error}");
        }
        remove_networks();
        standing().push(label.clone());
        Ok(Self(label))
    }
}

impl Drop for Labelled {
    fn drop(&mut self) {
        standing().retain(|label| *label != self.0);
        remove_containers(&self.0);
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
            remove_containers(label);
        }
        std::process::exit(128 + signal);
    });
    Ok(())
}

fn remove_containers(label: &str) {
    if let Err(error) = remove(&CONTAINERS, label) {
        say(format_args!("containers labelled {label} may be left over: {error:#}"));
    }
    remove_networks();
}

/// Things of a kind: how the engine lists their ids, and removes them.
pub(crate) struct Kind {
    list: &'static [&'static str],
    remove: &'static [&'static str],
}

/// With the volumes that have no name.
pub(crate) const CONTAINERS: Kind = Kind { list: &["container", "ls", "-aq"], remove: &["container", "rm", "-f", "-v"] };
/// None that a container is in.
pub(crate) const NETWORKS: Kind = Kind { list: &["network", "ls", "-q"], remove: &["network", "rm"] };
/// None that a container has.
pub(crate) const VOLUMES: Kind = Kind { list: &["volume", "ls", "-q"], remove: &["volume", "rm"] };

/// Removes all of a kind that have the label; whether there were any.
pub(crate) fn remove(kind: &Kind, label: &str) -> Result<bool> {
    let filter = format!("label={label}");
    let listed = capture("docker ls", docker().args(kind.list).args(["--filter", &filter]), ANSWER_LIMIT)?;
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if !ids.is_empty() {
        capture("docker rm", docker().args(kind.remove).args(&ids), REMOVE_LIMIT)?;
    }
    Ok(!ids.is_empty())
}

/// Those that testcontainers made for a process which is gone: a run that was interrupted leaves its network, and the engine has
/// addresses for some thirty.
fn remove_networks() {
    let mut list = docker();
    list.args(["network", "ls", "--filter", "name=streamsync-", "--format", "{{.Name}}"]);
    let listed = capture("docker network ls", &mut list, ANSWER_LIMIT).unwrap_or_default();
    for name in listed.lines().filter(|name| process_of(name).is_some_and(|process| !runs(process))) {
        // The engine keeps one that has containers. It is no fault, and the next run asks again.
        drop(capture("docker network rm", docker().args(NETWORKS.remove).arg(name), ANSWER_LIMIT));
    }
}

/// 4711 of streamsync-suite-4711.
fn process_of(network: &str) -> Option<u32> {
    ["streamsync-suite-", "streamsync-bench-"].iter().find_map(|prefix| network.strip_prefix(prefix))?.parse().ok()
}

/// A process that has ended and was not waited for has no command line any more. Where there is no `/proc` none seems to run, and the engine
/// alone keeps what is in use.
fn runs(process: u32) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{process_of, runs};

    #[test]
    fn networks_of_runs_that_are_gone_are_known_by_their_names() {
        let cases = [
            ("streamsync-suite-4711", Some(4711)),
            ("streamsync-bench-8", Some(8)),
            ("streamsync_default", None),
            ("streamsync-suite-", None),
            ("another-streamsync-suite-4711", None),
        ];
        for (name, expected) in cases {
            assert_eq!(process_of(name), expected, "{name}");
        }
        assert!(runs(std::process::id()));
        assert!(!runs(u32::MAX));
    }
}
