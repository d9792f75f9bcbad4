//! The MongoDB sink under the suite; and what only MongoDB does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use mongodb::bson::{Bson, Document as Fields, RawDocumentBuf, doc};
use mongodb::{Client, Collection, Database};
use streamsync::config::{MongoDbSettings, Place, SinkKind, SinkSettings, TargetSettings};
use streamsync::sink::mongodb::MongoDbSink;
use streamsync::sink::{Error, Sink, WriteOutcome};
use streamsync::source::TopicPartition;

use crate::earlier;
use crate::suite::{Document, Store, Stored, Version, delete, encode, fence, put, unique};

pub struct MongoDb {
    sink: MongoDbSink,
    /// Looks behind the sink.
    database: Database,
}

pub fn settings(uri: &str, database: &str) -> (SinkSettings, MongoDbSettings) {
    let mongodb = MongoDbSettings {
        uri: uri.to_owned(),
        database: database.to_owned(),
        max_bulk: 100,
        sweep_interval: Duration::from_secs(60),
        sweep_page: 7,
    };
    let kind = SinkKind::MongoDb(mongodb.clone());
    let (tombstone_ttl, write_timeout) = (Duration::from_secs(3600), Duration::from_secs(20));
    (SinkSettings { name: "mongodb".into(), kind, tombstone_ttl, write_timeout }, mongodb)
}

impl MongoDb {
    pub async fn connect(uri: &str) -> Self {
        let name = unique("sinks");
        let (settings, mongodb) = settings(uri, &name);
        let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
        Self { sink, database: Client::with_uri_str(uri).await.expect("a client").database(&name) }
    }

    /// Removes what the tests left.
    pub async fn drop(self) {
        self.database.drop().await.expect("the database dropped");
    }

    fn collection(&self, target: &TargetSettings) -> Collection<Fields> {
        let Place::MongoDb { collection } = &target.place else { panic!("a target of MongoDB") };
        self.database.collection(collection)
    }

    fn tombstones(&self) -> Collection<Fields> {
        self.database.collection("_sync_tombstones")
    }

    /// Sends one put to a key of any type, with `fields` between `_id` and `_sync`.
    async fn put_raw(&self, target: &Arc<TargetSettings>, id: Bson, offset: i64, fields: Fields) -> Result<WriteOutcome, Error> {
        let mut document = doc! { "_id": id.clone() };
        document.extend(fields);
        document.insert("_sync", doc! { "v": fence(1, offset).number(), "p": 0, "m": "00c0ffee00c0ffee", "h": offset });
        let mut writes = encode(self, target, 0, &[put("x", fence(1, offset), "")]);
        let write = &mut writes.writes[0];
        write.content = offset as u64;
        let (key, document) = (tagged(id), RawDocumentBuf::try_from(&document).expect("BSON").into_bytes());
        (write.key.start, write.key.len) = (0, key.len());
        write.document = Some(streamsync::plan::Bytes { start: key.len(), len: document.len() });
        writes.bytes = [key, document].concat();
        self.sink.write(&writes).await.into_iter().next().expect("one result")
    }
}

/// A value as `plan` has a key: its element's type, then its bytes.
fn tagged(id: Bson) -> Vec<u8> {
    let bytes = RawDocumentBuf::try_from(&doc! { "": id }).expect("BSON").into_bytes();
    // Behind the length: the type, the empty name's NUL, the value, the document's NUL.
    [&bytes[4..5], &bytes[6..bytes.len() - 1]].concat()
}

impl Store for MongoDb {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn target(&self, name: &str) -> Arc<TargetSettings> {
        let name = unique(name);
        let place = Place::MongoDb { collection: name.clone() };
        Arc::new(TargetSettings { name, sink: 0, place, explicit_keys: false, ttl_seconds: None })
    }

    fn key(&self, _: &TargetSettings, key: &str) -> Vec<u8> {
        tagged(key.into())
    }

    fn document(&self, _: &TargetSettings, key: &str, document: &Document, version: &Version) -> Vec<u8> {
        let Version { fence, partition, module, content } = version;
        let fields = doc! {
            "_id": key, "text": &document.text, "number": document.number,
            "_sync": { "v": fence.number(), "p": *partition, "m": module.to_string(), "h": *content as i64 },
        };
        RawDocumentBuf::try_from(&fields).expect("BSON").into_bytes()
    }

    fn read<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Document>> {
        async move {
            let found = self.collection(target).find_one(doc! { "_id": key }).await.expect("an answer")?;
            let (text, number) = (found.get_str("text").expect("a text"), found.get_i64("number").expect("a number"));
            Some(Document { text: text.to_owned(), number })
        }
        .boxed()
    }

