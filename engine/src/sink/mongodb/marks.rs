//! Marks: which keys have a dead-lettered record that nothing has overtaken.
//!
//! `_sync_marks` has one document a key, in the form of a tombstone. A write does not touch it, so that writing costs nothing more: a mark
//! counts only while neither the document nor its tombstone has its fence or a greater one, and the sweep removes what no longer counts,
//! long before a tombstone expires.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join;

use super::bson_bytes::{Elements, Value, Writer};
use super::command::{WriteCommand, as_binary, find, write_id_in};
use super::fault::Fault;
use super::key::CanonicalKey;
use super::reply::Reply;
use super::sweep::{REST_PER_WORK, Tombstone};
use super::version::{Stored, Verdict};
use super::write::{KeyWrite, Outcome, judged, tombstone, unreadable_key};
use super::{MARKS, MongoDbSink, collection};
use crate::fence::Fence;
use crate::plan::SinkWrites;
use crate::sink::{Error, Held, WriteOutcome};

/// What is stored of some keys of one collection.
struct Found {
    documents: HashMap<CanonicalKey, Stored>,
    tombstones: HashMap<CanonicalKey, Stored>,
    marks: HashMap<CanonicalKey, Stored>,
}

impl MongoDbSink {
    /// One result for each mark, in their order.
    pub(super) async fn mark_all(&self, marks: &SinkWrites) -> Vec<Result<WriteOutcome, Error>> {
        let mut results: Vec<Option<Result<WriteOutcome, Error>>> = marks.writes.iter().map(|_| None).collect();
        for (target, numbers) in by_target(marks) {
            let place = match marks.targets.get(target as usize).map(|target| collection(target)) {
                Some(Ok(place)) => place,
                Some(Err(fault)) => {
                    numbers.iter().for_each(|number| settle(&mut results, *number, Err(self.error("", fault.clone()))));
                    continue;
                }
                None => continue,
            };
            for numbers in numbers.chunks(self.settings.max_bulk.max(1)) {
                let chunk: Vec<(usize, KeyWrite<'_>)> =
                    numbers.iter().filter_map(|number| Some((*number, key_write(place, marks, *number)?))).collect();
                let writes: Vec<&KeyWrite<'_>> = chunk.iter().map(|(_, write)| write).collect();
                let outcomes = self.mark_chunk(place, &writes, &marks.module).await;
                for ((number, _), outcome) in chunk.iter().zip(outcomes) {
                    settle(&mut results, *number, outcome.map_err(|fault| self.error(place, fault)));
                }
            }
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(self.error("", unreadable_key())))).collect()
    }

