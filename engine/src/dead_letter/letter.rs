//! A letter as the topic has it, and the note that says that it was redriven. Pure.
//!
//! The topic is a log of both: a letter is never changed, and a note, a record without key and value, names the letter that it closes.

use std::fmt;
use std::str::FromStr;

use super::OMITTED_HEADER;
use crate::fence::Fence;
use crate::source::{RecordBatch, TopicPartition};

/// What all headers of ours begin with. A record's own of such a name (it may be a letter that somebody sent on) is not kept in its letter.
pub(super) const PREFIX: &str = "streamsync.";

/// The header of a note: the letter that it closes.
pub(super) const CLOSES_HEADER: &str = "streamsync.closes";

/// The header of a note: what became of the redriven record.
pub(super) const OUTCOME_HEADER: &str = "streamsync.outcome";

/// Where a letter lies in the dead-letter topic, written `partition/offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// Of the dead-letter topic.
    pub partition: i32,
    /// In the partition.
    pub offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        let parsed = parsed.filter(|(partition, offset): &(i32, i64)| *partition >= 0 && *offset >= 0);
        let (partition, offset) = parsed.ok_or_else(|| format!("{text:?} is no letter; write partition/offset, as `dlq list` shows it"))?;
        Ok(Self { partition, offset })
    }
}

/// A letter without the record's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// Where it lies.
    pub id: LetterId,
    /// When it was written, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Name of the route.
    pub route: String,
    /// `decode`, `route`, `transform`, `plan` or a sink's name.
    pub stage: String,
    /// A short constant code.
    pub code: String,
    /// For the operator.
    pub message: String,
    /// SHA-256 of the module that the route had.
    pub module: String,
    /// Where the record is from.
    pub source: TopicPartition,
    /// The record's offset.
    pub offset: i64,
    /// The record's own time, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// The version that the record's writes would have had; `None` where the letter tells none.
    pub fence: Option<Fence>,
    /// Bytes of the record that the letter does not hold; it is a reference then.
    pub omitted_bytes: Option<u64>,
    /// The record's key, unless the letter is a reference.
    pub key: Option<Vec<u8>>,
    /// What became of it, where it was redriven.
    pub closed: Option<Closed>,
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// `applied`, `stale`, `filtered` or `earlier-generation`.
    pub outcome: String,
}

/// A record of the dead-letter topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Letter(Box<StoredLetter>),
    Note(LetterId, Closed),
}

/// Reads the first record of a batch. `None`: another program wrote it.
pub(super) fn entry(records: &RecordBatch) -> Option<Entry> {
    let id = LetterId { partition: records.source.partition, offset: records.records.first()?.offset };
    let at_ms = number(records, "streamsync.at").or(records.records.first()?.timestamp_ms).unwrap_or_default();
    let has_bytes = records.key(0).is_some() || records.value(0).is_some();
    if let Some(closes) = text(records, CLOSES_HEADER).filter(|_| !has_bytes) {
        let outcome = text(records, OUTCOME_HEADER).unwrap_or_default();
        return Some(Entry::Note(closes.parse().ok()?, Closed { at_ms, outcome }));
    }
    let omitted_bytes = number(records, OMITTED_HEADER);
    let or_empty = |name| text(records, name).unwrap_or_default();
    Some(Entry::Letter(Box::new(StoredLetter {
        id,
        at_ms,
        route: or_empty("streamsync.route"),
        stage: or_empty("streamsync.stage"),
        code: or_empty("streamsync.code"),
        message: or_empty("streamsync.message"),
        module: or_empty("streamsync.module"),
        source: TopicPartition::new(text(records, "streamsync.topic")?, number(records, "streamsync.partition")?),
        offset: number(records, "streamsync.offset")?,
        timestamp_ms: number(records, "streamsync.timestamp"),
        fence: number(records, "streamsync.fence").and_then(Fence::from_stored),
        omitted_bytes,
        key: records.key(0).map(<[u8]>::to_vec),
        closed: None,
    })))
}