    fn stored<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Stored>> {
        async move {
            let version = |number: i64, deleted| Stored { fence: streamsync::fence::Fence::from_stored(number).expect("a fence"), deleted };
            let Place::MongoDb { collection } = &target.place else { panic!("a target of MongoDB") };
            let document = self.collection(target).find_one(doc! { "_id": key }).await.expect("an answer");
            let document = document.and_then(|found| Some(version(found.get_document("_sync").ok()?.get_i64("v").ok()?, false)));
            let tombstone = self.tombstones().find_one(doc! { "c": collection, "k": key }).await.expect("an answer");
            let tombstone = tombstone.map(|found| version(found.get_i64("v").expect("a version"), true));
            document.into_iter().chain(tombstone).max_by_key(|stored| stored.fence)
        }
        .boxed()
    }

    fn plant<'a>(&'a self, target: &'a TargetSettings, key: &'a str, document: &'a Document) -> BoxFuture<'a, ()> {
        async move {
            let fields = doc! { "_id": key, "text": &document.text, "number": document.number };
            self.collection(target).insert_one(fields).await.expect("planted");
        }
        .boxed()
    }
}

/// What the suite can't ask of every store.
pub async fn of_its_own(store: &MongoDb) {
    earlier_watermark(store).await;
    foreign_key_types(store).await;
    other_unique_indexes(store).await;
    late_inserts_are_swept(store).await;
    deletes_win_any_race(store).await;
    a_delete_between_look_and_insert(store).await;
    tombstones_expire(store).await;
    unfit_collections(store).await;
}

/// One that an engine wrote which told deletions by the time of writing.
async fn earlier_watermark(store: &MongoDb) {
    let source = TopicPartition::new(unique("earlier-watermark"), 0);
    let id = format!("group/{}/0", source.topic);
    let written_at = mongodb::bson::DateTime::from_millis(5);
    let earlier = doc! { "_id": id, "generation": 1, "next_offset": 7_i64, "written_at": written_at };
    store.database.collection("_sync_watermarks").insert_one(earlier).await.expect("planted");
    earlier::watermark_is_taken_over(store, &source).await;
}

/// 42 written by another program as an int is the `_id` that the sink writes as a long.
async fn foreign_key_types(store: &MongoDb) {
    let target = store.target("foreign");
    let collection = store.collection(&target);
    collection.insert_one(doc! { "_id": 42, "_sync": { "v": fence(1, 10).number(), "p": 0, "h": 1_i64 } }).await.expect("planted");
    collection.insert_one(doc! { "_id": 43, "_sync": "of another program" }).await.expect("planted");
    let outcome = |offset, id: i64| store.put_raw(&target, id.into(), offset, doc! { "a.b": 1, "n": { "$set": 2 } });
    assert_eq!(outcome(9, 42).await.expect("an outcome"), WriteOutcome::Stale);
    assert_eq!(outcome(11, 42).await.expect("an outcome"), WriteOutcome::Applied);
    assert_eq!(outcome(9, 43).await.expect("an outcome"), WriteOutcome::Applied);
    assert_eq!(collection.count_documents(doc! {}).await.expect("a count"), 2);
    // The same names when inserted and when replaced; a composite key.
    let composite: Bson = doc! { "order_id": 1_i64, "line": 2_i64 }.into();
    for offset in [20, 21] {
        let applied = store.put_raw(&target, composite.clone(), offset, doc! { "a.b": 1, "n": { "$set": offset } }).await;
        assert_eq!(applied.expect("an outcome"), WriteOutcome::Applied);
    }
    let stored = collection.find_one(doc! { "_id": composite }).await.expect("an answer").expect("a document");
    assert_eq!((stored.get_i32("a.b").ok(), stored.get_document("n").ok()), (Some(1), Some(&doc! { "$set": 21_i64 })));
}

async fn other_unique_indexes(store: &MongoDb) {
    let target = store.target("unique");
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "text": 1 })
        .options(mongodb::options::IndexOptions::builder().unique(true).name("one_text".to_owned()).build())
        .build();
    store.collection(&target).create_index(index).await.expect("an index");
    let writes = [put("a", fence(1, 1), "ada@example.com"), put("b", fence(1, 2), "ada@example.com"), put("c", fence(1, 3), "other")];
    let results = store.sink.write(&encode(store, &target, 0, &writes)).await;
    let [Ok(WriteOutcome::Applied), Err(refused), Ok(WriteOutcome::Applied)] = results.as_slice() else { panic!("{results:?}") };
    assert!(matches!(refused, Error::Refused { code: "duplicate-key", .. }), "{refused:?}");
    assert!(refused.to_string().contains("one_text") && !refused.to_string().contains("ada"), "{refused}");
    assert_eq!(store.read(&target, "b").await, None);
}

