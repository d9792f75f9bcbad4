//! Gives every record of a plan its one outcome: writes, retries, dead letters.

mod backoff;
mod budget;
mod marks;
mod outcome;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::{Halt, Meter, Shared};
use crate::config::OnTruncate;
use crate::config::RouteSettings;
use crate::dead_letter::DeadLetter;
use crate::disposition::{self, Disposition};
use crate::fence::{Fence, Generation};
use crate::identity::{Entry, FirstSeen, Seen};
use crate::metrics::SinkMetrics;
use crate::plan::{Canary, Fault, RecordFault, SinkWrites, WritePlan};
use crate::sink::{Error, Sink, WriteOutcome};
use crate::source::{RecordBatch, TopicPartition};

pub(crate) use backoff::Backoff;
pub use budget::Budget;
pub(super) use outcome::{Outcome, Outcomes};

/// Writes one lane's plans.
pub(super) struct Settler {
    pub(super) shared: Arc<Shared>,
    pub(super) source: TopicPartition,
    pub(super) generation: Generation,
    pub(super) route: Option<Arc<RouteSettings>>,
    pub(super) meter: Arc<Meter>,
    pub(super) budget: Arc<Budget>,
}

/// What became of a sink's part of a plan.
struct Written {
    /// A record and what one of its writes did.
    outcomes: Vec<(u32, WriteOutcome)>,
    /// Records that the sink will never take.
    faults: Vec<RecordFault>,
    /// Marks for the keys of `faults`.
    marks: Option<SinkWrites>,
}

impl Settler {
    /// Returns the offset behind the plan when every record has its outcome; the error is what halts the lane. `deployed` is the number of
    /// what prepared the plan.
    pub(super) async fn settle(&mut self, plan: WritePlan, deployed: u64, seen: &[(Seen, FirstSeen)]) -> Result<i64, Halt> {
        self.outcomes(plan, deployed, seen).await.map(|(next_offset, _)| next_offset)
    }

    /// The same, with the outcomes.
    pub(super) async fn outcomes(&mut self, plan: WritePlan, deployed: u64, seen: &[(Seen, FirstSeen)]) -> Result<(i64, Outcomes), Halt> {
        let WritePlan { records, module, canary, planned, changed_at, sinks, mut faults, mut marks, truncate } = plan;
        self.halt_at_fault(&records, &faults, deployed)?;
        if truncate.is_some() && self.route.as_ref().is_some_and(|r| r.on_truncate == OnTruncate::Halt) {
            return Err(self.truncate_advice(&records, truncate).into());
        }
        let makers = Makers { module: &module, canary: canary.as_ref() };
        // Before anything is written: whatever module lifts the halt decides all of the batch.
        self.spend(&records, &faults, deployed)?;
        self.await_poll().await;
        crate::failpoint::reached("before-write", "").await;
        let mut outcomes = Outcomes::new(&planned);
        let mut refused = Vec::new();
        // A verdict of one sink that halts is not held up by another one that is away.
        for written in try_join_all(sinks.into_iter().map(|writes| self.write(writes))).await? {
            outcomes.written(&written.outcomes);
            refused.extend(written.faults);
            marks.extend(written.marks);
        }
        self.spend(&records, &refused, deployed)?;
        faults.append(&mut refused);
        if let Some(record) = truncate {
            self.clear(&records, record).await?;
            outcomes.applied(record);
        }
        self.give_up(&records, &makers, faults, &mut outcomes).await?;
        for marks in marks {
            self.mark(marks).await?;
        }
        self.remember(seen).await?;
        let Some(next_offset) = records.next_offset() else { return Err("a batch without records was planned".to_owned().into()) };
        self.meter.settled(&records, &changed_at, &outcomes, next_offset, self.shared.machine.now_ms());
        Ok((next_offset, outcomes))
    }

    fn halt_at_fault(&self, records: &RecordBatch, faults: &[RecordFault], deployed: u64) -> Result<(), Halt> {
        let halting = faults.iter().find(|f| disposition::of_fault(&f.fault) == Disposition::Halt);
        let Some(fault) = halting else { return Ok(()) };
        let what = format!("{}: {}", self.place(records, fault.record), fault.fault);
        Err(if disposition::is_of_module(&fault.fault) { Halt::of_module(deployed, &what) } else { what.into() })
    }

    fn place(&self, records: &RecordBatch, record: u32) -> String {
        let offset = records.records.get(record as usize).map_or(-1, |r| r.offset);
        format!("{} partition {} offset {offset}", self.source.topic, self.source.partition)
    }

