//! One suite for every sink: memory always, the real stores where the environment names a server.
//!
//! `cargo xtask test` sets `STREAMSYNC_TEST_REDIS_URL`, `STREAMSYNC_TEST_REDIS_CLUSTER_URLS`, `STREAMSYNC_TEST_MONGODB_URI` and
//! `STREAMSYNC_TEST_REQUIRE_STORES=1`; with the last one a store without a server fails its tests instead of saying that they were not run.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "sinks/cluster.rs"]
mod cluster;
#[path = "sinks/earlier.rs"]
mod earlier;
#[path = "sinks/failover.rs"]
mod failover;
#[path = "sinks/memory.rs"]
mod memory;
#[path = "sinks/redis.rs"]
mod redis_store;
#[path = "sinks/server.rs"]
mod server;
#[path = "sinks/shards.rs"]
mod shards;
#[path = "sinks/suite.rs"]
mod suite;
#[path = "sinks/tls.rs"]
mod tls;

use server::{runtime, server};
use streamsync::config::RedisForm;
use streamsync::sink::memory::MemorySink;

const REDIS: &str = "STREAMSYNC_TEST_REDIS_URL";
/// Comma-separated. Its primaries, three at least, permit DEBUG, and are emptied.
const REDIS_CLUSTER: &str = "STREAMSYNC_TEST_REDIS_CLUSTER_URLS";

static REDIS_SETTINGS: std::sync::RwLock<()> = std::sync::RwLock::new(());

#[test]
fn memory_conforms() {
    runtime().block_on(suite::all(&memory::Memory(MemorySink::new("memory"))));
}

#[test]
fn memory_ends_alike_in_any_order() {
    suite::any_order_ends_alike(&runtime(), &memory::Memory(MemorySink::new("memory")), 256);
}

#[test]
fn redis_cluster_conforms() {
    let Some(urls) = server(REDIS_CLUSTER) else { return };
    let urls: Vec<&str> = urls.split(',').collect();
    let runtime = runtime();
    let store = runtime.block_on(redis_store::Redis::connect_cluster(&urls, RedisForm::String));
    runtime.block_on(suite::all(&store));
    runtime.block_on(redis_store::of_its_own(&store));
    runtime.block_on(shards::each_counts(&store));
    runtime.block_on(redis_store::moving_slots(&store));
}

#[test]
fn redis_cluster_with_a_primary_cut_off() {
    runtime().block_on(cluster::a_primary_cut_off());
}

#[test]
fn redis_cluster_whose_addresses_are_used_again() {
    runtime().block_on(cluster::addresses_used_again());
}

#[test]
fn redis_cluster_whose_slots_move_past_a_scan() {
    runtime().block_on(cluster::slots_move_past_a_scan());
}

#[test]
fn redis_whose_name_leads_to_another_server() {
    runtime().block_on(failover::a_watermark_goes_to_the_server_that_was_asked());
}

#[test]
fn redis_over_tls() {
    runtime().block_on(tls::the_system_s_authorities_are_trusted("redis_over_tls"));
}

#[test]
fn redis_string_conforms() {
    redis_conforms(RedisForm::String);
}

#[test]
fn redis_hash_conforms() {
    redis_conforms(RedisForm::Hash);
}

#[test]
fn redis_json_conforms() {
    redis_conforms(RedisForm::Json);
}

/// These two change the server's settings for a moment: nothing else may use it then.
#[test]
fn redis_full_or_unfit() {
    let Some(url) = server(REDIS) else { return };
    let _alone = REDIS_SETTINGS.write();
    runtime().block_on(async {
        redis_store::full(&url).await;
        redis_store::unfit(&url).await;
    });
}

fn redis_conforms(form: RedisForm) {
    let Some(url) = server(REDIS) else { return };
    let _shared = REDIS_SETTINGS.read();
    let runtime = runtime();
    let store = runtime.block_on(redis_store::Redis::connect(&url, form));
    if form == RedisForm::Json && !runtime.block_on(store.has_json()) {
        eprintln!("not run: the server of {REDIS} has no JSON module");
        return;
    }
    runtime.block_on(async {
        suite::all(&store).await;
        redis_store::of_its_own(&store).await;
        redis_store::earlier_watermark(&store).await;
    });
    suite::any_order_ends_alike(&runtime, &store, 32);
}