async fn late_inserts_are_swept(store: &MongoDb) {
    let (target, other) = (store.target("swept"), store.target("unswept"));
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let deletes: Vec<_> = keys.iter().map(|key| delete(key, fence(2, 10))).collect();
    for result in store.sink.write(&encode(store, &target, 3, &deletes)).await {
        assert_eq!(result.expect("an outcome"), WriteOutcome::Applied);
    }
    // As a worker thought dead would: behind the sink's back, of this partition's past and of an earlier generation's other partition.
    let zombie = |key: &String, version: i64, partition: i32| doc! { "_id": key, "text": "ghost", "number": 0_i64, "_sync": { "v": version, "p": partition } };
    let (swept, unswept) = (store.collection(&target), store.collection(&other));
    for (number, key) in keys.iter().enumerate() {
        let (version, partition) = if number % 2 == 0 { (fence(2, 9), 3) } else { (fence(1, 999), 8) };
        swept.insert_one(zombie(key, version.number(), partition)).await.expect("planted");
        unswept.insert_one(zombie(key, version.number(), partition)).await.expect("planted");
    }
    let newer = keys.first().expect("a key");
    swept.replace_one(doc! { "_id": newer }, zombie(newer, fence(2, 11).number(), 3)).await.expect("replaced");
    store.sink.sweep().await.expect("a round");
    assert_eq!(swept.count_documents(doc! {}).await.expect("a count"), 1, "only what is newer than its tombstone is left");
    assert_eq!(store.stored(&target, newer).await, Some(Stored { fence: fence(2, 11), deleted: false }));
    assert_eq!(unswept.count_documents(doc! {}).await.expect("a count"), 20, "the same keys of another collection stay");
}

/// Two workers on one partition, one of them behind: whatever comes first, nothing of a deleted row stays.
async fn deletes_win_any_race(store: &MongoDb) {
    let target = store.target("race");
    for round in 0..10 {
        let keys: Vec<String> = (0..60).map(|number| format!("{round}-{number}")).collect();
        let puts: Vec<_> = keys.iter().map(|key| put(key, fence(1, 10 * round), "ghost")).collect();
        let deletes: Vec<_> = keys.iter().map(|key| delete(key, fence(1, 10 * round + 1))).collect();
        let (puts, deletes) = (encode(store, &target, 0, &puts), encode(store, &target, 0, &deletes));
        let (put, deleted) = join(store.sink.write(&puts), store.sink.write(&deletes)).await;
        for result in put.into_iter().chain(deleted) {
            result.expect("an outcome");
        }
        assert_eq!(store.collection(&target).count_documents(doc! {}).await.expect("a count"), 0);
    }
}

/// A delete of a newer version writes its tombstone after the put's look at the tombstones, and finds no document to remove: the put
/// looks again, and takes its insert back. The reply to the put's upsert is held back until the tombstone stands.
async fn a_delete_between_look_and_insert(store: &MongoDb) {
    let target = store.target("between");
    let uri = std::env::var(crate::MONGODB).expect("the test runs");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let through = format!("mongodb://{}/?directConnection=true", listener.local_addr().expect("a port"));
    let (settings, mongodb) = settings(&through, store.database.name());
    let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
    let Place::MongoDb { collection } = &target.place else { panic!("a target of MongoDB") };
    let address = mongodb::options::ClientOptions::parse(&uri).await.expect("a uri").hosts[0].to_string();
    let deletes = encode(store, &target, 0, &[delete("a", fence(1, 7))]);
    let puts = encode(store, &target, 0, &[put("a", fence(1, 5), "ghost")]);
    let marker = [b"update\0".as_slice(), &(collection.len() as i32 + 1).to_le_bytes(), collection.as_bytes()].concat();
    let held = async {
        store.tombstones().insert_one(tombstone_like(store, &target, &deletes).await).await.expect("a tombstone");
    };
    let proxy = hold_reply(listener, address, marker, held);
    let results = tokio::select! {
        results = sink.write(&puts) => results,
        () = proxy => unreachable!("the proxy serves until it is dropped"),
    };
    assert!(matches!(results.as_slice(), [Ok(WriteOutcome::Stale)]), "{results:?}");
    assert_eq!(store.read(&target, "a").await, None);
}

/// The tombstone that these deletes leave, taken out of the store again.
async fn tombstone_like(store: &MongoDb, target: &Arc<TargetSettings>, deletes: &streamsync::plan::SinkWrites) -> Fields {
    let uri = std::env::var(crate::MONGODB).expect("the test runs");
    let elsewhere = format!("{}-tombstone", store.database.name());
    let (settings, mongodb) = settings(&uri, &elsewhere);
    let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
    let other = MongoDb { sink, database: store.database.client().database(&elsewhere) };
    for result in other.sink.write(deletes).await {
        result.expect("an outcome");
    }
    let Place::MongoDb { collection } = &target.place else { panic!("a target of MongoDB") };
    let tombstone = other.tombstones().find_one(doc! { "c": collection }).await.expect("an answer").expect("a tombstone");
    other.drop().await;
    tombstone
}

