//! Questions that are repeated for as long as nobody answers.

use super::Starting;
use crate::disposition::{self, Disposition};
use crate::lane::Backoff;
use crate::sink::{self, Sink};

impl Starting<'_> {
    /// Repeats what a sink that is away did not do; `/ready` says so meanwhile.
    pub(super) async fn ask_sink<T, F>(&self, sink: &dyn Sink, mut ask: impl FnMut() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, sink::Error>>,
    {
        let metrics = self.shared.metrics.sink(sink.name());
        let mut wait = self.shared.health.asks(sink.name(), &metrics.up);
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        let mut told = false;
        loop {
            match ask().await {
                Ok(answer) => {
                    self.health.answered();
                    return Ok(answer);
                }
                Err(error) if disposition::of_sink(&error) == Disposition::Retry => {
                    wait.away(&error.to_string());
                    self.health.waits_for(&format!("sink {}: {error}", sink.name()));
                    if !told {
                        tracing::warn!(sink = sink.name(), error = %error, "a partition waits for a sink before it starts");
                    }
                    told = true;
                    backoff.wait().await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Repeats what anyone else who is away did not do.
    pub(super) async fn patiently<T, E, F>(&self, whom: &str, judge: fn(&E) -> Disposition, mut ask: impl FnMut() -> F) -> Result<T, String>
    where
        E: std::error::Error,
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        loop {
            match ask().await {
                Ok(answer) => {
                    self.health.answered();
                    return Ok(answer);
                }
                Err(error) if judge(&error) == Disposition::Retry => {
                    self.health.waits_for(&format!("{whom}: {error}"));
                    tracing::warn!(error = %error, "a partition waits for {whom} before it starts");
                    backoff.wait().await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
