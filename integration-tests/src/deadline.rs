//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Long enough for a machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// Tries until it succeeds; fails with the last attempt's error.
///
/// # Errors
/// The condition did not hold within [`PATIENCE`].
pub async fn until<T>(what: &str, attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    within(PATIENCE, what, attempt).await
}

/// The same with a limit of its own.
///
/// # Errors
/// The condition did not hold in time.
pub async fn within<T>(limit: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => return Err(error).with_context(|| format!("{what}: not within {limit:?}")),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
