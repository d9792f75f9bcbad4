//! The Redis sink under the suite, in each of its forms; and what only Redis does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use streamsync::config::{Place, RedisForm, RedisSettings, SinkKind, SinkSettings, TargetSettings};
use streamsync::sink::redis::{RedisSink, StoredVersion};
use streamsync::sink::{Error, Sink, WriteOutcome};
use streamsync::source::TopicPartition;

use crate::earlier;
use crate::suite::{self, Document, Store, Stored, Version, delete, encode, fence, put, unique};

pub struct Redis {
    sink: RedisSink,
    form: RedisForm,
    client: Client,
}

/// Looks behind the sink.
enum Client {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

pub fn settings(urls: &[&str], cluster: bool) -> (SinkSettings, RedisSettings) {
    let redis = RedisSettings { urls: urls.iter().map(|&url| url.to_owned()).collect(), cluster, max_pipeline: 100 };
    let kind = SinkKind::Redis(redis.clone());
    let (tombstone_ttl, write_timeout) = (Duration::from_secs(3600), Duration::from_secs(10));
    (SinkSettings { name: "redis".into(), kind, tombstone_ttl, write_timeout }, redis)
}

impl Redis {
    /// One server.
    pub async fn connect(url: &str, form: RedisForm) -> Self {
        let client = redis::Client::open(url).expect("a URL").get_multiplexed_async_connection().await.expect("a server");
        Self { sink: sink(&[url], false), form, client: Client::Single(client) }
    }

    /// A cluster, by some of its nodes.
    pub async fn connect_cluster(urls: &[&str], form: RedisForm) -> Self {
        let client = redis::cluster::ClusterClient::new(urls.to_vec()).expect("URLs").get_async_connection().await.expect("a cluster");
        Self { sink: sink(urls, true), form, client: Client::Cluster(client) }
    }

    /// Whether the server has the JSON module.
    pub async fn has_json(&self) -> bool {
        let info: Vec<redis::Value> = self.ask(&["COMMAND", "INFO", "JSON.SET"]).await;
        info.iter().any(|command| *command != redis::Value::Nil)
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        match &self.client {
            Client::Single(client) => ask(&mut client.clone(), command).await,
            Client::Cluster(client) => ask(&mut client.clone(), command).await,
        }
    }

    fn whole_key(&self, target: &TargetSettings, key: &str) -> String {
        String::from_utf8(self.key(target, key)).expect("UTF-8")
    }

    async fn one(&self, target: &Arc<TargetSettings>, write: suite::Write, ttl_seconds: u32) -> Result<WriteOutcome, Error> {
        let mut writes = encode(self, target, 0, &[write]);
        writes.writes[0].ttl_seconds = ttl_seconds;
        self.sink.write(&writes).await.into_iter().next().expect("one result")
    }
}

async fn ask<T: redis::FromRedisValue>(client: &mut impl ConnectionLike, command: &[&str]) -> T {
    let mut asked = redis::Cmd::new();
    for part in command {
        asked.arg(*part);
    }
    asked.query_async(client).await.expect("an answer")
}

fn sink(urls: &[&str], cluster: bool) -> RedisSink {
    let (settings, redis) = settings(urls, cluster);
    RedisSink::new(&settings, &redis, Vec::new()).expect("URLs that can be read")
}

impl Store for Redis {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn target(&self, name: &str) -> Arc<TargetSettings> {
        let name = unique(name);
        let place = Place::Redis { prefix: format!("test*{name}"), form: self.form };
        Arc::new(TargetSettings { name, sink: 0, place, explicit_keys: false, ttl_seconds: None })
    }

    fn key(&self, target: &TargetSettings, key: &str) -> Vec<u8> {
        let Place::Redis { prefix, .. } = &target.place else { panic!("a target of Redis") };
        let escaped = key.replace('%', "%25").replace(':', "%3A").replace('{', "%7B").replace('}', "%7D");
        format!("{prefix}:{escaped}").into_bytes()
    }

