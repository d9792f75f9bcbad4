//! What is looked at before the first write: the server, its version, the collections, the rights.

use mongodb::bson::{Document, doc, rawdoc};

use super::bson_bytes::{Elements, Value, Writer};
use super::command::{find, millis};
use super::fault::Fault;
use super::{IDENTITIES, MARKS, MongoDbSink, TOMBSTONES, WATERMARKS, collection, number};

/// Wire version of MongoDB 5.0.
const MIN_WIRE_VERSION: i64 = 13;

/// The index that ends tombstones.
const TTL_INDEX: &str = "expire";

/// An index of this name or these keys is there, with other options.
const INDEX_CONFLICTS: [&str; 2] = ["error 85 ", "error 86 "];

impl MongoDbSink {
    pub(super) async fn check_server(&self) -> Result<(), Fault> {
        let hello = self.run("hello", Ok(rawdoc! { "hello": 1 })).await?;
        let wire_version = number(hello.as_bytes(), "maxWireVersion").unwrap_or_default();
        if wire_version < MIN_WIRE_VERSION {
            return Err(Fault::Setup(format!(
                "the server speaks wire version {wire_version}, which is older than MongoDB 5.0; use MongoDB 5.0 or later, or a compatible server"
            )));
        }
        let routed = Elements::of(hello.as_bytes()).find("msg").and_then(Value::as_text) == Some("isdbgrid");
        let replicated = routed || Elements::of(hello.as_bytes()).find("setName").is_some();
        self.replicated.store(replicated, std::sync::atomic::Ordering::Relaxed);
        if !replicated {
            tracing::warn!(
                sink = self.name,
                "the MongoDB server is no member of a replica set: what it has acknowledged is lost with its disk"
            );
        }
        self.check_collections().await?;
        if routed {
            self.check_shard_keys().await?;
        }
        self.ensure_tombstone_expiry().await?;
        for place in [TOMBSTONES, MARKS, WATERMARKS, IDENTITIES] {
            self.check_rights(place).await?;
        }
        for target in &self.targets {
            self.check_rights(collection(target)?).await?;
        }
        Ok(())
    }

