//! Puts and deletes, in chunks: what a lane's batch does to the collections.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::{join, try_join};

use super::bson_bytes::{Elements, Value, Writer};
use super::command::{Condition, VersionAt, WriteCommand, as_binary, binary_value, find, write_id_in};
use super::fault::Fault;
use super::key::CanonicalKey;
use super::reply::Reply;
use super::version::{Guard, Incoming, Stored, Verdict};
use super::{MongoDbSink, TOMBSTONES, collection};
use crate::fence::Fence;
use crate::plan::SinkWrites;
use crate::sink::{Error, WriteOutcome};

/// A command must be one BSON document, of 16 MiB and a little more at most. A write that alone is larger goes alone.
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// How often a write is sent again because its key changed between the refusal and the look at it. One worker writes a partition, so
/// even a second time is rare.
const MAX_ATTEMPTS: usize = 8;

/// How much a statement adds to its key and its document.
const STATEMENT_BYTES: usize = 160;

/// One write, its key read.
#[derive(Clone, Debug)]
pub(super) struct KeyWrite<'a> {
    pub(super) id: Value<'a>,
    pub(super) key: CanonicalKey,
    /// The `_id` of its tombstone and of its mark, as a BSON value.
    pub(super) tombstone: Vec<u8>,
    pub(super) incoming: Incoming,
    /// `None` for a delete.
    document: Option<&'a [u8]>,
}

/// A result, before it is said for one write; `None` while it is open.
pub(super) type Outcome = Result<WriteOutcome, Fault>;

impl<'a> KeyWrite<'a> {
    /// `document` and its content's hash; `None` for a delete.
    pub(super) fn new(collection: &str, id: Value<'a>, fence: Fence, partition: i32, document: Option<(&'a [u8], u64)>) -> Self {
        let key = CanonicalKey::of(id);
        let tombstone = binary_value(&key.tombstone_id(collection));
        let content = document.map(|(_, content)| content.cast_signed());
        Self { id, key, tombstone, incoming: Incoming { fence, partition, content }, document: document.map(|(bytes, _)| bytes) }
    }

    fn condition(&self, guard: Guard) -> Condition<'_> {
        let Incoming { fence, partition, .. } = self.incoming;
        Condition { id: self.id, fence: fence.number(), partition, guard, at: VersionAt::Document }
    }

    fn tombstone_condition(&self, guard: Guard) -> Condition<'_> {
        Condition { id: as_binary(&self.tombstone), at: VersionAt::Tombstone, ..self.condition(guard) }
    }

    pub(super) fn encoded_len(&self) -> usize {
        2 * self.id.bytes.len() + self.tombstone.len() + self.document.map_or(0, <[u8]>::len) + STATEMENT_BYTES
    }
}

/// What is open of a chunk: a write's number in it, and the guard to send it with.
#[derive(Clone, Copy, Debug)]
struct Open {
    write: usize,
    guard: Guard,
}

impl MongoDbSink {
    /// One result for each write, in their order.
    pub(super) async fn write_all(&self, writes: &SinkWrites) -> Vec<Result<WriteOutcome, Error>> {
        let mut by_target: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (number, write) in writes.writes.iter().enumerate() {
            by_target.entry(write.target).or_default().push(number);
        }
        let mut results: Vec<Option<Result<WriteOutcome, Error>>> = writes.writes.iter().map(|_| None).collect();
        let mut away = None;
        for (target, numbers) in by_target {
            let name = writes.targets.get(target as usize).map(|target| collection(target));
            let (place, outcomes) = match name {
                Some(Ok(place)) => (place, self.write_target(place, writes, &numbers, &mut away).await),
                Some(Err(fault)) => ("", vec![Err(fault); numbers.len()]),
                None => {
                    ("", vec![Err(Fault::Setup(format!("the batch names target {target}, and has none of that number"))); numbers.len()])
                }
            };
            for (number, outcome) in numbers.into_iter().zip(outcomes) {
                if let Some(result) = results.get_mut(number) {
                    *result = Some(outcome.map_err(|fault| self.error(place, fault)));
                }
            }
        }
        let unanswered = || Err(self.error("", Fault::Away("the write was not answered".to_owned())));
        results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect()
    }