    fn truncate_advice(&self, records: &RecordBatch, truncate: Option<u32>) -> String {
        let place = self.place(records, truncate.unwrap_or_default());
        let route = self.route.as_ref().map_or("", |route| &*route.name);
        format!(
            "{place}: the table was truncated, and its documents would outlive their rows; set on_truncate = \"clear\" on the route \
             (its topic must have one partition) and start again, or: streamsync rebuild --route {route} --after-snapshot"
        )
    }

    async fn await_poll(&self) {
        self.shared.await_poll(&self.source).await;
    }

    /// Keeps what the batch is the first of, before it is committed: whoever reads on from there can't find it out again.
    async fn remember(&self, seen: &[(Seen, FirstSeen)]) -> Result<(), String> {
        for (seen, first) in seen {
            let entry = Entry::Seen(self.source.partition, *seen, *first);
            let mut backoff = Backoff::new(&self.shared.settings.retry);
            while let Err(error) = self.shared.identities.store(&self.source.topic, &entry).await {
                match disposition::of_identity(&error) {
                    Disposition::Retry => {
                        tracing::warn!(route = self.route_name(), error = %error, "what the log holds is noted with a delay");
                        backoff.wait().await;
                    }
                    Disposition::DeadLetter | Disposition::Halt => return Err(error.to_string()),
                }
            }
            if *seen == Seen::SecondSnapshot {
                let why = format!(
                    "partition {} holds a second snapshot from offset {} on, which says nothing of rows that were deleted since the first",
                    self.source.partition, first.offset
                );
                tracing::warn!(route = self.route_name(), why, "the route is unproven until `streamsync rebuild` has swept");
                self.shared.unproven(self.route_name(), &why);
            }
        }
        Ok(())
    }

    /// Sends a sink's writes until each has an answer that stays. Only what failed is sent again.
    async fn write(&self, mut writes: SinkWrites) -> Result<Written, String> {
        let mut written = Written { outcomes: Vec::with_capacity(writes.writes.len()), faults: Vec::new(), marks: None };
        let mut refused = Vec::new();
        let (Some(sink), Some(metrics)) = (self.shared.sinks.get(writes.sink), self.shared.sink_metrics.get(writes.sink)) else {
            return Err(format!("the plan names sink {}, which is not configured", writes.sink));
        };
        let mut wait = self.shared.health.asks(sink.name(), &metrics.up);
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        while !writes.writes.is_empty() {
            crate::failpoint::reached("write", sink.name()).await;
            let start = std::time::Instant::now();
            let results = sink.write(&writes).await;
            metrics.write_seconds.observe(start.elapsed().as_secs_f64());
            let mut again = self.sort(sink.as_ref(), metrics, &writes, results, &mut written)?;
            refused.append(&mut again.refused);
            let Some(away) = again.away else { break };
            wait.away(&away);
            metrics.retries.inc();
            metrics.retried.inc_by(again.writes.len() as u64);
            tracing::warn!(sink = sink.name(), route = self.route_name(), writes = again.writes.len(), error = %away, "writing is delayed");
            writes.writes = again.writes;
            backoff.wait().await;
            self.await_poll().await;
        }
        if !refused.is_empty() {
            writes.writes = refused;
            written.marks = Some(writes);
        }
        Ok(written)
    }

    fn sort(
        &self,
        sink: &dyn Sink,
        metrics: &SinkMetrics,
        writes: &SinkWrites,
        results: Vec<Result<WriteOutcome, Error>>,
        written: &mut Written,
    ) -> Result<Again, String> {
        let mut again = Again { writes: Vec::new(), away: None, refused: Vec::new() };
        if results.len() != writes.writes.len() {
            return Err(format!("{} answered {} of {} writes: a defect in the engine", sink.name(), results.len(), writes.writes.len()));
        }
        for (write, result) in writes.writes.iter().zip(results) {
            match result {
                Ok(outcome) => {
                    metrics.outcome(outcome).inc();
                    if outcome == WriteOutcome::Conflict {
                        tracing::warn!(
                            sink = sink.name(),
                            route = self.route_name(),
                            offset = write.fence.offset(),
                            "equal version, other content: the transform is not deterministic"
                        );
                    }
                    written.outcomes.push((write.record, outcome));
                }
                Err(error) => match disposition::of_sink(&error) {
                    Disposition::Retry => {
                        again.away.get_or_insert_with(|| error.to_string());
                        again.writes.push(write.clone());
                    }
                    Disposition::DeadLetter => {
                        metrics.refused.inc();
                        again.refused.push(write.clone());
                        written.faults.push(RecordFault { record: write.record, fault: Fault::Sink(error) });
                    }
                    Disposition::Halt => return Err(error.to_string()),
                },
            }
        }
        Ok(again)
    }

