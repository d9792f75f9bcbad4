//! What librdkafka's codes mean, for whoever meets them: the one table for reading, committing, producing and administration. Pure.
//!
//! docs/faults.md says what follows. A code that is not named here is tried again and told in the log: never a reason to pass over a record.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What a code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The moment's fault: a broker, a leader or the coordinator is away, or on its way.
    Away,
    /// The position is not in the log.
    OffsetLost,
    /// The partition, or the membership, is no longer this worker's.
    Lost,
    /// What is sent is larger than the topic takes.
    TooLarge,
    /// An operator must act first: the remedy.
    Setup(&'static str),
}

const CREDENTIALS: &str = "check the user, the password and sasl.mechanism in [kafka.properties]";
const TOKEN: &str = "renew the delegation token in [kafka.properties]";
const OLD_BROKER: &str = "the broker is too old, or was told to use an older protocol: see the client's requirements";
const BROKEN: &str = "a batch of records is broken, or unpacks to more than receive.message.max.bytes or than there is memory; nothing was skipped: let \
                      another replica lead the partition, or raise the limit in [kafka.properties], and restart the worker";

/// The same for a client that was logged in before: librdkafka says `Authentication` of every connection that ends within its log-in, also where
/// a broker that restarts has ended it.
pub(crate) fn meaning_later(code: Code) -> Meaning {
    if code == Code::Authentication { Meaning::Away } else { meaning(code) }
}

/// What a code means.
#[expect(clippy::wildcard_enum_match_arm, reason = "the client's list is open, and what it does not know of is tried again")]
pub(crate) fn meaning(code: Code) -> Meaning {
    match code {
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::NoOffset | Code::LogTruncation => Meaning::OffsetLost,
        // An illegal generation or an unknown member says less: every commit that meets a rebalance gets it, also of a partition that stays.
        Code::FencedInstanceId
        | Code::UnreleasedInstanceId
        | Code::FencedMemberEpoch
        | Code::AssignmentLost
        | Code::BrokerDestroy
        | Code::Fenced
        | Code::Fatal => Meaning::Lost,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => Meaning::TooLarge,
        // librdkafka goes on behind what it could not check or unpack: the lane must not.
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::CriticalSystemResource => Meaning::Setup(BROKEN),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::UnacceptableCredential
        | Code::InvalidPrincipalType
        | Code::PrincipalDeserializationFailure => Meaning::Setup(CREDENTIALS),
        Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired => Meaning::Setup(TOKEN),
        Code::TopicAuthorizationFailed => {
            Meaning::Setup("permit READ and DESCRIBE on the routes' topics, and READ, WRITE and DESCRIBE on the engine's own")
        }
        Code::GroupAuthorizationFailed => Meaning::Setup("permit READ on the consumer group"),
        Code::ClusterAuthorizationFailed => {
            Meaning::Setup("permit the worker's user on the cluster, IDEMPOTENT_WRITE too where the broker is older than 2.8")
        }
        Code::TransactionalIdAuthorizationFailed | Code::SecurityDisabled => Meaning::Setup("check the broker's authorizer"),
        Code::InconsistentGroupProtocol | Code::UnsupportedAssignor => {
            Meaning::Setup("other members of the group use another assignment strategy: stop them, or give this worker a group of its own")
        }
        Code::InvalidGroupId => Meaning::Setup("choose another group"),
        Code::InvalidSessionTimeout => {
            Meaning::Setup("set session.timeout.ms between the broker's group.min and group.max.session.timeout.ms")
        }
        Code::GroupMaxSizeReached => Meaning::Setup("raise the broker's group.max.size, or stop a worker"),
        Code::InvalidTopic => Meaning::Setup("the broker takes no topic of this name"),
        Code::InvalidPartitions | Code::InvalidReplicationFactor | Code::InvalidReplicaAssignment | Code::InvalidConfig => {
            Meaning::Setup("the broker refuses the topic as it is to be made: set kafka.replication_factor, or create it by hand")
        }
        Code::PolicyViolation | Code::InvalidRecord => {
            Meaning::Setup("the broker's policy refuses the record: the topic must not be compacted, and must accept null keys")
        }
        Code::InvalidRequiredAcks | Code::InvalidRequest => Meaning::Setup("the broker refuses the request: report this with its version"),
        Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedFeature
        | Code::UnsupportedCompressionType
        | Code::NotImplemented
        | Code::UnknownProtocol => Meaning::Setup(OLD_BROKER),
        Code::InvalidArgument | Code::NotConfigured => Meaning::Setup("check [kafka.properties]"),
        // InvalidTimestamp among them: a clock, or a topic's limit on times, may be mended while the worker waits.
        _ => Meaning::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_that_has_succeeded_before_may_be_cut_off() {
        assert_eq!((meaning(Code::Authentication), meaning_later(Code::Authentication)), (Meaning::Setup(CREDENTIALS), Meaning::Away));
        for code in [Code::SaslAuthenticationFailed, Code::TopicAuthorizationFailed, Code::OffsetOutOfRange, Code::BrokerTransportFailure] {
            assert_eq!(meaning_later(code), meaning(code));
        }
    }

    /// Every code that the client can return, by what it means; a code of a newer client is missing here until someone has looked at it.
    #[test]
    fn every_code_has_its_meaning() {
        let table = include_str!("../../tests/faults/kafka.txt");
        let mut expected = std::collections::BTreeMap::new();
        for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (meaning, codes) = line.split_once(": ").unwrap_or_default();
            codes.split(' ').for_each(|code| assert!(expected.insert(code, meaning).is_none(), "{code} is there twice"));
        }
        let mut codes = 0;
        for number in (-200..=200).chain([i32::MAX]) {
            let Ok(native) = rdkafka::types::RDKafkaRespErr::try_from(number) else { continue };
            let code = Code::from(native);
            let name = format!("{code:?}");
            if ["Begin", "End", "EndAll", "NoError"].contains(&name.as_str()) {
                continue;
            }
            let found = match meaning(code) {
                Meaning::Away => "away",
                Meaning::OffsetLost => "offset-lost",
                Meaning::Lost => "lost",
                Meaning::TooLarge => "too-large",
                Meaning::Setup(remedy) => {
                    assert!(remedy.len() > 10, "{name}: {remedy}");
                    "setup"
                }
            };
            assert_eq!(expected.remove(name.as_str()), Some(found), "{name}");
            codes += 1;
        }
        assert!(codes > 150, "{codes}");
        assert!(expected.is_empty(), "not codes of the client: {expected:?}");
    }
}