/// The record that a letter holds, as it was before: its place, its time, its own headers.
pub(super) fn original(letter: &StoredLetter, stored: &RecordBatch) -> Option<RecordBatch> {
    let mut records = RecordBatch::new(letter.source.clone());
    let own = stored.headers(0).filter(|(name, _)| !name.starts_with(PREFIX));
    records.push(letter.offset, letter.timestamp_ms, stored.key(0), stored.value(0), own)?;
    Some(records)
}

/// The last header of a name: ours stand behind the record's own.
fn text(records: &RecordBatch, name: &str) -> Option<String> {
    let value = records.headers(0).filter(|(found, _)| *found == name).last()?.1?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

fn number<N: FromStr>(records: &RecordBatch, name: &str) -> Option<N> {
    text(records, name)?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn stored(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &str)]) -> RecordBatch {
        let mut records = RecordBatch::new(TopicPartition::new("dead", 2));
        let headers = headers.iter().map(|(name, value)| (*name, Some(value.as_bytes())));
        records.push(17, Some(99), key, value, headers).unwrap();
        records
    }

    #[test]
    fn letters_and_notes() {
        let headers = [
            ("h", "x"),
            ("streamsync.offset", "a header of the record itself"),
            ("streamsync.topic", "shop.orders"),
            ("streamsync.partition", "1"),
            ("streamsync.offset", "41"),
            ("streamsync.route", "orders"),
            ("streamsync.stage", "transform"),
            ("streamsync.code", "trapped"),
            ("streamsync.message", "it trapped"),
            ("streamsync.module", "abc"),
            ("streamsync.fence", "281474976710697"),
            ("streamsync.at", "1700000000000"),
            ("streamsync.timestamp", "5"),
        ];
        let records = stored(Some(b"k"), Some(b"v"), &headers);
        let Some(Entry::Letter(letter)) = entry(&records) else { unreachable!("a letter") };
        assert_eq!(
            (letter.id.to_string(), letter.at_ms, letter.offset, letter.timestamp_ms),
            ("2/17".to_owned(), 1_700_000_000_000, 41, Some(5))
        );
        assert_eq!((&*letter.route, &*letter.stage, &*letter.code, &*letter.module), ("orders", "transform", "trapped", "abc"));
        assert_eq!((letter.source.to_string(), letter.fence.unwrap().offset()), ("shop.orders/1".to_owned(), 41));
        let original = original(&letter, &records).unwrap();
        assert_eq!((original.key(0), original.value(0)), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!((original.source.to_string(), original.records.first().unwrap().offset), ("shop.orders/1".to_owned(), 41));
        assert_eq!(original.headers(0).collect::<Vec<_>>(), [("h", Some(&b"x"[..]))]);

        let note = stored(None, None, &[(CLOSES_HEADER, "0/3"), (OUTCOME_HEADER, "applied"), ("streamsync.at", "7")]);
        let closed = Closed { at_ms: 7, outcome: "applied".to_owned() };
        assert_eq!(entry(&note), Some(Entry::Note(LetterId { partition: 0, offset: 3 }, closed)));
        assert_eq!(entry(&stored(Some(b"k"), Some(b"v"), &[("streamsync.topic", "t")])), None);
        // A record with key or value closes nothing, whatever its headers say.
        let letter =
            [("streamsync.topic", "shop.orders"), ("streamsync.partition", "1"), ("streamsync.offset", "41"), (CLOSES_HEADER, "0/3")];
        assert!(matches!(entry(&stored(Some(b"k"), None, &letter)), Some(Entry::Letter(letter)) if letter.offset == 41));
    }

    #[test]
    fn ids() {
        assert_eq!("0/17".parse(), Ok(LetterId { partition: 0, offset: 17 }));
        for bad in ["", "17", "0/", "-1/3", "0/-3", "0/3/4", "a/b"] {
            assert!(bad.parse::<LetterId>().is_err(), "{bad}");
        }
    }
}
