//! How many records of a route may be given up: a wrong transform must not drain a table into the dead-letter topic.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);

/// Dead letters of one route in the current minute.
#[derive(Debug)]
pub struct Budget {
    max_per_minute: u32,
    window: Mutex<Option<(Instant, u32)>>,
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(max_per_minute: u32) -> Self {
        Self { max_per_minute, window: Mutex::new(None) }
    }

    /// Takes so many letters; the error is the limit that they would pass.
    pub(super) fn take(&self, letters: usize) -> Result<(), u32> {
        let now = Instant::now();
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (start, spent) = window.filter(|(start, _)| now - *start < WINDOW).unwrap_or((now, 0));
        let spent = spent.saturating_add(u32::try_from(letters).unwrap_or(u32::MAX));
        if spent > self.max_per_minute {
            return Err(self.max_per_minute);
        }
        *window = Some((start, spent));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_spent_within_a_minute() {
        let budget = Budget::new(3);
        assert_eq!(budget.take(2), Ok(()));
        assert_eq!(budget.take(2), Err(3));
        assert_eq!(budget.take(1), Ok(()));
        assert_eq!(budget.take(1), Err(3));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(budget.take(3), Ok(()));
    }
}
