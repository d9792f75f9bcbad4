//! Documents in this process, for the demo, tests and measurements without a server.
//!
//! It decides as the other sinks do, by fence, and forgets everything with the process: its tombstones never expire.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rustc_hash::FxHashMap;

use super::{Error, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use crate::config::TargetSettings;
use crate::fence::{Fence, Generation};
use crate::plan::{FencedWrite, SinkWrites};
use crate::source::TopicPartition;

/// All documents, by place (key prefix or collection) and key.
pub type Snapshot = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// A store in this process.
pub struct MemorySink {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By place (key prefix or collection), then by key.
    targets: FxHashMap<String, FxHashMap<Vec<u8>, Entry>>,
    watermarks: FxHashMap<(String, TopicPartition), Watermark>,
    identities: FxHashMap<String, TopicIdentity>,
}

/// What a key holds: a document, a tombstone, or a mark alone.
struct Entry {
    /// `None` for a document that was put in without a version.
    version: Option<Version>,
    document: Option<Vec<u8>>,
    expires_at: Option<Instant>,
    /// Fence of a dead-lettered record that is newer than `version`.
    mark: Option<Fence>,
}

#[derive(Clone, Copy)]
struct Version {
    fence: Fence,
    partition: i32,
    content: u64,
}

impl Entry {
    fn live_document(&self) -> Option<&Vec<u8>> {
        if self.expires_at.is_some_and(|at| at <= Instant::now()) { None } else { self.document.as_ref() }
    }
}

impl MemorySink {
    /// The process is the server: it loses nothing while it lives.
    pub const LINEAGE: u64 = 0;

    /// An empty store.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: Mutex::default() }
    }

    /// All documents as they are now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let entries = state.targets.iter().flat_map(|(target, entries)| entries.iter().map(move |(key, entry)| (target, key, entry)));
        entries.filter_map(|(target, key, entry)| Some(((target.clone(), key.clone()), entry.live_document()?.clone()))).collect()
    }

    /// All documents of one place, by key.
    pub fn documents(&self, place: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let state = self.state();
        let entries = state.targets.get(place).into_iter().flatten();
        entries.filter_map(|(key, entry)| Some((key.clone(), entry.live_document()?.clone()))).collect()
    }

    /// The document at a key.
    pub fn document(&self, place: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.state().targets.get(place)?.get(key)?.live_document().cloned()
    }

    /// The fence at a key, and whether it is a tombstone's.
    pub fn version(&self, place: &str, key: &[u8]) -> Option<(Fence, bool)> {
        let state = self.state();
        let entry = state.targets.get(place)?.get(key)?;
        Some((entry.version?.fence, entry.document.is_none()))
    }

    /// Loses everything, as FLUSHALL or a new server with an empty disk does: documents, versions, watermarks and identities.
    pub fn flush(&self) {
        *self.state() = State::default();
    }

    /// Puts in a document with no version, as another program would leave it in a real store.
    pub fn plant(&self, place: &str, key: &[u8], document: Vec<u8>) {
        let entry = Entry { version: None, document: Some(document), expires_at: None, mark: None };
        self.state().targets.entry(place.to_owned()).or_default().insert(key.to_vec(), entry);
    }

    /// A panic while the lock was held leaves whole entries behind, so a poisoned lock is as good as another.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_one(&self, state: &mut State, writes: &SinkWrites, write: &FencedWrite) -> Result<WriteOutcome, Error> {
        let place = self.place(writes, write)?;
        let entries = state.targets.entry(place.to_owned()).or_default();
        let key = writes.slice(write.key);
        let document = write.document.map(|document| writes.slice(document).to_vec());
        let version = Version { fence: write.fence, partition: writes.partition, content: write.content };
        let stored = entries.get(key).and_then(|entry| Some((entry.version?, entry.document.is_some())));
        match decide(stored, version, document.is_some()) {
            Decision::Apply => {}
            Decision::Leave(outcome) => return Ok(outcome),
            Decision::OtherPartition(stored) => {
                let (sink, place) = (self.name.clone(), place.to_owned());
                return Err(Error::OtherPartition { sink, place, stored, incoming: writes.partition });
            }
        }
        let expires_at = (write.ttl_seconds > 0).then(|| Instant::now() + Duration::from_secs(write.ttl_seconds.into()));
        let mark = entries.get(key).and_then(|entry| entry.mark).filter(|mark| *mark > write.fence);
        entries.insert(key.to_vec(), Entry { version: Some(version), document, expires_at, mark });
        Ok(WriteOutcome::Applied)
    }

    fn mark_one(&self, state: &mut State, marks: &SinkWrites, mark: &FencedWrite) -> Result<WriteOutcome, Error> {
        let place = self.place(marks, mark)?;
        let entries = state.targets.entry(place.to_owned()).or_default();
        let entry =
            entries.entry(marks.slice(mark.key).to_vec()).or_insert(Entry { version: None, document: None, expires_at: None, mark: None });
        if let Some(stored) = entry.version {
            if stored.fence.generation() == mark.fence.generation() && stored.partition != marks.partition {
                let (sink, place) = (self.name.clone(), place.to_owned());
                return Err(Error::OtherPartition { sink, place, stored: stored.partition, incoming: marks.partition });
            }
            if stored.fence >= mark.fence {
                return Ok(WriteOutcome::Stale);
            }
        }
        if entry.mark >= Some(mark.fence) {
            return Ok(WriteOutcome::Duplicate);
        }
        entry.mark = Some(mark.fence);
        Ok(WriteOutcome::Applied)
    }

    fn held_one(&self, state: &State, keys: &SinkWrites, key: &FencedWrite) -> Result<Held, Error> {
        let entry = state.targets.get(self.place(keys, key)?).and_then(|entries| entries.get(keys.slice(key.key)));
        Ok(entry.map_or_else(Held::default, |entry| Held {
            fence: entry.version.map(|version| version.fence),
            deleted: entry.version.is_some() && entry.document.is_none(),
            mark: entry.mark,
        }))
    }

    fn place<'a>(&self, writes: &'a SinkWrites, write: &FencedWrite) -> Result<&'a str, Error> {
        let missing = || Error::Setup { sink: self.name.clone(), message: format!("the batch has no target {}", write.target) };
        writes.targets.get(write.target as usize).map(|target| target.place.name()).ok_or_else(missing)
    }
}

