//! Stores how far a lane has come: a watermark in each sink, then the group's offset.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Backoff, Behind, End, Mark, Meter, Order, SettledBatch, Shared, abandoned};
use crate::metrics::CommitResult;
use crate::sink::Watermark;
use crate::source::TopicPartition;

/// The settling task's end: what it has settled, and how much of that needs no repeating.
pub(super) struct Settled {
    pub(super) batches: watch::Sender<Option<SettledBatch>>,
    pub(super) kept: watch::Receiver<u64>,
}

/// The committing task's end.
pub(super) struct Keeping {
    pub(super) batches: watch::Receiver<Option<SettledBatch>>,
    /// Records of the lane that are behind the group's offset and every watermark.
    pub(super) kept: watch::Sender<u64>,
}

impl Settled {
    /// Returns when a worker that is killed while so many records more are being written leaves at most `max_records` to be repeated. An
    /// error: nothing is committed any more.
    pub(super) async fn room(&mut self, coming: u64, max_records: u64) -> Result<(), watch::error::RecvError> {
        let settled = self.batches.borrow().map_or(0, |batch| batch.records);
        let has_room = |kept: &u64| *kept >= settled || settled - *kept + coming <= max_records;
        // The next plan is likely to be as large as this one: its room is asked for now, and made while this one is being written.
        let unkept = settled.saturating_sub(*self.kept.borrow());
        if unkept > 0 && unkept + 2 * coming > max_records {
            self.batches.send_modify(|batch| batch.iter_mut().for_each(|batch| batch.awaited = true));
        }
        self.kept.wait_for(has_room).await?;
        Ok(())
    }
}

/// How old an idle partition's watermark gets. Where a compacted log goes on, a worker that begins halts if that is past `delete.retention.ms`.
const RENEW_AFTER: Duration = Duration::from_secs(60);

