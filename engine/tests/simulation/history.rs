//! One history: a storm, its end, and what must hold then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::connector::Connector;
use crate::kafka::{Partition, Said};
use crate::mongodb;
use crate::mysql::Store;
use crate::redis;
use crate::worker::Worker;
use crate::world::{DELETIONS_MAY_BE_MISSING, World, locked};

const STORES: [Store; 2] = [Store::Redis, Store::MongoDb];
const MAX_WORKERS: usize = 3;

/// How long the stores may take, once all faults have ended, to hold what MySQL holds.
const HEALING: Duration = Duration::from_secs(240);

/// Where null values are kept briefly all goes so many times slower, and some of what is away stays away so many times longer.
const SLOW: u64 = 4;
const VERY_LONG: u64 = 15;

/// How long it takes at most, once all faults have ended, until each partition has begun or is halted.
const BEGINNING: Duration = Duration::from_secs(90);

/// Longer than the network holds anything back, and than two sweeps.
const SILENCE: Duration = Duration::from_secs(60);

/// What was found of one history.
pub struct Found {
    pub violations: Vec<String>,
    pub story: Vec<String>,
}

/// Plays the history of a seed.
pub fn play(seed: u64, tell: bool) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed, tell);
        let mut history = History {
            world: Arc::clone(&world),
            connector: Connector::default(),
            workers: Vec::new(),
            later: BTreeMap::new(),
            actions: 0,
            backups: (None, None),
            garbage: 0,
        };
        history.run().await;
        Found { violations: world.violations(), story: world.story() }
    })
}

/// What is done when its time has come.
#[derive(Debug)]
enum Action {
    Start,
    Resume(Arc<crate::process::Process>),
    Up(Store),
    SnapshotComplete,
}

struct History {
    world: Arc<World>,
    connector: Connector,
    workers: Vec<Worker>,
    later: BTreeMap<(Instant, u64), Action>,
    actions: u64,
    /// Older copies of what the stores hold.
    backups: (Option<redis::Data>, Option<mongodb::Data>),
    garbage: u64,
}

impl History {
    async fn run(&mut self) {
        let world = Arc::clone(&self.world);
        world.spawn(Arc::clone(&world).coordinate());
        let len = world.mysql.binlog.len();
        let middle = locked(&world.dice).permille(300).then(|| world.mysql.boundary(len / 2));
        {
            let mut dice = locked(&world.dice);
            self.connector.snapshot(&world.mysql, &mut locked(&world.kafka), &mut dice);
        }
        if let Some(middle) = middle {
            if !self.act(middle).await {
                return;
            }
            let rebuild = locked(&world.dice).below(3);
            match rebuild {
                0 => self.recreate_topics().await,
                kind => self.rebuild(kind == 1).await,
            }
        }
        if self.act(len).await {
            self.audit(len).await;
        }
    }

    /// A storm while the binlog is read up to `limit`, and the peace after it. `false`: something does not hold.
    async fn act(&mut self, limit: usize) -> bool {
        self.storm(limit).await;
        self.calm(limit).await;
        self.heal(limit).await
    }

    // The storm

    async fn storm(&mut self, limit: usize) {
        let (count, permille, seconds) = {
            let mut dice = locked(&self.world.dice);
            (dice.between(1, MAX_WORKERS as u64), dice.below(120) as u32, dice.between(20, 120))
        };
        let pace = if self.world.forgets { SLOW } else { 1 };
        self.world.deletions_may_be_missing(true);
        for store in STORES {
            self.world.weather(store).storm_permille.store(permille, Ordering::Relaxed);
        }
        self.world.set_broker_storm(permille);
        for _ in 0..count {
            self.start();
        }
        let end = Instant::now() + Duration::from_secs(seconds * pace);
        while Instant::now() < end {
            self.look_after_workers();
            let (wait, event) = {
                let mut dice = locked(&self.world.dice);
                (dice.between(1, 2_500 * pace), dice.below(40))
            };
            self.wait(Duration::from_millis(wait)).await;
            self.event(event, limit);
        }
    }

