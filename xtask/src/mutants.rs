//! `mutants`: bugs on purpose, one at a time, which the simulation must catch. They are patched into a copy of the tree, all at once and each
//! behind a switch, so that one build serves them all and the engine itself knows nothing of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::progress::{capture, cargo, plain, root, say, target_dir};

const LIST: &str = "engine/tests/simulation/mutants.toml";

/// What a build of the engine and its tests needs.
const COPIED: [&str; 9] =
    [".cargo", "Cargo.lock", "Cargo.toml", "clippy.toml", "engine", "integration-tests", "transforms", "wit", "xtask"];

/// How long building all of them may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(900);

/// The module that the copy gets.
const SWITCHES: &str = r#"//! Which bug is on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;

use crate::source::{RecordBatch, TopicPartition};

/// Whether this bug is on.
pub fn on(name: &str) -> bool {
    static ON: OnceLock<String> = OnceLock::new();
    ON.get_or_init(|| std::env::var("STREAMSYNC_MUTANT").unwrap_or_default()) == name
}

/// A text that must be there, replaced.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "nothing to replace: {from}");
    text.replace(from, to)
}

thread_local! {
    static READ: RefCell<HashMap<(usize, TopicPartition), i64>> = RefCell::default();
}

/// A worker has read a batch.
pub fn read(worker: usize, records: &RecordBatch) {
    READ.with_borrow_mut(|read| read.insert((worker, records.source.clone()), records.next_offset().unwrap_or_default()));
}

/// The offset behind what it has read.
pub fn highest(worker: usize, source: &TopicPartition) -> i64 {
    READ.with_borrow(|read| read.get(&(worker, source.clone())).copied().unwrap_or_default())
}
"#;

#[derive(serde::Deserialize)]
struct List {
    mutants: Vec<Mutant>,
}

#[derive(serde::Deserialize)]
struct Mutant {
    name: String,
    says: String,
    patches: Vec<Patch>,
}

#[derive(serde::Deserialize)]
struct Patch {
    file: PathBuf,
    find: String,
    put: String,
}

/// Enough to see that the copy itself is whole; the good code has its own test.
const WITHOUT_A_BUG: u64 = 400;

/// Each mutant gets at most `histories`; returns how many were caught, and fails where one survives.
pub(crate) fn mutants(histories: u64) -> Result<u64> {
    let text = std::fs::read_to_string(root().join(LIST)).context(LIST)?;
    let list: List = toml::from_str(&text).context(LIST)?;
    let tree = target_dir().join("mutants");
    say(format_args!("patching {} bugs into a copy of the tree, {}", list.mutants.len(), tree.display()));
    copy(&list, &tree)?;
    let program = build(&tree)?;
    say(format_args!("without a bug, {WITHOUT_A_BUG} histories must hold"));
    if let Some(complaint) = caught(&program, "", WITHOUT_A_BUG)? {
        bail!("the copy fails with no bug turned on: {complaint}");
    }
    let mut survivors = 0;
    for mutant in &list.mutants {
        match caught(&program, &mutant.name, histories)? {
            Some(complaint) => plain(format_args!("{}: {}\n    caught: {complaint}", mutant.name, mutant.says)),
            None => {
                survivors += 1;
                plain(format_args!("{}: {}\n    SURVIVED {histories} histories", mutant.name, mutant.says));
            }
        }
    }
    plain(format_args!("{} of {} caught", list.mutants.len() - survivors, list.mutants.len()));
    if survivors == 0 { Ok(list.mutants.len() as u64) } else { bail!("{survivors} bugs would not be noticed") }
}

/// Brings the copy up to date; files that are the same stay untouched, so that cargo builds only what changed.
fn copy(list: &List, tree: &Path) -> Result<()> {
    let mut files = Vec::new();
    for name in COPIED {
        gather(&root(), Path::new(name), &mut files)?;
    }
    for file in &files {
        // Without the programs only the library and the simulation are built.
        if file.starts_with("engine/src/main.rs") {
            continue;
        }
        let mut bytes = std::fs::read(root().join(file)).with_context(|| file.display().to_string())?;
        let patches = list.mutants.iter().flat_map(|mutant| mutant.patches.iter().map(move |patch| (mutant, patch)));
        for (mutant, patch) in patches.filter(|(_, patch)| patch.file == *file) {
            let text = String::from_utf8(bytes)?;
            if text.matches(&patch.find).count() != 1 {
                bail!("{}: the text of {} is not there exactly once: {}\nbring {LIST} up to date", mutant.name, file.display(), patch.find);
            }
            let switch = format!("crate::mutants::on(\"{}\")", mutant.name);
            bytes = text.replace(&patch.find, &patch.put.replace("BUG", &switch)).into_bytes();
        }
        if file == Path::new("Cargo.toml") {
            bytes = own_version(std::str::from_utf8(&bytes)?)?.into_bytes();
        }
        if file == Path::new("engine/src/lib.rs") {
            bytes.extend_from_slice(b"\npub mod mutants;\n");
        }
        write(&tree.join(file), &bytes)?;
    }
    write(&tree.join("engine/src/mutants.rs"), SWITCHES.as_bytes())
}

/// Cargo tells packages of a target folder apart by their versions and their places in the workspace. With the tree's version the copy's library
/// would be taken for the tree's by the next build, which would then notice no change of the tree.
fn own_version(manifest: &str) -> Result<String> {
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    if manifest.matches(&version).count() != 1 {
        bail!("Cargo.toml has not {version} exactly once");
    }
    Ok(manifest.replace(&version, &format!("version = \"{}-mutants\"", env!("CARGO_PKG_VERSION"))))
}

fn gather(base: &Path, name: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let path = base.join(name);
    if !path.is_dir() {
        files.push(name.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
        let entry = entry?.file_name();
        if entry != "target" {
            gather(base, &name.join(entry), files)?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// Builds the simulation of the copy with the same selection of packages as all tests, so that their dependencies serve it too.
fn build(tree: &Path) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--test", "simulation", "--no-run", "--message-format=json-render-diagnostics"]);
    command.current_dir(tree).env("CARGO_TARGET_DIR", target_dir());
    let messages = capture("building the copy", &mut command, LIMIT)?;
    let program = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|message| {
        let is_simulation = message.pointer("/target/name")? == "simulation";
        message.get("executable")?.as_str().filter(|_| is_simulation).map(PathBuf::from)
    });
    program.context("cargo named no program of the simulation")
}

/// What the simulation complains of with a bug turned on; `None` where everything holds.
fn caught(program: &Path, mutant: &str, histories: u64) -> Result<Option<String>> {
    let mut command = Command::new(program);
    command.args(["--histories", &histories.to_string()]).env("STREAMSYNC_MUTANT", mutant);
    let output = command.output().with_context(|| program.display().to_string())?;
    if output.status.success() {
        return Ok(None);
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    match printed.lines().find(|line| line.starts_with("seed ")) {
        Some(complaint) => Ok(Some(complaint.to_owned())),
        None => bail!("the simulation ended without a word about a seed: {printed}{}", String::from_utf8_lossy(&output.stderr)),
    }
}
