//! The cluster: topics with their logs, the group's offsets, the control topic, the dead letters. It remembers everything, also what it
//! no longer serves, and checks each commit against what the stores have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use streamsync::fence::{Fence, Generation};
use streamsync::identity::{Beginning, Entry, Rebuild, TopicRecord};
use streamsync::machine::Machine;
use streamsync::sink::TopicIdentity;
use streamsync::source::TopicPartition;
use streamsync::source::cluster::{CleanupPolicy, TopicFacts};
use tokio::sync::Notify;

use crate::mysql::{Key, Row};
use crate::setting::TABLES;

const CLUSTER: &str = "simulated";

/// What a record says.
#[derive(Clone, Debug)]
pub enum Said {
    /// The row as it is now.
    Row(Row),
    /// The row is gone.
    Delete,
    /// A null value: with `after_own_delete`, one that follows its own delete and says nothing new.
    Null { after_own_delete: bool },
    /// All rows are gone.
    Truncate,
    /// No JSON.
    Garbage,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    pub key_bytes: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub key: Key,
    pub said: Said,
    pub written_at_ms: i64,
    /// Of a null value that the cleaner has met: when it may take it.
    removable_at_ms: Option<i64>,
    /// Gone from the log.
    pub compacted: bool,
}

#[derive(Debug, Default)]
pub struct Partition {
    pub records: Vec<Record>,
    pub next_offset: i64,
    /// Where the generation begins.
    pub begins: i64,
    /// Records of which a commit has said that they are settled.
    checked: usize,
    /// The fence of each key's record before.
    last_fence: BTreeMap<Key, i64>,
    /// The greatest offset that the group has ever committed. As long as it has none, whoever reads on starts at the stores' watermarks, which is
    /// where the owner has begun.
    most_committed: Option<i64>,
    began: i64,
    /// The offset behind the last record that a store has ever taken.
    written: i64,
    /// A store lost data, or the group's offsets were put back: what was written comes again, and should.
    rewound: bool,
    /// Wakes the partition's readers.
    pub grown: Vec<Arc<Notify>>,
}

#[derive(Debug)]
pub struct Topic {
    pub id: u32,
    pub generation: u16,
    pub partitions: Vec<Partition>,
    /// The partitions of earlier generations, the first one's first.
    pub past: Vec<Vec<Partition>>,
}

#[derive(Debug)]
pub struct Kafka {
    clock: Machine,
    pub topics: BTreeMap<String, Topic>,
    pub committed: BTreeMap<TopicPartition, i64>,
    /// The control topic.
    pub identities: BTreeMap<String, TopicRecord>,
    /// Topic, generation, partition and offset of each dead letter.
    pub letters: BTreeSet<(String, u16, i32, i64)>,
    /// Whether the topics are compacted. Those with truncates can't be: such a record has no key.
    pub compacts: bool,
    /// `delete.retention.ms`.
    tombstones_kept_ms: i64,
}

pub fn topic_name(table: usize) -> String {
    format!("shop.{}", TABLES.get(table).unwrap_or(&"?"))
}

impl Partition {
    /// The offset behind the last record; the log may end behind it.
    fn end_of_records(&self) -> i64 {
        self.records.last().map_or(0, |record| record.offset + 1)
    }

    /// Records that the log has from one offset up to another.
    fn between(&self, from: i64, to: i64) -> usize {
        let begin = self.records.partition_point(|record| record.offset < from);
        let found = self.records.get(begin..).unwrap_or_default().iter().take_while(|record| record.offset < to);
        found.filter(|record| !record.compacted).count()
    }

    /// The records that the generation has.
    pub fn of_generation(&self) -> &[Record] {
        self.records.get(self.records.partition_point(|record| record.offset < self.begins)..).unwrap_or_default()
    }

    /// Its log goes on, and its next generation begins at an offset.
    fn begin_again(&mut self, begins: i64) -> Self {
        let again = Self {
            records: self.records.clone(),
            next_offset: self.next_offset,
            begins,
            checked: self.records.partition_point(|record| record.offset < begins),
            most_committed: Some(begins),
            written: begins,
            ..Self::default()
        };
        std::mem::replace(self, again)
    }
}

impl Kafka {
    pub fn new(clock: Machine, partitions: usize, compacts: bool, tombstones_kept: Duration) -> Self {
        let topic = |table| {
            let empty = (0..partitions).map(|_| Partition::default()).collect();
            (topic_name(table), Topic { id: 1, generation: 1, partitions: empty, past: Vec::new() })
        };
        Self {
            clock,
            topics: (0..TABLES.len()).map(topic).collect(),
            committed: BTreeMap::new(),
            identities: BTreeMap::new(),
            letters: BTreeSet::new(),
            compacts,
            tombstones_kept_ms: tombstones_kept.as_millis() as i64,
        }
    }