    /// Waits, and does what falls due meanwhile.
    async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at, _), action) = entry.remove_entry();
            tokio::time::sleep_until(at).await;
            self.act_on(action);
        }
        tokio::time::sleep_until(until).await;
    }

    fn act_on(&mut self, action: Action) {
        self.world.tell(|| format!("{action:?}"));
        if self.world.forgets {
            // The cleaner came by while somebody was away.
            self.compact();
        }
        match action {
            Action::Start if self.workers.len() < MAX_WORKERS => self.start(),
            Action::Start => {}
            Action::Resume(process) => self.resume(process),
            Action::Up(store) => self.world.weather(store).down.store(false, Ordering::Relaxed),
            Action::SnapshotComplete => locked(&self.world.kafka).snapshot_complete(),
        }
    }

    fn after(&mut self, least_ms: u64, most_ms: u64, action: Action) {
        let delay = {
            let mut dice = locked(&self.world.dice);
            let delay = dice.between(least_ms, most_ms);
            if self.world.forgets && dice.permille(500) { delay * VERY_LONG } else { delay }
        };
        self.actions += 1;
        self.later.insert((Instant::now() + Duration::from_millis(delay), self.actions), action);
    }

    fn event(&mut self, event: u64, limit: usize) {
        let world = Arc::clone(&self.world);
        // A worker that begins looks at once how old its watermarks are. Most go on here, and have to notice it themselves.
        let event = if world.forgets && matches!(event, 0..=3 | 16) && locked(&world.dice).permille(900) { 4 } else { event };
        match event {
            0 | 1 => self.kill_one(),
            2 | 3 => self.pause_one(),
            4 => self.store_goes_down(),
            5 => self.some_store(|history, store| history.world.weather(store).break_connections()),
            6 => self.lose_data(),
            7 | 8 => self.back_up(),
            9 => self.connector.crash(),
            10 => self.connector.snapshot(&world.mysql, &mut locked(&world.kafka), &mut locked(&world.dice)),
            11 => self.connector.begin_chunk(&world.mysql, limit, &mut locked(&world.dice)),
            12..=14 => self.compact(),
            15 => self.after(0, 1, Action::Start),
            16 => self.stop_one(),
            17 => {
                self.garbage += 1;
                Connector::garbage(&mut locked(&world.kafka), self.garbage, &mut locked(&world.dice));
            }
            _ => self.connector.step(&world.mysql, limit, &mut locked(&world.kafka), &mut locked(&world.dice)),
        }
    }

    fn start(&mut self) {
        self.workers.push(Worker::start(&self.world));
    }

    fn pick_worker(&mut self) -> Option<usize> {
        let index = locked(&self.world.dice).below(self.workers.len().max(1) as u64) as usize;
        (index < self.workers.len()).then_some(index)
    }

    fn kill_one(&mut self) {
        if let Some(index) = self.pick_worker() {
            self.world.tell(|| format!("worker {index} is killed"));
            self.workers.remove(index).kill();
            self.after(0, 15_000, Action::Start);
        }
    }

    fn pause_one(&mut self) {
        if let Some(worker) = self.pick_worker().and_then(|index| self.workers.get(index)) {
            self.world.tell(|| "a worker is paused".to_owned());
            worker.process.pause();
            let process = Arc::clone(&worker.process);
            self.after(500, 60_000, Action::Resume(process));
        }
    }

    fn resume(&self, process: Arc<crate::process::Process>) {
        process.resume();
        // What was fetched while it was stopped is there now.
        locked(&self.world.kafka).wake_readers();
        let moment = locked(&self.world.dice).below(300);
        self.world.spawn(async move {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            process.polls();
        });
    }

    /// SIGTERM, without waiting for the end.
    fn stop_one(&mut self) {
        if let Some(index) = self.pick_worker() {
            self.world.tell(|| format!("worker {index} is told to stop"));
            let mut worker = self.workers.remove(index);
            let world = Arc::clone(&self.world);
            self.world.spawn(async move {
                // In the storm it may take longer.
                stop(&world, &mut worker).await;
                worker.kill();
            });
            self.after(0, 15_000, Action::Start);
        }
    }

    fn some_store(&mut self, what: impl FnOnce(&mut Self, Store)) {
        let store = if locked(&self.world.dice).permille(500) { Store::Redis } else { Store::MongoDb };
        what(self, store);
    }

    fn store_goes_down(&mut self) {
        self.some_store(|history, store| {
            history.world.tell(|| format!("{store:?} goes down"));
            history.world.weather(store).down.store(true, Ordering::Relaxed);
            history.world.weather(store).break_connections();
            history.after(500, 20_000, Action::Up(store));
        });
    }

    fn back_up(&mut self) {
        self.some_store(|history, store| match store {
            Store::Redis => history.backups.0 = Some(locked(&history.world.redis).data.clone()),
            Store::MongoDb => history.backups.1 = Some(locked(&history.world.mongodb).data.clone()),
        });
    }

    /// A failover to a server that had not everything, a restored backup, a store that somebody emptied.
    fn lose_data(&mut self) {
        let emptied = locked(&self.world.dice).permille(400);
        locked(&self.world.kafka).rewind();
        self.some_store(|history, store| {
            let world = &history.world;
            world.tell(|| if emptied { format!("{store:?} is emptied") } else { format!("{store:?} is put back to an older copy") });
            match store {
                Store::Redis if emptied => locked(&world.redis).data = redis::Data::default(),
                Store::Redis => locked(&world.redis).replace(history.backups.0.clone().unwrap_or_default()),
                Store::MongoDb if emptied => locked(&world.mongodb).data = mongodb::Data::default(),
                Store::MongoDb => {
                    let mut mongodb = locked(&world.mongodb);
                    mongodb.data = history.backups.1.clone().unwrap_or_default();
                    mongodb.run += 1;
                }
            }
            if !emptied {
                world.weather(store).break_connections();
            }
        });
    }

    fn compact(&mut self) {
        let (mut kafka, mut dice) = (locked(&self.world.kafka), locked(&self.world.dice));
        let sources = kafka.sources();
        // A null value goes with the second time that the cleaner comes by.
        let met = if self.world.forgets { sources.iter().collect() } else { dice.pick(&sources).into_iter().collect::<Vec<_>>() };
        for source in met {
            kafka.compact(source, dice.below(4) as usize);
        }
    }

    /// A worker that ends by itself, or halts a route, says that something needs a hand: nothing here does, but for truncates that halt.
    fn look_after_workers(&mut self) {
        let world = Arc::clone(&self.world);
        self.workers.retain_mut(|worker| match worker.ended() {
            Some(result) => {
                world.violated(format!("a worker ended by itself: {result:?}"));
                false
            }
            None => true,
        });
        for why in self.workers.iter().flat_map(Worker::halts).filter(|why| !world.is_expected(why)) {
            world.violated(why);
        }
    }

    // The peace

    /// All faults end; what MySQL has is told; a worker runs.
    async fn calm(&mut self, limit: usize) {
        self.world.tell(|| "the faults end".to_owned());
        for store in STORES {
            let weather = self.world.weather(store);
            weather.storm_permille.store(0, Ordering::Relaxed);
            weather.down.store(false, Ordering::Relaxed);
        }
        self.world.set_broker_storm(0);
        for action in std::mem::take(&mut self.later).into_values() {
            self.act_on(action);
        }
        let world = Arc::clone(&self.world);
        while !self.connector.is_done(limit) {
            self.connector.step(&world.mysql, limit, &mut locked(&world.kafka), &mut locked(&world.dice));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if world.may_halt() {
            self.mend_halts().await;
        }
        if self.workers.is_empty() {
            self.start();
        }
    }

    /// Where a table was truncated its route halts; the operator then has it clear the targets. Where deletions may be missing the stores are
    /// rebuilt.
    async fn mend_halts(&mut self) {
        if self.workers.is_empty() {
            self.start();
        }
        let deadline = Instant::now() + HEALING;
        if self.world.forgets {
            // A partition without lag may halt as well, when it begins: one of its stores may have been put back.
            tokio::time::sleep(BEGINNING).await;
        }
        while let Some(waits) = self.unhalted() {
            if Instant::now() >= deadline {
                self.world.violated(waits);
                break;
            }
            self.look_after_workers();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if self.world.truncates_halt() {
            self.world.tell(|| "the operator has truncates clear the targets".to_owned());
            self.stop_all().await;
            self.world.clear_at_truncates();
        } else if self.workers.iter().flat_map(Worker::halts).any(|why| why.contains(DELETIONS_MAY_BE_MISSING)) {
            self.world.tell(|| "the operator has the stores rebuilt, because deletions may be missing".to_owned());
            self.stop_all().await;
            let world = Arc::clone(&self.world);
            let (mut kafka, mut dice) = (locked(&world.kafka), locked(&world.dice));
            let commits = dice.permille(700);
            kafka.rebuild(true, commits, world.now_ms());
            self.connector.begin_again(&world.mysql, &mut kafka, &mut dice);
            kafka.snapshot_complete();
        }
        self.world.deletions_may_be_missing(false);
    }

    /// A topic that is neither settled nor halted.
    fn unhalted(&self) -> Option<String> {
        let halts: Vec<String> = self.workers.iter().flat_map(Worker::halts).collect();
        let kafka = locked(&self.world.kafka);
        let sources = kafka.sources().into_iter().filter(|source| kafka.lag_of(source) != 0);
        let mut open = sources.filter(|source| !halts.iter().any(|why| why.contains(&*source.topic)));
        open.next()
            .map(|source| format!("{source} has {} records which are not settled, and its route is not halted", kafka.lag_of(&source)))
    }

    /// Liveness: within a bounded time both stores hold what MySQL holds, nothing lags, and so it stays. Only a worker may find more to do: a
    /// store that has lost what MySQL does not have either looks as it should before anybody reads it again.
    async fn heal(&mut self, limit: usize) -> bool {
        let deadline = Instant::now() + HEALING;
        loop {
            while self.difference(limit).is_some() && Instant::now() < deadline {
                self.look_after_workers();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if let Some(difference) = self.difference(limit) {
                self.world.violated(format!("{difference}, {} s after the faults have ended", HEALING.as_secs()));
                break;
            }
            tokio::time::sleep(SILENCE).await;
            if let Some(difference) = self.wrong_documents(limit) {
                self.world.violated(format!("{difference}, though all was well {} s before", SILENCE.as_secs()));
                break;
            }
            if self.open_work().is_none() {
                break;
            }
        }
        self.look_after_workers();
        self.world.violations().is_empty()
    }

    fn difference(&self, limit: usize) -> Option<String> {
        self.open_work().or_else(|| self.wrong_documents(limit))
    }

    fn open_work(&self) -> Option<String> {
        let kafka = locked(&self.world.kafka);
        let lag = kafka.lag();
        if lag != 0 {
            return Some(format!("{lag} records are not committed"));
        }
        let topic = kafka.unswept()?;
        Some(format!("what the rebuild of {topic} did not write again is not removed"))
    }

    fn wrong_documents(&self, limit: usize) -> Option<String> {
        STORES.into_iter().find_map(|store| {
            let (expected, found) = (self.world.expected(store, limit), self.world.documents(store));
            let keys = expected.keys().chain(found.keys());
            let key = keys.into_iter().find(|key| expected.get(*key) != found.get(*key))?;
            Some(format!("{store:?} holds {:?} at {key}, and MySQL {:?}", found.get(key), expected.get(key)))
        })
    }

    /// A planned move: all is settled, the topics are made anew, and the operator begins the next generation.
    async fn recreate_topics(&mut self) {
        self.world.tell(|| "the topics are made anew".to_owned());
        self.stop_all().await;
        self.backups = (None, None);
        let now_ms = self.world.now_ms();
        locked(&self.world.kafka).recreate();
        locked(&self.world.kafka).begin_generation(now_ms);
        let world = Arc::clone(&self.world);
        self.connector.begin_again(&world.mysql, &mut locked(&world.kafka), &mut locked(&world.dice));
    }

    /// The operator has the stores refilled and swept of what MySQL no longer has, from the log or from a snapshot.
    async fn rebuild(&mut self, after_snapshot: bool) {
        self.world.tell(|| format!("the stores are rebuilt, {}", if after_snapshot { "from a snapshot" } else { "from the log" }));
        self.stop_all().await;
        let world = Arc::clone(&self.world);
        world.put_foreign_documents();
        let commits = locked(&world.dice).permille(700);
        locked(&world.kafka).rebuild(after_snapshot, commits, world.now_ms());
        if after_snapshot {
            {
                let mut dice = locked(&world.dice);
                self.connector.lose_position(&world.mysql, &mut dice);
                self.connector.snapshot(&world.mysql, &mut locked(&world.kafka), &mut dice);
            }
            self.after(0, 60_000, Action::SnapshotComplete);
        }
    }

    async fn stop_all(&mut self) {
        for mut worker in self.workers.drain(..) {
            if !stop(&self.world, &mut worker).await {
                self.world.violated("a worker did not stop in time".to_owned());
            }
            worker.kill();
        }
    }

    /// Invariant 1, and that a repetition changes nothing: one worker reads everything again from the beginning.
    async fn audit(&mut self, limit: usize) {
        self.world.tell(|| "everything is read again".to_owned());
        self.stop_all().await;
        locked(&self.world.kafka).rewind();
        locked(&self.world.kafka).commit_beginnings();
        self.start();
        let deadline = Instant::now() + HEALING;
        while self.difference(limit).is_some() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if let Some(difference) = self.difference(limit) {
            self.world.violated(format!("after everything was read again: {difference}"));
        }
        let Some(mut worker) = self.workers.pop() else { return };
        if worker.stop().await != Some(Ok(())) {
            self.world.violated("the last worker did not stop in order".to_owned());
        }
        let (records, faulty) = self.records();
        let (consumed, outcomes) = worker.counts();
        let [applied, _, _, _, dead_lettered] = outcomes;
        // A truncate looks again whether anything older is left.
        if consumed != records || outcomes.iter().sum::<u64>() != records || applied > self.truncates() || dead_lettered != faulty {
            self.world.violated(format!(
                "{records} records were read again, {faulty} of them faulty: consumed {consumed}, and applied, superseded, stale, filtered, \
                 dead-lettered {outcomes:?}"
            ));
        }
        worker.kill();
    }

    fn truncates(&self) -> u64 {
        let kafka = locked(&self.world.kafka);
        let partitions = kafka.topics.values().flat_map(|topic| &topic.partitions);
        partitions.flat_map(Partition::of_generation).filter(|record| matches!(record.said, Said::Truncate)).count() as u64
    }

    /// Records that the log has, and those of them which can't be stored.
    fn records(&self) -> (u64, u64) {
        let kafka = locked(&self.world.kafka);
        let partitions = kafka.topics.values().flat_map(|topic| &topic.partitions);
        let kept = partitions.flat_map(Partition::of_generation).filter(|record| !record.compacted);
        let faulty = |said: &Said| match said {
            Said::Garbage => true,
            Said::Row(row) => row.is_poisoned(),
            Said::Delete | Said::Null { .. } | Said::Truncate => false,
        };
        kept.fold((0, 0), |(all, bad), record| (all + 1, bad + u64::from(faulty(&record.said))))
    }
}

/// SIGTERM. `false`: it did not end in time. One that ends must have stopped in order, or halted where truncates do that.
async fn stop(world: &World, worker: &mut Worker) -> bool {
    let may_halt = world.may_halt();
    match worker.stop().await {
        Some(Err(error)) if !(may_halt && error.contains("halted")) => {
            world.violated(format!("a worker did not stop in order: {error}"));
            true
        }
        ended => ended.is_some(),
    }
}
