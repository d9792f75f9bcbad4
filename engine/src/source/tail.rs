//! Reads a piece of a topic outside of any group: nobody's position moves. Blocking: call it off the runtime's threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use super::client::{self, REQUEST_TIMEOUT};
use super::cluster::Cluster;
use super::{Error, native};
use crate::config::Settings;
use crate::recording::RecordedEvent;

/// A broker that says nothing for so long is taken to be away.
const SILENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Offsets without records (transactions, compaction) make the first guess of where the last records begin too short. Each further look goes back four
/// times as far.
const LOOKS: u32 = 12;

/// Which piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The last records of the topic, by time.
    Last(usize),
    /// All from this offset of each partition to its end, or those of one partition.
    From {
        /// The first offset.
        offset: i64,
        /// Of this partition alone.
        partition: Option<i32>,
    },
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: i64,
    high: i64,
}

/// Reads a piece of a topic, in the order of time, then of partitions and offsets. At most `max_records`, the newest.
///
/// # Errors
/// Kafka is away, or the topic, the partition or the offset is not there.
pub fn read(settings: &Settings, topic: &str, piece: Piece, max_records: usize) -> Result<Vec<RecordedEvent>, Error> {
    let setup = |message: String| Error::Setup { message };
    let Some(partitions) = Cluster::new(settings)?.partitions(topic)? else {
        return Err(setup(format!(
            "there is no topic {topic}: it appears with the first change of its table; kafka-topics.sh --list shows what is there"
        )));
    };
    let mut config = client::scanner(settings);
    config.set("enable.partition.eof", "true");
    let consumer = BaseConsumer::from_config(&config).map_err(|error| setup(format!("{error}; check [kafka] in the configuration")))?;
    let mut spans = BTreeMap::new();
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT).map_err(|error| fault(topic, &error))?;
        spans.insert(partition, Span { low, high });
    }
    let mut found = match piece {
        Piece::Last(count) => last(&consumer, topic, &spans, count.min(max_records))?,
        Piece::From { offset, partition } => {
            let starts = starts(topic, &spans, offset, partition)?;
            collect(&consumer, topic, &starts, max_records)?
        }
    };
    found.sort_by_key(|event| (event.timestamp_ms, event.partition, event.offset));
    let keep = match piece {
        Piece::Last(count) => count.min(max_records),
        Piece::From { .. } => max_records,
    };
    Ok(found.split_off(found.len().saturating_sub(keep)))
}

fn starts(topic: &str, spans: &BTreeMap<i32, Span>, offset: i64, partition: Option<i32>) -> Result<BTreeMap<i32, i64>, Error> {
    let refuse = |message: String| Err(Error::Setup { message });
    if let Some(wanted) = partition {
        let Some(span) = spans.get(&wanted) else {
            return refuse(format!("{topic} has no partition {wanted}: it has {}, counted from 0", spans.len()));
        };
        if offset < span.low || offset > span.high {
            return refuse(format!("{topic}/{wanted} has the offsets {} to {}, not {offset}", span.low, span.high));
        }
    }
    let wanted = spans.iter().filter(|(number, _)| partition.is_none_or(|partition| partition == **number));
    Ok(wanted
        .map(|(number, span)| (*number, offset.max(span.low)))
        .filter(|(number, start)| spans.get(number).is_some_and(|s| *start < s.high))
        .collect())
}

/// The last `count` records of each partition; the caller keeps the last of all.
fn last(consumer: &BaseConsumer, topic: &str, spans: &BTreeMap<i32, Span>, count: usize) -> Result<Vec<RecordedEvent>, Error> {
    let mut back = count as i64;
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        let start = |span: &Span| span.low.max(span.high.saturating_sub(back));
        let starts: BTreeMap<i32, i64> =
            spans.iter().filter(|(_, span)| span.low < span.high).map(|(number, span)| (*number, start(span))).collect();
        found = collect(consumer, topic, &starts, count)?;
        let short = |(number, from): (&i32, &i64)| {
            let records = found.iter().filter(|event| event.partition == *number).count();
            records < count && spans.get(number).is_some_and(|span| *from > span.low)
        };
        if !starts.iter().any(short) {
            break;
        }
        back = back.saturating_mul(4);
    }
    Ok(found)
}

/// The records from the starts to the partitions' ends: of each partition the last `keep`.
fn collect(consumer: &BaseConsumer, topic: &str, starts: &BTreeMap<i32, i64>, keep: usize) -> Result<Vec<RecordedEvent>, Error> {
    let mut assignment = TopicPartitionList::with_capacity(starts.len());
    for (partition, offset) in starts {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(|error| fault(topic, &error))?;
    }
    consumer.assign(&assignment).map_err(|error| fault(topic, &error))?;
    let mut open: BTreeSet<i32> = starts.keys().copied().collect();
    let mut found: BTreeMap<i32, VecDeque<RecordedEvent>> = BTreeMap::new();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if open.contains(&message.partition()) {
                    let records = found.entry(message.partition()).or_default();
                    records.push_back(recorded(&message));
                    if records.len() > keep {
                        records.pop_front();
                    }
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                open.remove(&partition);
            }
            Some(Err(error)) if is_fatal(&error) => return Err(fault(topic, &error)),
            Some(Err(error)) => tracing::debug!(topic, %error, "Kafka"),
            None => {}
        }
        if heard.elapsed() > SILENCE {
            return Err(Error::Away {
                message: format!("nothing came of {topic} for {SILENCE:?}; check kafka.brokers and what the brokers advertise"),
            });
        }
    }
    Ok(found.into_values().flatten().collect())
}

fn recorded(message: &BorrowedMessage<'_>) -> RecordedEvent {
    let (timestamp_ms, timestamp_type) = match message.timestamp() {
        Timestamp::NotAvailable => (None, None),
        Timestamp::CreateTime(ms) => (Some(ms), Some("CreateTime".to_owned())),
        Timestamp::LogAppendTime(ms) => (Some(ms), Some("LogAppendTime".to_owned())),
    };
    let headers = message.headers().map(|headers| {
        let all = (0..headers.count()).filter_map(|index| native::header(headers, index));
        all.map(|(name, value)| (name.into_owned(), value.map(<[u8]>::to_vec))).collect()
    });
    RecordedEvent {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms,
        timestamp_type,
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
        )
    )
}

fn fault(topic: &str, error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Error::Setup { message: format!("{error}; permit READ and DESCRIBE on {topic}") }
        }
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            Error::Setup { message: format!("{error}; check the user and the password in [kafka.properties]") }
        }
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            Error::Setup { message: format!("{topic}: {error}; records were removed while they were read: try again") }
        }
        _ if is_fatal(error) => Error::Setup { message: format!("{topic}: {error}") },
        _ => Error::Away { message: format!("{topic}: {error}") },
    }
}
