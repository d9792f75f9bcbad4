//! Debian's compiler with its WebAssembly library, unpacked into a folder of its own: nothing of the machine changes, no rights are needed.
//!
//! It comes from the mirror that the machine's own apt settings name, checked against Debian's keys, and is started through its own
//! dynamic linker, because the machine's C library may be older.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::compiler::{Tools, run_bounded};

/// The release whose compiler the transforms' lock file is made for.
const SUITE: &str = "trixie";

/// The compiler, its libraries for the host and for WebAssembly, the linker, and the shared libraries that they load.
const PACKAGES: [&str; 19] = [
    "rustc",
    "libstd-rust-1.85",
    "libstd-rust-dev",
    "libstd-rust-dev-wasm32",
    "lld-19",
    "libllvm19",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libtinfo6",
    "libffi8",
    "libxml2",
    "liblzma5",
    "libz3-4",
    "libzstd1",
    "zlib1g",
];

const UPDATE_LIMIT: Duration = Duration::from_secs(120);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
const UNPACK_LIMIT: Duration = Duration::from_secs(120);

/// Debian's names for a kind of machine.
struct Machine {
    architecture: &'static str,
    libraries: &'static str,
    dynamic_linker: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine { architecture: "amd64", libraries: "usr/lib/x86_64-linux-gnu", dynamic_linker: "ld-linux-x86-64.so.2" },
    Machine { architecture: "arm64", libraries: "usr/lib/aarch64-linux-gnu", dynamic_linker: "ld-linux-aarch64.so.1" },
];

/// The compiler, where an earlier run has fetched it.
pub(super) fn fetched() -> Option<Tools> {
    let folder = folder().ok()?;
    let tools = Tools { rustc: folder.join("rustc"), linker: folder.join("wasm-ld") };
    (tools.rustc.is_file() && tools.linker.is_file()).then_some(tools)
}

/// Fetches and unpacks the compiler.
pub(super) fn fetch(progress: &mut dyn FnMut(&str)) -> Result<Tools> {
    let folder = folder()?;
    let machine = machine()?;
    let partial = folder.with_extension(format!("partial-{}", std::process::id()));
    let unpacked = unpack(&partial, machine, progress).and_then(|()| {
        // What an earlier run has left is there because it does not work.
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::rename(&partial, &folder).with_context(|| format!("cannot rename {} to {}", partial.display(), folder.display()))
    });
    if unpacked.is_err() && partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    unpacked?;
    fetched().with_context(|| format!("{} is not complete", folder.display()))
}

fn folder() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set, so there is no place for it")?).join(".cache"),
    };
    Ok(cache.join("streamsync").join(format!("rustc-{SUITE}")))
}

fn machine() -> Result<&'static Machine> {
    let output = Command::new("dpkg").arg("--print-architecture").output().context("this is no Debian: cannot start dpkg")?;
    let architecture = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    MACHINES
        .iter()
        .find(|machine| machine.architecture == architecture)
        .with_context(|| format!("it is not prepared for the architecture {architecture:?}"))
}