/// Commits what is settled until the settling task ends; then once more, trying for `drain_timeout`, and ends itself. While nothing is
/// to be committed it looks whether the sinks are as it left them, and renews the watermarks of a partition at whose end it waits.
pub(super) async fn commit_all(
    shared: Arc<Shared>,
    source: TopicPartition,
    mut marks: Vec<Mark>,
    meter: Arc<Meter>,
    keeping: Keeping,
    mut orders: watch::Receiver<Order>,
) -> End {
    let Keeping { batches: mut settled, kept } = keeping;
    let interval = shared.settings.kafka.commit_interval;
    let (mut committed, mut records_kept) = (None, 0);
    let mut next_commit = Instant::now();
    let mut backoff = Backoff::new(&shared.settings.retry);
    let mut give_up_at = None;
    // Renewed, and not committed.
    let mut owed = None;
    loop {
        let more = tokio::select! {
            biased;
            () = abandoned(&mut orders) => return End::Stopped,
            changed = settled.changed() => changed.is_ok(),
            idle = watch_sinks(&shared, &source, &marks, &meter, owed) => match idle {
                WhileIdle::End(end) => return end,
                WhileIdle::Renew(watermark) => {
                    let stored = tokio::select! {
                        biased;
                        () = abandoned(&mut orders) => return End::Stopped,
                        stored = store(&shared, &source, &mut marks, watermark, committed) => stored,
                    };
                    match stored {
                        Stored::Kept | Stored::Unmarked => (committed, owed) = (Some(watermark.next_offset), None),
                        // The next look tries again.
                        Stored::Again => owed = Some(watermark),
                        Stored::Lost => return End::Stopped,
                        Stored::Behind(end) => return end,
                    }
                    continue;
                }
            },
        };
        if more {
            // Commits keep a distance, so that a busy partition does not make one for every small batch. The end comes at once.
            tokio::select! {
                biased;
                () = abandoned(&mut orders) => return End::Stopped,
                () = awaited(&mut settled) => {}
                () = tokio::time::sleep_until(next_commit) => {}
            }
        }
        owed = None;
        let position = *settled.borrow_and_update();
        if let Some(batch) = position
            && records_kept != batch.records
        {
            let watermark = Watermark {
                generation: batch.generation,
                next_offset: batch.next_offset,
                written_at_ms: shared.machine.now_ms(),
                complete_until_ms: batch.complete_until_ms,
            };
            let stored = tokio::select! {
                biased;
                () = abandoned(&mut orders) => return End::Stopped,
                stored = store(&shared, &source, &mut marks, watermark, committed) => stored,
            };
            match stored {
                Stored::Kept => {
                    committed = Some(batch.next_offset);
                    records_kept = batch.records;
                    kept.send_replace(records_kept);
                    meter.kept();
                    backoff.reset();
                }
                Stored::Unmarked | Stored::Again => {
                    if stored == Stored::Unmarked {
                        committed = Some(batch.next_offset);
                    }
                    // When nothing more comes, the lane's end is not held up for ever: a position without a commit costs a replay.
                    let ending = settled.has_changed().is_err();
                    if ending && committed == Some(batch.next_offset) {
                        return End::Stopped;
                    }
                    if ending && *give_up_at.get_or_insert_with(|| Instant::now() + shared.settings.drain_timeout) <= Instant::now() {
                        tracing::warn!(topic = %source.topic, partition = source.partition, offset = batch.next_offset, "not committed in time");
                        return End::Stopped;
                    }
                    tokio::select! {
                        biased;
                        () = abandoned(&mut orders) => return End::Stopped,
                        () = backoff.wait() => settled.mark_changed(),
                    }
                }
                Stored::Lost => return End::Stopped,
                Stored::Behind(end) => return end,
            }
            next_commit = Instant::now() + interval;
        }
        if !more {
            return End::Stopped;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Stored {
    /// A worker that is killed now leaves nothing of it to be repeated.
    Kept,
    /// The group has it, and a sink's watermark is older: the next worker would begin there.
    Unmarked,
    Again,
    Lost,
    Behind(End),
}

/// A watermark that may not be stored is a sink's loss: nothing is committed.
async fn store(shared: &Shared, source: &TopicPartition, marks: &mut [Mark], watermark: Watermark, committed: Option<i64>) -> Stored {
    shared.await_poll(source).await;
    crate::failpoint::reached("after-write", "").await;
    let group = &shared.settings.kafka.group;
    let storing = marks.iter_mut().filter_map(|mark| {
        let sink = shared.sinks.get(mark.sink)?;
        Some(async move { (mark.sink, sink, mark.store(sink.as_ref(), group, source, watermark).await) })
    });
    let mut done = Stored::Kept;
    // At once: the lane may wait for them.
    for (index, sink, stored) in join_all(storing).await {
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(Behind(what))) => return Stored::Behind(End::Behind { sink: index, what }),
            Err(error) => {
                tracing::warn!(sink = sink.name(), topic = %source.topic, partition = source.partition, error = %error, "a watermark is delayed");
                done = Stored::Unmarked;
            }
        }
    }
    if committed == Some(watermark.next_offset) {
        return done;
    }
    crate::failpoint::reached("before-commit", "").await;
    let start = Instant::now();
    let result = shared.commits.commit(source, watermark.next_offset).await;
    match result {
        Ok(()) => {
            shared.metrics.commit_seconds.observe(start.elapsed().as_secs_f64());
            shared.metrics.committed(CommitResult::Ok);
            tracing::debug!(topic = %source.topic, partition = source.partition, offset = watermark.next_offset, "committed");
            done
        }
        Err(error @ crate::commit::Error::Lost { .. }) => {
            shared.metrics.committed(CommitResult::Lost);
            tracing::info!(error = %error, "commit refused");
            Stored::Lost
        }
        Err(error @ crate::commit::Error::Away { .. }) => {
            shared.metrics.committed(CommitResult::Retried);
            tracing::warn!(error = %error, "commit is delayed");
            Stored::Again
        }
    }
}

/// What is found while nothing is to be committed.
enum WhileIdle {
    /// A sink is not as it was left, or the log not as it must be.
    End(End),
    /// All is settled up to the partition's end, and the watermarks say so no more.
    Renew(Watermark),
}

/// A sink that is away tells nothing: whatever it lost shows when it is back.
async fn watch_sinks(shared: &Shared, source: &TopicPartition, marks: &[Mark], meter: &Meter, owed: Option<Watermark>) -> WhileIdle {
    let group = &shared.settings.kafka.group;
    loop {
        tokio::time::sleep(shared.settings.loss_check_interval).await;
        let mut all_answer = true;
        for mark in marks {
            let Some(sink) = shared.sinks.get(mark.sink) else { continue };
            match mark.check(sink.as_ref(), group, source).await {
                Ok(Ok(())) => {}
                Ok(Err(Behind(what))) => return WhileIdle::End(End::Behind { sink: mark.sink, what }),
                Err(error) => {
                    all_answer = false;
                    tracing::debug!(sink = sink.name(), error = %error, "the sink was not looked at");
                }
            }
        }
        let Ok(waits_at) = meter.waits_at() else { return WhileIdle::End(End::TombstonesExpired) };
        if all_answer {
            meter.kept();
            let idle = waits_at.filter(|idle| marks.iter().all(|mark| mark.covers(*idle)));
            let renewed = || marks.iter().find_map(|mark| mark.renewed(idle?, RENEW_AFTER));
            if let Some(watermark) = owed.or_else(renewed) {
                return WhileIdle::Renew(watermark);
            }
        }
    }
}

/// Resolves when the settling task waits for a commit, or is gone.
async fn awaited(settled: &mut watch::Receiver<Option<SettledBatch>>) {
    settled.wait_for(|batch| batch.is_some_and(|batch| batch.awaited)).await.ok();
}
