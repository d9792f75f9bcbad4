//! The consumer group's offsets.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Commits, Error};
use crate::source::TopicPartition;
use crate::source::client::REQUEST_TIMEOUT;
use crate::source::fault::{Meaning, meaning};
use crate::source::group::Membership;

/// How long a lane waits for one commit. The attempt itself may live a little longer, on a blocking thread.
const COMMIT_TIMEOUT: Duration = REQUEST_TIMEOUT;

/// Commits through the worker's membership; never a partition that is not assigned to it. One at a time: librdkafka begins to read a partition, and
/// ends a rebalance, only while none is under way.
pub struct KafkaCommits {
    membership: Arc<Membership>,
    turn: Arc<Mutex<()>>,
}

impl KafkaCommits {
    pub(crate) fn new(membership: Arc<Membership>) -> Self {
        Self { membership, turn: Arc::default() }
    }

    async fn attempt(&self, source: &TopicPartition, next_offset: i64) -> Result<(), Error> {
        let away = |message: String| Error::Away { source_partition: source.clone(), message };
        let Ok(turn) = timeout(COMMIT_TIMEOUT, Arc::clone(&self.turn).lock_owned()).await else {
            return Err(away("the coordinator has not answered the attempts before this one".to_owned()));
        };
        if !self.membership.owns(source) {
            return Err(Error::Lost { source_partition: source.clone() });
        }
        let (membership, partition) = (Arc::clone(&self.membership), source.clone());
        let commit = tokio::task::spawn_blocking(move || {
            let result = commit_now(&membership, &partition, next_offset);
            // Not before: a coordinator that is away must not gather threads.
            drop(turn);
            result
        });
        match timeout(COMMIT_TIMEOUT, commit).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(away(format!("the commit's thread ended: {error}"))),
            Err(_) => Err(away(format!("no answer within {COMMIT_TIMEOUT:?}"))),
        }
    }
}

impl Commits for KafkaCommits {
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.attempt(source, next_offset))
    }
}

fn commit_now(membership: &Membership, source: &TopicPartition, next_offset: i64) -> Result<(), Error> {
    let lost = || Error::Lost { source_partition: source.clone() };
    let away = |message: String| Error::Away { source_partition: source.clone(), message };
    let consumer = membership.consumer().ok_or_else(lost)?;
    let mut offsets = TopicPartitionList::with_capacity(1);
    offsets.add_partition_offset(&source.topic, source.partition, Offset::Offset(next_offset)).map_err(|e| away(e.to_string()))?;
    consumer.commit(&offsets, CommitMode::Sync).map_err(|error| if is_lost(&error) { lost() } else { away(error.to_string()) })
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