fn unpack(folder: &Path, machine: &Machine, progress: &mut dyn FnMut(&str)) -> Result<()> {
    let apt = Apt::prepare(&folder.join("apt"))?;
    progress("reading Debian's list of packages");
    run_bounded(apt.get().arg("update"), UPDATE_LIMIT, progress)?;
    progress("fetching Debian's compiler for WebAssembly (about 200 MB)");
    run_bounded(apt.get().arg("download").args(PACKAGES), DOWNLOAD_LIMIT, progress)?;
    progress("unpacking Debian's compiler");
    for package in fs::read_dir(&apt.downloads).with_context(|| format!("cannot list {}", apt.downloads.display()))? {
        run_bounded(Command::new("dpkg").arg("-x").arg(package?.path()).arg(folder.join("root")), UNPACK_LIMIT, progress)?;
    }
    fs::remove_dir_all(&apt.folder).with_context(|| format!("cannot remove {}", apt.folder.display()))?;
    write_starter(&folder.join("rustc"), machine, r#""$root/usr/bin/rustc" --sysroot "$root/usr""#)?;
    write_starter(&folder.join("wasm-ld"), machine, r#"--argv0 wasm-ld "$root/usr/lib/llvm-19/bin/lld""#)
}

/// A script that starts a program through its own dynamic linker, wherever the folder lies.
fn write_starter(path: &Path, machine: &Machine, program: &str) -> Result<()> {
    let Machine { libraries, dynamic_linker, .. } = machine;
    let script = format!(
        "#!/bin/sh\nroot=$(dirname \"$0\")/root\nlib=\"$root/{libraries}\"\n\
         exec \"$lib/{dynamic_linker}\" --library-path \"$lib:$root/usr/lib/llvm-19/lib\" {program} \"$@\"\n"
    );
    fs::write(path, script).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("cannot make {} executable", path.display()))
}

/// An apt of its own, which knows one suite and no installed package, and goes through the machine's proxies.
struct Apt {
    folder: PathBuf,
    downloads: PathBuf,
}

impl Apt {
    fn prepare(folder: &Path) -> Result<Self> {
        let downloads = folder.join("downloads");
        for dir in ["downloads", "sources", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(dir)).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let sources = format!("Types: deb\nURIs: {}\nSuites: {SUITE}\nComponents: main\nSigned-By: {}\n", mirror()?, keyring()?);
        fs::write(folder.join("sources/debian.sources"), sources).with_context(|| format!("cannot write to {}", folder.display()))?;
        fs::write(folder.join("status"), "").with_context(|| format!("cannot write to {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), downloads })
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.current_dir(&self.downloads);
        for (setting, path) in [
            ("Dir::State", "state"),
            ("Dir::State::lists", "state/lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::SourceParts", "sources"),
        ] {
            command.arg("-o").arg(format!("{setting}={}", self.folder.join(path).display()));
        }
        for setting in [
            "Dir::Etc::SourceList=/dev/null",
            "APT::Sandbox::User=",
            // Without this, an update that failed would pass for one.
            "APT::Update::Error-Mode=any",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ] {
            command.args(["-o", setting]);
        }
        command
    }
}

/// The mirror of Debian that the machine uses.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    // A file that is missing or closed to us names no mirror.
    let texts = files.iter().filter_map(|path| fs::read_to_string(path).ok());
    let found = texts.filter_map(|text| find_mirror(&text)).next();
    found.context("/etc/apt/sources.list and /etc/apt/sources.list.d name no mirror of Debian")
}

/// The first address in a sources file, of either format, that is a whole archive: one for security updates has no compiler.
fn find_mirror(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let words = lines.flat_map(str::split_whitespace);
    words.filter(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian")).map(str::to_owned).next()
}

fn keyring() -> Result<&'static str> {
    const KEYRINGS: [&str; 2] = ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];
    let found = KEYRINGS.into_iter().find(|path| Path::new(path).is_file());
    found.context("the package debian-archive-keyring is not installed, so Debian's packages cannot be checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own() {
        let cases = [
            ("deb http://mirror.example/debian bookworm main", Some("http://mirror.example/debian")),
            ("deb [arch=amd64 signed-by=/x.gpg] https://mirror.example/debian/ sid main", Some("https://mirror.example/debian/")),
            ("Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n", Some("http://mirror.example/debian")),
            ("# deb http://old.example/debian bookworm main\n", None),
            ("deb-src http://mirror.example/debian bookworm main\n", None),
            ("deb http://mirror.example/debian-security bookworm-security main\n", None),
            ("deb http://mirror.example/ubuntu noble main\n", None),
            ("", None),
        ];
        for (sources, expected) in cases {
            assert_eq!(find_mirror(sources).as_deref(), expected, "{sources}");
        }
    }
}
