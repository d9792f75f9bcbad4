//! Rust: cargo builds for a target without an operating system, so the module imports nothing of WASI.

use std::process::Command;

use super::tool::{Tool, run};
use super::{Made, Project, Stop, read};

const TARGET: &str = "wasm32-unknown-unknown";

const CARGO: Tool = Tool { names: &["cargo"], variable: Some("CARGO"), in_project: &[], install: "install Rust, https://rustup.rs" };
const RUSTC: Tool = Tool { names: &["rustc"], variable: Some("RUSTC"), in_project: &[], install: "install Rust, https://rustup.rs" };

pub(super) fn build(project: &Project) -> Result<Made, Stop> {
    let cargo = CARGO.find(&project.dir)?;
    let rustc = RUSTC.find(&project.dir)?;
    let libraries = Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let is_there = libraries.is_ok_and(|output| {
        let dir = String::from_utf8_lossy(&output.stdout);
        output.status.success() && std::fs::read_dir(dir.trim()).is_ok_and(|mut files| files.next().is_some())
    });
    if !is_there {
        return Err(Stop::no(format!(
            "{} has no standard library for {TARGET}: rustup target add {TARGET} (or your distribution's package; RUSTC names another compiler); \
             then build again",
            rustc.display()
        )));
    }
    let target_dir = std::path::absolute(project.dir.join("target")).unwrap_or_else(|_| "target".into());
    let mut command = Command::new(cargo);
    command.current_dir(&project.dir).args(["build", "--quiet", "--release", "--lib", "--target", TARGET, "--target-dir"]).arg(&target_dir);
    // Flags and wrappers that are meant for native builds need not suit this one.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        command.env_remove(variable);
    }
    run(&mut command, "the build")?;
    let file = format!("{}.wasm", project.name.replace('-', "_"));
    Ok(Made::Typed(read(&target_dir.join(TARGET).join("release").join(file))?))
}
