//! Halts a lane whose guest only fails: that is no matter of single records, and every one of them would go to the dead-letter topic.

use super::prepare::Prepared;
use crate::disposition;
use crate::plan::Fault;
use crate::transform::Error;

/// What came of a batch's events in the guests. What another guest decided instead is not counted: a canary's answers say nothing for a first
/// module that only fails, and what the first one fails on costs nothing where the canary answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// Answers of the first guest that count, rejects among them.
    pub(super) answered: u64,
    /// Events outside a canary's share that the first guest failed on.
    pub(super) failed: u64,
    /// Answers of a canary.
    pub(super) canary_answered: u64,
    /// Events of a canary's share that both guests failed on.
    pub(super) both_failed: u64,
}

/// Counts the events that the guests failed on since one was answered.
pub(super) struct Breaker {
    /// 0: it never halts.
    max_failures: u64,
    failed: u64,
    /// In a canary's share, where its answers say that not everything fails: a share of all keys has no other ones.
    both_failed: u64,
}

impl Breaker {
    pub(super) fn new(max_failures: u64) -> Self {
        Self { max_failures, failed: 0, both_failed: 0 }
    }

    /// Another module starts anew.
    pub(super) fn reset(&mut self, max_failures: u64) {
        *self = Self::new(max_failures);
    }

    /// The error says why the lane halts; nothing of the batch is written or dead-lettered then.
    pub(super) fn batch(&mut self, prepared: &Prepared) -> Result<(), String> {
        let Decided { answered, failed, canary_answered, both_failed } = prepared.decided;
        if answered > 0 {
            self.reset(self.max_failures);
            return Ok(());
        }
        self.failed += failed;
        self.both_failed = if canary_answered > 0 { 0 } else { self.both_failed + both_failed };
        let failures = self.failed + self.both_failed;
        if self.max_failures == 0 || failures < self.max_failures {
            return Ok(());
        }
        let failed =
            prepared.plan.faults.iter().rev().find(|f| matches!(&f.fault, Fault::Transform(e) if !matches!(e, Error::Rejected { .. })));
        let Some(last) = failed else { return Ok(()) };
        let records = &prepared.plan.records;
        let offset = records.records.get(last.record as usize).map_or(-1, |record| record.offset);
        let (source, (_, code)) = (&records.source, disposition::label(&last.fault));
        // A halt is shown to whoever asks over HTTP; the guest's own words may hold a row's values.
        tracing::error!(source = %source, offset, error = %last.fault, "the last of the failures that halt the route");
        Err(format!(
            "{source} offset {offset}: the transform failed on all of the last {failures} events of this partition, on this one with {code} (the log has \
             the guest's words); nothing more goes to the dead-letter topic; mend the module, or raise max_failures_in_a_row and send SIGHUP"
        ))
    }
}