    fn document(&self, _: &TargetSettings, _: &str, document: &Document, _: &Version) -> Vec<u8> {
        match self.form {
            RedisForm::String | RedisForm::Json => {
                serde_json::to_vec(&serde_json::json!({ "text": document.text, "number": document.number })).expect("JSON")
            }
            RedisForm::Hash => {
                let number = document.number.to_string();
                let pieces = ["text", &document.text, "number", &number];
                pieces.iter().flat_map(|piece| (piece.len() as u32).to_le_bytes().into_iter().chain(piece.bytes())).collect()
            }
        }
    }

    fn read<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Document>> {
        async move {
            let key = self.whole_key(target, key);
            let command = if self.form == RedisForm::Json { "JSON.GET" } else { "GET" };
            if self.form == RedisForm::Hash {
                let (text, number): (Option<String>, Option<i64>) = self.ask(&["HMGET", &key, "text", "number"]).await;
                return Some(Document { text: text?, number: number? });
            }
            let json: Option<String> = self.ask(&[command, &key]).await;
            let json: serde_json::Value = serde_json::from_str(&json?).expect("the suite's own JSON");
            Some(Document { text: json["text"].as_str()?.to_owned(), number: json["number"].as_i64()? })
        }
        .boxed()
    }

    fn stored<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Stored>> {
        async move {
            let version: Option<Vec<u8>> = self.ask(&["GET", &format!("_sync:{{{}}}", self.whole_key(target, key))]).await;
            let version = version?;
            // A key that was marked before it was written has no version yet.
            if version.get(19..22) == Some(b" n ") {
                return None;
            }
            let version = StoredVersion::parse(&version).expect("a version");
            Some(Stored { fence: version.fence, deleted: version.deleted })
        }
        .boxed()
    }

