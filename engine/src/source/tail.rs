//! Reads a piece of a topic outside of any group: nobody's position moves. Blocking: call it off the runtime's threads.

use std::collections::{BTreeMap, VecDeque};

use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Message};

use super::lookup::Lookup;
use super::{Error, TopicPartition, native};
use crate::config::Settings;
use crate::recording::RecordedEvent;

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

/// Reads a piece of a topic, in the order of time, then of partitions and offsets. At most `max_records`: the newest, or from an offset on the
/// oldest.
///
/// # Errors
/// Kafka is away, or the topic, the partition or the offset is not there.
pub fn read(settings: &Settings, topic: &str, piece: Piece, max_records: usize) -> Result<Vec<RecordedEvent>, Error> {
    let lookup = Lookup::new(settings)?;
    let Some(partitions) = lookup.cluster().partitions(topic)? else {
        return Err(Error::Setup {
            message: format!(
                "there is no topic {topic}: it appears with the first change of its table; kafka-topics.sh --list shows what is there"
            ),
        });
    };
    let mut spans = BTreeMap::new();
    for partition in 0..partitions {
        let (low, high) = lookup.bounds(&TopicPartition::new(topic, partition))?;
        spans.insert(partition, Span { low, high });
    }
    let collect =
        |starts: &BTreeMap<i32, i64>, keep| of_each(topic, &spans, starts, |source, from, high| newest(&lookup, source, from, high, keep));
    let mut found = match piece {
        Piece::Last(count) => last(&spans, count.min(max_records), collect)?,
        Piece::From { offset, partition } => {
            let starts = starts(topic, &spans, offset, partition)?;
            of_each(topic, &spans, &starts, |source, from, high| oldest(&lookup, source, from, high, max_records))?
        }
    };
    found.sort_by_key(|event| (event.timestamp_ms, event.partition, event.offset));
    match piece {
        Piece::Last(count) => Ok(found.split_off(found.len().saturating_sub(count.min(max_records)))),
        Piece::From { .. } => {
            found.truncate(max_records);
            Ok(found)
        }
    }
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
fn last(
    spans: &BTreeMap<i32, Span>,
    count: usize,
    collect: impl Fn(&BTreeMap<i32, i64>, usize) -> Result<Vec<RecordedEvent>, Error>,
) -> Result<Vec<RecordedEvent>, Error> {
    let mut back = count as i64;
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        let start = |span: &Span| span.low.max(span.high.saturating_sub(back));
        let starts: BTreeMap<i32, i64> =
            spans.iter().filter(|(_, span)| span.low < span.high).map(|(number, span)| (*number, start(span))).collect();
        found = collect(&starts, count)?;
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

/// What `read` takes of each partition from its start to its end.
fn of_each(
    topic: &str,
    spans: &BTreeMap<i32, Span>,
    starts: &BTreeMap<i32, i64>,
    read: impl Fn(&TopicPartition, i64, i64) -> Result<Vec<RecordedEvent>, Error>,
) -> Result<Vec<RecordedEvent>, Error> {
    let mut found = Vec::new();
    for (partition, from) in starts {
        let Some(span) = spans.get(partition) else { continue };
        found.extend(read(&TopicPartition::new(topic, *partition), *from, span.high)?);
    }
    Ok(found)
}

/// The last `keep` records before an offset.
fn newest(lookup: &Lookup, source: &TopicPartition, from: i64, high: i64, keep: usize) -> Result<Vec<RecordedEvent>, Error> {
    let mut records = VecDeque::new();
    lookup.read(source, from, high, |message| {
        records.push_back(recorded(message));
        if records.len() > keep {
            records.pop_front();
        }
        Ok(())
    })?;
    Ok(records.into())
}

/// The first `keep` records from an offset on.
fn oldest(lookup: &Lookup, source: &TopicPartition, mut from: i64, high: i64, keep: usize) -> Result<Vec<RecordedEvent>, Error> {
    let mut records = Vec::new();
    // Offsets without records make a stretch shorter than it is long.
    while records.len() < keep && from < high {
        let end = high.min(from.saturating_add((keep - records.len()) as i64));
        let mut next = end;
        lookup.read(source, from, end, |message| {
            records.push(recorded(message));
            next = next.max(message.offset() + 1);
            Ok(())
        })?;
        from = next;
    }
    records.truncate(keep);
    Ok(records)
}

fn recorded(message: &BorrowedMessage<'_>) -> RecordedEvent {
    let (timestamp_ms, timestamp_type) = match message.timestamp() {
        Timestamp::NotAvailable => (None, None),
        Timestamp::CreateTime(ms) => (Some(ms), Some("CreateTime".to_owned())),
        Timestamp::LogAppendTime(ms) => (Some(ms), Some("LogAppendTime".to_owned())),
    };
    let headers = message
        .headers()
        .map(|headers| native::headers(headers).map(|(name, value)| (name.into_owned(), value.map(<[u8]>::to_vec))).collect());
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
