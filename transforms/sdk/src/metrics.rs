//! Counters of the transform's own.

/// Adds to a counter. Names are capped by the host and have no labels, so they must be few and constant.
pub fn add(counter: &'static str, delta: u32) {
    emit(counter, delta);
}

#[cfg(target_family = "wasm")]
fn emit(counter: &str, delta: u32) {
    crate::component::streamsync::transform::metrics::add(counter, delta);
}

#[cfg(not(target_family = "wasm"))]
fn emit(counter: &'static str, delta: u32) {
    crate::testing::record_metric(counter, delta);
}
