//! A record that was given up, put through the same stages once more.
//!
//! It keeps its place and so its fence: beside running workers it does no harm, and where it was overtaken it changes nothing. One record
//! is redriven at a time, so that each has a verdict of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};

use super::settle::{Outcome, Settler};
use super::{Budget, Meter, Prepare, Shared};
use crate::config::OnTruncate;
use crate::dead_letter::{self, DeadLetter, DeadLetters};
use crate::disposition;
use crate::fence::Generation;
use crate::plan::{SinkWrites, WritePlan};
use crate::source::{RecordBatch, TopicPartition};

/// What became of a redriven record, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one sink takes its writes.
    Applied,
    /// Every key holds its writes, or newer ones.
    Stale,
    /// The record writes nothing.
    Filtered,
    /// The topic began a new life since: the record's row came again, or is gone.
    EarlierGeneration,
    /// A key holds neither a version nor the record's mark, and the record is older than tombstones are kept, or a truncate may have come since:
    /// whether the row is gone can't be told.
    Unproven,
    /// It fails again.
    Faulty {
        /// The stage that met the fault.
        stage: String,
        /// A short constant code.
        code: String,
        /// For the operator.
        message: String,
    },
}

/// Keeps the letter of a record that fails again, which has one already.
#[derive(Debug, Default)]
pub struct LastLetter(Mutex<Option<DeadLetter>>);

impl LastLetter {
    fn take(&self) -> Option<DeadLetter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl DeadLetters for LastLetter {
    fn send<'a>(&'a self, _: &'a RecordBatch, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), dead_letter::Error>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = letters.last().cloned();
        Box::pin(ready(Ok(())))
    }
}

/// The stages for one partition in one generation.
pub struct Redrive {
    /// `None` only while a batch is being prepared, or after a panic there.
    prepare: Option<Prepare>,
    settler: Settler,
    letters: Arc<LastLetter>,
    /// How long the topic's log is sure to tell of a deletion; `None`: as long as there is the log.
    deletions_kept: Option<Duration>,
}

impl Redrive {
    /// `letters` are those of `shared`.
    pub fn new(
        shared: Arc<Shared>,
        letters: Arc<LastLetter>,
        source: TopicPartition,
        generation: Generation,
        prepare: Prepare,
        meter: Arc<Meter>,
    ) -> Self {
        let settler = Settler { shared, source, generation, route: prepare.settings(), meter, budget: Arc::new(Budget::new(u32::MAX)) };
        Self { prepare: Some(prepare), settler, letters, deletions_kept: None }
    }

    /// The same for a compacted topic, whose log drops the null records of deleted rows after a while.
    pub fn while_deletions_are_kept(self, deletions_kept: Option<Duration>) -> Self {
        Self { deletions_kept, ..self }
    }

    /// Redrives one record; without `apply` it only tells what would happen. `accept_unproven` writes what [`Verdict::Unproven`] leaves
    /// alone. The error is what would halt a lane.
    pub async fn record(&mut self, record: RecordBatch, apply: bool, accept_unproven: bool) -> Result<Verdict, String> {
        let plan = self.plan(record).await?;
        if let Some(fault) = plan.faults.first() {
            let (stage, code) = disposition::label(&fault.fault);
            return Ok(Verdict::Faulty { stage: stage.to_owned(), code: code.into_owned(), message: fault.fault.to_string() });
        }
        if plan.truncate.is_some() {
            return Err("a truncate is carried out in its place in the log or not at all".to_owned());
        }
        let verdict = self.judge(&plan).await?;
        let writes = verdict == Verdict::Applied || (verdict == Verdict::Unproven && accept_unproven);
        if !writes {
            return Ok(verdict);
        }
        if !apply {
            return Ok(Verdict::Applied);
        }
        let (_, outcomes) = self.settler.outcomes(plan, 0, &[]).await.map_err(|halt| halt.message)?;
        let outcome = outcomes.counts().into_iter().find(|(_, count)| *count > 0).map(|(outcome, _)| outcome);
        Ok(match outcome {
            Some(Outcome::Applied) => Verdict::Applied,
            Some(Outcome::Stale | Outcome::Superseded) => Verdict::Stale,
            Some(Outcome::Filtered) | None => Verdict::Filtered,
            Some(Outcome::DeadLettered) => {
                let letter = self.letters.take().ok_or("a record was given up without a letter; report this")?;
                Verdict::Faulty { stage: letter.stage, code: letter.code, message: letter.message }
            }
        })
    }

    async fn plan(&mut self, record: RecordBatch) -> Result<WritePlan, String> {
        let defect = || "a defect in the engine stopped the redrive while it prepared a record".to_owned();
        let mut prepare = self.prepare.take().ok_or_else(defect)?;
        let stages = move || {
            prepare.forget_last();
            let prepared = prepare.batch(record, false);
            (prepare, prepared)
        };
        let Some((prepare, prepared)) = self.settler.shared.machine.away(stages).await else { return Err(defect()) };
        self.prepare = Some(prepare);
        Ok(prepared.plan)
    }

    /// Whether the writes of a record may be sent, by what their keys hold.
    ///
    /// A fence alone is not enough: a row that was deleted since has left nothing behind once its tombstone has expired. A key that is
    /// still marked by this very record proves that nothing came after it, because whatever does writes to each of the row's default keys.
    /// Where no key is marked, a record that is younger than tombstones are kept is safe: whatever came after it is there to be seen, also in a
    /// store that was filled again, if the log still had it then. But for a truncate, which leaves nothing at keys that had nothing: where the
    /// route carries them out, youth proves nothing.
    async fn judge(&self, plan: &WritePlan) -> Result<Verdict, String> {
        let youth_counts = self.settler.route.as_ref().is_some_and(|route| route.on_truncate == OnTruncate::Halt);
        let timestamp_ms = plan.records.records.first().and_then(|record| record.timestamp_ms).filter(|_| youth_counts);
        let (mut applies, mut unproven, mut marked, mut writes) = (false, false, false, false);
        let (mut is_known, mut deletes_nothing) = (false, false);
        for sink_writes in plan.sinks.iter().filter(|sink| !sink.writes.is_empty()) {
            writes = true;
            let young = timestamp_ms
                .is_some_and(|at| self.settler.shared.machine.now_ms().saturating_sub(at) < millis(self.deletions_show(sink_writes)));
            let sink = self.settler.shared.sinks.get(sink_writes.sink).ok_or("the plan names a sink that is not configured")?;
            let held = sink.held(sink_writes).await.map_err(|error| error.to_string())?;
            for (write, held) in sink_writes.writes.iter().zip(held) {
                marked |= held.mark == Some(write.fence);
                match held.fence {
                    Some(fence) => {
                        is_known = true;
                        applies |= fence < write.fence;
                    }
                    // It can bring nothing back.
                    None if write.document.is_none() => deletes_nothing = true,
                    None if young => applies = true,
                    None => unproven = true,
                }
            }
        }
        applies |= deletes_nothing && !is_known;
        Ok(match (writes, unproven && !marked, applies || unproven) {
            (false, ..) => Verdict::Filtered,
            (true, true, _) => Verdict::Unproven,
            (true, false, true) => Verdict::Applied,
            (true, false, false) => Verdict::Stale,
        })
    }

    /// For how long whatever is deleted leaves a trace in the store.
    fn deletions_show(&self, writes: &SinkWrites) -> Duration {
        let ttl = self.settler.shared.settings.sinks.get(writes.sink).map_or(Duration::ZERO, |sink| sink.tombstone_ttl);
        self.deletions_kept.map_or(ttl, |kept| kept.min(ttl))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
