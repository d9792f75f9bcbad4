//! `test`: everything, on this machine. The images are provided while cargo compiles.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::docker::{Labelled, docker, engine};
use crate::images::{Image, Images};
use crate::languages;
use crate::mutants;
use crate::progress::{cache_dir, capture, cargo, plain, root, say, target_dir, watch};
use crate::simulate::{self, What};

const ROLES: [&str; 5] = ["mysql", "kafka", "connect", "redis", "mongodb"];
/// Three to five minutes of two cores. Each bug on purpose gets as many: about one history in a thousand shows the rarest of them, and whatever
/// changes the course of histories changes where the first one is.
const HISTORIES: u64 = 10_000;

const STORE_LIMIT: Duration = Duration::from_secs(60);

/// Tests that passed and failed, over all steps.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    faults: Vec<String>,
}

/// Runs all tests; the last line has their number.
pub(crate) fn test() -> Result<()> {
    let mut tally = Tally::default();
    let outcome = steps(&mut tally);
    for fault in &tally.faults {
        say(format_args!("failed: {fault}"));
    }
    if let Err(error) = &outcome {
        say(format_args!("stopped: {error:#}"));
    }
    let broken = tally.failed > 0 || !tally.faults.is_empty() || outcome.is_err();
    // A step that broke before its tests could run is a failure too.
    let failed = if broken { tally.failed.max(1) } else { 0 };
    plain(format_args!("{} passed, {failed} failed", tally.passed));
    if broken { bail!("not all tests passed") } else { Ok(()) }
}

fn steps(tally: &mut Tally) -> Result<()> {
    let images = std::thread::spawn(provide);
    let guests = crate::build_guests()?;
    // One selection of packages for all steps: another one would compile the dependencies again, with other features. The program
    // itself is among them, because the engine's integration tests need it.
    tally.cargo("compiling all tests and streamsync", cargo().args(["test", "--workspace", "--no-run", "--quiet"]))?;
    let languages = {
        let guests = guests.clone();
        std::thread::spawn(move || languages::provide(&target_dir().join("debug/streamsync"), &guests))
    };
    tally.cargo("unit and property tests", cargo().args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]))?;
    tally.cargo("histories in virtual time", &mut simulate::command(&What::Histories { from: 0, count: HISTORIES }))?;
    tally.mutants();
    tally.cargo("transforms, natively", cargo().args(["test", "--no-fail-fast", "--manifest-path", "transforms/Cargo.toml"]))?;

    let images = images.join().unwrap_or_else(|_| bail!("the thread that provides the images panicked")).context("images")?;
    let stand_in = images.get("mongodb").and_then(|image| image.stand_in.clone());
    match &stand_in {
        Some(product) => {
            say(format_args!("MongoDB's place is taken by a stand-in, {product}: what passes on it is not proven for MongoDB"))
        }
        None => say("MongoDB is the official image"),
    }
    let languages = languages.join().unwrap_or_else(|_| bail!("the thread that builds the transforms of all languages panicked"))?;
    conformance(tally, &images, &languages)?;
    suite(tally, &guests)?;
    if let Some(product) = stand_in {
        say(format_args!("MongoDB was a stand-in: {product}"));
    }
    Ok(())
}

/// The sinks' conformance and the engine's other integration tests, on stores of their own; `languages` are the transforms to compare.
fn conformance(tally: &mut Tally, images: &BTreeMap<String, Image>, languages: &Path) -> Result<()> {
    let label = format!("streamsync.conformance={}", std::process::id());
    let _removed_at_the_end = Labelled::new(label.clone())?;
    let redis = start_store(images, "redis", 6379, &label, &["redis-server", "--save", "", "--maxmemory-policy", "noeviction"])?;
    let mongodb = start_store(images, "mongodb", 27017, &label, &[])?;
    let mut command = cargo();
    // By name, because leaving a package out would be another selection. All but the suite, which has a step of its own.
    command.args(["test", "--no-fail-fast", "--workspace", "--test", "[!s]*", "--test", "sinks"]);
    command.env("STREAMSYNC_TEST_REQUIRE_STORES", "1");
    command.env("STREAMSYNC_TEST_REQUIRE_LANGUAGES", "1");
    command.env("STREAMSYNC_TEST_LANGUAGES", languages);
    command.env("STREAMSYNC_TEST_MODULE_CACHE", cache_dir()?.join("modules"));
    command.env("STREAMSYNC_TEST_REDIS_URL", format!("redis://{redis}"));
    command.env("STREAMSYNC_TEST_MONGODB_URI", format!("mongodb://{mongodb}/?directConnection=true"));
    tally.cargo("conformance of the sinks, on real stores", &mut command)
}

