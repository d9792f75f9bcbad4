//! Builds the default transforms as components: `transforms/` -> `target/guests/*.wasm`.
//!
//! Works on a machine that has no WebAssembly target yet: [`compiler`] finds or fetches one. What has not changed is not built again.

mod compiler;
mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::progress::cargo_program;
use compiler::Compiler;

/// The crates of `transforms/` that are components.
const NAMES: [&str; 5] = ["customers", "features", "orders", "passthrough", "shipping_info"];

/// What a component may import; `types` has no functions.
const PERMITTED_IMPORTS: [&str; 3] = ["streamsync:transform/log@", "streamsync:transform/metrics@", "streamsync:transform/types@"];

/// What the build depends on, besides the compiler. Changes of anything else build nothing.
const INPUTS: [&str; 2] = ["transforms", "wit"];

/// Folders within the inputs that these components are not made of.
const NOT_INPUTS: [&str; 7] = ["c", "go", "js", "python", "sdks", "target", "templates"];

/// Components that lie ready.
#[derive(Debug)]
pub(crate) struct Guests {
    /// In the order of their names; each lies in `target/guests`.
    pub(crate) components: Vec<Component>,
}

/// A component that lies ready.
#[derive(Debug)]
pub(crate) struct Component {
    /// "orders"
    pub(crate) name: &'static str,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// In lower-case hexadecimal digits, as a route's configuration pins it.
    pub(crate) sha256: String,
    /// Size of the file.
    pub(crate) bytes: usize,
    /// Names of the interfaces that it imports.
    pub(crate) imports: Vec<String>,
}

/// Builds the components where their inputs changed; `progress` gets a line for each thing that takes a while.
///
/// # Errors
/// No compiler for WebAssembly can be had, the build fails, or a component imports what the contract does not name.
pub(crate) fn build(root: &Path, progress: &mut dyn FnMut(&str)) -> Result<Guests> {
    let dir = root.join("target/guests");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let stamp_path = dir.join("inputs.sha256");
    let stamp = hash_inputs(root)?;
    let fresh = fs::read_to_string(&stamp_path).is_ok_and(|built| built == stamp);
    if !fresh || !NAMES.iter().all(|name| component_path(&dir, name).is_file()) {
        let compiler = compiler::find(root, progress)?;
        progress(&format!("building the transforms with {} (about a minute the first time)", compiler.version));
        let modules = run_cargo(root, &compiler)?;
        for name in NAMES {
            let path = component_path(&dir, name);
            fs::write(&path, componentize(&modules, name)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Last, so that a build that was interrupted is built again.
        fs::write(&stamp_path, &stamp).with_context(|| format!("cannot write {}", stamp_path.display()))?;
    }
    let components = NAMES.into_iter().map(|name| inspect(&dir, name)).collect::<Result<_>>()?;
    Ok(Guests { components })
}

/// Lets the cargo that a command starts build for WebAssembly.
///
/// # Errors
/// No compiler for it can be had.
pub(crate) fn with_compiler(root: &Path, command: &mut Command, progress: &mut dyn FnMut(&str)) -> Result<()> {
    compiler::find(root, progress)?.apply_to(command);
    Ok(())
}

fn component_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name).with_extension("wasm")
}

/// One digest of the sources' names and contents, of the lock file among them, and of the compiler in use.
fn hash_inputs(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        list_files(&root.join(input), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    hash.update(compiler::version_in_use().unwrap_or_default());
    for path in files {
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hex(&hash.finalize()))
}

/// All files below a folder, but for those of builds and of other components.
pub(crate) fn list_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if !path.is_dir() {
            files.push(path);
        } else if path.file_name().is_some_and(|name| NOT_INPUTS.iter().all(|other| name != *other)) {
            list_files(&path, files)?;
        }
    }
    Ok(())
}

/// Builds the modules and says where they lie.
fn run_cargo(root: &Path, compiler: &Compiler) -> Result<PathBuf> {
    let target_dir = root.join("target/wasm");
    let mut cargo = Command::new(cargo_program());
    cargo.current_dir(root.join("transforms")).args(["build", "--quiet", "--locked", "--release", "--target", compiler::TARGET]);
    cargo.args(NAMES.iter().flat_map(|name| ["--package", name]));
    cargo.env("CARGO_TARGET_DIR", &target_dir);
    // Flags and wrappers that are meant for the engine's compiler need not suit this one.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    compiler.apply_to(&mut cargo);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the transforms do not build with {}: see cargo's messages above", compiler.version);
    Ok(target_dir.join(compiler::TARGET).join("release"))
}

fn componentize(modules: &Path, name: &str) -> Result<Vec<u8>> {
    let path = modules.join(name).with_extension("wasm");
    let module = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode())
        .with_context(|| format!("{} does not become a component", path.display()))
}

/// Reads a component back, so that what is said of it is true of the file.
fn inspect(dir: &Path, name: &'static str) -> Result<Component> {
    let path = component_path(dir, name);
    let component = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let DecodedWasm::Component(resolve, world) =
        wit_component::decode(&component).with_context(|| format!("{} is not a component", path.display()))?
    else {
        bail!("{} is a package of interfaces, not a component", path.display());
    };
    let world = resolve.worlds.get(world).with_context(|| format!("{} has no world", path.display()))?;
    let imports: Vec<String> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    for import in &imports {
        ensure!(
            PERMITTED_IMPORTS.iter().any(|permitted| import.starts_with(permitted)),
            "{} imports {import}, but a transform may import nothing besides the contract's log and metrics",
            path.display()
        );
    }
    Ok(Component { name, sha256: hex(&Sha256::digest(&component)), bytes: component.len(), imports, path })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
