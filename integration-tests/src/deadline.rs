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
pub async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= PATIENCE => return Err(error).with_context(|| format!("{what}: not within {PATIENCE:?}")),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
