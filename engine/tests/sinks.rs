//! One suite for every sink: memory always, the real stores where the environment names a server.
//!
//! `cargo xtask test` sets `STREAMSYNC_TEST_REDIS_URL`, `STREAMSYNC_TEST_MONGODB_URI` and `STREAMSYNC_TEST_REQUIRE_STORES=1`; with
//! the last one a store without a server fails its tests instead of saying that they were not run.
#![expect(clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

#[path = "sinks/memory.rs"]
mod memory;
#[path = "sinks/suite.rs"]
mod suite;

use streamsync::sink::memory::MemorySink;
use tokio::runtime::Runtime;

/// What the variable names, or `None` after saying that the test is not run.
fn server(variable: &str) -> Option<String> {
    if let Ok(server) = std::env::var(variable) {
        return Some(server);
    }
    let required = std::env::var("STREAMSYNC_TEST_REQUIRE_STORES").is_ok_and(|value| value == "1");
    assert!(!required, "{variable} is not set, and STREAMSYNC_TEST_REQUIRE_STORES=1 wants every store tested");
    eprintln!("not run: {variable} is not set; `cargo xtask test` sets it");
    None
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn memory_conforms() {
    runtime().block_on(suite::all(&memory::Memory(MemorySink::new("memory"))));
}

#[test]
fn memory_ends_alike_in_any_order() {
    suite::any_order_ends_alike(&runtime(), &memory::Memory(MemorySink::new("memory")), 256);
}
