//! `ci`: format, lints, dependencies, tests; what .ci/run calls.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::progress::{cache_dir, capture, cargo, root, run, say};
use crate::suite;

const DENY_VERSION: &str = "0.20.2";
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
const FETCH_LIMIT: Duration = Duration::from_secs(120);
const CHECK_LIMIT: Duration = Duration::from_secs(300);
/// The workspaces: guests have one of their own.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "transforms/Cargo.toml"];

/// All of it; the first fault ends it.
pub(crate) fn ci() -> Result<()> {
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
