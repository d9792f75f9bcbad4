//! Halts a lane whose guest only fails: that is no matter of single records, and every one of them would go to the dead-letter topic.

use super::prepare::{Guested, Prepared};
use crate::disposition;
use crate::plan::Fault;
use crate::transform::Error;

/// Counts the events that the guest failed on since it last answered one.
pub(super) struct Breaker {
    /// 0: it never halts.
    max_failures: u64,
    failures: u64,
}

impl Breaker {
    pub(super) fn new(max_failures: u64) -> Self {
        Self { max_failures, failures: 0 }
    }

    /// Another module starts anew.
    pub(super) fn reset(&mut self, max_failures: u64) {
        *self = Self::new(max_failures);
    }

    /// The error says why the lane halts; nothing of the batch is written or dead-lettered then.
    pub(super) fn batch(&mut self, prepared: &Prepared, guested: &Guested) -> Result<(), String> {
        if guested.answered_events > 0 {
            self.failures = 0;
            return Ok(());
        }
        self.failures += guested.failed_events;
        if self.max_failures == 0 || self.failures < self.max_failures {
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
            "{source} offset {offset}: the transform failed on all of the last {} events of this partition, on this one with {code} (the log has the \
             guest's words); nothing more goes to the dead-letter topic; mend the module, or raise max_failures_in_a_row and send SIGHUP",
            self.failures
        ))
    }
}