enum Decision {
    Apply,
    Leave(WriteOutcome),
    OtherPartition(i32),
}

/// The rule of every sink. `put`, and the `bool` beside the stored version: whether it is a document.
fn decide(stored: Option<(Version, bool)>, incoming: Version, put: bool) -> Decision {
    let Some((stored, is_document)) = stored else { return Decision::Apply };
    if stored.fence.generation() == incoming.fence.generation() && stored.partition != incoming.partition {
        return Decision::OtherPartition(stored.partition);
    }
    match incoming.fence.cmp(&stored.fence) {
        std::cmp::Ordering::Greater => Decision::Apply,
        std::cmp::Ordering::Less => Decision::Leave(WriteOutcome::Stale),
        std::cmp::Ordering::Equal if is_document == put && stored.content == incoming.content => Decision::Leave(WriteOutcome::Duplicate),
        std::cmp::Ordering::Equal => Decision::Leave(WriteOutcome::Conflict),
    }
}

impl Sink for MemorySink {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }

    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        let mut state = self.state();
        let results = writes.writes.iter().map(|write| self.write_one(&mut state, writes, write)).collect();
        ready(results).boxed()
    }

    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        let mut state = self.state();
        let results = marks.writes.iter().map(|mark| self.mark_one(&mut state, marks, mark)).collect();
        ready(results).boxed()
    }

    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, Error>> {
        let state = self.state();
        ready(keys.writes.iter().map(|key| self.held_one(&state, keys, key)).collect()).boxed()
    }

    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, Error>> {
        let watermark = self.state().watermarks.get(&(group.to_owned(), source.clone())).copied();
        ready(Ok(watermark)).boxed()
    }

    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, Error>> {
        let key = (group.to_owned(), source.clone());
        let mut state = self.state();
        let found = state.watermarks.get(&key).copied();
        let outcome = if lineage != Self::LINEAGE {
            MarkOutcome::OtherServers
        } else if replaces.permits(found, watermark) {
            state.watermarks.insert(key, watermark);
            MarkOutcome::Stored
        } else {
            MarkOutcome::Found(found)
        };
        ready(Ok(outcome)).boxed()
    }

    fn lineage(&self) -> BoxFuture<'_, Result<u64, Error>> {
        ready(Ok(Self::LINEAGE)).boxed()
    }

    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, Error>> {
        let identity = self.state().identities.get(topic).cloned();
        ready(Ok(identity)).boxed()
    }

    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>> {
        let mut state = self.state();
        if state.identities.get(topic).is_none_or(|stored| stored.generation <= identity.generation) {
            state.identities.insert(topic.to_owned(), identity.clone());
        }
        ready(Ok(())).boxed()
    }

    fn clear<'a>(&'a self, target: &'a TargetSettings, fence: Fence, partition: i32) -> BoxFuture<'a, Result<(), Error>> {
        let mut state = self.state();
        let entries = state.targets.get_mut(target.place.name()).into_iter().flat_map(FxHashMap::values_mut);
        let held = |entry: &&mut Entry| entry.document.is_some() || entry.mark.is_some();
        for entry in entries.filter(held).filter(|entry| entry.version.is_none_or(|stored| stored.fence < fence)) {
            let mark = entry.mark.filter(|mark| *mark > fence);
            *entry = Entry { version: Some(Version { fence, partition, content: 0 }), document: None, expires_at: None, mark };
        }
        ready(Ok(())).boxed()
    }

    fn sweep_generation<'a>(&'a self, target: &'a TargetSettings, generation: Generation) -> BoxFuture<'a, Result<u64, Error>> {
        let Some(fence) = Fence::last_before(generation) else { return ready(Ok(0)).boxed() };
        let mut state = self.state();
        let entries = state.targets.get_mut(target.place.name()).into_iter().flat_map(FxHashMap::values_mut);
        let mut swept = 0;
        // A row of the generation that was dead-lettered is still a row: its document is old, not gone.
        let ghost = |entry: &&mut Entry| entry.document.is_some() && entry.mark.is_none_or(|mark| mark <= fence);
        for entry in entries.filter(ghost).filter(|entry| entry.version.is_none_or(|stored| stored.fence < fence)) {
            let partition = entry.version.map_or(0, |stored| stored.partition);
            *entry = Entry { version: Some(Version { fence, partition, content: 0 }), document: None, expires_at: None, mark: None };
            swept += 1;
        }
        ready(Ok(swept)).boxed()
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }

    fn sweep_interval(&self) -> Option<Duration> {
        None
    }
}
