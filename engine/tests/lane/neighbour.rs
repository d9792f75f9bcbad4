//! What a route's throughput loses while the guest of another route in the same process never comes back: printed, never asserted.
//! `STREAMSYNC_TEST_MEASURE=1 cargo test --workspace --test lane neighbour -- --nocapture`.
//!
//! The endless loop has a core until its deadline, again and again, and a lane needs somewhat more than one. So the lane also runs beside a thread
//! that only counts: what it loses there is the machine's doing, and what it loses beyond that the engine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use streamsync::config::{ModuleSource, Settings};
use streamsync::fence::Generation;
use streamsync::http::Health;
use streamsync::lane::{End, Order, Prepare};
use streamsync::metrics::Metrics;
use streamsync::source::{RecordBatch, TopicPartition};
use streamsync::transform::{Guest, Module};

use crate::world::{POISON, Row, World, batch, guest_component_with, prepared};

const ROUNDS: usize = 20;
const BATCHES: usize = 400;
const BATCH: usize = 256;
/// Of the guest that loops. One that is longer would only make the end of a round longer.
const DEADLINE: Duration = Duration::from_millis(500);

#[test]
fn of_an_endless_loop() {
    if std::env::var_os("STREAMSYNC_TEST_MEASURE").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (settings, good) = prepared("halt");
    let (hostile_settings, loops) = hostile(&settings, &good);
    let source = TopicPartition::new("shop.t", 0);
    let rows = |number: usize| (number * BATCH..(number + 1) * BATCH).map(|id| Row::Put(id as i64 + 1000)).collect::<Vec<_>>();
    let records: Vec<_> = (0..BATCHES).map(|number| batch(&source, (number * BATCH) as i64, &rows(number))).collect();
    let mut figures: [Vec<f64>; 3] = Default::default();
    let mut ended = 0;
    for round in 0..3 * ROUNDS {
        let lane = || drain(world(&settings, &good), &records);
        // The order turns, so that none always follows the same.
        let kind = (round + round / 3) % 3;
        figures[kind].push(runtime.block_on(async {
            match kind {
                0 => lane().await,
                1 => beside_a_count(lane()).await,
                _ => {
                    let mut hostile = world(&hostile_settings, &loops);
                    for _ in 0..60 {
                        hostile.read(&[Row::Put(POISON)]).await;
                    }
                    hostile.until("it loops", |world| world.counts().0 > 0).await;
                    let figure = lane().await;
                    ended += hostile.counts().1[4];
                    // Its last call too, so that the next round has the core again.
                    hostile.order(Order::Abandon);
                    hostile.end().await;
                    figure
                }
            }
        }));
    }
    let [alone, count, guest] = figures.map(median);
    println!(
        "events/s of a lane: {alone:.0} alone, {count:.0} beside a thread that counts, {guest:.0} beside a guest that loops and was ended {ended} \
         times; to alone {:.3} and {:.3}, guest to count {:.3}",
        count / alone,
        guest / alone,
        guest / count
    );
}

/// While a thread of this process has a core.
async fn beside_a_count<T>(work: impl Future<Output = T>) -> T {
    let counts = Arc::new(AtomicBool::new(true));
    let until = Arc::clone(&counts);
    let counting = tokio::task::spawn_blocking(move || {
        let mut count = 0_u64;
        while until.load(Ordering::Relaxed) {
            count = std::hint::black_box(count + 1);
        }
    });
    let done = work.await;
    counts.store(false, Ordering::Relaxed);
    counting.await.expect("no panic");
    done
}

/// The same route with a guest that does not come back from a poisonous row, in the same host.
fn hostile(settings: &Settings, good: &Module) -> (Arc<Settings>, Arc<Module>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("loops.wasm");
    std::fs::write(&path, guest_component_with(&[("ON_POISON", "(loop $l (br $l))")])).expect("written");
    let mut settings = settings.clone();
    settings.dead_letters.max_per_minute = u32::MAX;
    let mut route = (*settings.routes[0]).clone();
    route.transform.module = ModuleSource::File(path);
    route.transform.call_timeout = DEADLINE;
    route.transform.max_failures = u32::MAX;
    let module = good.host().load(&route.transform).expect("a module");
    settings.routes = vec![Arc::new(route)];
    (Arc::new(settings), module)
}

fn world(settings: &Arc<Settings>, module: &Arc<Module>) -> World {
    let route = Arc::clone(&settings.routes[0]);
    let guest = Guest::new(Arc::clone(module), Arc::clone(&route), &settings.sinks).expect("a guest");
    let prepare = Prepare::route(route, guest, &module.digest, Generation::FIRST);
    World::of(Arc::clone(settings), prepare, Arc::new(Metrics::new().expect("metrics")), Health::new(settings.http.stalled_after))
}

/// Events a second of a source that never runs dry.
async fn drain(mut world: World, records: &[RecordBatch]) -> f64 {
    world.one.forgets.store(true, Ordering::SeqCst);
    world.two.forgets.store(true, Ordering::SeqCst);
    let began = Instant::now();
    for records in records {
        world.hand_over(records.clone()).await;
    }
    assert_eq!(world.finish().await, End::Stopped);
    (BATCHES * BATCH) as f64 / began.elapsed().as_secs_f64()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
