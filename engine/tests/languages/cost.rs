//! What a guest costs: printed, never asserted. `STREAMSYNC_TEST_MEASURE=1 cargo test --workspace --test languages cost -- --nocapture`
//! makes the table of `docs/transforms.md`. The engine's own code is not part of the call, but wasmtime's is, which copies the lists: a development
//! build adds some 0.06 µs an event, a third of what C takes. With `--release` the call is what users have.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamsync::config::{PullSettings, TransformHostSettings};
use streamsync::transform::{Guest, TransformHost, lower, wire};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, Store};

use crate::cases::{self, Case};
use crate::{LANGUAGES, route, settings};

mod bindings {
    wasmtime::component::bindgen!({ path: "../wit", world: "transformer" });
}

use bindings::Transformer;
use bindings::exports::streamsync::transform::transform::{Context, Target};
use bindings::streamsync::transform::{log, metrics, types};

/// Hears nothing.
struct Deaf;

impl types::Host for Deaf {}
impl log::Host for Deaf {
    fn emit(&mut self, _: log::Level, _: String) {}
}
impl metrics::Host for Deaf {
    fn add(&mut self, _: String, _: u32) {}
}

const EVENTS: usize = 256;
/// The best of so many calls.
const CALLS: usize = 60;
const MANY_EVENTS: usize = 1_000_000;

/// Prints a line a language.
pub(crate) fn print(folder: &Path) {
    println!(
        "| | file | compile | second start | instance, init, open | apply, a call of 256 | memory after it | after a million events | replaced |"
    );
    for language in LANGUAGES {
        let path = folder.join(language).join("orders.wasm");
        let bytes = std::fs::metadata(&path).expect("a component").len();
        let cache = tempfile::tempdir().expect("a directory");
        let (first, second) = (load(&path, cache.path()), load(&path, cache.path()));
        let (start, call) = call(&path);
        let (before, after, restarts) = memory(&path);
        println!(
            "| {language} | {:.1} MB | {first:.1?} | {second:.1?} | {start:.1?} | {:.2} µs an event | {:.1} MB | {:.1} MB | {restarts} |",
            bytes as f64 / 1e6,
            call.as_secs_f64() * 1e6 / EVENTS as f64,
            before as f64 / 1e6,
            after as f64 / 1e6,
        );
    }
}

/// From the file to a module that can make instances.
fn load(path: &Path, cache: &Path) -> Duration {
    let host = TransformHost::new(&TransformHostSettings {
        cache_dir: Some(cache.to_owned()),
        max_instances: 2,
        watch: None,
        pulls: PullSettings::default(),
    })
    .expect("a host");
    let began = Instant::now();
    host.load(&settings(path.to_owned(), "{}")).expect("a module");
    began.elapsed()
}

/// Instance, `init` and `open`; and the best call of `apply`.
fn call(path: &Path) -> (Duration, Duration) {
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(false);
    let engine = Engine::new(&config).expect("an engine");
    let component = Component::from_file(&engine, path).expect("a component");
    let mut linker = Linker::new(&engine);
    Transformer::add_to_linker::<_, HasSelf<_>>(&mut linker, |deaf| deaf).expect("links");
    let (batch, schema) = batch(path);
    let began = Instant::now();
    let mut store = Store::new(&engine, Deaf);
    store.set_epoch_deadline(u64::MAX / 2);
    let guest = Transformer::instantiate(&mut store, &component, &linker).expect("an instance");
    let guest = guest.streamsync_transform_transform();
    let targets = ["redis", "mongodb"].map(|name| Target { name: name.into(), sink: name.into() }).to_vec();
    guest.call_init(&mut store, &Context { config: "{}".into(), targets }).expect("no trap").expect("takes it");
    guest.call_open(&mut store, &schema).expect("no trap").expect("takes it");
    let start = began.elapsed();
    let mut best = Duration::MAX;
    for _ in 0..CALLS {
        let began = Instant::now();
        guest.call_apply(&mut store, &batch).expect("no trap").expect("an answer");
        best = best.min(began.elapsed());
    }
    (start, best)
}

/// 256 updates of orders as they cross, and their schema.
fn batch(path: &Path) -> (types::Batch, types::TableSchema) {
    let case = cases::updates(EVENTS);
    let (mut guest, routed) = guest(&case, path);
    let opened = guest.opened(&routed.batch.schemas[0]).expect("takes it");
    let mut lowered = wire::Batch {
        schema: 0,
        partition: 0,
        events: Vec::new(),
        cells: wire::Cells { tags: Vec::new(), words: Vec::new(), heap: Vec::new() },
    };
    let seen: Vec<u32> = (0..EVENTS as u32).collect();
    lower(&opened, &routed.batch, &seen, &mut lowered);
    let wire::Batch { schema, partition, events, cells: wire::Cells { tags, words, heap } } = lowered;
    let columns = opened.schema.columns.iter().map(|column| types::Column {
        name: column.name.to_string(),
        tag: column.tag as u8,
        nullable: column.nullable,
        length: None,
        scale: None,
        source_type: column.source_type.to_string(),
    });
    let of = types::TableSchema {
        id: opened.schema.id,
        database: "ecommerce".into(),
        table: "orders".into(),
        columns: columns.collect(),
        primary_key: vec![0],
    };
    (types::Batch { schema, partition, events, cells: types::Cells { tags, words, heap } }, of)
}

fn guest(case: &Case, path: &Path) -> (Guest, streamsync::route::RoutedBatch) {
    let route = route(case, settings(path.to_owned(), "{}"));
    let cache_dir = std::env::var_os("STREAMSYNC_TEST_MODULE_CACHE").map(Into::into);
    let host = TransformHost::new(&TransformHostSettings { cache_dir, max_instances: 2, watch: None, pulls: PullSettings::default() })
        .expect("a host");
    let module = host.load(&route.transform).expect("a module");
    let guest = Guest::new(module, Arc::clone(&route), &[]).expect("takes it");
    (guest, case.batches(&route, EVENTS).remove(0))
}

/// After one batch, after a million events, and how often the instance was replaced meanwhile.
fn memory(path: &Path) -> (usize, usize, u64) {
    let case = cases::updates(EVENTS);
    let (mut guest, first) = guest(&case, path);
    let route = Arc::clone(&first.route);
    guest.apply(first);
    let before = guest.stats().memory_bytes;
    for _ in 0..MANY_EVENTS / EVENTS {
        guest.apply(case.batches(&route, EVENTS).remove(0));
    }
    (before, guest.stats().memory_bytes, guest.stats().restarts)
}
