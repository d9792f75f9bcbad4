//! The transforms of every language, built with the languages' own tools as a user would: for the test that compares what they say.
//!
//! Python's and JavaScript's tools and zig come from package registries, in the versions below, into a folder of their own in the cache;
//! Go and Node.js must be installed. What was built once from the same files with the same tools is not built again.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest, Sha256};

use crate::guests::{hex, list_files};
use crate::progress::{cache_dir, capture, root, say, target_dir};

/// Those that `transforms/templates/README.md` names.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
const ZIGLANG: &str = "ziglang==0.17.1";
const COMPONENTIZE_QJS: &str = "componentize-qjs@0.4.5";

const TABLES: [&str; 3] = ["customers", "orders", "shipping_info"];
/// What shows all that an SDK can do; it lies in `transforms/features`.
const FEATURES: &str = "features";

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const BUILD_LIMIT: Duration = Duration::from_secs(300);
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// A language, with the file that holds a transform and what a build depends on besides.
struct Language {
    word: &'static str,
    transform: &'static str,
    tools: &'static str,
}

/// Rust's are those of [`crate::guests`].
const LANGUAGES: [Language; 4] = [
    Language { word: "python", transform: "transform.py", tools: COMPONENTIZE_PY },
    Language { word: "c", transform: "transform.c", tools: ZIGLANG },
    Language { word: "go", transform: "main.go", tools: "go" },
    Language { word: "js", transform: "transform.js", tools: COMPONENTIZE_QJS },
];

/// Builds what is not there yet, and returns the folder: `LANGUAGE/TRANSFORM.wasm`.
///
/// # Errors
/// A tool can't be had, or a transform does not build. Nothing is left out.
pub(crate) fn provide(streamsync: &Path, guests: &Path) -> Result<PathBuf> {
    let folder = target_dir().join("languages");
    let tools = Tools::provide()?;
    copy_rust(guests, &folder.join("rust"))?;
    // Python's builds take as long as all the others together.
    let (python, others) = LANGUAGES.split_at(1);
    let build = |languages: &[Language]| languages.iter().try_for_each(|language| build(language, &tools, streamsync, &folder));
    let (python, others) = thread::scope(|scope| {
        let python = scope.spawn(|| build(python));
        let others = build(others);
        (python.join().unwrap_or_else(|_| bail!("the thread that builds Python's transforms panicked")), others)
    });
    python.and(others)?;
    Ok(folder)
}

fn copy_rust(guests: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for name in TABLES.iter().chain([&FEATURES]) {
        let from = guests.join(name).with_extension("wasm");
        fs::copy(&from, to.join(name).with_extension("wasm")).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// Builds a language's transforms, each from the project that `streamsync transform new` writes.
fn build(language: &Language, tools: &Tools, streamsync: &Path, folder: &Path) -> Result<()> {
    let folder = folder.join(language.word);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let kept = cache_dir()?.join("languages/built");
    fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
    for name in TABLES.iter().chain([&FEATURES]) {
        let project = folder.join(format!("{name}-project"));
        write_project(language, name, streamsync, &project)?;
        let kept = kept.join(format!("{}.wasm", digest(language, tools, &project)?));
        if !kept.is_file() {
            say(format_args!("building {name} in {}", language.word));
            let mut command = Command::new(streamsync);
            command.args(["transform", "build"]).arg(&project).env("PATH", &tools.path);
            capture(&format!("build {name} in {}", language.word), &mut command, BUILD_LIMIT)?;
            let unfinished = kept.with_extension(format!("{}.part", std::process::id()));
            let built = project.join(name).with_extension("wasm");
            fs::copy(&built, &unfinished).with_context(|| format!("copy {}", built.display()))?;
            fs::rename(&unfinished, &kept).with_context(|| format!("keep {}", kept.display()))?;
        }
        fs::copy(&kept, folder.join(name).with_extension("wasm")).with_context(|| format!("copy {}", kept.display()))?;
    }
    Ok(())
}

fn write_project(language: &Language, name: &str, streamsync: &Path, project: &Path) -> Result<()> {
    if project.exists() {
        fs::remove_dir_all(project).with_context(|| format!("remove {}", project.display()))?;
    }
    let mut command = Command::new(streamsync);
    command.args(["transform", "new", name, "--lang", language.word, "--table", name, "--dir"]).arg(project);
    capture(&format!("lay out {name} in {}", language.word), &mut command, ASK_LIMIT)?;
    if name == FEATURES {
        let from = root().join("transforms/features").join(language.word).join(language.transform);
        fs::copy(&from, project.join(language.transform)).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// Of the project's files and the tools.
fn digest(language: &Language, tools: &Tools, project: &Path) -> Result<String> {
    let mut files = Vec::new();
    list_files(project, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(if language.word == "go" { &tools.go_version } else { language.tools });
    for path in files {
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.strip_prefix(project).unwrap_or(&path);
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(format!("{}-{}", language.word, hex(&hash.finalize())))
}

/// The languages' tools.
struct Tools {
    /// `PATH` with their folders first.
    path: OsString,
    go_version: String,
}

impl Tools {
    fn provide() -> Result<Self> {
        let go = ask("go", &["version"], "install Go 1.26 or later: https://go.dev/dl, or your distribution's package")?;
        ask("npm", &["--version"], "install Node.js 18 or later with npm, from your distribution or https://nodejs.org")?;
        ask("python3", &["-m", "venv", "--help"], "install Python 3.10 or later with venv; on Debian: apt-get install python3-venv")?;
        let folder = cache_dir()?.join("languages");
        let python = folder.join(plain(&format!("{COMPONENTIZE_PY} {ZIGLANG}")));
        install(
            &python,
            &[
                vec!["python3".into(), "-m".into(), "venv".into(), python.clone().into()],
                [python.join("bin/pip").as_os_str(), "install".as_ref(), "--quiet".as_ref(), COMPONENTIZE_PY.as_ref(), ZIGLANG.as_ref()]
                    .map(Into::into)
                    .to_vec(),
            ],
        )?;
        let node = folder.join(plain(COMPONENTIZE_QJS));
        let prefix = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix"].map(OsString::from);
        install(&node, &[[prefix.as_slice(), &[node.clone().into(), COMPONENTIZE_QJS.into()]].concat()])?;
        let own = [python.join("bin"), node.join("node_modules/.bin")];
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(own.into_iter().chain(env::split_paths(&inherited))).context("PATH")?;
        Ok(Self { path, go_version: go })
    }
}

/// What a program says of itself; without it nothing can be built.
fn ask(program: &str, arguments: &[&str], remedy: &str) -> Result<String> {
    capture(program, Command::new(program).args(arguments), ASK_LIMIT)
        .with_context(|| format!("{program} is needed to test the transforms of all languages: {remedy}"))
}

/// Runs the commands unless they ran before; a folder that was left unfinished is made anew.
fn install(folder: &Path, commands: &[Vec<OsString>]) -> Result<()> {
    let done = folder.join("complete");
    if done.is_file() {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    say(format_args!("installing tools into {}", folder.display()));
    for command in commands {
        let [program, arguments @ ..] = command.as_slice() else { continue };
        capture(&format!("install {}", folder.display()), Command::new(program).args(arguments), INSTALL_LIMIT)?;
    }
    fs::write(&done, "").with_context(|| format!("write {}", done.display()))
}

/// A folder's name.
fn plain(packages: &str) -> String {
    packages.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}
