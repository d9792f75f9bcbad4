//! What a history happens in: all parts, and the checks that hold at every moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::mongodb::bson::raw::{RawBsonRef, RawDocument};
use ::mongodb::bson::rawdoc;
use serde_json::Value;
use streamsync::fence::Fence;
use streamsync::machine::Machine;
use streamsync::source::TopicPartition;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::group::Group;
use crate::kafka::{Kafka, Said, topic_name};
use crate::mongodb::{self, Done, Statement, at, elements, number};
use crate::mysql::{Key, MySql, Store};
use crate::network::Weather;
use crate::redis::{Redis, Reply};
use crate::setting::TABLES;

/// 2024-01-01: the simulated clocks begin there.
const BEGINNING_MS: i64 = 1_704_067_200_000;

/// `delete.retention.ms` where it is soon over: longer than an idle partition's watermark gets old.
const BRIEF: Duration = Duration::from_secs(100);

/// Of what a halt says where null values may be gone.
pub const DELETIONS_MAY_BE_MISSING: &str = "deletions may be missing";

pub struct World {
    this: Weak<World>,
    pub dice: Mutex<Dice>,
    /// `batch.max_records` of all workers.
    pub max_records: usize,
    /// Whether tables are truncated, and the routes told to clear their targets then.
    pub truncates: bool,
    /// Whether they are told to halt instead, until somebody tells them otherwise.
    truncates_halt: AtomicBool,
    /// Whether the topics keep null values so briefly that whoever is away may miss them.
    pub forgets: bool,
    /// Whether a route may halt because of that.
    deletions_may_be_missing: AtomicBool,
    /// Whether Redis has hashes in place of JSON.
    pub hashes: bool,
    pub mysql: MySql,
    pub kafka: Mutex<Kafka>,
    pub group: Mutex<Group>,
    pub redis: Mutex<Redis>,
    pub mongodb: Mutex<MongoDb>,
    weathers: [Weather; 2],
    broker_storm: AtomicU32,
    /// The greatest version that a store has ever had at a key. A store may forget; this does not.
    seen: [Mutex<BTreeMap<Key, i64>>; 2],
    put_off: Mutex<(u64, BTreeMap<u64, PutOff>)>,
    violations: Mutex<Vec<String>>,
    /// What happened, for the eyes.
    story: Option<Mutex<Vec<String>>>,
    tasks: Mutex<JoinSet<()>>,
    began: Instant,
}

#[derive(Debug, Default)]
pub struct MongoDb {
    pub data: mongodb::Data,
    /// Another one for each primary.
    pub run: u64,
}

/// What the network holds back.
struct PutOff {
    /// A count of broken connections: what comes by one that broke since is lost.
    connection: u64,
    statements: Vec<Statement>,
}