    fn plant<'a>(&'a self, target: &'a TargetSettings, key: &'a str, document: &'a Document) -> BoxFuture<'a, ()> {
        async move {
            let key = self.whole_key(target, key);
            let json = serde_json::json!({ "text": document.text, "number": document.number }).to_string();
            match self.form {
                RedisForm::String => self.ask(&["SET", &key, &json]).await,
                RedisForm::Json => self.ask(&["JSON.SET", &key, "$", &json]).await,
                RedisForm::Hash => {
                    let number = document.number.to_string();
                    self.ask(&["HSET", &key, "text", &document.text, "number", &number, "old", "1"]).await
                }
            }
        }
        .boxed()
    }
}

/// The form's own cases, beside the suite's.
pub async fn of_its_own(store: &Redis) {
    times_to_live(store).await;
    other_types(store).await;
    lost_scripts(store).await;
    marks(store).await;
    foreign_companion(store).await;
}

async fn times_to_live(store: &Redis) {
    let target = store.target("ttl");
    let (key, companion) = (store.whole_key(&target, "a"), format!("_sync:{{{}}}", store.whole_key(&target, "a")));
    let applied = store.one(&target, put("a", fence(1, 1), "one"), 100).await;
    assert!(matches!(applied, Ok(WriteOutcome::Applied)), "{applied:?}");
    let (document, version): (i64, i64) = (store.ask(&["TTL", &key]).await, store.ask(&["TTL", &companion]).await);
    assert!((90..=100).contains(&document) && (3_690..=3_700).contains(&version), "{document} {version}");
    let applied = store.one(&target, put("a", fence(1, 2), "two"), 0).await;
    assert!(matches!(applied, Ok(WriteOutcome::Applied)), "{applied:?}");
    let (document, version): (i64, i64) = (store.ask(&["TTL", &key]).await, store.ask(&["TTL", &companion]).await);
    assert_eq!((document, version), (-1, -1), "a put without a time to live removes the earlier one");
    let applied = store.one(&target, delete("a", fence(1, 3)), 0).await;
    assert!(matches!(applied, Ok(WriteOutcome::Applied)), "{applied:?}");
    let (document, version): (i64, i64) = (store.ask(&["TTL", &key]).await, store.ask(&["TTL", &companion]).await);
    assert!(document == -2 && (3_590..=3_600).contains(&version), "{document} {version}");
    // A mark does not vanish with the tombstone that it stands behind.
    let marked = store.sink.mark(&encode(store, &target, 0, &[delete("a", fence(1, 4))])).await;
    assert!(matches!(marked.as_slice(), [Ok(WriteOutcome::Applied)]), "{marked:?}");
    let version: i64 = store.ask(&["TTL", &companion]).await;
    assert_eq!(version, -1);
    // Nor with that of an older write which comes after it.
    let earlier = store.sink.mark(&encode(store, &target, 0, &[delete("a", fence(1, 7))])).await;
    assert!(matches!(earlier.as_slice(), [Ok(WriteOutcome::Applied)]), "{earlier:?}");
    for (write, ttl_seconds) in [(delete("a", fence(1, 5)), 0), (put("a", fence(1, 6), "six"), 100)] {
        let applied = store.one(&target, write, ttl_seconds).await;
        assert!(matches!(applied, Ok(WriteOutcome::Applied)), "{applied:?}");
        let version: i64 = store.ask(&["TTL", &companion]).await;
        assert_eq!(version, -1);
    }
}

/// A key that holds another type and no version is adopted like any other.
async fn other_types(store: &Redis) {
    let target = store.target("types");
    for plant in [&["SET", "text"][..], &["HSET", "name", "value"], &["RPUSH", "element"]] {
        let name = plant[0];
        let key = store.whole_key(&target, name);
        let mut command = vec![name, &key];
        command.extend(&plant[1..]);
        let _: redis::Value = store.ask(&command).await;
        let applied = store.one(&target, put(name, fence(1, 1), "mine"), 0).await;
        assert!(matches!(applied, Ok(WriteOutcome::Applied)), "{name}: {applied:?}");
        assert_eq!(store.read(&target, name).await.expect("a document").text, "mine");
    }
}

/// A restarted server has no scripts: each write is sent again with its script.
async fn lost_scripts(store: &Redis) {
    let target = store.target("scripts");
    let _: redis::Value = store.ask(&["SCRIPT", "FLUSH"]).await;
    let keys: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    let writes: Vec<_> = keys.iter().map(|key| put(key, fence(1, 1), key)).collect();
    for result in store.sink.write(&encode(store, &target, 0, &writes)).await {
        assert!(matches!(result, Ok(WriteOutcome::Applied)), "{result:?}");
    }
}

/// A dead letter's mark stays beside the version until a write is newer than it.
async fn marks(store: &Redis) {
    let target = store.target("marks");
    let companion = format!("_sync:{{{}}}", store.whole_key(&target, "a"));
    store.one(&target, put("a", fence(1, 1), "one"), 0).await.expect("applied");
    let stored: String = store.ask(&["GET", &companion]).await;
    let _: redis::Value = store.ask(&["SET", &companion, &format!("{stored} {}", fence(1, 5))]).await;
    let duplicate = store.one(&target, put("a", fence(1, 1), "one"), 0).await;
    assert!(matches!(duplicate, Ok(WriteOutcome::Duplicate)), "{duplicate:?}");
    for (offset, marked) in [(4, true), (6, false)] {
        let applied = store.one(&target, put("a", fence(1, offset), "next"), 0).await;
        assert!(matches!(applied, Ok(WriteOutcome::Applied)), "{applied:?}");
        let stored: String = store.ask(&["GET", &companion]).await;
        assert_eq!(stored.ends_with(&format!(" {}", fence(1, 5))), marked, "{stored}");
    }
}

async fn foreign_companion(store: &Redis) {
    let target = store.target("foreign");
    for (key, plant) in [("text", &["SET", "nonsense"][..]), ("list", &["RPUSH", "element"])] {
        let companion = format!("_sync:{{{}}}", store.whole_key(&target, key));
        let _: redis::Value = store.ask(&[plant[0], &companion, plant[1]]).await;
        let refused = store.one(&target, put(key, fence(1, 1), "one"), 0).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        assert_eq!(store.read(&target, key).await, None);
    }
}

/// One that an engine wrote which told deletions by the time of writing.
pub async fn earlier_watermark(store: &Redis) {
    let source = TopicPartition::new(unique("earlier-watermark"), 0);
    let key = format!("_sync:watermark:{{0}}:group/{}/0", source.topic);
    let _: redis::Value = store.ask(&["SET", &key, "1 7 5"]).await;
    earlier::watermark_is_taken_over(store, &source).await;
    let stored: String = store.ask(&["GET", &key]).await;
    assert_eq!(stored, "1 9 6 4");
}

/// A full server refuses a put whole, in every form, and takes the deletes that make room.
pub async fn full(url: &str) {
    let (string, hash) = (Redis::connect(url, RedisForm::String).await, Redis::connect(url, RedisForm::Hash).await);
    let (strings, hashes) = (string.target("full"), hash.target("full"));
    let before =
        [string.one(&strings, put("a", fence(1, 1), "before"), 0).await, hash.one(&hashes, put("a", fence(1, 1), "before"), 0).await];
    let _: redis::Value = string.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = [
        string.one(&strings, put("a", fence(1, 2), "after"), 0).await,
        string.one(&strings, put("a", fence(1, 2), "after"), 100).await,
        hash.one(&hashes, put("a", fence(1, 2), "after"), 0).await,
        hash.one(&hashes, put("a", fence(1, 2), "after"), 100).await,
        string.one(&strings, delete("never", fence(1, 2)), 0).await,
    ];
    let kept = [string.read(&strings, "a").await, hash.read(&hashes, "a").await];
    let versions = [string.stored(&strings, "a").await, hash.stored(&hashes, "a").await];
    let deleted = [string.one(&strings, delete("a", fence(1, 3)), 0).await, hash.one(&hashes, delete("a", fence(1, 3)), 0).await];
    // Put back before anything is asserted, because other tests use the server too.
    let _: redis::Value = string.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(before.iter().all(|result| matches!(result, Ok(WriteOutcome::Applied))), "{before:?}");
    assert!(refused.iter().all(|result| matches!(result, Err(Error::Full { .. }))), "{refused:?}");
    assert!(kept.iter().all(|document| document.as_ref().is_some_and(|document| document.text == "before")), "{kept:?}");
    assert_eq!(versions, [Some(Stored { fence: fence(1, 1), deleted: false }); 2]);
    assert!(deleted.iter().all(|result| matches!(result, Ok(WriteOutcome::Applied))), "{deleted:?}");
    assert_eq!([string.read(&strings, "a").await, hash.read(&hashes, "a").await], [None, None]);
}

/// Servers that can't be used, and none at all.
pub async fn unfit(url: &str) {
    let sink_of = |url: &str| sink(&[url], false);
    let store = Redis::connect(url, RedisForm::String).await;
    let target = store.target("unfit");
    let writes = encode(&store, &target, 0, &[put("a", fence(1, 1), "one"), delete("b", fence(1, 1))]);
    let nobody = sink_of("redis://127.0.0.1:1");
    assert!(matches!(nobody.check().await, Err(Error::Away { .. })));
    for result in nobody.write(&writes).await {
        assert!(matches!(result, Err(Error::Away { .. })), "{result:?}");
    }
    let stranger = sink_of(&url.replace("redis://", "redis://nobody:hunter2@"));
    let error = stranger.check().await.expect_err("a user that the server does not know");
    assert!(matches!(error, Error::Setup { .. }) && !error.to_string().contains("hunter2"), "{error}");
    let (settings, redis) = settings(&["http://user:hunter2@host"], false);
    let error = RedisSink::new(&settings, &redis, Vec::new()).err().expect("no URL of Redis");
    assert!(matches!(error, Error::Setup { .. }) && !error.to_string().contains("hunter2"), "{error}");
    let single = sink(&[url], true).check().await.expect_err("no cluster");
    assert!(matches!(single, Error::Setup { .. }), "{single}");
    let _: redis::Value = store.ask(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
    let evicting = store.sink.check().await;
    let _: redis::Value = store.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let error = evicting.expect_err("a server that evicts");
    assert!(error.to_string().contains("maxmemory-policy noeviction"), "{error}");
    store.sink.check().await.expect("a server that is fit");
    let lineage = store.sink.lineage().await.expect("an answer");
    let _: redis::Value = store.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let (checked, written) = (sink_of(url).check().await, store.sink.write(&writes).await);
    let (failing_over, lineage_of_replica) = (store.sink.check().await, store.sink.lineage().await);
    let _: redis::Value = store.ask(&["REPLICAOF", "NO", "ONE"]).await;
    assert!(matches!(checked, Err(Error::Setup { .. })), "{checked:?}");
    // One that was a primary before will have a successor.
    assert!(matches!(failing_over, Err(Error::Away { .. })), "{failing_over:?}");
    assert!(matches!(lineage_of_replica, Err(Error::Away { .. })), "{lineage_of_replica:?}");
    assert_eq!(store.sink.lineage().await.expect("an answer"), lineage + 1, "it may have taken over another server's data");
    assert!(written.iter().all(|result| matches!(result, Err(Error::Away { .. }))), "{written:?}");
    let written = store.sink.write(&writes).await;
    assert!(written.iter().all(|result| matches!(result, Ok(WriteOutcome::Applied))), "{written:?}");
}

/// A primary of a cluster, which holds slots.
pub struct Primary {
    pub id: String,
    /// `host:port`.
    pub address: String,
    /// First and last of each range.
    slots: Vec<(u16, u16)>,
    /// Asks it alone.
    client: MultiplexedConnection,
}

impl Primary {
    /// All of a cluster.
    pub async fn all(store: &Redis) -> Vec<Self> {
        let nodes: String = store.ask(&["CLUSTER", "NODES"]).await;
        let mut primaries = Vec::new();
        // "<id> <address>@<bus> master - 0 0 1 connected 0-5460 [5461->-<id>]"
        for line in nodes.lines().filter(|line| line.contains("master")) {
            let fields: Vec<&str> = line.split(' ').collect();
            let address = fields[1].split('@').next().expect("host:port").to_owned();
            let ranges = fields.iter().skip(8).filter(|range| !range.starts_with('['));
            let slots = ranges.map(|range| range.split_once('-').unwrap_or((range, range)));
            let slots: Vec<_> = slots.map(|(first, last)| (first.parse().expect("a slot"), last.parse().expect("a slot"))).collect();
            let client = redis::Client::open(format!("redis://{address}")).expect("a URL");
            let client = client.get_multiplexed_async_connection().await.expect("a node");
            primaries.push(Self { id: fields[0].to_owned(), address, slots, client });
        }
        primaries.retain(|primary| !primary.slots.is_empty());
        primaries
    }

    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        ask(&mut self.client.clone(), command).await
    }

    fn holds(&self, slot: u16) -> bool {
        self.slots.iter().any(|&(first, last)| (first..=last).contains(&slot))
    }
}

/// A slot moves while the sink believes it elsewhere: writes of keys that went follow, in the middle of the move (ASK) and behind it
/// (MOVED).
pub async fn moving_slots(store: &Redis) {
    let target = store.target("moving");
    store.one(&target, put("a", fence(1, 0), "before"), 0).await.expect("applied, with the shards known");
    let key = store.whole_key(&target, "a");
    let slot: u16 = store.ask(&["CLUSTER", "KEYSLOT", &key]).await;
    let primaries = Primary::all(store).await;
    let from = primaries.iter().find(|primary| primary.holds(slot)).expect("a holder");
    let to = primaries.iter().find(|primary| !primary.holds(slot)).expect("another");
    let slot = slot.to_string();
    let _: redis::Value = to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id]).await;
    let _: redis::Value = from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id]).await;
    let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
    // The nodes reach each other by the port that they listen on, which is another one from outside of their container.
    let (host, _) = to.address.split_once(':').expect("host:port");
    let listens: HashMap<String, String> = to.ask(&["CONFIG", "GET", "port"]).await;
    let mut migrate = vec!["MIGRATE", host, &listens["port"], "", "0", "5000", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    let _: redis::Value = from.ask(&migrate).await;
    let asked = store.one(&target, put("a", fence(1, 1), "asked"), 0).await;
    for node in [to, from] {
        let _: redis::Value = node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to.id]).await;
    }
    assert!(matches!(asked, Ok(WriteOutcome::Applied)), "{asked:?}");
    let moved = store.one(&target, put("a", fence(1, 2), "moved"), 0).await;
    assert!(matches!(moved, Ok(WriteOutcome::Applied)), "{moved:?}");
    let json: String = to.ask(&["GET", &key]).await;
    assert!(json.contains("moved"), "{json}");
    let duplicate = store.one(&target, put("a", fence(1, 2), "moved"), 0).await;
    assert!(matches!(duplicate, Ok(WriteOutcome::Duplicate)), "{duplicate:?}");
}