    /// Views, capped and time-series collections can't hold what is upserted and deleted, and a collation makes keys equal that are not.
    async fn check_collections(&self) -> Result<(), Fault> {
        let names = self.targets.iter().map(|target| collection(target).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        let command = rawdoc_of(&doc! { "listCollections": 1, "filter": { "name": { "$in": names } } })?;
        let mut faults = Vec::new();
        self.query(&self.what("listCollections", "*"), Ok(command), |found| {
            let found = Elements::of(found);
            let name = found.clone().find("name").and_then(Value::as_text).unwrap_or_default();
            let kind = found.clone().find("type").and_then(Value::as_text).unwrap_or("collection");
            let option = |option| found.clone().find("options").and_then(|options| options.elements().find(option));
            if kind != "collection" {
                faults.push(format!("{name} is a {kind}, and a target must be an ordinary collection"));
            } else if option("capped").is_some_and(|capped| capped.bytes == [1]) {
                faults.push(format!("{name} is capped: nothing can be deleted from it"));
            } else if let Some(locale) = option("collation").and_then(|collation| collation.elements().find("locale")) {
                let locale = locale.as_text().unwrap_or_default();
                if locale != "simple" {
                    faults
                        .push(format!("{name} has the collation {locale}, which takes different keys for equal; recreate it without one"));
                }
            }
        })
        .await?;
        if faults.is_empty() { Ok(()) } else { Err(Fault::Setup(faults.join("; "))) }
    }

    /// A sharded cluster keeps a document's shard key unique, and its `_id` on each shard alone: of one key there may be a document on every
    /// shard, unless `_id` is the shard key. What `config` does not tell is taken to be so, because the right to read there is not a usual one.
    async fn check_shard_keys(&self) -> Result<(), Fault> {
        let mut names = vec![TOMBSTONES, MARKS, WATERMARKS, IDENTITIES];
        for target in &self.targets {
            names.push(collection(target)?);
        }
        let names: Vec<String> = names.iter().map(|name| format!("{}.{name}", self.settings.database)).collect();
        let command = rawdoc_of(&doc! { "find": "collections", "filter": { "_id": { "$in": names } }, "projection": { "key": 1 } })?;
        let mut faults = Vec::new();
        let asked = self.query_config("find config.collections", command, |found| {
            let name = Elements::of(found).find("_id").and_then(Value::as_text).unwrap_or_default();
            let key: Vec<_> = Elements::of(found)
                .find("key")
                .map(|key| key.elements().map(|(field, _)| String::from_utf8_lossy(field).into_owned()).collect())
                .unwrap_or_default();
            if key != ["_id"] {
                faults.push(format!(
                    "{name} is sharded by {}, so that it may have several documents of one _id; reshard it by {{ _id: 1 }} or {{ _id: \"hashed\" }}",
                    key.join(", ")
                ));
            }
        });
        if let Err(fault) = asked.await {
            tracing::warn!(
                sink = self.name,
                error = %self.error("", fault),
                "the shard keys can't be looked at; grant the user read on the database config, or see to it that what is sharded is sharded by _id"
            );
            return Ok(());
        }
        if faults.is_empty() { Ok(()) } else { Err(Fault::Setup(faults.join("; "))) }
    }

    async fn ensure_tombstone_expiry(&self) -> Result<(), Fault> {
        let seconds = i64::try_from(self.tombstone_ttl.as_secs()).unwrap_or(i64::MAX).clamp(1, i64::from(i32::MAX));
        let create = doc! {
            "createIndexes": TOMBSTONES,
            "indexes": [{ "key": { "at": 1 }, "name": TTL_INDEX, "expireAfterSeconds": seconds }],
            "writeConcern": { "w": "majority", "wtimeout": millis(self.write_timeout) },
        };
        let what = self.what("createIndexes", TOMBSTONES);
        let fault = match self.run(&what, Ok(rawdoc_of(&create)?)).await {
            Ok(_) => return Ok(()),
            Err(fault) => fault,
        };
        let (Fault::Away(message) | Fault::Refused(_, message)) = &fault else { return Err(fault) };
        if !INDEX_CONFLICTS.iter().any(|conflict| format!("{message} ").contains(conflict)) {
            return Err(fault);
        }
        // The time to live was another one when the index was made.
        let change = doc! { "collMod": TOMBSTONES, "index": { "name": TTL_INDEX, "expireAfterSeconds": seconds } };
        self.run(&self.what("collMod", TOMBSTONES), Ok(rawdoc_of(&change)?)).await.map(|_| ())
    }

    /// Reads, updates and deletes nothing: whoever lacks the right is told so all the same.
    async fn check_rights(&self, place: &str) -> Result<(), Fault> {
        let none = |out: &mut Writer| {
            out.begin("_id");
            out.begin_array("$in");
            out.end();
            out.end();
        };
        self.query(&self.what("find", place), find(place, self.terms(), &["_id"], 1, none, |_| ()), |_| ()).await?;
        let timeout = millis(self.write_timeout);
        let no_id = doc! { "_id": { "$in": [] } };
        let update = doc! { "update": place, "updates": [{ "q": &no_id, "u": { "$set": { "_sync.v": 0_i64 } } }], "maxTimeMS": timeout };
        self.run(&self.what("update", place), Ok(rawdoc_of(&update)?)).await?;
        let delete = doc! { "delete": place, "deletes": [{ "q": no_id, "limit": 1 }], "maxTimeMS": timeout };
        self.run(&self.what("delete", place), Ok(rawdoc_of(&delete)?)).await.map(|_| ())
    }
}

fn rawdoc_of(command: &Document) -> Result<mongodb::bson::RawDocumentBuf, Fault> {
    mongodb::bson::RawDocumentBuf::try_from(command).map_err(|error| Fault::Setup(format!("a command could not be encoded: {error}")))
}