/// The promises on the real systems. The suite removes its containers; the label catches what a killed one leaves.
fn suite(tally: &mut Tally, guests: &Path) -> Result<()> {
    let _removed_at_the_end = Labelled::new(label())?;
    tally.cargo("the suite on MySQL, Debezium, Kafka, Redis and MongoDB", &mut command(guests))
}

/// Finds or starts a Docker engine, and pulls or builds the images of the suite.
pub(crate) fn provide() -> Result<BTreeMap<String, Image>> {
    engine()?;
    Images::read()?.provide(&ROLES)
}

/// The label of the suite's containers.
pub(crate) fn label() -> String {
    format!("streamsync.suite={}", std::process::id())
}

/// The suite's program, told where everything is.
pub(crate) fn command(guests: &Path) -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--test", "suite"]);
    command.env("STREAMSYNC_TEST_LABEL", label());
    command.env("STREAMSYNC_TEST_IMAGES", target_dir().join("images.json"));
    command.env("STREAMSYNC_TEST_BINARY", target_dir().join("debug/streamsync"));
    command.env("STREAMSYNC_TEST_GUESTS", guests);
    command
}

/// Starts a container and returns its address as soon as the port accepts.
fn start_store(images: &BTreeMap<String, Image>, role: &str, port: u16, label: &str, arguments: &[&str]) -> Result<String> {
    let image = &images.get(role).with_context(|| format!("no image for {role}"))?.image;
    let published = format!("127.0.0.1::{port}");
    let mut run = docker();
    run.args(["run", "-d", "--label", label, "-p", &published, image]).args(arguments);
    let id = capture(&format!("start {role}"), &mut run, STORE_LIMIT)?;
    let address = capture("docker port", docker().args(["port", id.trim(), &port.to_string()]), STORE_LIMIT)?;
    let address = address.lines().next().with_context(|| format!("{role} has no published port"))?.to_owned();
    let deadline = Instant::now() + STORE_LIMIT;
    while !answers(id.trim(), port, &address) {
        if Instant::now() >= deadline {
            let log = capture("docker logs", docker().args(["logs", "--tail", "20", id.trim()]), STORE_LIMIT).unwrap_or_default();
            bail!("{role} does not answer at {address} after {} s\n{log}", STORE_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(address)
}

/// The published port accepts as soon as Docker's proxy is there; the server behind it is asked inside the container.
fn answers(id: &str, port: u16, address: &str) -> bool {
    let inside = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let mut probe = docker();
    probe.args(["exec", id, "bash", "-c", &inside]);
    capture("probe", &mut probe, STORE_LIMIT).is_ok() && TcpStream::connect(address).is_ok()
}

impl Tally {
    /// Each bug counts as a test. One that survives is no reason to stop.
    fn mutants(&mut self) {
        say("bugs on purpose, which the simulation must catch");
        match mutants::mutants(HISTORIES) {
            Ok(caught) => self.passed += caught,
            Err(error) => {
                self.failed += 1;
                self.faults.push(format!("bugs on purpose: {error:#}"));
            }
        }
    }

    /// Runs cargo and adds its tests up. A failed test is no reason to stop, a broken build is.
    fn cargo(&mut self, what: &str, command: &mut Command) -> Result<()> {
        let before = self.failed;
        let ok = watch(what, command.current_dir(root()), |line| {
            let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return };
            self.passed += count(rest, "passed");
            self.failed += count(rest, "failed");
        })?;
        if !ok && self.failed == before {
            bail!("{what}: cargo stopped before the tests; its messages stand above");
        }
        if !ok {
            self.faults.push(what.to_owned());
        }
        Ok(())
    }
}

/// 12 in "ok. 12 passed; 0 failed; …".
fn count(result: &str, word: &str) -> u64 {
    let mut words = result.split([' ', ';', '.']).filter(|word| !word.is_empty());
    let mut last = 0;
    words
        .find_map(|next| {
            if next == word {
                Some(last)
            } else {
                last = next.parse().unwrap_or(last);
                None
            }
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_read_from_the_closing_line() {
        let line = "FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(count(line, "passed"), 12);
        assert_eq!(count(line, "failed"), 3);
        assert_eq!(count("ok.", "failed"), 0);
    }
}
