#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;

use super::tool::{Tool, run};
use super::*;

const TOOL: Tool =
    Tool { names: &["some-tool", "some-tool-2"], variable: None, in_project: &["bin"], install: "apt-get install some-tool" };

fn put(dir: &Path, name: &str, mode: u32) {
    std::fs::create_dir_all(dir).expect("a directory");
    std::fs::write(dir.join(name), "#!/bin/sh\nexit 3\n").expect("written");
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_missing_tool_is_named_with_what_installs_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = TOOL.find_in(dir.path(), OsStr::new("/nowhere")).expect_err("missing");
    assert_eq!(missing.message(), "some-tool is not installed: apt-get install some-tool; then build again");
    let path = dir.path().join("path");
    put(&path, "some-tool", 0o644);
    assert!(TOOL.find_in(dir.path(), path.as_os_str()).is_err(), "a file that can't be executed is no tool");
    put(&path, "some-tool-2", 0o755);
    assert_eq!(TOOL.find_in(dir.path(), path.as_os_str()).expect("there"), path.join("some-tool-2"));
    // The better name wins, and the project's own copy among those of a name.
    put(&path, "some-tool", 0o755);
    assert_eq!(TOOL.find_in(dir.path(), path.as_os_str()).expect("there"), path.join("some-tool"));
    put(&dir.path().join("bin"), "some-tool", 0o755);
    let own = TOOL.find_in(dir.path(), path.as_os_str()).expect("there");
    assert_eq!(own, dir.path().join("bin/some-tool"));
    let failed = run(&mut std::process::Command::new(own), "the build").expect_err("it exits with 3");
    assert!(failed.message().starts_with("the build failed") && failed.message().contains("exit status: 3"), "{}", failed.message());
}

fn project(language: Language) -> (tempfile::TempDir, Project) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("transform.toml"), Project::manifest("t", &Builder::Language(language))).expect("written");
    let project = Project::open(dir.path()).expect("a project");
    (dir, project)
}

#[test]
fn what_is_no_module_does_not_become_a_component() {
    let (dir, project) = project(Language::C);
    let core = wat::parse_str("(module)").expect("a module");
    let without = component(&project, Made::Plain(core.clone())).expect_err("no contract");
    assert!(without.message().contains("wit/transform.wit can't be read"), "{}", without.message());
    std::fs::create_dir(dir.path().join("wit")).expect("a directory");
    std::fs::write(project.contract(), "package a:b;").expect("written");
    let changed = component(&project, Made::Plain(core.clone())).expect_err("another contract");
    assert!(changed.message().contains("is not the contract any more"), "{}", changed.message());
    std::fs::write(project.contract(), include_str!("../../../../../wit/transform.wit")).expect("written");
    let empty = component(&project, Made::Plain(core)).expect_err("exports nothing");
    assert!(empty.message().contains("what c built does not become a component"), "{}", empty.message());
}

#[test]
fn a_directory_without_a_manifest_is_no_project() {
    let dir = tempfile::tempdir().expect("a directory");
    let none = Project::open(dir.path()).expect_err("no project");
    assert!(none.message().contains("streamsync transform new"), "{}", none.message());
    for (manifest, expected) in [
        ("name = \"a\"", "missing field `language`"),
        ("name = \"a\"\nlanguage = \"perl\"", "\"perl\" is none of rust, go, js, python, c: write language = \"other\""),
        ("name = \"a\"\nlanguage = \"c\"\ncore = \"a.wasm\"", "are for language = \"other\": how c is built is known"),
        ("name = \"a\"\nlanguage = \"other\"", "needs core = \"FILE.wasm\""),
        ("name = \"a\"\nlanguage = \"other\"\ncore = \"a\"\ncomponent = \"b\"", "both `core` and `component`"),
        ("name = \"a\"\nlanguage = \"other\"\ncore = \"a\"\ncommand = []", "`command` is empty"),
        ("name = \"A b\"\nlanguage = \"c\"", "can't be a transform's name"),
        ("name = ", "transform.toml"),
    ] {
        std::fs::write(dir.path().join("transform.toml"), manifest).expect("written");
        let error = Project::open(dir.path()).expect_err("wrong");
        assert!(error.message().contains(expected), "{expected}: {}", error.message());
    }
}