/// Forwards connections to the server. Once a client has sent `marker`, the next reply on its connection waits for `held`.
async fn hold_reply(listener: tokio::net::TcpListener, server: String, marker: Vec<u8>, held: impl Future<Output = ()>) {
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let held = held.shared();
    let mut connections = FuturesUnordered::new();
    loop {
        let connection = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection").0,
            _ = connections.next(), if !connections.is_empty() => continue,
        };
        let (marker, held, server) = (&marker, held.clone(), server.clone());
        connections.push(async move {
            let (mut client, mut server) = (connection, tokio::net::TcpStream::connect(server).await.expect("the server"));
            let (mut sent, mut replied, mut marked) = (vec![0; 1 << 16], vec![0; 1 << 16], false);
            loop {
                tokio::select! {
                    n = client.read(&mut sent) => {
                        let Ok(n @ 1..) = n else { return };
                        marked |= sent[..n].windows(marker.len()).any(|window| window == marker.as_slice());
                        if server.write_all(&sent[..n]).await.is_err() { return }
                    }
                    n = server.read(&mut replied) => {
                        let Ok(n @ 1..) = n else { return };
                        if std::mem::take(&mut marked) { held.clone().await; }
                        if client.write_all(&replied[..n]).await.is_err() { return }
                    }
                }
            }
        });
    }
}

async fn tombstones_expire(store: &MongoDb) {
    let expiry = || async {
        let mut indexes = store.tombstones().list_indexes().await.expect("indexes");
        let mut found = None;
        while indexes.advance().await.expect("an index") {
            let index = indexes.deserialize_current().expect("an index");
            found = found.or(index.options.and_then(|options| options.expire_after));
        }
        found
    };
    store.sink.check().await.expect("a store that is fit");
    assert_eq!(expiry().await, Some(Duration::from_secs(3600)));
    let uri = std::env::var(crate::MONGODB).expect("the test runs");
    let (mut settings, mongodb) = settings(&uri, store.database.name());
    settings.tombstone_ttl = Duration::from_secs(7200);
    MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a sink").check().await.expect("a store that is fit");
    assert_eq!(expiry().await, Some(Duration::from_secs(7200)));
}

async fn unfit_collections(store: &MongoDb) {
    let uri = std::env::var(crate::MONGODB).expect("the test runs");
    let (settings, mongodb) = settings(&uri, store.database.name());
    let target = store.target("capped");
    let Place::MongoDb { collection } = &target.place else { panic!("a target of MongoDB") };
    store.database.create_collection(collection).capped(true).size(4096).await.expect("a capped collection");
    let sink = MongoDbSink::new(&settings, &mongodb, vec![target.clone()]).expect("a sink");
    let fault = sink.check().await.expect_err("a capped collection is refused");
    assert!(matches!(&fault, Error::Setup { message, .. } if message.contains(collection.as_str())), "{fault}");
}

/// Nothing listens: the write's outcome is unknown, and said within the time limit.
pub async fn away_is_said_in_time(port: u16) {
    let (mut settings, mongodb) = settings(&format!("mongodb://ada:s3cret@127.0.0.1:{port}/"), "nowhere");
    settings.write_timeout = Duration::from_millis(700);
    let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
    let began = Instant::now();
    let fault = sink.check().await.expect_err("nothing listens");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(matches!(fault, Error::Away { .. }), "{fault:?}");
    assert!(!fault.to_string().contains("s3cret"), "{fault}");
}

/// A password that no server knows.
pub async fn wrong_password(uri: &str) {
    let uri = uri.replacen("mongodb://", "mongodb://ada:s3cret@", 1);
    let (settings, mongodb) = settings(&uri, "nowhere");
    let sink = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect("a uri that can be read");
    let fault = sink.check().await.expect_err("no server knows the password");
    assert!(matches!(fault, Error::Setup { .. }), "{fault:?}");
    assert!(!fault.to_string().contains("s3cret"), "{fault}");
}

/// A uri that is none, and may hold a password, is not quoted.
pub fn bad_uris() {
    for uri in ["mongodb://ada:s3cret/@host", "http://ada:s3cret@host", "mongodb://ada:s3cret@host:port/"] {
        let (settings, mongodb) = settings(uri, "nowhere");
        let fault = MongoDbSink::new(&settings, &mongodb, Vec::new()).expect_err("no uri");
        assert!(matches!(fault, Error::Setup { .. }), "{fault:?}");
        assert!(fault.to_string().contains("sinks.mongodb.uri") && !fault.to_string().contains("s3cret"), "{fault}");
    }
}
