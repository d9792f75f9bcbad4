//! How many records of a route may be given up: a wrong transform must not drain a table into the dead-letter topic.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rollout::Deployed;

const WINDOW: Duration = Duration::from_secs(60);

/// Dead letters of one route in the current minute.
#[derive(Debug)]
pub struct Budget {
    max_per_minute: u32,
    spent: Mutex<Spent>,
}

/// A module has a minute of its own: what the one before spent, or still spends on batches that it had prepared, is no fault of the next one's.
#[derive(Debug, Default)]
struct Spent {
    /// [`Deployed::since`] of what runs.
    since: u64,
    now: Window,
    before: Window,
}

/// When it began, and the letters since.
type Window = Option<(Instant, u32)>;

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(max_per_minute: u32) -> Self {
        Self { max_per_minute, spent: Mutex::default() }
    }

    /// Another module begins with all of it.
    pub(crate) fn renew(&self, deployed: &Deployed) {
        self.lock().renew(deployed.since);
    }

    /// Takes so many letters for what was prepared under a number; the error is the limit that they would pass.
    pub(super) fn take(&self, letters: usize, deployed: u64) -> Result<(), u32> {
        let now = Instant::now();
        let mut spent = self.lock();
        let window = if deployed < spent.since { &mut spent.before } else { &mut spent.now };
        let (start, before) = window.filter(|(start, _)| now - *start < WINDOW).unwrap_or((now, 0));
        let after = before.saturating_add(u32::try_from(letters).unwrap_or(u32::MAX));
        if after > self.max_per_minute {
            return Err(self.max_per_minute);
        }
        *window = Some((start, after));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        // What a panicking thread left behind is whole: each change is one assignment.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn renew(&mut self, since: u64) {
        if since > self.since {
            *self = Self { since, now: None, before: self.now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_spent_within_a_minute() {
        let budget = Budget::new(3);
        assert_eq!(budget.take(2, 0), Ok(()));
        assert_eq!(budget.take(2, 0), Err(3));
        assert_eq!(budget.take(1, 0), Ok(()));
        assert_eq!(budget.take(1, 0), Err(3));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(budget.take(3, 0), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn each_module_has_its_own() {
        let budget = Budget::new(3);
        assert_eq!(budget.take(2, 1), Ok(()));
        // A second module that writes nothing has come with number 2, another first one with number 3.
        budget.lock().renew(0);
        assert_eq!(budget.take(2, 2), Err(3));
        budget.lock().renew(3);
        assert_eq!(budget.take(3, 3), Ok(()));
        assert_eq!((budget.take(2, 1), budget.take(1, 1), budget.take(1, 2)), (Err(3), Ok(()), Err(3)));
        assert_eq!(budget.take(1, 3), Err(3));
    }
}
