//! The commands on a project whose module is a guest written by hand: it puts `{"id": …}` to target `t`.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::project::{Builder, Language, Project};
use super::subject::{WITH_SCHEMA, read_route, route_text};
use super::trial::Trial;
use super::{Stop, TransformCommand};
use crate::outcome;
use crate::recording::RecordedEvent;
use crate::transform::tests::signing::Signer;
use crate::transform::tests::{component, guest, guest_of};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: TransformCommand,
}

struct Folder {
    dir: tempfile::TempDir,
}

const EXPECTED: &str = "0:0 read id = int 1\n  put t\n    id = int 1\n0:1 create id = int 2\n  put t\n    id = int 2\n\
                        0:2 update id = int 2\n  put t\n    id = int 2\n0:3 delete id = int 1\n  delete\n";

impl Folder {
    /// A project that is built, with the invented events.
    fn new(module: &[u8]) -> Self {
        let folder = Self { dir: tempfile::tempdir().expect("a directory") };
        folder.put("transform.toml", Project::manifest("a", &Builder::Language(Language::C)).as_bytes());
        let route = route_text("a", "a", "\"shop.t\"", "\"a.wasm\"", WITH_SCHEMA).replace("targets.redis", "targets.t");
        let route = route.split("[routes.targets.mongodb]").next().unwrap_or_default().to_owned();
        folder.put("route.toml", route.as_bytes());
        folder.put_events(&super::new::sample_events("shop", "t"));
        folder.put("a.wasm", module);
        folder.put("tests/expected.txt", EXPECTED.as_bytes());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("written");
    }

    fn put_events(&self, events: &[RecordedEvent]) {
        self.put("tests/events.jsonl", events.iter().map(|event| event.line() + "\n").collect::<String>().as_bytes());
    }

    /// `streamsync transform LINE`, DIR standing for the folder.
    fn run(&self, line: &str) -> Result<(), Stop> {
        let line = line.replace("DIR", &self.dir.path().display().to_string());
        let command = Line::try_parse_from(std::iter::once("transform").chain(line.split(' '))).expect("a command").command;
        match command {
            TransformCommand::Test(arguments) => super::test::test(&arguments),
            TransformCommand::Verify(arguments) => super::verify::verify(&arguments),
            TransformCommand::Inspect(arguments) => super::inspect::inspect(&arguments),
            TransformCommand::Build(arguments) => super::build::build(&arguments),
            TransformCommand::New(arguments) => super::new::new(&arguments),
            TransformCommand::Preview(arguments) => super::preview::preview(&arguments),
        }
    }

    fn refuses(&self, line: &str, expected: &[&str]) {
        let stop = self.run(line).expect_err(line);
        for expected in expected {
            assert!(stop.message().contains(expected), "{line}: {expected}: {}", stop.message());
        }
    }
}

#[test]
fn what_is_as_expected_passes_and_is_the_same_in_every_run() {
    let folder = Folder::new(&guest(""));
    folder.run("test DIR").expect("as expected");
    folder.run("test DIR/a.wasm --deterministic --no-cost").expect("as expected");
    folder.run("verify DIR").expect("the same");
    folder.run("inspect DIR").expect("a module");
    folder.run("inspect DIR/a.wasm --format json").expect("a module");
}

