//! `test`: everything, on this machine. The images are provided while cargo compiles.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};

use anyhow::{Result, bail};

use crate::docker::{Labelled, engine, host};
use crate::images::{Image, Images};
use crate::languages;
use crate::mutants;
use crate::progress::{cache_dir, cargo, plain, programs, root, say, target_dir, watch};
use crate::simulate::{self, What};
use crate::stores::Stores;

const ROLES: [&str; 5] = ["mysql", "kafka", "connect", "redis", "mongodb"];
/// Three to five minutes of two cores. Each bug on purpose gets as many: about one history in a thousand shows the rarest of them, and whatever
/// changes the course of histories changes where the first one is.
const HISTORIES: u64 = 10_000;

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
    // What the machine lacks is told before anything is built. What needs none of it runs all the same.
    let engine = tally.settle("Docker", engine());
    let tools = tally.settle("tools of the languages", languages::prepare());
    let images = engine.map(|()| thread::spawn(|| Images::read()?.provide(&ROLES)));
    let guests = crate::build_guests()?;
    // One selection of packages for all steps: another one would compile the dependencies again, with other features. The program
    // itself is among them, because the engine's integration tests need it.
    tally.cargo("compiling all tests and streamsync", cargo().args(["test", "--workspace", "--no-run", "--quiet"]))?;
    let languages = tools.map(|()| {
        let guests = guests.clone();
        thread::spawn(move || languages::provide(&programs("debug").join("streamsync"), &guests))
    });
    tally.cargo("unit and property tests", cargo().args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]))?;
    tally.cargo("histories in virtual time", &mut simulate::command(&What::Histories { from: 0, count: HISTORIES }))?;
    tally.mutants();
    tally.cargo("transforms, natively", cargo().args(["test", "--no-fail-fast", "--manifest-path", "transforms/Cargo.toml"]))?;

    let images = images.and_then(|images| tally.settle("images", joined(images)));
    let languages = languages.and_then(|languages| tally.settle("transforms of all languages", joined(languages)));
    let stand_in = images.as_ref().and_then(|images| images.get("mongodb")?.stand_in.clone());
    match (&images, &stand_in) {
        (None, _) => say("there are no images: nothing is tested on real systems"),
        (Some(_), Some(product)) => {
            say(format_args!("MongoDB's place is taken by a stand-in, {product}: what passes on it is not proven for MongoDB"))
        }
        (Some(_), None) => say("MongoDB is the official image"),
    }
    conformance(tally, images.as_ref(), languages.as_deref())?;
    if images.is_some() {
        suite(tally, &guests)?;
    }
    if let Some(product) = stand_in {
        say(format_args!("MongoDB was a stand-in: {product}"));
    }
    Ok(())
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("the thread panicked; its message stands above"))
}

/// The sinks' conformance and the engine's other integration tests, on stores of their own; `languages` are the transforms to compare. What is
/// missing was counted as a failure, and the tests that need it say that they do not run.
fn conformance(tally: &mut Tally, images: Option<&BTreeMap<String, Image>>, languages: Option<&Path>) -> Result<()> {
    let stores = images.and_then(|images| tally.settle("stores", Stores::start(images)));
    let mut command = cargo();
    // By name, because leaving a package out would be another selection. All but the suite, which has a step of its own.
    command.args(["test", "--no-fail-fast", "--workspace", "--test", "[!s]*", "--test", "sinks"]);
    command.env("STREAMSYNC_TEST_MODULE_CACHE", cache_dir()?.join("modules"));
    if let Some(languages) = languages {
        command.env("STREAMSYNC_TEST_REQUIRE_LANGUAGES", "1");
        command.env("STREAMSYNC_TEST_LANGUAGES", languages);
    }
    if let Some(stores) = &stores {
        stores.tell(&mut command);
    }
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
    command.env("STREAMSYNC_TEST_BINARY", programs("debug").join("streamsync"));
    command.env("STREAMSYNC_TEST_GUESTS", guests);
    command.envs(host().map(|host| ("DOCKER_HOST", host)));
    command
}

impl Tally {
    /// Each bug counts as a test. One that survives is no reason to stop.
    fn mutants(&mut self) {
        say("bugs on purpose, which the simulation must catch");
        let caught = mutants::mutants(HISTORIES);
        self.passed += self.settle("bugs on purpose", caught).unwrap_or_default();
    }

    /// What came of a step that others do without. A failure is told at once, counted, and told again at the end.
    fn settle<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        let fault = match outcome {
            Ok(there) => return Some(there),
            Err(error) => format!("{what}: {error:#}"),
        };
        say(format_args!("failed: {fault}"));
        self.failed += 1;
        self.faults.push(fault);
        None
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
