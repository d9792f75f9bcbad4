//! `fuzz`: the targets of `engine/fuzz` under libFuzzer, each from the corpus of the repository.
//!
//! A stable compiler is enough: coverage is a pass of its code generator. The flags are cargo-fuzz's, without a sanitizer, which the
//! engine has no use for; they go to the engine and the targets alone, so that the dependencies are those of all other builds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::progress::{cargo, plain, programs, root, run, say, target_dir};

/// A folder for each target of `engine/fuzz/src/lib.rs`.
const CORPUS: &str = "engine/fuzz/corpus";

/// What cargo calls in place of rustc for the crates of this workspace.
const WRAPPER: &str = r#"#!/bin/sh
rustc=$1
shift
case " $* " in
*" --crate-name streamsync "* | *" --crate-name streamsync_fuzz "* | *" --crate-name fuzz "*)
  exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Copt-level=2 -Cdebug-assertions=on -Coverflow-checks=on -Ccodegen-units=16
  ;;
*) exec "$rustc" "$@" ;;
esac
"#;

/// Runs all targets, or one, for so many seconds each. A fault of one does not end the others.
pub(crate) fn fuzz(seconds: u64, only: Option<&str>) -> Result<()> {
    let targets = targets()?;
    if let Some(only) = only
        && !targets.iter().any(|name| name == only)
    {
        bail!("there is no target {only}; there are {}", targets.join(", "));
    }
    let program = build()?;
    let mut broken = Vec::new();
    let chosen: Vec<&String> = targets.iter().filter(|name| only.is_none_or(|only| only == *name)).collect();
    for name in &chosen {
        if let Err(error) = one(&program, name, seconds) {
            say(format_args!("{error:#}"));
            broken.push(name.as_str());
        }
    }
    plain(format_args!("{} targets fuzzed, {} broken", chosen.len(), broken.len()));
    if broken.is_empty() { Ok(()) } else { bail!("broken: {}", broken.join(", ")) }
}

/// The names of the folders in the corpus.
fn targets() -> Result<Vec<String>> {
    let folder = root().join(CORPUS);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf> {
    let scratch = target_dir().join("fuzz");
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let wrapper = scratch.join("rustc");
    fs::write(&wrapper, WRAPPER)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let mut build = cargo();
    build.args(["build", "--workspace", "--features", "streamsync-fuzz/libfuzzer", "--bin", "fuzz"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    run("building the fuzz targets", &mut build)?;
    Ok(programs("debug").join("fuzz"))
}

/// What is found on the way is kept in `target/fuzz`; the repository's corpus is only read.
fn one(program: &Path, name: &str, seconds: u64) -> Result<()> {
    let scratch = target_dir().join("fuzz").join(name);
    let (found, faults) = (scratch.join("corpus"), scratch.join("faults/"));
    for folder in [&found, &faults] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let log = fs::File::create(scratch.join("log"))?;
    let mut fuzzer = Command::new(program);
    fuzzer
        .env("STREAMSYNC_FUZZ_TARGET", name)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=8192", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}", faults.display()))
        .args([&found, &root().join(CORPUS).join(name)])
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let status = fuzzer.status().with_context(|| format!("start {}", program.display()))?;
    let said = String::from_utf8_lossy(&fs::read(scratch.join("log"))?).into_owned();
    if !status.success() {
        let end: Vec<&str> = said.lines().rev().take(40).collect();
        end.iter().rev().for_each(plain);
        bail!(
            "{name}: broken by an input in {}; mend what it shows, and keep the input in {CORPUS}/{name} under a name that says what it was",
            faults.display()
        );
    }
    let stat = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).map_or("?", str::trim).to_owned();
    let covered = said.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split(' ').next()).unwrap_or("?");
    say(format_args!("{name}: {} inputs in {seconds} s, {covered} branches covered", stat("stat::number_of_executed_units:")));
    Ok(())
}