/// The contract's functions in the canonical ABI are all that a language needs: here it is WebAssembly's own text.
#[test]
fn any_language_s_module_becomes_a_component() {
    let folder = Folder::new(b"");
    let manifest = |rest: &str| folder.put("transform.toml", format!("name = \"a\"\nlanguage = \"other\"\n{rest}\n").as_bytes());
    let text = include_str!("../../transform/tests/guest.wat").replace("ON_POISON", "");
    // As what a libc asks of a system: the call is there, and answered inside of the component.
    let import = "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func $yield (result i32)))\n  (memory (export \"memory\") 64)";
    let asking = text.replace("(memory (export \"memory\") 64)", import).replace("(;ON_INIT;)", "(drop (call $yield))");
    folder.put("source.wat", asking.as_bytes());
    manifest("command = [\"cp\", \"source.wat\", \"core.wat\"]\ncore = \"core.wat\"");
    folder.run("build DIR").expect("built");
    folder.run("test DIR --no-cost").expect("as expected");
    folder.run("verify DIR").expect("the same");
    // A language may have no way to write the contract's own names: short ones will do.
    for text in [text.clone(), text.replace("streamsync:transform/transform@0.1.0#", "")] {
        folder.put("core.wasm", &wat::parse_str(&text).expect("a module"));
        manifest("core = \"core.wasm\"");
        folder.run("build DIR").expect("built");
        folder.run("test DIR --no-cost").expect("as expected");
    }
    folder.put("ready.wasm", &guest("nop"));
    manifest("component = \"ready.wasm\"");
    folder.run("build DIR").expect("built");
    assert_eq!(std::fs::read(folder.path("a.wasm")).expect("there"), guest("nop"));
    // What is built is held to the contract, whatever built it.
    folder.put("ready.wasm", &wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#).expect("a component"));
    folder.refuses("build DIR", &["imports wasi:clocks/wall-clock@0.2.0"]);
    manifest("core = \"source.wat\"");
    folder.put("source.wat", text.replace("#apply", "#aply").as_bytes());
    folder.refuses("build DIR", &["source.wat does not become a component", "apply"]);
    folder.put("source.wat", b"(module");
    folder.refuses("build DIR", &["source.wat is no WebAssembly module"]);
    manifest("core = \"none.wasm\"");
    folder.refuses("build DIR", &["none.wasm can't be read", "no `command` that would make it"]);
    manifest("command = [\"true\"]\ncore = \"none.wasm\"");
    folder.refuses("build DIR", &["none.wasm can't be read", "the command made no such file"]);
    manifest("command = [\"false\"]\ncore = \"core.wasm\"");
    folder.refuses("build DIR", &["the build failed, false ended with"]);
    manifest("command = [\"no-such-compiler\"]\ncore = \"core.wasm\"");
    folder.refuses("build DIR", &["no-such-compiler can't be started"]);
}

/// No compiler is at hand, and none is needed: what `new` writes for any other language is a whole transform as it lies.
#[test]
fn a_new_project_of_any_other_language_passes_its_own_tests() {
    let folder = Folder { dir: tempfile::tempdir().expect("a directory") };
    for (name, table) in [("cities", "world.city"), ("my-orders", "orders")] {
        folder.run(&format!("new {name} --lang other --table {table} --dir DIR/{name}")).expect("written");
        folder.run(&format!("build DIR/{name}")).expect("built");
        folder.run(&format!("test DIR/{name} --deterministic --no-cost")).expect("as expected");
        let project = Project::open(&folder.path(name)).expect("a project");
        let (route, settings) = read_route(&project.module(), Some(&project.route()), &[]).expect("a route");
        assert_eq!(Trial::new(route, &settings).expect("a module").module.name, name);
    }
}

/// The run whose outcomes are shown has the guest's log; those that only repeat it are silent.
#[test]
fn what_a_guest_logs_is_shown_once() {
    struct Lines(Arc<AtomicUsize>);
    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(usize::from(event.metadata().target() == "guest"), Ordering::Relaxed);
        }
    }
    let folder = Folder::new(&guest(""));
    let lines = |line: &str| {
        let lines = Arc::default();
        let shown = tracing_subscriber::registry().with(Lines(Arc::clone(&lines)));
        tracing::subscriber::with_default(shown, || folder.run(line)).expect("as expected");
        lines.load(Ordering::Relaxed)
    };
    assert_eq!([lines("test DIR --deterministic"), lines("test DIR --no-cost"), lines("verify DIR")], [1, 1, 0]);
}

#[test]
fn what_is_not_as_expected_is_told_and_can_be_kept() {
    let folder = Folder::new(&guest(""));
    folder.put("tests/expected.txt", EXPECTED.replace("id = int 2\n0:2", "id = text \"2\"\n0:2").as_bytes());
    folder.refuses("test DIR", &["1 of 4 outcomes differ from", "--update"]);
    folder.put("tests/expected.txt", EXPECTED.replace("    id = ", "    id: ").as_bytes());
    folder.refuses("test DIR", &["expected.txt: line 3: ", "--update"]);
    std::fs::remove_file(folder.path("tests/expected.txt")).expect("removed");
    folder.refuses("test DIR", &["there are no expected outcomes yet", "--update"]);
    folder.run("test DIR --update").expect("kept");
    folder.run("test DIR").expect("as expected");
    let kept = std::fs::read_to_string(folder.path("tests/expected.txt")).expect("there");
    assert_eq!(outcome::parse(&kept), outcome::parse(EXPECTED));
}

#[test]
fn what_fails_is_an_outcome_too() {
    // Id 666 traps, and the events beside it go on.
    let folder = Folder::new(&guest("unreachable"));
    let mut events = super::new::sample_events("shop", "t");
    for event in &mut events {
        event.value = event.value.as_ref().map(|value| String::from_utf8_lossy(value).replace("\"id\":2", "\"id\":666").into_bytes());
        event.key = event.key.as_ref().map(|key| String::from_utf8_lossy(key).replace("\"id\":2", "\"id\":666").into_bytes());
    }
    folder.put_events(&events);
    folder.run("test DIR --update --no-cost").expect("kept");
    let kept = std::fs::read_to_string(folder.path("tests/expected.txt")).expect("there");
    assert!(kept.contains("0:1 create id = int 666\n  fault transform trapped\n"), "{kept}");
    assert!(kept.contains("0:0 read id = int 1\n  put t\n    id = int 1\n"), "{kept}");
    folder.run("test DIR").expect("the same trap");
    folder.run("verify DIR").expect("the same traps, and the other events");
}