    pub fn sources(&self) -> Vec<TopicPartition> {
        let of_topic = |(name, topic): (&String, &Topic)| {
            let name: Arc<str> = name.as_str().into();
            (0..topic.partitions.len()).map(move |partition| TopicPartition::new(Arc::clone(&name), partition as i32)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    pub fn partition(&mut self, source: &TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(&*source.topic)?.partitions.get_mut(usize::try_from(source.partition).ok()?)
    }

    pub fn high(&self, source: &TopicPartition) -> i64 {
        let topic = self.topics.get(&*source.topic);
        topic.and_then(|topic| topic.partitions.get(source.partition as usize)).map_or(0, |partition| partition.next_offset)
    }

    /// Records that the group has not committed yet.
    pub fn lag(&self) -> i64 {
        self.sources().iter().map(|source| self.lag_of(source)).sum()
    }

    pub fn lag_of(&self, source: &TopicPartition) -> i64 {
        self.high(source) - self.committed.get(source).copied().unwrap_or_default()
    }

    /// Somebody puts the group's offsets back to where the generation begins.
    pub fn commit_beginnings(&mut self) {
        for (name, topic) in &self.topics {
            let name: Arc<str> = name.as_str().into();
            let begins = topic.partitions.iter().map(|partition| partition.begins).enumerate();
            self.committed.extend(begins.map(|(number, begins)| (TopicPartition::new(Arc::clone(&name), number as i32), begins)));
        }
    }

    pub fn facts(&self, topic: &str) -> Option<TopicFacts> {
        let found = self.topics.get(topic)?;
        Some(TopicFacts {
            cluster_id: CLUSTER.to_owned(),
            topic_id: format!("topic-{}", found.id),
            partitions: found.partitions.len() as i32,
            cleanup_policy: CleanupPolicy { compact: self.compacts, delete: !self.compacts },
            delete_retention_ms: Some(self.tombstones_kept_ms),
        })
    }

    /// Appends a record where its key belongs; `gap` offsets are left out, as a transaction's markers leave them out: every other time behind it,
    /// where the log may end.
    pub fn produce(
        &mut self,
        table: usize,
        key: &Key,
        key_bytes: impl Into<Option<Vec<u8>>>,
        value: Option<Vec<u8>>,
        said: Said,
        gap: u64,
    ) {
        let (key_bytes, written_at_ms) = (key_bytes.into(), self.clock.now_ms());
        let Some(topic) = self.topics.get_mut(&topic_name(table)) else { return };
        let hash = key.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let place = (hash % topic.partitions.len() as u64) as usize;
        let Some(partition) = topic.partitions.get_mut(place) else { return };
        let (before, behind) = if gap.is_multiple_of(2) { (gap as i64, 0) } else { (0, gap as i64) };
        let offset = partition.next_offset + before;
        let (key, removable_at_ms) = (key.clone(), None);
        partition.records.push(Record { offset, key_bytes, value, key, said, written_at_ms, removable_at_ms, compacted: false });
        partition.next_offset = offset + 1 + behind;
        partition.grown.iter().for_each(|reader| reader.notify_one());
    }

    pub fn wake_readers(&self) {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.flat_map(|partition| &partition.grown).for_each(|reader| reader.notify_one());
    }

    /// The first record at an offset or behind it.
    pub fn next_record(&self, source: &TopicPartition, offset: i64) -> Option<Record> {
        let partition = self.topics.get(&*source.topic)?.partitions.get(usize::try_from(source.partition).ok()?)?;
        let index = partition.records.partition_point(|record| record.offset < offset);
        partition.records.get(index..)?.iter().find(|record| !record.compacted).cloned()
    }

    /// The cleaner: of each key only the last record stays, but for the last `head` records, which it does not touch. Nor does a null value stay for
    /// ever: one that it has met goes when it comes by again, `delete.retention.ms` later.
    pub fn compact(&mut self, source: &TopicPartition, head: usize) {
        let (now_ms, kept_ms) = (self.clock.now_ms(), self.tombstones_kept_ms);
        let Some(partition) = self.compacts.then(|| self.partition(source)).flatten() else { return };
        let dirty = partition.records.len().saturating_sub(head);
        let mut later = BTreeSet::new();
        for (index, record) in partition.records.iter_mut().enumerate().rev() {
            let is_last = later.insert(record.key.clone());
            if index >= dirty {
                continue;
            }
            if !is_last {
                record.compacted = true;
            } else if record.value.is_none() {
                record.compacted |= now_ms >= *record.removable_at_ms.get_or_insert(now_ms + kept_ms);
            }
        }
    }

    /// The topics are deleted and created anew, empty.
    pub fn recreate(&mut self) {
        self.committed.clear();
        for topic in self.topics.values_mut() {
            let empty = topic.partitions.iter().map(|_| Partition::default()).collect();
            topic.past.push(std::mem::replace(&mut topic.partitions, empty));
            topic.id += 1;
            topic.generation += 1;
        }
    }

    /// What `streamsync generation next` writes.
    pub fn begin_generation(&mut self, begun_at_ms: i64) {
        for (name, topic) in &self.topics {
            let record = self.identities.entry(name.clone()).or_default();
            let (generation, partitions) = (topic.generation, &topic.partitions);
            record.take(Entry::Beginning(Beginning {
                generation,
                offsets: partitions.iter().map(|partition| partition.begins).collect(),
                begun_at_ms,
                log_is_split: false,
            }));
            record.take(Entry::Identity(TopicIdentity {
                cluster_id: CLUSTER.to_owned(),
                topic_id: format!("topic-{}", topic.id),
                partitions: partitions.len() as i32,
                generation,
            }));
        }
    }

    /// What `streamsync rebuild` does: the topics stay, and their next generation begins at the log's beginning, or at its end where a
    /// snapshot follows. `commits`: it could set the group's offsets, which it can't while the group has members of other topics.
    pub fn rebuild(&mut self, after_snapshot: bool, commits: bool, begun_at_ms: i64) {
        for (name, topic) in &mut self.topics {
            let ends = topic.partitions.iter().map(Partition::end_of_records).collect();
            let begin_again =
                |partition: &mut Partition| partition.begin_again(if after_snapshot { partition.end_of_records() } else { 0 });
            topic.past.push(topic.partitions.iter_mut().map(begin_again).collect());
            topic.generation += 1;
            let rebuild = Rebuild { generation: topic.generation, ends: (!after_snapshot).then_some(ends), swept_at_ms: None };
            self.identities.entry(name.clone()).or_default().take(Entry::Rebuild(rebuild));
        }
        self.begin_generation(begun_at_ms);
        if commits {
            return self.commit_beginnings();
        }
        // Whoever reads on starts where the stores' watermarks are, unless the group's offset is before the generation, and counts as its beginning.
        for (name, topic) in &mut self.topics {
            for (number, partition) in (0..).zip(&mut topic.partitions) {
                let kept = self.committed.get(&TopicPartition::new(name.as_str(), number));
                partition.most_committed = partition.most_committed.filter(|begins| kept.is_some_and(|kept| kept <= begins));
            }
        }
    }

    /// What `streamsync rebuild --snapshot-complete` does, where a rebuild waits for it.
    pub fn snapshot_complete(&mut self) {
        for (name, topic) in &self.topics {
            let record = self.identities.entry(name.clone()).or_default();
            if let Some(open) = record.open_rebuild().filter(|open| open.ends.is_none()) {
                let ends = topic.partitions.iter().map(Partition::end_of_records).collect();
                let rebuild = Rebuild { ends: Some(ends), ..open.clone() };
                record.take(Entry::Rebuild(rebuild));
            }
        }
    }

    /// A topic of which the stores were not swept yet.
    pub fn unswept(&self) -> Option<&str> {
        self.identities.iter().find(|(_, record)| record.open_rebuild().is_some()).map(|(name, _)| name.as_str())
    }

    /// A row that the refill of a rebuild has already brought when it ends: no sweep may remove its documents.
    pub fn refilled_row(&self, topic: &str, key: &Key) -> Option<&Row> {
        let ends = self.identities.get(topic)?.rebuild()?.ends.as_ref()?;
        let partitions = self.topics.get(topic)?.partitions.iter().zip(ends);
        let refill = partitions.flat_map(|(partition, end)| partition.of_generation().iter().filter(|record| record.offset < *end));
        let mut rows = refill.filter_map(|record| match &record.said {
            Said::Row(row) if record.key == *key && !record.compacted && !row.is_poisoned() => Some(row),
            _ => None,
        });
        rows.next_back()
    }

    /// Whether a fence is that of the tombstones which the sweep of a later generation leaves.
    pub fn is_sweeps(&self, topic: &str, fence: Fence) -> bool {
        let generations = 2..=self.topics.get(topic).map_or(0, |topic| topic.generation);
        generations.filter_map(Generation::new).any(|generation| Fence::last_before(generation) == Some(fence))
    }

    /// The record that a fence names.
    pub fn record(&self, topic: &str, partition: i32, fence: Fence) -> Option<&Record> {
        let topic = self.topics.get(topic)?;
        let generation = usize::from(fence.generation().number());
        let partitions =
            if generation == usize::from(topic.generation) { &topic.partitions } else { topic.past.get(generation.checked_sub(1)?)? };
        let records = &partitions.get(usize::try_from(partition).ok()?)?.records;
        let index = records.binary_search_by_key(&fence.offset(), |record| record.offset).ok()?;
        records.get(index)
    }

    /// A store has taken a record's version. No more than `max_records` may ever have been written beyond what the group has: they are what a
    /// kill costs.
    pub fn written(&mut self, topic: &str, partition: i32, fence: i64, max_records: usize) -> Result<(), String> {
        let Some(fence) = Fence::from_stored(fence) else { return Ok(()) };
        let Some(found) = self.topics.get_mut(topic).filter(|found| found.generation == fence.generation().number()) else { return Ok(()) };
        let Some(found) = found.partitions.get_mut(partition as usize) else { return Ok(()) };
        found.written = found.written.max(fence.offset() + 1);
        let kept = found.most_committed.unwrap_or(found.began);
        let ahead = found.between(kept, fence.offset() + 1);
        if ahead <= max_records {
            return Ok(());
        }
        Err(format!(
            "{topic}/{partition}: record {} was written while the group had offset {}: a kill would cost {ahead} records, and a batch holds \
             {max_records}",
            fence.offset(),
            kept
        ))
    }

    /// The partition's owner begins to read. Of what the stores have taken no more may come again than a batch holds, unless it must.
    pub fn begins(&mut self, source: &TopicPartition, offset: i64, max_records: usize) -> Result<(), String> {
        let Some(partition) = self.partition(source) else { return Ok(()) };
        partition.began = offset;
        if partition.rewound {
            return Ok(());
        }
        let again = partition.between(offset, partition.written);
        if again <= max_records {
            return Ok(());
        }
        Err(format!("{source} is read from {offset}: {again} records that were written come again, and a batch holds {max_records}"))
    }

    /// From now on records that were written may have to be written again.
    pub fn rewind(&mut self) {
        self.topics.values_mut().flat_map(|topic| &mut topic.partitions).for_each(|partition| partition.rewound = true);
    }

    /// Takes a commit. Every record below must be settled: `seen` tells the greatest version that both stores have had at a key. Where truncates
    /// halt their route nothing settles one.
    pub fn commit(
        &mut self,
        source: &TopicPartition,
        next_offset: i64,
        truncates_halt: bool,
        seen: impl Fn(&Key) -> i64,
    ) -> Result<(), String> {
        self.committed.insert(source.clone(), next_offset);
        let Some(topic) = self.topics.get_mut(&*source.topic) else { return Err(format!("a commit of {source}, which is not there")) };
        let Some(generation) = Generation::new(topic.generation) else { return Ok(()) };
        let Some(partition) = topic.partitions.get_mut(source.partition as usize) else { return Ok(()) };
        partition.most_committed = partition.most_committed.max(Some(next_offset));
        if next_offset > partition.next_offset {
            return Err(format!("{source}: offset {next_offset} was committed, and the log ends at {}", partition.next_offset));
        }
        let mut unsettled = Ok(());
        while let Some(record) = partition.records.get(partition.checked).filter(|record| record.offset < next_offset) {
            partition.checked += 1;
            let fence = Fence::new(generation, record.offset).map_or(0, Fence::number);
            let (letter, needed) = match &record.said {
                Said::Garbage => (true, 0),
                // Which keys it meets is the stores' affair; that none of them is left shows at the end.
                Said::Truncate => (false, 0),
                Said::Row(row) if row.is_poisoned() => (true, 0),
                Said::Row(_) | Said::Delete | Said::Null { after_own_delete: false } => (false, fence),
                Said::Null { after_own_delete: true } => (false, partition.last_fence.get(&record.key).copied().unwrap_or(0)),
            };
            partition.last_fence.insert(record.key.clone(), fence);
            if record.compacted {
                continue;
            }
            if truncates_halt && matches!(record.said, Said::Truncate) && unsettled.is_ok() {
                unsettled =
                    Err(format!("{source}: offset {next_offset} was committed, past the truncate at {}, which halts", record.offset));
            }
            let lost = if letter {
                !self.letters.contains(&(source.topic.to_string(), topic.generation, source.partition, record.offset))
            } else {
                seen(&record.key) < needed
            };
            if lost && unsettled.is_ok() {
                unsettled = Err(format!(
                    "{source}: offset {next_offset} was committed before record {} of key {} was settled in both stores",
                    record.offset, record.key
                ));
            }
        }
        unsettled
    }
}
