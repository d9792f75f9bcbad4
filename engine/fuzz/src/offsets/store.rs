//! A store in memory that holds its answers back, loses them, is away, refuses and forgets, as it is told to.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use streamsync::config::TargetSettings;
use streamsync::fence::{Fence, Generation};
use streamsync::plan::SinkWrites;
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{Error, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use streamsync::source::TopicPartition;
use tokio::sync::watch;

use super::ledger::Event;
use super::world::{Journal, locked, one_of};

/// One of the lane's sinks.
pub(super) struct Store {
    number: usize,
    pub(super) kept: MemorySink,
    journal: Journal,
    mood: Mutex<Mood>,
    held: watch::Sender<bool>,
}

/// How it answers.
#[derive(Default)]
pub(super) struct Mood {
    /// It has none of what it is asked.
    pub(super) is_away: bool,
    /// Two bits for each of the next batch's writes or marks, over and over: 0 kept, 1 kept and not told, 2 away, 3 refused.
    pub(super) fates: u8,
    /// The next batch of writes learns that it can't be used.
    pub(super) is_unfit: bool,
    /// So many watermarks are stored and not told.
    pub(super) unheard_watermarks: u8,
    /// So many watermarks are not stored.
    pub(super) untaken_watermarks: u8,
    /// Counts its servers.
    pub(super) lineage: u64,
}

/// What a batch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    Writes,
    Marks,
}

impl Store {
    pub(super) fn new(number: usize, name: &str, journal: Journal) -> Self {
        Self { number, kept: MemorySink::new(name), journal, mood: Mutex::default(), held: watch::Sender::new(false) }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.mood());
    }

    /// Lets nobody's writes pass; the second time it lets them.
    pub(super) fn hold(&self) {
        self.held.send_modify(|held| *held = !*held);
    }

    /// Answers everyone again, as the server that it is.
    pub(super) fn heal(&self) {
        let mut mood = self.mood();
        *mood = Mood { lineage: mood.lineage, ..Mood::default() };
        self.held.send_replace(false);
    }

    fn mood(&self) -> MutexGuard<'_, Mood> {
        locked(&self.mood)
    }

    fn away(&self) -> Error {
        Error::Away { sink: self.kept.name().to_owned(), message: "connection refused".to_owned() }
    }

    fn here(&self) -> Result<(), Error> {
        if self.mood().is_away { Err(self.away()) } else { Ok(()) }
    }

    async fn answer(&self, batch: Batch, writes: &SinkWrites) -> Vec<Result<WriteOutcome, Error>> {
        let sink = self.number;
        for write in &writes.writes {
            let offset = write.fence.offset();
            self.journal.push(if batch == Batch::Writes { Event::Sent { sink, offset } } else { Event::Marking { sink, offset } });
        }
        // The sender lives as long as this.
        self.held.subscribe().wait_for(|held| !held).await.ok();
        let (is_away, fates, is_unfit) = {
            let mut mood = self.mood();
            let is_unfit = batch == Batch::Writes && !mood.is_away && std::mem::take(&mut mood.is_unfit);
            (mood.is_away, if mood.is_away { 0 } else { std::mem::take(&mut mood.fates) }, is_unfit)
        };
        if is_unfit && !writes.writes.is_empty() {
            self.journal.push(Event::Unfit);
        }
        let mut results = Vec::with_capacity(writes.writes.len());
        for (place, write) in writes.writes.iter().enumerate() {
            let fate = (fates >> (place % 4 * 2)) & 3;
            let offset = write.fence.offset();
            if is_unfit {
                results.push(Err(Error::Setup { sink: self.kept.name().to_owned(), message: "NOPERM".to_owned() }));
            } else if is_away || fate == 2 {
                results.push(Err(self.away()));
            } else if fate == 3 {
                self.journal.push(Event::Answered { sink, offset });
                let (sink, place) = (self.kept.name().to_owned(), "t".to_owned());
                results.push(Err(Error::Refused { sink, place, code: "wrong-type", message: "a list".to_owned() }));
            } else {
                let one = SinkWrites { writes: vec![write.clone()], ..writes.clone() };
                let (kept, told) = match batch {
                    Batch::Writes => (self.kept.write(&one).await, Event::Kept { sink, offset }),
                    Batch::Marks => (self.kept.mark(&one).await, Event::Answered { sink, offset }),
                };
                if fate == 1 {
                    results.push(Err(self.away()));
                } else {
                    self.journal.push(told);
                    results.extend(kept);
                }
            }
        }
        results
    }
}

impl Sink for Store {
    fn name(&self) -> &str {
        self.kept.name()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        async { self.here() }.boxed()
    }

    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        self.answer(Batch::Writes, writes).boxed()
    }

    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        self.answer(Batch::Marks, marks).boxed()
    }

    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, Error>> {
        self.kept.held(keys)
    }

    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, Error>> {
        async move {
            self.here()?;
            self.kept.watermark(group, source).await
        }
        .boxed()
    }

    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, Error>> {
        async move {
            self.here()?;
            if one_of(&mut self.mood().untaken_watermarks) {
                return Err(self.away());
            }
            if self.mood().lineage != lineage {
                return Ok(MarkOutcome::OtherServers);
            }
            let outcome = self.kept.store_watermark(group, source, MemorySink::LINEAGE, replaces, watermark).await?;
            if outcome == MarkOutcome::Stored {
                self.journal.push(Event::Watermark { sink: self.number, watermark });
            }
            if one_of(&mut self.mood().unheard_watermarks) { Err(self.away()) } else { Ok(outcome) }
        }
        .boxed()
    }

    fn lineage(&self) -> BoxFuture<'_, Result<u64, Error>> {
        async {
            self.here()?;
            Ok(self.mood().lineage)
        }
        .boxed()
    }

    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, Error>> {
        self.kept.identity(topic)
    }

    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>> {
        self.kept.store_identity(topic, identity)
    }

    fn clear<'a>(&'a self, target: &'a TargetSettings, fence: Fence, partition: i32) -> BoxFuture<'a, Result<(), Error>> {
        self.kept.clear(target, fence, partition)
    }

    fn sweep_generation<'a>(&'a self, target: &'a TargetSettings, generation: Generation) -> BoxFuture<'a, Result<u64, Error>> {
        self.kept.sweep_generation(target, generation)
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.kept.sweep()
    }

    fn sweep_interval(&self) -> Option<Duration> {
        None
    }
}
