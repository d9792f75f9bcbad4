//! Up to when a lane knows of all deletions. A compacted log keeps a deleted row's null record for `delete.retention.ms` only: who reads on
//! after longer than that may miss one, and nothing in the log tells.

use std::time::Duration;

use tokio::time::Instant;

use crate::identity::Start;
use crate::source::{Idle, RecordBatch};

/// What is known of a partition's deletions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deletions {
    /// All that the log has below was read, and in time.
    next_offset: i64,
    /// Those made before are known; milliseconds since the Unix epoch.
    known_until_ms: i64,
    /// How long the log tells of one. `None`: for ever.
    kept_ms: Option<i64>,
    are_missing: bool,
}

/// Deletions may have been lost on the way, so that the partition's sinks must not count as complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeletionsMissing;

/// A batch that was read in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct InTime {
    /// Deletions made before are in it, or came before it; milliseconds since the Unix epoch.
    pub(super) complete_until_ms: i64,
    /// Until when its rows may be written. A store that was emptied meanwhile is filled from the log, and that may tell of their deletion no more.
    /// `None`: for ever.
    write_by: Option<Instant>,
}

impl InTime {
    /// Resolves when its rows may be written no more.
    pub(super) async fn is_over(self) {
        match self.write_by {
            Some(write_by) => tokio::time::sleep_until(write_by).await,
            None => std::future::pending().await,
        }
    }
}

impl Deletions {
    /// What is known where a lane begins.
    pub fn of(start: &Start) -> Self {
        Self { next_offset: start.offset, known_until_ms: start.complete_until_ms, kept_ms: start.tombstones_kept_ms, are_missing: false }
    }

    /// The next records were read, by now.
    pub(super) fn read(&mut self, records: &RecordBatch, now_ms: i64) -> Result<InTime, DeletionsMissing> {
        self.check(now_ms);
        if self.are_missing {
            return Err(DeletionsMissing);
        }
        // They were fetched after all was read of which that is known.
        let kept_ms = self.kept_ms.map(|kept_ms| kept_ms.saturating_sub(now_ms.saturating_sub(self.known_until_ms)));
        let write_by = kept_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(u64::try_from(ms).ok()?)));
        self.next_offset = records.next_offset().unwrap_or(self.next_offset);
        // What stands behind a record was written after it. A clock that is fast must not say that a deletion is known before it was made.
        let written_at_ms = records.records.last().and_then(|last| last.timestamp_ms);
        self.known_until_ms = self.known_until_ms.max(written_at_ms.unwrap_or_default().min(now_ms));
        Ok(InTime { complete_until_ms: self.known_until_ms, write_by })
    }

    /// The reader stood at the log's end. Records behind the last one that it was given may have gone before it came to them.
    pub(super) fn at_end(&mut self, idle: Idle) {
        if idle.read > self.next_offset {
            return;
        }
        if idle.end > self.next_offset {
            self.check(idle.at_ms);
        }
        if !self.are_missing {
            self.next_offset = self.next_offset.max(idle.end);
            self.known_until_ms = self.known_until_ms.max(idle.at_ms);
        }
    }

    /// Whether deletions may have been lost on the way: it stays so for as long as the lane runs.
    pub(super) fn are_missing(&self) -> bool {
        self.are_missing
    }

    fn check(&mut self, now_ms: i64) {
        self.are_missing |= self.kept_ms.is_some_and(|kept_ms| now_ms.saturating_sub(self.known_until_ms) > kept_ms);
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::source::TopicPartition;

    const KEPT_MS: i64 = 1000;

    /// All is known until 100 and below offset 7.
    fn known() -> Deletions {
        Deletions { next_offset: 7, known_until_ms: 100, kept_ms: Some(KEPT_MS), are_missing: false }
    }

    /// A record at an offset, written then.
    fn written(offset: i64, at_ms: impl Into<Option<i64>>) -> RecordBatch {
        let mut records = RecordBatch::new(TopicPartition::new("t", 0));
        records.push(offset, at_ms.into(), None, None, []).expect("it fits");
        records
    }

    fn idle(read: i64, end: i64, at_ms: i64) -> Idle {
        Idle { read, end, at_ms }
    }

    fn until(read: Result<InTime, DeletionsMissing>) -> Option<i64> {
        read.ok().map(|in_time| in_time.complete_until_ms)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_written_while_the_log_would_tell_of_its_deletion() {
        let mut deletions = known();
        let in_time = deletions.read(&written(7, 600), 800).expect("in time");
        let began = Instant::now();
        in_time.is_over().await;
        assert_eq!(began.elapsed(), Duration::from_millis(300), "a thousand from when all was known before it");
        let for_ever = Deletions { kept_ms: None, ..known() }.read(&written(7, 600), 800).expect("in time");
        let over = tokio::time::timeout(Duration::from_secs(1_000_000), for_ever.is_over()).await;
        assert!(over.is_err());
    }

    #[test]
    fn what_is_read_in_time_makes_known_what_was_deleted_before_it_was_written() {
        let mut deletions = known();
        assert_eq!(until(deletions.read(&written(7, 600), 1100)), Some(600));
        assert_eq!(until(deletions.read(&written(9, 500), 1600)), Some(600), "clocks differ");
        assert_eq!(until(deletions.read(&written(10, None), 1600)), Some(600), "nobody says when");
        assert_eq!(until(deletions.read(&written(11, 9_000), 1600)), Some(1600), "not before it is so");
    }

    #[test]
    fn what_is_read_too_late_may_lack_some_for_good() {
        let mut deletions = known();
        assert_eq!(until(deletions.read(&written(7, 1100), 1101)), None);
        assert_eq!(until(deletions.read(&written(7, 1100), 1100)), None);
        deletions.at_end(idle(7, 7, 1101));
        assert!(deletions.are_missing());
        let mut not_compacted = Deletions { kept_ms: None, ..known() };
        assert_eq!(until(not_compacted.read(&written(7, 1100), i64::MAX)), Some(1100));
    }

    #[test]
    fn at_the_logs_end_nothing_is_missing() {
        let mut deletions = known();
        deletions.at_end(idle(7, 7, 50_000));
        assert_eq!(until(deletions.read(&written(7, None), 51_000)), Some(50_000));
        deletions.at_end(idle(8, 8, 90_000));
        assert!(!deletions.are_missing());
    }

    #[test]
    fn what_is_gone_before_the_end_may_have_been_deletions() {
        let mut deletions = known();
        // A transaction's markers, again and again: each look finds them in time.
        for at_ms in (1000..20_000).step_by(500) {
            deletions.at_end(idle(7, 9, at_ms));
        }
        assert_eq!(until(deletions.read(&written(9, None), 20_000)), Some(19_500));
        deletions.at_end(idle(10, 12, 20_501));
        assert!(deletions.are_missing(), "nobody has looked for so long");
    }

    #[test]
    fn an_end_that_is_not_read_yet_says_nothing() {
        let mut deletions = known();
        deletions.at_end(idle(8, 8, 1000));
        assert_eq!(until(deletions.read(&written(7, None), 1101)), None);
        // Before its first record a reader has been given none.
        let mut deletions = known();
        deletions.at_end(idle(-1001, 7, 1000));
        assert_eq!(until(deletions.read(&written(7, None), 1101)), Some(1000));
    }
}
