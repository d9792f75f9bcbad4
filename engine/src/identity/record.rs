//! What the control topic keeps of a source topic: its identity, where a generation that an operator began begins, the rebuild that goes
//! with it, and what each partition's log has held. One record each; every record has one writer.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::history::{FirstSeen, Seen};
use crate::sink::TopicIdentity;

/// Where the generation begins that an operator's command began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// Its number.
    pub generation: u16,
    /// The first offset of each partition. The operator vouches that the log holds every row from there on.
    pub offsets: Vec<i64>,
    /// When the command was given, milliseconds since the Unix epoch.
    pub begun_at_ms: i64,
    /// The topic's partitions have grown in its life: before these offsets its log may have versions of one key in two of them.
    #[serde(default)]
    pub log_is_split: bool,
}

/// A refill of the stores that ends with the removal of what it did not touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// The generation that refills the stores.
    pub generation: u16,
    /// The offset of each partition up to which the refill goes. `None`: until a snapshot is complete, nobody knows.
    pub ends: Option<Vec<i64>>,
    /// When everything else was removed from all sinks of the route, milliseconds since the Unix epoch.
    pub swept_at_ms: Option<i64>,
}

/// One record of the control topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What the topic is.
    Identity(TopicIdentity),
    /// Where its generation begins.
    Beginning(Beginning),
    /// The rebuild of its generation.
    Rebuild(Rebuild),
    /// Something that a partition's log has held for the first time.
    Seen(i32, Seen, FirstSeen),
}

/// All that the control topic has of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRecord {
    /// What the topic is.
    pub identity: Option<TopicIdentity>,
    /// Where each generation begins that a command began. A command that was interrupted leaves one of a generation that never comes.
    pub beginnings: BTreeMap<u16, Beginning>,
    /// The rebuild of each generation that has one.
    pub rebuilds: BTreeMap<u16, Rebuild>,
    /// What each partition's log has held.
    pub seen: HashMap<i32, BTreeMap<Seen, FirstSeen>>,
}

impl Entry {
    /// Its key in the control topic: a kind, the topic, and what else tells it from others. Topic names hold no `/`. What is of one generation
    /// leaves that of another alone: until the identity follows, it is the other one that counts.
    pub fn key(&self, topic: &str) -> String {
        match self {
            Self::Identity(_) => format!("identity/{topic}"),
            Self::Beginning(beginning) => format!("beginning/{topic}/{}", beginning.generation),
            Self::Rebuild(rebuild) => format!("rebuild/{topic}/{}", rebuild.generation),
            Self::Seen(partition, seen, _) => format!("seen/{topic}/{partition}/{}", seen.key()),
        }
    }

    /// Its value, JSON.
    pub fn value(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Identity(identity) => serde_json::to_string(identity),
            Self::Beginning(beginning) => serde_json::to_string(beginning),
            Self::Rebuild(rebuild) => serde_json::to_string(rebuild),
            Self::Seen(.., first) => serde_json::to_string(first),
        }
    }

    /// Reads a record: the topic and the entry. `None`: a record of another kind, of a later version perhaps.
    pub fn read(key: &str, value: &[u8]) -> Option<Result<(String, Self), serde_json::Error>> {
        let mut parts = key.split('/');
        let (kind, topic) = (parts.next()?, parts.next()?.to_owned());
        let rest: Vec<&str> = parts.collect();
        let entry = match (kind, rest.as_slice()) {
            ("identity", []) => serde_json::from_slice(value).map(Self::Identity),
            // Without the generation: by an earlier version.
            ("beginning", [] | [_]) => serde_json::from_slice(value).map(Self::Beginning),
            ("rebuild", [] | [_]) => serde_json::from_slice(value).map(Self::Rebuild),
            ("seen", [partition, seen]) => {
                let partition = partition.parse().ok()?;
                let seen = Seen::ALL.into_iter().find(|known| known.key() == *seen)?;
                serde_json::from_slice(value).map(|first| Self::Seen(partition, seen, first))
            }
            _ => return None,
        };
        Some(entry.map(|entry| (topic, entry)))
    }
}

