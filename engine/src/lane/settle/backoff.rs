//! Waits between attempts: exponential, bounded, with jitter so that many workers don't knock at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use crate::config::RetrySettings;

/// The waits of one series of attempts.
pub(crate) struct Backoff {
    settings: RetrySettings,
    attempt: u32,
    jitter_seed: u64,
}

impl Backoff {
    pub(crate) fn new(settings: &RetrySettings) -> Self {
        Self {
            settings: settings.clone(),
            attempt: 0,
            jitter_seed: settings.jitter_seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()),
        }
    }

    /// The next attempt is the first of a new series.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Waits before the next attempt.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// Between half of the step and the step.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let step = self.settings.initial.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.settings.max);
        self.attempt = self.attempt.saturating_add(1);
        let share = (FxBuildHasher.hash_one((self.jitter_seed, self.attempt)) >> 54) as u32;
        step / 2 + step / 2 * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_anew() {
        let settings = RetrySettings { initial: Duration::from_millis(100), max: Duration::from_secs(2), jitter_seed: None };
        let mut backoff = Backoff::new(&settings);
        for step in [100, 200, 400, 800, 1600, 2000, 2000] {
            let delay = backoff.next_delay();
            assert!(delay >= Duration::from_millis(step / 2) && delay <= Duration::from_millis(step), "{delay:?} of {step} ms");
        }
        for _ in 0..100 {
            assert!(backoff.next_delay() <= settings.max);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
