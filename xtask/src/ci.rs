//! `ci`: format, lints, dependencies, tests; what .ci/run calls. Its long form goes on with what takes longer than a change can wait.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::progress::{cache_dir, capture, cargo, elapsed, plain, root, run, say};
use crate::simulate::{What, simulate};
use crate::{chaos, fuzz, suite};

const DENY_VERSION: &str = "0.20.2";
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
const FETCH_LIMIT: Duration = Duration::from_secs(120);
const CHECK_LIMIT: Duration = Duration::from_secs(300);
/// The workspaces: guests have one of their own.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "transforms/Cargo.toml"];

/// For each fuzz target of the long form.
const FUZZ_SECONDS: u64 = 60;
/// Of the long form.
const HISTORIES: u64 = 100_000;

/// A part of the long form: what it is called, and what it does.
type Part = (&'static str, fn() -> Result<()>);
const LONG: [Part; 4] = [
    ("the usual checks", usual),
    ("chaos, all scenarios", || chaos::chaos(&[])),
    ("fuzzing, a minute a target", || fuzz::fuzz(FUZZ_SECONDS, None)),
    ("100,000 histories", || simulate(&What::Histories { from: 0, count: HISTORIES })),
];

/// What decides whether a change is good; `long`: and what would take too long for each change.
pub(crate) fn ci(long: bool) -> Result<()> {
    if long { all_of(&LONG) } else { usual() }
}

/// Every part, whatever came of those before it. The last lines say how each has ended.
fn all_of(parts: &[Part]) -> Result<()> {
    let mut summary = Vec::new();
    let mut broken = Vec::new();
    for (name, part) in parts {
        let began = elapsed();
        let outcome = part();
        let seconds = elapsed() - began;
        summary.push(match outcome {
            Ok(()) => format!("passed: {name}, {seconds} s"),
            Err(error) => {
                broken.push(*name);
                format!("failed: {name}, {seconds} s: {error:#}")
            }
        });
    }
    summary.iter().for_each(plain);
    if broken.is_empty() { Ok(()) } else { bail!("failed: {}", broken.join("; ")) }
}

/// The first fault ends it.
fn usual() -> Result<()> {
    for manifest in MANIFESTS {
        run(&format!("format of {manifest}"), cargo().args(["fmt", "--all", "--check", "--manifest-path", manifest]))
            .context("run `cargo fmt` (and `cargo fmt --manifest-path transforms/Cargo.toml`)")?;
    }
    crate::tidy::tidy()?;
    for manifest in MANIFESTS {
        let mut clippy = cargo();
        clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--manifest-path", manifest, "--", "-D", "warnings"]);
        run(&format!("clippy of {manifest}"), &mut clippy)?;
    }
    dependencies()?;
    suite::test()
}

/// cargo-deny: bans, licences and sources always, advisories where their database can be reached.
fn dependencies() -> Result<()> {
    let deny = cargo_deny()?;
    let deny_of = |manifest: &str| {
        let mut command = Command::new(&deny);
        command.current_dir(root()).args(["--manifest-path", manifest, "--config"]).arg(root().join("deny.toml"));
        command
    };
    for manifest in MANIFESTS {
        say(format_args!("cargo-deny: bans, licences, sources of {manifest}"));
        let mut check = deny_of(manifest);
        capture("cargo deny check", check.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]), CHECK_LIMIT)?;
    }
    if let Err(error) = capture("cargo deny fetch", deny_of("Cargo.toml").args(["fetch", "db"]), FETCH_LIMIT) {
        let reason = format!("{error:#}").lines().find(|line| line.contains("rror")).unwrap_or("no reason given").trim().to_owned();
        say(format_args!("cargo-deny: ADVISORIES WERE NOT CHECKED, their database can't be reached from here ({reason})"));
        return Ok(());
    }
    for manifest in MANIFESTS {
        say(format_args!("cargo-deny: advisories of {manifest}"));
        capture("cargo deny check advisories", deny_of(manifest).args(["--offline", "check", "advisories"]), CHECK_LIMIT)?;
    }
    Ok(())
}

/// The pinned version, built once and kept.
fn cargo_deny() -> Result<PathBuf> {
    let tools = cache_dir()?.join("tools");
    let program = tools.join("bin/cargo-deny");
    let found = capture("cargo-deny --version", Command::new(&program).arg("--version"), FETCH_LIMIT);
    if found.is_ok_and(|version| version.trim().ends_with(DENY_VERSION)) {
        return Ok(program);
    }
    say(format_args!("building cargo-deny {DENY_VERSION} (some minutes, once)"));
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "--force", "cargo-deny", "--version", DENY_VERSION, "--root"]).arg(&tools);
    capture("cargo install cargo-deny", &mut install, INSTALL_LIMIT)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::all_of;

    #[test]
    fn a_part_that_fails_holds_up_no_other_and_is_named_at_the_end() {
        assert!(all_of(&[("one", || Ok(())), ("two", || Ok(()))]).is_ok());
        let broken = all_of(&[("one", || bail!("no")), ("two", || Ok(())), ("three", || bail!("neither"))]);
        assert_eq!(broken.map_err(|error| error.to_string()), Err("failed: one; three".to_owned()));
    }
}
