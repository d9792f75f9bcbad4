//! The consumer group's offsets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Commits, Error};
use crate::source::TopicPartition;
use crate::source::client::REQUEST_TIMEOUT;
use crate::source::fault::{Meaning, meaning};
use crate::source::group::Membership;

/// How long a lane waits for its commit. The request itself may live a little longer, on a blocking thread.
const COMMIT_TIMEOUT: Duration = REQUEST_TIMEOUT;

/// Commits through the worker's membership; never a partition that is not assigned to it. One request at a time: librdkafka begins to read a
/// partition, and ends a rebalance, only while none is under way. What comes meanwhile goes together in the next one.
pub struct KafkaCommits {
    membership: Arc<Membership>,
    waiting: Mutex<Vec<Position>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a lane waits for.
struct Position {
    source: TopicPartition,
    next_offset: i64,
    answer: oneshot::Sender<Result<(), Error>>,
}

impl KafkaCommits {
    pub(crate) fn new(membership: Arc<Membership>) -> Self {
        Self { membership, waiting: Mutex::default(), turn: Arc::default() }
    }

    async fn attempt(&self, source: &TopicPartition, next_offset: i64) -> Result<(), Error> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push(Position { source: source.clone(), next_offset, answer });
        let answer = tokio::select! {
            biased;
            answer = &mut answered => answer,
            turn = Arc::clone(&self.turn).lock_owned() => {
                let (membership, positions) = (Arc::clone(&self.membership), std::mem::take(&mut *self.waiting()));
                tokio::task::spawn_blocking(move || {
                    commit_all(&membership, positions);
                    // Not before: a coordinator that is away must not gather threads.
                    drop(turn);
                });
                answered.await
            }
        };
        answer.unwrap_or_else(|_| Err(away(source, "the commit's thread ended".to_owned())))
    }

    /// A list is as good after a panic as before.
    fn waiting(&self) -> MutexGuard<'_, Vec<Position>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Commits for KafkaCommits {
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let answer = timeout(COMMIT_TIMEOUT, self.attempt(source, next_offset)).await;
            answer.unwrap_or_else(|_| Err(away(source, format!("no answer within {COMMIT_TIMEOUT:?}"))))
        })
    }
}

/// In one request; where that fails, in one for each, so that a partition's fault is its own.
fn commit_all(membership: &Membership, positions: Vec<Position>) {
    let (mut owned, lost): (Vec<_>, Vec<_>) = positions.into_iter().partition(|position| membership.owns(&position.source));
    for Position { source, answer, .. } in lost {
        answer.send(Err(Error::Lost { source_partition: source })).ok();
    }
    // Whoever gave up asks again, or its partition's next lane does.
    owned.retain(|position| !position.answer.is_closed());
    let together = if owned.len() > 1 { commit_now(membership, &owned) } else { None };
    let all = matches!(together, Some(Ok(())));
    for position in owned.into_iter().filter(|position| !position.answer.is_closed()) {
        let result = if all { Some(Ok(())) } else { commit_now(membership, std::slice::from_ref(&position)) };
        let Position { source, answer, .. } = position;
        answer
            .send(match result {
                Some(Ok(())) => Ok(()),
                Some(Err(error)) if !is_lost(&error) => Err(away(&source, error.to_string())),
                _ => Err(Error::Lost { source_partition: source }),
            })
            .ok();
    }
}

/// `None` where the consumer is gone, and its partitions with it.
fn commit_now(membership: &Membership, positions: &[Position]) -> Option<KafkaResult<()>> {
    let consumer = membership.consumer()?;
    let mut offsets = TopicPartitionList::with_capacity(positions.len());
    let add = |Position { source, next_offset, .. }: &Position| {
        offsets.add_partition_offset(&source.topic, source.partition, Offset::Offset(*next_offset))
    };
    let added: KafkaResult<()> = positions.iter().try_for_each(add);
    Some(added.and_then(|()| consumer.commit(&offsets, CommitMode::Sync)))
}

fn away(source: &TopicPartition, message: String) -> Error {
    Error::Away { source_partition: source.clone(), message }
}

/// Whether the partition is gone. An illegal generation or an unknown member says less: every commit that meets a rebalance gets it, also of a
/// partition that stays with this worker, whose lane nobody would start again. Where the partition does go, the group's callback says
/// so before this member joins again, and with that the membership no longer owns it.
fn is_lost(error: &KafkaError) -> bool {
    error.rdkafka_error_code().map(meaning) == Some(Meaning::Lost)
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::is_lost;

    #[track_caller]
    fn check(code: RDKafkaErrorCode, lost: bool) {
        assert_eq!(is_lost(&KafkaError::ConsumerCommit(code)), lost, "{code:?}");
    }

    #[test]
    fn a_rebalance_takes_no_partition_by_itself() {
        check(RDKafkaErrorCode::IllegalGeneration, false);
        check(RDKafkaErrorCode::UnknownMemberId, false);
        check(RDKafkaErrorCode::RebalanceInProgress, false);
        check(RDKafkaErrorCode::AssignmentLost, true);
        check(RDKafkaErrorCode::FencedInstanceId, true);
    }
}
