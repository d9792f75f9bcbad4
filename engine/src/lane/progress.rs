//! Stores how far a lane has come: a watermark in each sink, then the group's offset.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Backoff, Behind, End, Mark, Order, SettledBatch, Shared, abandoned};
use crate::metrics::CommitResult;
use crate::sink::Watermark;
use crate::source::TopicPartition;

/// Commits what is settled until the settling task ends; then once more, trying for `drain_timeout`, and ends itself. While nothing is
/// to be committed it looks whether the sinks are as it left them.
pub(super) async fn commit_all(
    shared: Arc<Shared>,
    source: TopicPartition,
    mut marks: Vec<Mark>,
    mut settled: watch::Receiver<Option<SettledBatch>>,
    mut orders: watch::Receiver<Order>,
) -> End {
    let interval = shared.settings.kafka.commit_interval;
    let mut committed = None;
    let mut next_commit = Instant::now();
    let mut backoff = Backoff::new(&shared.settings.retry);
    let mut give_up_at = None;
    loop {
        let more = tokio::select! {
            biased;
            () = abandoned(&mut orders) => return End::Stopped,
            changed = settled.changed() => changed.is_ok(),
            behind = watch_sinks(&shared, &source, &marks) => return behind,
        };
        if more {
            // Commits keep a distance, so that a busy partition does not make one for every batch. The end comes at once.
            tokio::select! {
                biased;
                () = abandoned(&mut orders) => return End::Stopped,
                () = settler_gone(&mut settled) => {}
                () = tokio::time::sleep_until(next_commit) => {}
            }
        }
        let position = *settled.borrow_and_update();
        if let Some(batch) = position
            && committed != Some(batch.next_offset)
        {
            let stored = tokio::select! {
                biased;
                () = abandoned(&mut orders) => return End::Stopped,
                stored = store(&shared, &source, &mut marks, batch) => stored,
            };
            match stored {
                Stored::Committed => {
                    committed = Some(batch.next_offset);
                    backoff.reset();
                }
                Stored::Again => {
                    // When nothing more comes, the lane's end is not held up for ever: a position without a commit costs a replay.
                    let ending = settled.has_changed().is_err();
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

enum Stored {
    Committed,
    Again,
    Lost,
    Behind(End),
}

/// A watermark that could not be stored is older than it might be, which costs a replay and nothing else. One that may not be stored is
/// a sink's loss: nothing is committed.
async fn store(shared: &Shared, source: &TopicPartition, marks: &mut [Mark], batch: SettledBatch) -> Stored {
    shared.await_poll(source).await;
    crate::failpoint::reached("after-write", "").await;
    let group = &shared.settings.kafka.group;
    let watermark = Watermark { generation: batch.generation, next_offset: batch.next_offset, written_at_ms: shared.machine.now_ms() };
    for mark in marks {
        let Some(sink) = shared.sinks.get(mark.sink) else { continue };
        match mark.store(sink.as_ref(), group, source, watermark).await {
            Ok(Ok(())) => {}
            Ok(Err(Behind(what))) => return Stored::Behind(End::Behind { sink: mark.sink, what }),
            Err(error) => tracing::debug!(sink = sink.name(), error = %error, "watermark not stored"),
        }
    }
    crate::failpoint::reached("before-commit", "").await;
    let start = Instant::now();
    let result = shared.commits.commit(source, batch.next_offset).await;
    match result {
        Ok(()) => {
            shared.metrics.commit_seconds.observe(start.elapsed().as_secs_f64());
            shared.metrics.committed(CommitResult::Ok);
            tracing::debug!(topic = %source.topic, partition = source.partition, offset = batch.next_offset, "committed");
            Stored::Committed
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

/// Returns when a sink is not as it was left. A sink that is away tells nothing: whatever it lost shows when it is back.
async fn watch_sinks(shared: &Shared, source: &TopicPartition, marks: &[Mark]) -> End {
    let group = &shared.settings.kafka.group;
    loop {
        tokio::time::sleep(shared.settings.loss_check_interval).await;
        for mark in marks {
            let Some(sink) = shared.sinks.get(mark.sink) else { continue };
            match mark.check(sink.as_ref(), group, source).await {
                Ok(Ok(())) => {}
                Ok(Err(Behind(what))) => return End::Behind { sink: mark.sink, what },
                Err(error) => tracing::debug!(sink = sink.name(), error = %error, "the sink was not looked at"),
            }
        }
    }
}

async fn settler_gone(settled: &mut watch::Receiver<Option<SettledBatch>>) {
    while settled.changed().await.is_ok() {}
}
