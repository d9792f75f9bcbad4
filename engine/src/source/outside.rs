//! The consumer group seen from outside: who is in it, what it has committed, and offsets set for it while nobody is. Blocking: call it
//! off the runtime's threads.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupMemberInfo;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, REQUEST_TIMEOUT};
use super::{CommittedPartition, Error, TopicPartition};
use crate::config::Settings;

/// Asks about a group without being in it.
pub struct Outside {
    consumer: BaseConsumer,
    group: String,
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Client id and host, as the broker has them.
    pub name: String,
    /// The topics that it reads; `None` where the broker does not tell.
    topics: Option<Vec<String>>,
}

impl GroupMember {
    /// Whether it reads the topic. Where nobody tells it counts as a reader.
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.iter().any(|read| read == topic))
    }
}

impl Outside {
    /// Connects lazily: an error here is one of the configuration.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let consumer = client::outside(settings)
            .create()
            .map_err(|error| Error::Setup { message: format!("{error}; check [kafka] in the configuration") })?;
        Ok(Self { consumer, group: settings.kafka.group.clone() })
    }

    /// Everyone in the group. A worker that was killed counts until its session ends.
    pub fn members(&self) -> Result<Vec<GroupMember>, Error> {
        let list = self.consumer.fetch_group_list(Some(self.group.as_str()), REQUEST_TIMEOUT).map_err(|error| away(&error))?;
        let members = list.groups().iter().flat_map(|group| group.members());
        Ok(members.map(|member| GroupMember { name: name(member), topics: member.metadata().and_then(subscribed) }).collect())
    }

    /// What the group has committed of a topic, and what the log holds.
    pub fn partitions(&self, topic: &str, partitions: i32) -> Result<Vec<CommittedPartition>, Error> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let answered = self.consumer.committed_offsets(asked, REQUEST_TIMEOUT).map_err(|error| away(&error))?;
        let of_one = |partition| -> Result<CommittedPartition, Error> {
            let (low, high) = self.consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT).map_err(|error| away(&error))?;
            let committed = match answered.find_partition(topic, partition).map(|elem| elem.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            };
            Ok(CommittedPartition { source: TopicPartition::new(topic, partition), committed, low, high })
        };
        (0..partitions).map(of_one).collect()
    }

    /// Sets the group's offsets of a topic. `false`: the group is not empty, and its offsets are its members' alone.
    pub fn commit(&self, topic: &str, offsets: &[i64]) -> Result<bool, Error> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in (0..).zip(offsets) {
            list.add_partition_offset(topic, partition, Offset::Offset(*offset)).map_err(|error| away(&error))?;
        }
        match self.consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => Ok(true),
            Err(error) if is_not_empty(&error) => Ok(false),
            Err(error) => Err(away(&error)),
        }
    }
}

fn is_not_empty(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress)
    )
}

fn name(member: &GroupMemberInfo) -> String {
    format!("{} at {}", member.client_id(), member.client_host().trim_start_matches('/'))
}

/// The topics of a subscription, as the consumer protocol has it: version, then an array of texts.
fn subscribed(metadata: &[u8]) -> Option<Vec<String>> {
    let rest = metadata.get(2..)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (len, behind) = rest.split_first_chunk::<2>()?;
        let (topic, behind) = behind.split_at_checked(usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
        topics.push(std::str::from_utf8(topic).ok()?.to_owned());
        rest = behind;
    }
    Some(topics)
}

fn away(error: &KafkaError) -> Error {
    let remedy = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "permit READ and DESCRIBE on the consumer group",
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "permit READ and DESCRIBE on the topic",
        _ => return Error::Away { message: error.to_string() },
    };
    Error::Setup { message: format!("{error}; {remedy}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_tells_its_topics() {
        let metadata = b"\0\x01\0\0\0\x02\0\x06orders\0\x01t\0\0\0\0";
        assert_eq!(subscribed(metadata), Some(vec!["orders".to_owned(), "t".to_owned()]));
        assert_eq!(subscribed(b"\0\x01\0\0\0\0"), Some(Vec::new()));
        for broken in [&b""[..], b"\0\x01\0\0\0\x01", b"\0\x01\0\0\0\x01\xff\xff", b"\0\x01\0\0\0\x01\0\x09t"] {
            assert_eq!(subscribed(broken), None);
        }
        let member = |topics| GroupMember { name: "streamsync at 127.0.0.1".to_owned(), topics };
        assert!(member(None).reads("orders") && member(Some(vec!["orders".to_owned()])).reads("orders"));
        assert!(!member(Some(vec!["orders.old".to_owned()])).reads("orders"));
    }
}