    async fn mark_chunk(&self, place: &str, chunk: &[&KeyWrite<'_>], module: &str) -> Vec<Outcome> {
        let found = match self.found(place, chunk).await {
            Ok(found) => found,
            Err(fault) => return vec![Err(fault); chunk.len()],
        };
        let mut outcomes = Vec::with_capacity(chunk.len());
        let mut open = Vec::new();
        let at_ms = self.machine.now_ms();
        let mut command = WriteCommand::update(MARKS, self.terms(), chunk.iter().map(|mark| mark.encoded_len()).sum());
        for (number, mark) in chunk.iter().enumerate() {
            outcomes.push(match found.verdict(mark) {
                Some(Ok(_)) => Ok(WriteOutcome::Stale),
                Some(Err(fault)) => Err(fault),
                None => {
                    let document = tombstone(place, mark, module, at_ms);
                    command.upsert_mark(as_binary(&mark.tombstone), mark.incoming.fence.number(), &document);
                    open.push(number);
                    Ok(WriteOutcome::Applied)
                }
            });
        }
        if open.is_empty() {
            return outcomes;
        }
        let what = self.what("update", MARKS);
        let sent = match self.run(&what, command.finish()).await {
            Ok(reply) => {
                let reply = Reply::of(&what, &reply, &self.doubts);
                let unacknowledged = reply.write_concern_fault();
                let outcome = |error| match (error, &unacknowledged) {
                    (Some(Some(fault)), _) => Err(fault),
                    (_, Some(fault)) => Err(fault.clone()),
                    // E11000 on `_id`: the condition did not hold, so the mark that stands is as new.
                    (Some(None), None) => Ok(WriteOutcome::Duplicate),
                    (None, None) => Ok(WriteOutcome::Applied),
                };
                reply.errors(open.len()).into_iter().map(outcome).collect()
            }
            Err(fault) => vec![Err(fault); open.len()],
        };
        for (number, outcome) in open.into_iter().zip(sent) {
            if let Some(place) = outcomes.get_mut(number) {
                *place = outcome;
            }
        }
        outcomes
    }

    /// What each key holds, in their order.
    pub(super) async fn read_held(&self, keys: &SinkWrites) -> Result<Vec<Held>, Error> {
        let mut held = vec![Held::default(); keys.writes.len()];
        for (target, numbers) in by_target(keys) {
            let Some(target) = keys.targets.get(target as usize) else { continue };
            let place = collection(target).map_err(|fault| self.error(&target.name, fault))?;
            for numbers in numbers.chunks(self.settings.max_bulk.max(1)) {
                let chunk: Vec<(usize, KeyWrite<'_>)> =
                    numbers.iter().filter_map(|number| Some((*number, key_write(place, keys, *number)?))).collect();
                let writes: Vec<&KeyWrite<'_>> = chunk.iter().map(|(_, write)| write).collect();
                let found = self.found(place, &writes).await.map_err(|fault| self.error(place, fault))?;
                for (number, write) in &chunk {
                    if let Some(held) = held.get_mut(*number) {
                        *held = found.held(&write.key);
                    }
                }
            }
        }
        Ok(held)
    }

    async fn found(&self, place: &str, keys: &[&KeyWrite<'_>]) -> Result<Found, Fault> {
        // Marks are read first: a write that comes between the looks makes a mark old, never new.
        let marks = self.marks(keys).await?;
        let (documents, tombstones) = try_join(self.documents(place, keys), self.tombstones(keys)).await?;
        Ok(Found { documents, tombstones, marks })
    }

    pub(super) async fn marks(&self, keys: &[&KeyWrite<'_>]) -> Result<HashMap<CanonicalKey, Stored>, Fault> {
        let mut found = HashMap::new();
        if keys.is_empty() {
            return Ok(found);
        }
        let filter = |out: &mut Writer| write_id_in(out, keys.iter().map(|key| as_binary(&key.tombstone)));
        let command = find(MARKS, self.terms(), &["k", "v", "p"], keys.len(), filter, |_| ());
        self.query(&self.what("find", MARKS), command, |mark| {
            if let (Some(id), Some(stored)) = (Elements::of(mark).find("k"), Stored::of_tombstone(mark)) {
                found.insert(CanonicalKey::of(id), stored);
            }
        })
        .await?;
        Ok(found)
    }

    /// One round over all marks: those that a write has overtaken go.
    pub(super) async fn sweep_marks(&self) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let began = tokio::time::Instant::now();
            let page = self.page(MARKS, after.as_deref()).await?;
            for (collection, marks) in &page.by_collection {
                self.remove_overtaken(collection, marks).await?;
            }
            if page.read < self.page_size() {
                return Ok(());
            }
            after = page.last;
            tokio::time::sleep(began.elapsed() * REST_PER_WORK).await;
        }
    }

    async fn remove_overtaken(&self, place: &str, marks: &[Tombstone]) -> Result<(), Fault> {
        let keys = marks.iter().filter_map(|mark| Some((Value::from_tagged(&mark.key)?, Fence::from_stored(mark.fence)?, mark.partition)));
        let keys: Vec<KeyWrite<'_>> = keys.map(|(id, fence, partition)| KeyWrite::new(place, id, fence, partition, None)).collect();
        let keys: Vec<&KeyWrite<'_>> = keys.iter().collect();
        let (documents, tombstones) = try_join(self.documents(place, &keys), self.tombstones(&keys)).await?;
        let mut command = WriteCommand::delete(MARKS, self.terms(), 0);
        let mut overtaken = 0;
        for key in keys {
            let fence = key.incoming.fence.number();
            let newer = |stored: Option<&Stored>| stored.is_some_and(|stored| stored.fence >= fence);
            if newer(documents.get(&key.key)) || newer(tombstones.get(&key.key)) {
                command.remove_mark(as_binary(&key.tombstone), fence);
                overtaken += 1;
            }
        }
        if overtaken == 0 { Ok(()) } else { self.delete_marks(command).await }
    }

    /// Removes the marks of a collection whose table was emptied at `fence`.
    pub(super) async fn clear_marks(&self, collection: &str, fence: Fence) -> Result<(), Fault> {
        let mut command = WriteCommand::delete(MARKS, self.terms(), 0);
        command.remove_marks_of(collection, fence.number());
        self.delete_marks(command).await
    }

    async fn delete_marks(&self, command: WriteCommand) -> Result<(), Fault> {
        let what = self.what("delete", MARKS);
        let reply = self.run(&what, command.finish()).await?;
        let reply = Elements::of(reply.as_bytes());
        if let Some(fault) = reply
            .clone()
            .find("writeErrors")
            .and_then(|errors| errors.elements().next())
            .and_then(|(_, error)| Fault::of_own_write_error(&what, error))
        {
            return Err(fault);
        }
        reply.find("writeConcernError").map_or(Ok(()), |error| Err(Fault::of_write_concern_error(&what, error)))
    }
}

impl Found {
    /// Why a key is not to be marked: it holds something as new, or another partition's. `None`: it is to be marked.
    fn verdict(&self, mark: &KeyWrite<'_>) -> Option<Outcome> {
        [self.documents.get(&mark.key), self.tombstones.get(&mark.key)].into_iter().find_map(|stored| match judged(mark, stored) {
            Verdict::Settled(outcome) => Some(outcome),
            Verdict::Older(_) => None,
        })
    }

    fn held(&self, key: &CanonicalKey) -> Held {
        let fence = |found: &HashMap<CanonicalKey, Stored>| found.get(key).and_then(|stored| Fence::from_stored(stored.fence));
        let (document, tombstone) = (fence(&self.documents), fence(&self.tombstones));
        let held = document.max(tombstone);
        Held { fence: held, deleted: tombstone > document, mark: fence(&self.marks).filter(|mark| held < Some(*mark)) }
    }
}

fn by_target(writes: &SinkWrites) -> BTreeMap<u32, Vec<usize>> {
    let mut by_target: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (number, write) in writes.writes.iter().enumerate() {
        by_target.entry(write.target).or_default().push(number);
    }
    by_target
}

/// `None` where the key is no BSON value.
fn key_write<'a>(place: &str, writes: &'a SinkWrites, number: usize) -> Option<KeyWrite<'a>> {
    let write = writes.writes.get(number)?;
    Some(KeyWrite::new(place, Value::from_tagged(writes.slice(write.key))?, write.fence, writes.partition, None))
}

fn settle(results: &mut [Option<Result<WriteOutcome, Error>>], number: usize, result: Result<WriteOutcome, Error>) {
    if let Some(place) = results.get_mut(number) {
        *place = Some(result);
    }
}