    /// Clears every target of the route, as the truncate did to the table.
    async fn clear(&self, records: &RecordBatch, record: u32) -> Result<(), String> {
        let Some(route) = &self.route else { return Ok(()) };
        let offset = records.records.get(record as usize).map_or(-1, |r| r.offset);
        let Some(fence) = Fence::new(self.generation, offset) else { return Err(format!("{} has no fence", self.place(records, record))) };
        for target in &route.targets {
            let (Some(sink), Some(metrics)) = (self.shared.sinks.get(target.sink), self.shared.sink_metrics.get(target.sink)) else {
                continue;
            };
            let mut wait = self.shared.health.asks(sink.name(), &metrics.up);
            let mut backoff = Backoff::new(&self.shared.settings.retry);
            while let Err(error) = sink.clear(target, fence, self.source.partition).await {
                match disposition::of_sink(&error) {
                    Disposition::Retry => {
                        wait.away(&error.to_string());
                        tracing::warn!(sink = sink.name(), route = route.name, error = %error, "clearing is delayed");
                        backoff.wait().await;
                        self.await_poll().await;
                    }
                    Disposition::DeadLetter | Disposition::Halt => return Err(error.to_string()),
                }
            }
        }
        Ok(())
    }

    /// Takes the letters of faulty records from the route's budget.
    fn spend(&self, records: &RecordBatch, faults: &[RecordFault], deployed: u64) -> Result<(), Halt> {
        let Some(last) = faults.iter().max_by_key(|fault| fault.record) else { return Ok(()) };
        let faulty: BTreeSet<u32> = faults.iter().map(|fault| fault.record).collect();
        self.budget.take(faulty.len(), deployed).map_err(|limit| {
            let place = self.place(records, last.record);
            let (stage, code) = disposition::label(&last.fault);
            // As at the breaker: not in the guest's words.
            tracing::error!(place, error = %last.fault, "the last of the faults that halt the route");
            let what = format!(
                "{place}: more than {limit} records a minute would be dead-lettered, the last with {stage} {code} (the log has the words); mend the \
                 transform, or raise dead_letters.max_per_minute and start again"
            );
            Halt::of_module(deployed, &what)
        })
    }

    /// Sends the faulty records to the dead-letter topic, one letter each.
    async fn give_up(
        &mut self,
        records: &RecordBatch,
        makers: &Makers<'_>,
        mut faults: Vec<RecordFault>,
        outcomes: &mut Outcomes,
    ) -> Result<(), String> {
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_by_key(|f| f.record);
        faults.dedup_by_key(|f| f.record);
        let letters: Vec<DeadLetter> = faults.iter().map(|f| self.letter(records, makers, f)).collect();
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        while let Err(error) = self.shared.dead_letters.send(records, &letters).await {
            match disposition::of_dead_letter(&error) {
                Disposition::Retry => {
                    tracing::warn!(error = %error, "dead letters are delayed");
                    backoff.wait().await;
                }
                Disposition::DeadLetter | Disposition::Halt => return Err(error.to_string()),
            }
        }
        for letter in &letters {
            outcomes.dead_lettered(letter.record);
            self.meter.dead_letter(&letter.stage, &letter.code);
            tracing::warn!(
                route = letter.route,
                stage = letter.stage,
                code = letter.code,
                place = self.place(records, letter.record),
                error = letter.message,
                "dead-lettered"
            );
        }
        Ok(())
    }

    fn letter(&self, records: &RecordBatch, makers: &Makers<'_>, fault: &RecordFault) -> DeadLetter {
        let (stage, code) = disposition::label(&fault.fault);
        let offset = records.records.get(fault.record as usize).map_or(-1, |r| r.offset);
        DeadLetter {
            record: fault.record,
            route: self.route_name().to_owned(),
            stage: stage.to_owned(),
            code: code.into_owned(),
            message: fault.fault.to_string(),
            module: makers.of(fault.record).to_owned(),
            fence: Fence::new(self.generation, offset).map_or(0, Fence::number),
        }
    }

    fn route_name(&self) -> &str {
        self.route.as_ref().map_or("", |r| &r.name)
    }
}

/// Whose plan a batch is.
struct Makers<'p> {
    module: &'p str,
    canary: Option<&'p Canary>,
}

impl Makers<'_> {
    /// The module that decided the record.
    fn of(&self, record: u32) -> &str {
        match self.canary {
            Some(canary) if canary.records.binary_search(&record).is_ok() => &canary.module,
            _ => self.module,
        }
    }
}

/// What must be sent again, and why; and what the sink will never take.
struct Again {
    writes: Vec<crate::plan::FencedWrite>,
    away: Option<String>,
    refused: Vec<crate::plan::FencedWrite>,
}
