//! Servers that the environment names, and a runtime to talk to them.

use tokio::runtime::Runtime;

/// What the variable names, or `None` after saying that the test is not run.
pub fn server(variable: &str) -> Option<String> {
    if let Ok(server) = std::env::var(variable) {
        return Some(server);
    }
    let required = std::env::var("STREAMSYNC_TEST_REQUIRE_STORES").is_ok_and(|value| value == "1");
    assert!(!required, "{variable} is not set, and STREAMSYNC_TEST_REQUIRE_STORES=1 wants every store tested");
    eprintln!("not run: {variable} is not set; `cargo xtask test` sets it");
    None
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