impl World {
    pub fn new(seed: u64, tell: bool) -> Arc<Self> {
        let mut dice = Dice::new(seed);
        let partitions = dice.between(1, 3) as usize;
        let truncates = partitions == 1 && dice.permille(500);
        let truncates_halt = truncates && dice.permille(300);
        let hashes = dice.permille(250);
        let mysql = MySql::new(truncates, &mut dice);
        let forgets = !truncates && dice.permille(200);
        // More is left unread then while a store is away, and may be gone when it is back.
        let (partitions, most_records) = if forgets { (1, 2) } else { (partitions, 7) };
        let tombstones_kept = if forgets { BRIEF } else { Duration::from_secs(24 * 3600) };
        let kafka = Kafka::new(Machine::simulated(BEGINNING_MS), partitions, !truncates, tombstones_kept);
        let max_records = dice.between(1, most_records) as usize;
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            dice: Mutex::new(dice),
            max_records,
            truncates,
            hashes,
            truncates_halt: truncates_halt.into(),
            forgets,
            deletions_may_be_missing: AtomicBool::new(false),
            mysql,
            kafka: Mutex::new(kafka),
            group: Mutex::default(),
            redis: Mutex::new(Redis::new()),
            mongodb: Mutex::new(MongoDb { data: mongodb::Data::default(), run: 1 }),
            weathers: [Weather::new(), Weather::new()],
            broker_storm: AtomicU32::new(0),
            seen: [Mutex::default(), Mutex::default()],
            put_off: Mutex::default(),
            violations: Mutex::default(),
            story: tell.then(Mutex::default),
            tasks: Mutex::default(),
            began: Instant::now(),
        })
    }

    pub fn this(&self) -> Arc<Self> {
        self.this.upgrade().expect("whoever calls this holds one")
    }

    /// A task of the world, not of a worker: it goes on whatever becomes of the worker.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// The right time, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        BEGINNING_MS + self.elapsed_ms()
    }

    pub fn elapsed_ms(&self) -> i64 {
        self.began.elapsed().as_millis() as i64
    }

    pub fn weather(&self, store: Store) -> &Weather {
        let [redis, mongodb] = &self.weathers;
        match store {
            Store::Redis => redis,
            Store::MongoDb => mongodb,
        }
    }

    pub fn truncates_halt(&self) -> bool {
        self.truncates_halt.load(Ordering::Relaxed)
    }

    /// Whether routes may halt because null values may be gone. `true`: faults begin; `false`: they have ended, and what came of them is mended.
    pub fn deletions_may_be_missing(&self, may: bool) {
        self.deletions_may_be_missing.store(may && self.forgets, Ordering::Relaxed);
    }

    /// Whether a route has reason to halt.
    pub fn may_halt(&self) -> bool {
        self.truncates_halt() || self.deletions_may_be_missing.load(Ordering::Relaxed)
    }

    /// Whether that is the reason.
    pub fn is_expected(&self, halt: &str) -> bool {
        let deletions = self.deletions_may_be_missing.load(Ordering::Relaxed) && halt.contains(DELETIONS_MAY_BE_MISSING);
        deletions || (self.truncates_halt() && halt.contains("the table was truncated"))
    }

    /// What the operator does about a halted route: its configuration has `on_truncate = "clear"` from now on.
    pub fn clear_at_truncates(&self) {
        self.truncates_halt.store(false, Ordering::Relaxed);
    }

    /// A document as a store has it: a hash has text alone, and no nulls.
    fn in_form(&self, store: Store, document: Value) -> Value {
        if !self.hashes || store != Store::Redis {
            return document;
        }
        let fields = document.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fields.map(|(name, value)| (name.clone(), Value::from(text(value)))).collect()
    }

    /// What a store must hold, once all of the binlog up to a position has come through.
    pub fn expected(&self, store: Store, position: usize) -> BTreeMap<Key, Value> {
        let documents = self.mysql.documents(store, position).into_iter();
        documents.map(|(key, document)| (key, self.in_form(store, document))).collect()
    }

    /// How many requests in a thousand the brokers do not answer.
    pub fn broker_storm(&self) -> u32 {
        self.broker_storm.load(Ordering::Relaxed)
    }

    pub fn set_broker_storm(&self, permille: u32) {
        self.broker_storm.store(permille, Ordering::Relaxed);
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            locked(story).push(format!("{:>8} ms  {}", self.elapsed_ms(), what()));
        }
    }

    pub fn story(&self) -> Vec<String> {
        self.story.as_ref().map(|story| locked(story).clone()).unwrap_or_default()
    }

    pub fn violated(&self, what: String) {
        self.tell(|| format!("VIOLATION {what}"));
        let mut violations = locked(&self.violations);
        if violations.len() < 5 {
            violations.push(what);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        locked(&self.violations).clone()
    }

    fn seen(&self, store: Store) -> &Mutex<BTreeMap<Key, i64>> {
        let [redis, mongodb] = &self.seen;
        match store {
            Store::Redis => redis,
            Store::MongoDb => mongodb,
        }
    }

    /// A commit that the group takes: invariant 2.
    pub fn take_commit(&self, source: &TopicPartition, next_offset: i64) {
        self.tell(|| format!("{source} committed up to {next_offset}"));
        let (redis, mongodb) = (locked(self.seen(Store::Redis)), locked(self.seen(Store::MongoDb)));
        let seen = |key: &Key| {
            let of = |seen: &BTreeMap<Key, i64>| seen.get(key).copied().unwrap_or_default();
            of(&redis).min(of(&mongodb))
        };
        let taken = locked(&self.kafka).commit(source, next_offset, self.truncates_halt(), seen);
        if let Err(unsettled) = taken {
            self.violated(unsettled);
        }
    }

    /// A version that a store has taken: it must be that of a record of this key, and the document what the record's row makes.
    fn stored(&self, store: Store, key: &Key, fence: i64, partition: i64, before: Option<i64>, document: Option<Value>) {
        self.tell(|| format!("{store:?} {key} has version {}/{} of partition {partition}", fence >> 48, fence & 0xffff_ffff_ffff));
        if before.is_some_and(|before| before > fence) {
            self.violated(format!("{store:?}: the version at {key} went back from {before:?} to {fence}"));
        }
        let table = usize::from(key.starts_with('b'));
        let mut kafka = locked(&self.kafka);
        if document.is_none() && Fence::from_stored(fence).is_some_and(|fence| kafka.is_sweeps(&topic_name(table), fence)) {
            if kafka.refilled_row(&topic_name(table), key).is_some_and(|row| row.document(store).is_some()) {
                drop(kafka);
                self.violated(format!("{store:?}: a sweep removed {key}, which is a row that the refill has"));
            }
            return;
        }
        let record = Fence::from_stored(fence).and_then(|fence| kafka.record(&topic_name(table), partition as i32, fence));
        let Some(record) = record.filter(|record| record.key == *key || matches!(record.said, Said::Truncate)) else {
            drop(kafka);
            return self
                .violated(format!("{store:?}: {key} has version {fence} of partition {partition}, which no record of this key has"));
        };
        let expected = match &record.said {
            Said::Row(row) => row.document(store).map(|document| self.in_form(store, document)),
            Said::Delete | Said::Null { .. } | Said::Garbage | Said::Truncate => None,
        };
        let offset = record.offset;
        let ahead = kafka.written(&topic_name(table), partition as i32, fence, self.max_records);
        drop(kafka);
        if let Err(ahead) = ahead {
            self.violated(format!("{store:?}: {ahead}"));
        }
        if expected != document {
            self.violated(format!("{store:?}: {key} holds {document:?} with the version of record {offset}, which makes {expected:?}"));
        }
        let mut seen = locked(self.seen(store));
        let known = seen.entry(key.clone()).or_default();
        *known = fence.max(*known);
    }

    /// Documents of rows that there never were, as something else left them: no version stands beside them.
    pub fn put_foreign_documents(&self) {
        let id = 7_000 + locked(&self.dice).below(3) as i64;
        let (mut redis, mut mongodb) = (locked(&self.redis), locked(&self.mongodb));
        let foreign = [
            ("a", format!("a:{id}"), rawdoc! { "_id": id, "id": id }),
            ("b", format!("b:{id}:x"), rawdoc! { "_id": { "id": id, "line": "x" }, "id": id }),
        ];
        for (table, key, document) in foreign {
            redis.data.put(&key, &serde_json::json!({ "id": id }));
            let mongodb_id = at(&document, "_id").map(mongodb::Id::of).expect("it has one");
            mongodb.data.collection(table).insert(mongodb_id, document);
        }
    }

    // The stores' deeds, watched.

    pub fn execute_redis(&self, commands: &[Vec<Vec<u8>>]) -> Vec<Reply> {
        commands.iter().map(|command| self.execute_one_redis(command)).collect()
    }

    fn execute_one_redis(&self, command: &[Vec<u8>]) -> Reply {
        let mut redis = locked(&self.redis);
        // EVALSHA digest 2 key companion …
        let [name, _, count, document_key, companion, ..] = command else { return redis.run(command) };
        if !name.starts_with(b"EVAL") || count != b"2" || document_key.ends_with(b"%probe") {
            return redis.run(command);
        }
        let version = |redis: &Redis| redis.data.get(companion).map(|text| String::from_utf8_lossy(text).into_owned());
        let before = version(&redis);
        let reply = redis.run(command);
        if let Some(after) = version(&redis).filter(|after| before.as_ref() != Some(after)) {
            let document = redis.data.document(document_key);
            drop(redis);
            let fence = |text: &String| text.split(' ').next()?.parse::<i64>().ok();
            let partition = after.split(' ').nth(4).and_then(|text| text.parse().ok()).unwrap_or(-1);
            let key = String::from_utf8_lossy(document_key).into_owned();
            self.stored(Store::Redis, &key, fence(&after).unwrap_or_default(), partition, before.as_ref().and_then(fence), document);
        }
        reply
    }

    /// Executes statements; `found`: what their upserts saw before.
    pub fn execute_mongodb(&self, statements: &[&Statement], found: Option<&[bool]>) -> Vec<Done> {
        let execute = |(index, statement): (usize, &&Statement)| {
            let inserts = found.and_then(|found| found.get(index)).is_some_and(|found| !found);
            self.execute_one_mongodb(statement, inserts)
        };
        statements.iter().enumerate().map(execute).collect()
    }

    fn execute_one_mongodb(&self, statement: &Statement, inserts: bool) -> Done {
        let mut mongodb = locked(&self.mongodb);
        let id = statement.id();
        let tombstone = statement.collection == "_sync_tombstones";
        let path = if tombstone { "v" } else { "_sync.v" };
        let version = |document: &RawDocument| at(document, path).and_then(number);
        let before = id.as_ref().and_then(|id| mongodb.data.get(&statement.collection, id)).and_then(|document| version(document));
        let done = mongodb.data.execute(statement, inserts);
        drop(mongodb);
        if statement.replacement.is_none() && done == Done::Changed && TABLES.contains(&&*statement.collection) {
            self.tell(|| format!("MongoDb {} is removed", key_of(&statement.collection, at(&statement.query, "_id"))));
        }
        let Some(replacement) = statement.replacement.as_ref().filter(|_| matches!(done, Done::Changed | Done::Inserted)) else {
            return done;
        };
        let (collection, id, partition) = if tombstone {
            (replacement.get_str("c").unwrap_or_default(), at(replacement, "k"), "p")
        } else {
            (&*statement.collection, at(replacement, "_id"), "_sync.p")
        };
        if TABLES.contains(&collection)
            && let Some(fence) = version(replacement)
        {
            let key = key_of(collection, id);
            let partition = at(replacement, partition).and_then(number).unwrap_or(-1);
            self.stored(Store::MongoDb, &key, fence, partition, before, (!tombstone).then(|| fields(replacement)));
        }
        done
    }

    pub fn put_off(&self, connection: u64, statements: Vec<Statement>) -> u64 {
        let mut put_off = locked(&self.put_off);
        put_off.0 += 1;
        let number = put_off.0;
        put_off.1.insert(number, PutOff { connection, statements });
        number
    }

    pub fn take_put_off(&self, number: u64) -> Option<Vec<Statement>> {
        let put_off = locked(&self.put_off).1.remove(&number)?;
        (put_off.connection == self.weather(Store::MongoDb).connection()).then_some(put_off.statements)
    }

    /// Something held back for one of the same keys.
    pub fn take_put_off_for(&self, statements: &[&Statement]) -> Option<Vec<Statement>> {
        let connection = self.weather(Store::MongoDb).connection();
        let same = |late: &Statement| {
            late.id().is_some_and(|id| statements.iter().any(|one| one.collection == late.collection && one.id().as_ref() == Some(&id)))
        };
        let is_one = |put_off: &PutOff| put_off.connection == connection && put_off.statements.iter().any(same);
        let number = locked(&self.put_off).1.iter().find(|(_, put_off)| is_one(put_off)).map(|(number, _)| *number)?;
        self.take_put_off(number)
    }

    /// The documents of a store, without what the sinks keep for themselves.
    pub fn documents(&self, store: Store) -> BTreeMap<Key, Value> {
        match store {
            Store::Redis => {
                let redis = locked(&self.redis);
                redis.data.documents().collect()
            }
            Store::MongoDb => {
                let mongodb = locked(&self.mongodb);
                let of = |table: &&'static str| {
                    let documents = mongodb.data.collections.get(*table).into_iter().flat_map(|collection| collection.values());
                    documents.map(|document| (key_of(table, at(document, "_id")), fields(document))).collect::<Vec<_>>()
                };
                TABLES.iter().flat_map(of).collect()
            }
        }
    }
}

/// `a:1`, `b:1:x`.
fn key_of(collection: &str, id: Option<RawBsonRef<'_>>) -> Key {
    match id {
        Some(RawBsonRef::Document(parts)) => {
            let line = parts.get_str("line").unwrap_or("?");
            format!("{collection}:{}:{line}", at(parts, "id").and_then(number).unwrap_or(-1))
        }
        Some(id) => format!("{collection}:{}", number(id).unwrap_or(-1)),
        None => format!("{collection}:?"),
    }
}

/// A document without `_id` and `_sync`.
fn fields(document: &RawDocument) -> Value {
    let own = elements(document).filter(|(name, _)| !["_id", "_sync"].contains(name));
    let plain = |value: RawBsonRef<'_>| match value {
        RawBsonRef::Null => Value::Null,
        RawBsonRef::String(text) => Value::from(text),
        other => number(other).map_or_else(|| Value::from(format!("{other:?}")), Value::from),
    };
    Value::Object(own.map(|(name, value)| (name.to_owned(), plain(value))).collect())
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