    /// All writes to one collection, chunk after chunk. Once the store itself is at fault the rest is not sent.
    async fn write_target(&self, place: &str, writes: &SinkWrites, numbers: &[usize], away: &mut Option<Fault>) -> Vec<Outcome> {
        let mut outcomes = vec![Err(unreadable_key()); numbers.len()];
        let (mut chunk, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (at, write) in numbers.iter().filter_map(|&number| writes.writes.get(number)).enumerate() {
            let Some(id) = Value::from_tagged(writes.slice(write.key)) else { continue };
            let document = write.document.map(|document| (writes.slice(document), write.content));
            let write = KeyWrite::new(place, id, write.fence, writes.partition, document);
            if !chunk.is_empty() && (chunk.len() >= self.settings.max_bulk || bytes + write.encoded_len() > MAX_CHUNK_BYTES) {
                self.settle_chunk(place, &mut chunk, &mut places, &mut outcomes, away, &writes.module).await;
                bytes = 0;
            }
            bytes += write.encoded_len();
            chunk.push(write);
            places.push(at);
        }
        self.settle_chunk(place, &mut chunk, &mut places, &mut outcomes, away, &writes.module).await;
        outcomes
    }

    /// Writes a chunk, and puts its outcomes at their places.
    async fn settle_chunk(
        &self,
        place: &str,
        chunk: &mut Vec<KeyWrite<'_>>,
        places: &mut Vec<usize>,
        outcomes: &mut [Outcome],
        away: &mut Option<Fault>,
        module: &str,
    ) {
        let settled = match away {
            Some(fault) => vec![Err(fault.clone()); chunk.len()],
            None => self.write_chunk(place, chunk, module).await,
        };
        for (at, outcome) in places.drain(..).zip(settled) {
            if let Err(fault) = &outcome
                && fault.is_of_the_store()
                && away.is_none()
            {
                *away = Some(fault.clone());
            }
            if let Some(place) = outcomes.get_mut(at) {
                *place = outcome;
            }
        }
        chunk.clear();
    }

    /// Writes keys of one collection, no two of them equal. One outcome for each.
    pub(super) async fn write_chunk(&self, place: &str, chunk: &[KeyWrite<'_>], module: &str) -> Vec<Outcome> {
        if chunk.is_empty() {
            return Vec::new();
        }
        let deletes: Vec<&KeyWrite<'_>> = chunk.iter().filter(|write| write.document.is_none()).collect();
        let all: Vec<&KeyWrite<'_>> = chunk.iter().collect();
        let (tombstones, documents) = match try_join(self.tombstones(&all), self.documents(place, &deletes)).await {
            Ok(found) => found,
            Err(fault) => return vec![Err(fault); chunk.len()],
        };
        let mut board = Board { outcomes: chunk.iter().map(|_| None).collect() };
        let (mut puts, mut buried, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
        for (number, write) in chunk.iter().enumerate() {
            let tombstone = judged(write, tombstones.get(&write.key));
            if write.document.is_some() {
                // The guard is for the document, of which nothing is known yet.
                board.open_or_settle(number, tombstone, |_| puts.push(Open { write: number, guard: Guard::SamePartition }));
                continue;
            }
            let mut document_guard = None;
            board.open_or_settle(number, judged(write, documents.get(&write.key)), |guard| document_guard = Some(guard));
            let Some(guard) = document_guard else { continue };
            match tombstone {
                Verdict::Older(at_tombstone) => buried.push((Open { write: number, guard: at_tombstone }, guard)),
                Verdict::Settled(Err(fault)) => board.settle(number, Err(fault)),
                // The tombstone stands already; whether the document went after it is not known, so it is removed again.
                Verdict::Settled(Ok(outcome)) => {
                    board.settle(number, Ok(outcome));
                    deletes.push(Open { write: number, guard });
                }
            }
        }
        let mut other = Board { outcomes: chunk.iter().map(|_| None).collect() };
        join(self.put(place, chunk, puts, &mut board), self.bury(place, chunk, buried, deletes, module, &mut other)).await;
        board.merged(other)
    }

    /// Conditional upserts; afterwards what was inserted is held against the tombstones once more.
    async fn put(&self, place: &str, chunk: &[KeyWrite<'_>], open: Vec<Open>, board: &mut Board) {
        let what = self.what("update", place);
        let mut inserted = Vec::new();
        let upsert = |command: &mut WriteCommand, open: Open| {
            if let Some(write) = chunk.get(open.write) {
                command.upsert(write.condition(open.guard), write.document.unwrap_or_default());
            }
        };
        let sent = Upserts { collection: place, what: &what, statement: &upsert, capacity: chunk.iter().map(KeyWrite::encoded_len).sum() };
        self.upsert_until_settled(&sent, chunk, open, board, &mut inserted).await;
        self.remove_buried(place, chunk, &inserted, board).await;
    }

    /// Tombstones first, then the documents. `standing` are deletes whose tombstone stands already.
    async fn bury(
        &self,
        place: &str,
        chunk: &[KeyWrite<'_>],
        buried: Vec<(Open, Guard)>,
        mut standing: Vec<Open>,
        module: &str,
        board: &mut Board,
    ) {
        if !buried.is_empty() {
            let what = self.what("update", TOMBSTONES);
            let at_ms = self.machine.now_ms();
            let upsert = |command: &mut WriteCommand, open: Open| {
                if let Some(write) = chunk.get(open.write) {
                    command.upsert(write.tombstone_condition(open.guard), &tombstone(place, write, module, at_ms));
                }
            };
            let sent = Upserts { collection: TOMBSTONES, what: &what, statement: &upsert, capacity: buried.len() * 3 * STATEMENT_BYTES };
            let open = buried.iter().map(|(open, _)| *open).collect();
            self.upsert_until_settled(&sent, chunk, open, board, &mut Vec::new()).await;
            standing.extend(
                buried.iter().filter(|(open, _)| board.is_ok(open.write)).map(|(open, guard)| Open { write: open.write, guard: *guard }),
            );
        }
        if standing.is_empty() {
            return;
        }
        let mut command = WriteCommand::delete(place, self.terms(), standing.len() * STATEMENT_BYTES);
        for open in &standing {
            if let Some(write) = chunk.get(open.write) {
                command.remove(write.condition(open.guard));
            }
        }
        let what = self.what("delete", place);
        let failed = match self.run(&what, command.finish()).await {
            Ok(reply) => Reply::of(&what, &reply, &self.doubts).failures(standing.len()),
            Err(fault) => standing.iter().map(|_| Some(fault.clone())).collect(),
        };
        for (open, fault) in standing.iter().zip(failed) {
            if let Some(fault) = fault {
                board.settle(open.write, Err(fault));
            }
        }
    }

    /// Sends upserts until each is done or refused. E11000 on `_id` says only that the condition did not hold when the insert was
    /// tried, or that another insert came first: what is stored is then looked at, and where it is older, or gone, the write is sent
    /// again. `inserted` gets the writes whose key held nothing.
    async fn upsert_until_settled(
        &self,
        sent: &Upserts<'_>,
        chunk: &[KeyWrite<'_>],
        mut open: Vec<Open>,
        board: &mut Board,
        inserted: &mut Vec<usize>,
    ) {
        for _ in 0..MAX_ATTEMPTS {
            if open.is_empty() {
                return;
            }
            let mut command = WriteCommand::update(sent.collection, self.terms(), sent.capacity);
            for &one in &open {
                (sent.statement)(&mut command, one);
            }
            let collided = match self.run(sent.what, command.finish()).await {
                Ok(reply) => board.settle_reply(&Reply::of(sent.what, &reply, &self.doubts), &open, inserted),
                // Refused as a whole for the sake of one write: each goes alone, so that the others are not given up with it.
                Err(fault) if open.len() > 1 && !fault.is_of_the_store() => {
                    for one in open {
                        Box::pin(self.upsert_until_settled(sent, chunk, vec![one], board, inserted)).await;
                    }
                    return;
                }
                Err(fault) => return board.settle_all(&open, &fault),
            };
            let writes: Vec<&KeyWrite<'_>> = collided.iter().filter_map(|open| chunk.get(open.write)).collect();
            let stored = match if sent.collection == TOMBSTONES {
                self.tombstones(&writes).await
            } else {
                self.documents(sent.collection, &writes).await
            } {
                Ok(stored) => stored,
                Err(fault) => return board.settle_all(&collided, &fault),
            };
            open.clear();
            for (one, write) in collided.iter().zip(writes) {
                board.open_or_settle(one.write, judged(write, stored.get(&write.key)), |guard| open.push(Open { write: one.write, guard }));
            }
        }
        board.settle_all(&open, &Fault::Away(format!("{}: a key changes faster than it can be written", sent.what)));
    }

    /// A delete may have written its tombstone between our look at the tombstones and our insert, and found no document to delete.
    /// What was inserted under a newer tombstone is removed before the batch is acknowledged.
    async fn remove_buried(&self, place: &str, chunk: &[KeyWrite<'_>], inserted: &[usize], board: &mut Board) {
        let writes: Vec<(usize, &KeyWrite<'_>)> =
            inserted.iter().filter_map(|&number| Some((number, chunk.get(number)?))).filter(|(number, _)| board.is_ok(*number)).collect();
        let keys: Vec<&KeyWrite<'_>> = writes.iter().map(|(_, write)| *write).collect();
        let tombstones = match self.tombstones(&keys).await {
            Ok(tombstones) => tombstones,
            Err(fault) => return writes.iter().for_each(|(number, _)| board.settle(*number, Err(fault.clone()))),
        };
        let mut command = WriteCommand::delete(place, self.terms(), 0);
        let mut removed = Vec::new();
        for (number, write) in writes {
            if let Verdict::Settled(outcome) = judged(write, tombstones.get(&write.key)) {
                board.settle(number, outcome);
                command.remove_exactly(write.id, write.incoming.fence.number(), write.incoming.partition);
                removed.push(number);
            }
        }
        if removed.is_empty() {
            return;
        }
        let what = self.what("delete", place);
        let failed = match self.run(&what, command.finish()).await {
            Ok(reply) => Reply::of(&what, &reply, &self.doubts).failures(removed.len()),
            Err(fault) => removed.iter().map(|_| Some(fault.clone())).collect(),
        };
        for (number, fault) in removed.into_iter().zip(failed) {
            if let Some(fault) = fault {
                board.settle(number, Err(fault));
            }
        }
    }

    /// The versions of documents that are there and have one.
    pub(super) async fn documents(&self, place: &str, writes: &[&KeyWrite<'_>]) -> Result<HashMap<CanonicalKey, Stored>, Fault> {
        Ok(self.standing(place, writes).await?.into_iter().filter_map(|(key, stored)| Some((key, stored?))).collect())
    }

    /// The documents that are there, with their version if they have one.
    pub(super) async fn standing(&self, place: &str, writes: &[&KeyWrite<'_>]) -> Result<HashMap<CanonicalKey, Option<Stored>>, Fault> {
        let mut found = HashMap::new();
        if writes.is_empty() {
            return Ok(found);
        }
        let filter = |out: &mut Writer| write_id_in(out, writes.iter().map(|write| write.id));
        let command = find(place, self.terms(), &["_sync"], writes.len(), filter, |_| ());
        self.query(&self.what("find", place), command, |document| {
            if let Some(id) = Elements::of(document).find("_id") {
                found.insert(CanonicalKey::of(id), Stored::of_document(document));
            }
        })
        .await?;
        Ok(found)
    }

    /// The versions of tombstones that stand.
    pub(super) async fn tombstones(&self, writes: &[&KeyWrite<'_>]) -> Result<HashMap<CanonicalKey, Stored>, Fault> {
        let mut found = HashMap::new();
        if writes.is_empty() {
            return Ok(found);
        }
        let filter = |out: &mut Writer| write_id_in(out, writes.iter().map(|write| as_binary(&write.tombstone)));
        let command = find(TOMBSTONES, self.terms(), &["k", "v", "p"], writes.len(), filter, |_| ());
        self.query(&self.what("find", TOMBSTONES), command, |tombstone| {
            if let (Some(id), Some(stored)) = (Elements::of(tombstone).find("k"), Stored::of_tombstone(tombstone)) {
                found.insert(CanonicalKey::of(id), stored);
            }
        })
        .await?;
        Ok(found)
    }
}

/// What the upserts of a loop have in common.
struct Upserts<'a> {
    collection: &'a str,
    what: &'a str,
    statement: &'a (dyn Fn(&mut WriteCommand, Open) + Sync),
    capacity: usize,
}

/// The outcomes of a chunk so far.
struct Board {
    outcomes: Vec<Option<Outcome>>,
}

impl Board {
    fn settle(&mut self, write: usize, outcome: Outcome) {
        if let Some(place) = self.outcomes.get_mut(write) {
            *place = Some(outcome);
        }
    }

    fn settle_all(&mut self, open: &[Open], fault: &Fault) {
        for one in open {
            self.settle(one.write, Err(fault.clone()));
        }
    }

    /// Settles what succeeded and what failed; returns what collided on `_id`. `inserted` gets the writes whose key held nothing.
    fn settle_reply(&mut self, reply: &Reply<'_>, open: &[Open], inserted: &mut Vec<usize>) -> Vec<Open> {
        let unacknowledged = reply.write_concern_fault();
        let mut collided = Vec::new();
        for (one, error) in open.iter().zip(reply.errors(open.len())) {
            match (error, &unacknowledged) {
                (Some(Some(fault)), _) => self.settle(one.write, Err(fault)),
                (_, Some(fault)) => self.settle(one.write, Err(fault.clone())),
                (None, None) => self.settle(one.write, Ok(WriteOutcome::Applied)),
                (Some(None), None) => collided.push(*one),
            }
        }
        inserted.extend(reply.upserted().filter_map(|index| open.get(index)).map(|one| one.write));
        collided
    }

    fn open_or_settle(&mut self, write: usize, verdict: Verdict, open: impl FnOnce(Guard)) {
        match verdict {
            Verdict::Older(guard) => open(guard),
            Verdict::Settled(outcome) => self.settle(write, outcome),
        }
    }

    fn is_ok(&self, write: usize) -> bool {
        matches!(self.outcomes.get(write), Some(Some(Ok(_))))
    }

    /// What `other` settled stands over what was settled here.
    fn merged(self, other: Self) -> Vec<Outcome> {
        let unanswered = || Err(Fault::Away("the write was not answered".to_owned()));
        self.outcomes.into_iter().zip(other.outcomes).map(|(ours, theirs)| theirs.or(ours).unwrap_or_else(unanswered)).collect()
    }
}

/// Nothing stored, or nothing with a version, is older than any write.
pub(super) fn judged(write: &KeyWrite<'_>, stored: Option<&Stored>) -> Verdict {
    stored.map_or(Verdict::Older(Guard::SamePartition), |stored| write.incoming.judge(*stored))
}

pub(super) fn unreadable_key() -> Fault {
    Fault::Refused("bad-key", "the key of the write is no BSON value".to_owned())
}

/// A tombstone, or a mark: the collection, the key, the version, and when it was written, from which the tombstones' TTL index counts.
pub(super) fn tombstone(place: &str, write: &KeyWrite<'_>, module: &str, at_ms: i64) -> Vec<u8> {
    let mut out = Writer::with_capacity(write.encoded_len());
    out.value("_id", as_binary(&write.tombstone));
    out.text("c", place);
    out.value("k", write.id);
    out.i64("v", write.incoming.fence.number());
    out.i32("p", write.incoming.partition);
    out.text("m", module);
    out.date_ms("at", at_ms);
    out.into_bytes()
}