#[test]
fn what_compares_nothing_is_no_success() {
    let folder = Folder::new(&guest_of(&[("(;ON_OPEN;)", "(return (call $error))")]));
    folder.refuses("verify DIR", &["nothing was compared: 1,040 events came to nothing but faults", "streamsync transform test"]);
    folder.put("a.wasm", &guest(""));
    folder.put("tests/events.jsonl", b"{\"topic\":\"t\",\"partition\":0,\"offset\":0}\n");
    folder.refuses("verify DIR", &["nothing was compared: no record is a change of shop.t"]);
    let nothing = "nothing was tested: of 1 record none is a change of shop.t";
    folder.refuses("test DIR --update", &[nothing, "expected.txt tells what they are"]);
    folder.refuses("test DIR", &[nothing]);
}

#[test]
fn a_route_takes_what_it_names_of_the_environment() {
    let folder = Folder::new(&guest(""));
    let route = std::fs::read_to_string(folder.path("route.toml")).expect("there");
    folder.put("route.toml", route.replace("prefix = \"a\"", "prefix = \"${env:PATH}\"").as_bytes());
    folder.run("test DIR --no-cost").expect("it is set");
    folder.put("route.toml", route.replace("prefix = \"a\"", "prefix = \"${env:NOT_SET_ANYWHERE}\"").as_bytes());
    folder.refuses("test DIR", &["NOT_SET_ANYWHERE is not set"]);
}

#[test]
fn a_transform_that_remembers_is_found() {
    // Of an instance's events 666, every second one is skipped; of a call's, every second one.
    let remembers = "(i32.store (i32.const 8000) (i32.add (i32.const 1) (i32.load (i32.const 8000))))
        (if (i32.and (i32.load (i32.const 8000)) (i32.const 1))
          (then (i32.store offset=4 (local.get $step) (i32.const 2)) (br $step_done)))";
    let folder = Folder::new(&guest(remembers));
    let events: Vec<RecordedEvent> = super::new::sample_events("shop", "t").into_iter().take(1).collect();
    let six = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).replace("\"id\":1", "\"id\":666").into_bytes());
    let events: Vec<RecordedEvent> = events.into_iter().map(|e| RecordedEvent { key: six(&e.key), value: six(&e.value), ..e }).collect();
    folder.put_events(&events);
    let forgets_at_a_call = remembers.replace("(i32.const 8000)", "(i32.const 4)").replace("i32.load (i32.const 4)", "local.get $event");
    folder.refuses("verify DIR", &["differ between one instance and a fresh instance a batch", "a function of its event alone"]);
    folder.put("a.wasm", &guest(&forgets_at_a_call));
    folder.refuses("verify DIR", &["differ between batches of 1 and batches of 2", "a function of its event alone"]);
}

#[test]
fn two_modules_are_compared() {
    let folder = Folder::new(&guest(""));
    folder.put("same.wasm", &guest("nop"));
    folder.put("other.wasm", &guest_of(&[("(i32.const 64) \"id\"", "(i32.const 64) \"ix\"")]));
    folder.run("verify DIR --against DIR/same.wasm").expect("the same bytes");
    folder.refuses("verify DIR --against DIR/other.wasm", &["outcomes differ between test-guest 1.2.3"]);
}

/// A candidate is looked at before anybody signs it. The route's own module is what a worker would run, so it must be signed here too.
#[test]
fn only_the_route_s_own_module_must_be_signed() {
    let folder = Folder::new(&guest(""));
    let signer = Signer::new();
    folder.put("cosign.pub", signer.public_key().as_bytes());
    folder.put("a.wasm.sig", signer.sign(&guest("")).as_bytes());
    let route = std::fs::read_to_string(folder.path("route.toml")).expect("there");
    folder.put("route.toml", route.replace("module =", "signature_key = \"cosign.pub\"\nmodule =").as_bytes());
    folder.put("candidate.wasm", &guest("nop"));
    folder.run("test DIR --no-cost").expect("signed");
    folder.run("verify DIR --against DIR/candidate.wasm").expect("the same bytes, of a module that nobody signed");
    folder.run("test DIR/candidate.wasm --no-cost").expect("as expected, of a module that nobody signed");
    folder.put("a.wasm", &guest("nop"));
    folder.refuses("test DIR", &["was not made with this key for this module"]);
}