impl TopicRecord {
    /// Takes in a record that was written after those before.
    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Identity(identity) => self.identity = Some(identity),
            Entry::Beginning(beginning) => {
                self.beginnings.insert(beginning.generation, beginning);
            }
            Entry::Rebuild(rebuild) => {
                self.rebuilds.insert(rebuild.generation, rebuild);
            }
            Entry::Seen(partition, seen, first) => {
                self.seen.entry(partition).or_default().insert(seen, first);
            }
        }
    }

    /// Where a generation begins in a partition, if a command began it.
    pub fn begins_at(&self, generation: u16, partition: i32) -> Option<i64> {
        let beginning = self.beginnings.get(&generation)?;
        beginning.offsets.get(usize::try_from(partition).ok()?).copied()
    }

    /// The rebuild that goes with the topic's generation.
    pub fn rebuild(&self) -> Option<&Rebuild> {
        self.rebuilds.get(&self.identity.as_ref()?.generation)
    }

    /// The same, where it is not done.
    pub fn open_rebuild(&self) -> Option<&Rebuild> {
        self.rebuild().filter(|rebuild| rebuild.swept_at_ms.is_none())
    }

    /// The same, where it is done.
    pub fn done_rebuild(&self) -> Option<&Rebuild> {
        self.rebuild().filter(|rebuild| rebuild.swept_at_ms.is_some())
    }

    /// Why the stores may hold rows that MySQL no longer has; `None` where nothing says so.
    pub fn unproven(&self) -> Option<String> {
        if let Some(rebuild) = self.open_rebuild() {
            let waits = if rebuild.ends.is_some() { "the sweep that ends it" } else { "the end of the snapshot" };
            return Some(format!("a rebuild is under way and waits for {waits}"));
        }
        let is_swept = |generation: u16| self.rebuilds.range(generation..).any(|(_, rebuild)| rebuild.swept_at_ms.is_some());
        // A command that was interrupted before it stored the identity has begun nothing.
        let current = self.identity.as_ref().map_or(0, |identity| identity.generation);
        let begun = self.beginnings.range(..=current).next_back().map(|(_, begun)| begun);
        if let Some(begun) = begun.filter(|begun| begun.generation > 1 && !is_swept(begun.generation)) {
            return Some(format!("generation {} was begun, and what the ones before have left was not removed", begun.generation));
        }
        let seconds = self.seen.iter().filter_map(|(partition, seen)| Some((*partition, *seen.get(&Seen::SecondSnapshot)?)));
        // A second snapshot within the refill itself is none the better: what was deleted between the two was refilled by the first.
        let open = seconds.filter(|(_, second)| !is_swept(second.generation + 1)).min_by_key(|(partition, _)| *partition);
        open.map(|(partition, second)| {
            format!(
                "partition {partition} holds a second snapshot from offset {} on, which says nothing of rows that were deleted since the first",
                second.offset
            )
        })
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn identity(generation: u16) -> Entry {
        Entry::Identity(TopicIdentity { cluster_id: "c".into(), topic_id: "t".into(), partitions: 2, generation })
    }

    fn all() -> Vec<Entry> {
        vec![
            identity(2),
            Entry::Beginning(Beginning { generation: 2, offsets: vec![0, 7], begun_at_ms: 5, log_is_split: false }),
            Entry::Rebuild(Rebuild { generation: 2, ends: Some(vec![10, 20]), swept_at_ms: None }),
            Entry::Seen(1, Seen::SecondSnapshot, FirstSeen { generation: 2, offset: 19 }),
        ]
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for entry in all() {
            let (key, value) = (entry.key("shop.orders"), entry.value().expect("JSON"));
            let read = Entry::read(&key, value.as_bytes()).expect("known").expect("JSON");
            assert_eq!(read, ("shop.orders".to_owned(), entry));
        }
        assert!(Entry::read("later/shop.orders", b"{}").is_none());
        assert!(Entry::read("seen/shop.orders/x/change", b"{}").is_none());
        assert!(Entry::read("identity/shop.orders", b"{").expect("known").is_err());
        let by_an_earlier_version = br#"{"cluster_id":"c","topic_id":"t","partitions":2,"generation":2}"#;
        assert_eq!(Entry::read("identity/t", by_an_earlier_version).expect("known").expect("JSON"), ("t".to_owned(), identity(2)));
    }

    fn check(entries: Vec<Entry>, expected: Option<&str>) {
        let mut record = TopicRecord::default();
        entries.into_iter().for_each(|entry| record.take(entry));
        match (record.unproven(), expected) {
            (None, None) => {}
            (Some(why), Some(expected)) if why.contains(expected) => {}
            (found, expected) => panic!("{found:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn unproven_until_a_sweep_covers_it() {
        let second = |generation, offset| Entry::Seen(1, Seen::SecondSnapshot, FirstSeen { generation, offset });
        let swept = |generation, end| Entry::Rebuild(Rebuild { generation, ends: Some(vec![0, end]), swept_at_ms: Some(9) });
        let begun = |generation| Entry::Beginning(Beginning { generation, offsets: vec![0, 0], begun_at_ms: 5, log_is_split: false });
        check(vec![identity(1)], None);
        check(vec![identity(1), second(1, 5)], Some("partition 1 holds a second snapshot from offset 5"));
        check(vec![identity(2), begun(2)], Some("generation 2 was begun"));
        check(all(), Some("the sweep"));
        check(
            vec![identity(2), begun(2), Entry::Rebuild(Rebuild { generation: 2, ends: None, swept_at_ms: None })],
            Some("the end of the snapshot"),
        );
        check(vec![identity(2), begun(2), second(1, 5), swept(2, 20)], None);
        check(vec![identity(2), begun(2), second(2, 19), swept(2, 20)], Some("from offset 19"));
        check(vec![identity(3), begun(3), swept(2, 20)], Some("generation 3"));
        check(vec![identity(1), begun(1)], None);
        check(vec![identity(1), begun(2)], None);
    }

    #[test]
    fn a_command_that_was_interrupted_changes_nothing() {
        let mut record = TopicRecord::default();
        all().into_iter().for_each(|entry| record.take(entry));
        record.take(Entry::Beginning(Beginning { generation: 3, offsets: vec![1, 1], begun_at_ms: 6, log_is_split: false }));
        record.take(Entry::Rebuild(Rebuild { generation: 3, ends: None, swept_at_ms: None }));
        assert_eq!((record.begins_at(2, 1), record.open_rebuild().map(|rebuild| rebuild.generation)), (Some(7), Some(2)));
        // Nor does whoever sweeps late for a generation that is over.
        record.take(identity(3));
        record.take(Entry::Rebuild(Rebuild { generation: 2, ends: Some(vec![10, 20]), swept_at_ms: Some(9) }));
        assert_eq!(record.open_rebuild().map(|rebuild| rebuild.generation), Some(3));
    }

    #[test]
    fn a_generation_begins_where_its_command_says() {
        let mut record = TopicRecord::default();
        all().into_iter().for_each(|entry| record.take(entry));
        assert_eq!([(2, 1), (2, 0), (2, 2), (1, 1), (2, -1)].map(|(g, p)| record.begins_at(g, p)), [Some(7), Some(0), None, None, None]);
    }
}
