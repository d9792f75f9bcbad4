//! A lane whose module changes while it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamsync::config::Settings;
use streamsync::fence::Generation;
use streamsync::http::Health;
use streamsync::lane::{End, Prepare};
use streamsync::machine::Machine;
use streamsync::metrics::Metrics;
use streamsync::rollout::{self, Change, Refusal, Requests, Rollout};
use streamsync::source::TopicPartition;
use streamsync::transform::TransformHost;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::{CONFIGURATION, World, guest_component, guest_component_with};

/// A lane, the desk that changes its module, and the folder of the modules.
pub struct Rolling {
    pub world: World,
    pub requests: Requests,
    pub directory: tempfile::TempDir,
    stop: watch::Sender<bool>,
    desk: JoinSet<()>,
}

/// It names the field otherwise: what it wrote can be told from what the configured one wrote.
pub fn other_guest() -> Vec<u8> {
    guest_component_with(&[(r#"(data (i32.const 64) "id")"#, r#"(data (i32.const 64) "no")"#), ("1.2.3", "1.2.4")])
}

/// The other one, which traps on no event.
fn healed_guest() -> Vec<u8> {
    guest_component_with(&[(r#"(data (i32.const 64) "id")"#, r#"(data (i32.const 64) "no")"#), ("(i64.const 666)", "(i64.const -1)")])
}

/// What the guest does with an event that it rejects.
pub const REJECT: &str = include_str!("../../src/transform/tests/reject.wat");

/// It rejects every row that it is shown; a deleted one it is not.
pub fn rejecting_guest() -> Vec<u8> {
    guest_component_with(&[("ON_POISON", REJECT), ("(i64.const 666)", "(i64.const 1)"), ("i64.eq (i64.load", "i64.ge_s (i64.load")])
}

/// It traps on every event.
pub fn trapping_guest() -> Vec<u8> {
    guest_component_with(&[("(i64.const 666)", "(i64.const 1)"), ("i64.eq (i64.load", "i64.ge_s (i64.load")])
}

/// It writes what no sink can store, of every row but the one with the id 0.
pub fn unstorable_guest() -> Vec<u8> {
    const NAN: &str = "(i32.store8 (local.get $tag) (i32.const 5)) (i64.store (local.get $word) (i64.const 0x7ff8000000000000))";
    guest_component_with(&[("ON_POISON", NAN), ("(i64.const 666)", "(i64.const 1)"), ("i64.eq (i64.load", "i64.ge_s (i64.load")])
}

/// It names target `t` alone.
pub fn narrow_guest() -> Vec<u8> {
    guest_component_with(&[(
        "(i32.store (i32.const 4124) (i32.const 1))",
        "(i32.store (i32.const 4124) (i32.add (i32.const 1) (i32.const 0)))",
    )])
}

/// A folder with all of them.
pub fn modules() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, component: &[u8]| std::fs::write(directory.path().join(name), component).expect("written");
    write("guest.wasm", guest_component());
    write("other.wasm", &other_guest());
    write("healed.wasm", &healed_guest());
    write("trapping.wasm", &trapping_guest());
    write("unstorable.wasm", &unstorable_guest());
    write("narrow.wasm", &narrow_guest());
    write("unstartable.wasm", &guest_component_with(&[("(;ON_INIT;)", "unreachable")]));
    write("endless.wasm", &guest_component_with(&[("(;ON_INIT;)", "(loop (br 0))")]));
    write("same.wasm", &guest_component_with(&[("1.2.3", "1.2.5")]));
    write("broken.wasm", b"\0asm\x01\0\0\0");
    directory
}

/// `transform`: lines of the route's transform section.
pub fn settings(modules: &tempfile::TempDir, transform: &str) -> Settings {
    let text = CONFIGURATION.replace("ON_TRUNCATE", "halt").replace("module =", &format!("{transform}\nmodule ="));
    Settings::parse(&text, modules.path()).expect("valid")
}

impl Rolling {
    pub fn new() -> Self {
        Self::with("")
    }

    /// `transform`: lines of the route's transform section.
    pub fn with(transform: &str) -> Self {
        let directory = modules();
        let settings = Arc::new(settings(&directory, transform));
        let module = TransformHost::new(&settings.transforms).expect("a host").load(&settings.routes[0].transform).expect("a module");
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let health = Health::new(settings.http.stalled_after);
        let rollout = Rollout::new(&settings, &[module], &metrics, &health, Machine::REAL);
        let lanes = rollout.routes().remove(0);
        let prepare = Prepare::following(&lanes, &TopicPartition::new("shop.t", 0), Generation::FIRST).expect("a guest");
        let world = World::of(settings, prepare, metrics, health);
        let (requests, at) = rollout::desk();
        let (stop, mut stopped) = watch::channel(false);
        let mut desk = JoinSet::new();
        desk.spawn(rollout.run(at, async move {
            stopped.wait_for(|stop| *stop).await.ok();
        }));
        Self { world, requests, directory, stop, desk }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn swap(&self, module: &str) -> Result<rollout::Done, Refusal> {
        self.requests.change("rows", Change::Swap { module: module.to_owned(), sha256: None }).await
    }

    /// By key: whether the document is the other guest's.
    pub fn by_other(&self) -> Vec<bool> {
        let documents = self.world.one.store.documents("t");
        let mut found: Vec<(i64, bool)> = documents
            .iter()
            .map(|(key, document)| {
                let text = std::str::from_utf8(document).expect("JSON");
                assert!(text.contains(r#""id""#) != text.contains(r#""no""#), "{text}");
                let key = std::str::from_utf8(key).expect("text").trim_start_matches("t:").parse().expect("a number");
                (key, text.contains(r#""no""#))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, other)| other).collect()
    }

    pub fn swaps(&self, result: &str) -> u64 {
        self.counted("streamsync_module_swaps_total", result)
    }

    pub fn counted(&self, name: &str, result: &str) -> u64 {
        let line = format!(r#"{name}{{result="{result}",route="rows"}} "#);
        let text = self.world.metrics.render();
        text.lines().find_map(|text| text.strip_prefix(&line)).map_or(0, |count| count.parse().expect("a count"))
    }

    pub async fn finish(mut self) {
        assert_eq!(self.world.finish().await, End::Stopped);
        self.stop.send_replace(true);
        self.desk.join_next().await.expect("a desk").expect("no panic");
    }
}

pub async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}
