//! How a route's second guest fares beside the first.

use std::collections::VecDeque;

use crate::plan::compare::{Compared, Difference};
use crate::source::TopicPartition;

/// Differences that are kept, the newest.
pub(crate) const MAX_DIFFERENCES: usize = 100;

/// Counts, and the newest differences.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Events of which both guests say the same.
    pub equal: u64,
    /// Events of which they do not.
    pub different: u64,
    /// Events that the second guest failed on.
    pub failed: u64,
    /// Events that the second guest was shown and did not fail on, nor rejected alone.
    answered: u64,
    /// The newest, with their partition, in the order in which they were found.
    pub differences: VecDeque<(i32, Difference)>,
}

impl Comparison {
    /// Whether the second guest has answered, and failed on nothing.
    pub(super) fn shows_that_the_second_is_fit(&self) -> bool {
        self.answered > 0 && self.failed == 0
    }

    pub(super) fn add(&mut self, source: &TopicPartition, compared: Compared) {
        self.equal += compared.equal;
        self.different += compared.different;
        self.failed += compared.failed;
        self.answered += compared.answered;
        self.differences.extend(compared.differences.into_iter().map(|difference| (source.partition, difference)));
        let surplus = self.differences.len().saturating_sub(MAX_DIFFERENCES);
        self.differences.drain(..surplus);
    }
}