#[test]
fn bad_modules_are_refused_with_what_to_do() {
    let folder = Folder::new(b"");
    let newer = component(&include_str!("../../transform/tests/guest.wat").replace("ON_POISON", "").replace("@0.1.0", "@0.2.0"), "0.2.0");
    let core = wat::parse_str("(module)").expect("a module");
    let cases: [(&[u8], &str, &[&str]); 4] = [
        (b"#!/bin/sh", "test DIR", &["a.wasm", "it is no WebAssembly component"]),
        (&core, "test DIR", &["core WebAssembly module", "make a component of it"]),
        (&newer, "test DIR", &["version 0.2.0", "this engine runs 0.1.0", "streamsync transform new"]),
        (b"#!/bin/sh", "inspect DIR", &["it is no WebAssembly component", "streamsync transform build"]),
    ];
    for (module, line, expected) in cases {
        folder.put("a.wasm", module);
        folder.refuses(line, expected);
    }
    folder.put("a.wasm", &guest(""));
    let route = std::fs::read_to_string(folder.path("route.toml")).expect("there");
    folder.put("route.toml", route.replace("module =", &format!("sha256 = \"{}\"\nmodule =", "00".repeat(32))).as_bytes());
    folder.refuses("test DIR", &["has SHA-256", "the configuration pins 0000"]);
    folder.put("route.toml", route.replace("prefix", "prefx").as_bytes());
    folder.refuses("test DIR", &["route.toml:", "prefx"]);
    std::fs::remove_file(folder.path("a.wasm")).expect("removed");
    folder.refuses("test DIR", &["a.wasm is not built yet: streamsync transform build"]);
    folder.refuses("test DIR/none.wasm", &["is neither a project's directory nor a module"]);
    folder.refuses("test DIR/tests", &["is no transform's project", "streamsync transform new"]);
}

#[test]
fn bad_events_are_refused_with_their_line() {
    let folder = Folder::new(&guest(""));
    folder.put("tests/events.jsonl", b"{\"topic\":\"t\",\"partition\":0,\"offset\":0}\n{\"topic\":1}\n");
    folder.refuses("test DIR", &["events.jsonl: line 2: invalid type: integer `1`", "streamsync capture"]);
    folder.put("tests/events.jsonl", b"\n");
    folder.refuses("test DIR", &["has no event"]);
    std::fs::remove_file(folder.path("tests/events.jsonl")).expect("removed");
    folder.refuses("test DIR", &["can't be read", "streamsync capture"]);
    let alone = folder.path("alone/b.wasm");
    folder.put("alone/b.wasm", &guest(""));
    folder.refuses("test DIR/alone/b.wasm", &["--events FILE"]);
    folder.put(
        "e.jsonl",
        b"{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"value\":\"{\\\"source\\\":{\\\"db\\\":\\\"d\\\",\\\"table\\\":\\\"t\\\"}}\"}",
    );
    folder.refuses("test DIR/alone/b.wasm --events DIR/e.jsonl", &["--route FILE", "[routes.columns]"]);
    assert!(Path::new(&alone).is_file());
}

#[test]
fn a_module_alone_is_tried_on_events_alone() {
    // Its target is neither redis nor mongodb: the host says which there are.
    let folder = Folder::new(&guest(""));
    folder.put("alone/b.wasm", &guest(""));
    folder.run("test DIR/alone/b.wasm --events DIR/tests/events.jsonl --update --no-cost").expect("kept");
    let kept = std::fs::read_to_string(folder.path("tests/events.expected.txt")).expect("there");
    assert!(kept.contains("fault transform open-failed") && kept.contains("mongodb, redis"), "{kept}");
    let redis =
        guest_of(&[("(data (i32.const 48) \"t\")", "(data (i32.const 48) \"redis\")"), ("\\30\\00\\00\\00\\01", "\\30\\00\\00\\00\\05")]);
    folder.put("alone/b.wasm", &redis);
    folder.run("test DIR/alone/b.wasm --events DIR/tests/events.jsonl --update --no-cost").expect("kept");
    let kept = std::fs::read_to_string(folder.path("tests/events.expected.txt")).expect("there");
    assert!(kept.contains("put redis\n    id = int 1"), "{kept}");
}

#[test]
fn a_column_that_is_not_there_is_named() {
    let folder = Folder::new(include_bytes!("../../../tests/fixtures/contract-0.1.0/customers.wasm"));
    let both = route_text("a", "a", "\"shop.t\"", "\"a.wasm\"", WITH_SCHEMA);
    folder.put("route.toml", both.as_bytes());
    folder.run("test DIR --update --no-cost").expect("kept");
    let kept = std::fs::read_to_string(folder.path("tests/expected.txt")).expect("there");
    assert!(kept.contains("  fault transform open-failed\n    message = text \"") && kept.contains("customer_id"), "{kept}");
    assert!(kept.contains("0:3 delete id = int 1\n  fault transform open-failed"), "the engine does not know where to delete: {kept}");
}
