//! MongoDB and compatible servers: a collection for each target, a conditional upsert for each put, and tombstones beside them.
//!
//! Enters: [`SinkWrites`] whose keys and documents are encoded BSON. Leaves: one result for each write. What may be replaced is
//! decided by the server, in the update's own condition; nothing is decided here on what was read before, except to spare a write.
//! `docs/decisions/0004-mongodb-writes.md` has the whole protocol and why each of its reads is needed.

mod bson_bytes;
mod command;
mod fault;
mod key;
mod marks;
mod reply;
mod server;
mod setup;
mod state;
mod sweep;
mod version;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use mongodb::Client;
use mongodb::bson::RawDocumentBuf;
use mongodb::options::{ClientOptions, ConnectionString};
use tokio::sync::OnceCell;

use self::bson_bytes::{Elements, Value};
use self::command::Terms;
use self::fault::Fault;
use self::reply::Doubts;
pub use self::server::{Batch, Batches, Server};
use crate::config::{MongoDbSettings, Place, SinkSettings, TargetSettings};
use crate::fence::{Fence, Generation};
use crate::machine::Machine;
use crate::plan::SinkWrites;
use crate::sink::lineage::Lineage;
use crate::sink::{Error, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use crate::source::TopicPartition;

/// Tombstones of all collections of the sink's database.
const TOMBSTONES: &str = "_sync_tombstones";
/// Marks of all collections of the sink's database.
const MARKS: &str = "_sync_marks";
/// Watermarks of all consumer groups and partitions.
const WATERMARKS: &str = "_sync_watermarks";
/// Identities of all topics.
const IDENTITIES: &str = "_sync_identities";

/// Connections to one server unless the uri says otherwise: the lanes share them, and the driver's own limit of 10 would make more
/// lanes than that wait for each other.
const MAX_POOL_SIZE: u32 = 64;

/// The driver's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A MongoDB database as a sink. Connects when it is first used.
#[derive(Debug)]
pub struct MongoDbSink {
    name: String,
    settings: MongoDbSettings,
    write_timeout: Duration,
    tombstone_ttl: Duration,
    targets: Vec<Arc<TargetSettings>>,
    server: OnceCell<Arc<dyn Server>>,
    machine: Machine,
    /// Whether the server is part of a replica set, or a router of a sharded cluster. Believed until `check` has asked.
    replicated: AtomicBool,
    lineage: Lineage,
    doubts: Doubts,
}

impl MongoDbSink {
    /// Fails with [`Error::Setup`] where the uri is none. `targets` are all that any route writes to this sink.
    pub fn new(settings: &SinkSettings, mongodb: &MongoDbSettings, targets: Vec<Arc<TargetSettings>>) -> Result<Self, Error> {
        if let Err(error) = ConnectionString::parse(&mongodb.uri) {
            // The driver quotes what it can't read, and in a uri with credentials that may be the password.
            let reason = if mongodb.uri.contains('@') { "user and password must be percent-encoded".to_owned() } else { error.to_string() };
            let message = format!("sinks.{}.uri is no MongoDB uri, as mongodb://user:password@host:27017/: {reason}", settings.name);
            return Err(Error::Setup { sink: settings.name.clone(), message });
        }
        Ok(Self {
            name: settings.name.clone(),
            settings: mongodb.clone(),
            write_timeout: settings.write_timeout,
            tombstone_ttl: settings.tombstone_ttl,
            targets,
            server: OnceCell::new(),
            machine: Machine::REAL,
            replicated: AtomicBool::new(true),
            lineage: Lineage::default(),
            doubts: Doubts::default(),
        })
    }

    /// The same with a server of the caller's in the driver's place, on its machine.
    pub fn with_server(
        settings: &SinkSettings,
        mongodb: &MongoDbSettings,
        targets: Vec<Arc<TargetSettings>>,
        server: Arc<dyn Server>,
        machine: Machine,
    ) -> Result<Self, Error> {
        Ok(Self { server: OnceCell::new_with(Some(server)), machine, ..Self::new(settings, mongodb, targets)? })
    }

    /// The server's database; the first call starts the driver.
    async fn server(&self) -> Result<&dyn Server, Fault> {
        self.server.get_or_try_init(|| self.connect()).await.map(Arc::as_ref)
    }

    async fn connect(&self) -> Result<Arc<dyn Server>, Fault> {
        let what = "connect";
        // A mongodb+srv uri is resolved here.
        let mut options = ClientOptions::parse(&self.settings.uri).await.map_err(|error| Fault::of_driver(what, &error))?;
        let limit = |configured: Option<Duration>| Some(configured.map_or(self.write_timeout, |own| own.min(self.write_timeout)));
        // Before the limit of the request that waits for it: only the driver knows why no server can be had.
        let selection = self.write_timeout * 9 / 10;
        options.server_selection_timeout = Some(options.server_selection_timeout.map_or(selection, |own| own.min(selection)));
        // The driver's monitors wait for as long, too, until they take a silent server for gone.
        options.connect_timeout = limit(options.connect_timeout.or(Some(CONNECT_TIMEOUT)));
        options.max_pool_size = options.max_pool_size.or(Some(MAX_POOL_SIZE));
        options.app_name = options.app_name.or_else(|| Some("streamsync".to_owned()));
        let client = Client::with_options(options).map_err(|error| Fault::of_driver(what, &error))?;
        Ok(Arc::new(client.database(&self.settings.database)))
    }

    /// `update shop.orders`, for messages.
    fn what(&self, command: &str, collection: &str) -> String {
        format!("{command} {}.{collection}", self.settings.database)
    }

    fn terms(&self) -> Terms {
        Terms { timeout: self.write_timeout, majority_reads: self.replicated.load(Ordering::Relaxed) }
    }

    /// Runs a command on the primary, within the time limit.
    async fn run(&self, what: &str, command: mongodb::error::Result<RawDocumentBuf>) -> Result<RawDocumentBuf, Fault> {
        let reply = async {
            let server = self.server().await?;
            let command = command.map_err(|error| Fault::of_driver(what, &error))?;
            server.run(command).await.map_err(|error| Fault::of_driver(what, &error))
        };
        self.within_limit(what, reply).await
    }

    /// Runs a `find` and hands every document to `each`.
    async fn query(
        &self,
        what: &str,
        command: mongodb::error::Result<RawDocumentBuf>,
        each: impl FnMut(&[u8]) + Send,
    ) -> Result<(), Fault> {
        let documents = async {
            let command = command.map_err(|error| Fault::of_driver(what, &error))?;
            each_of(what, self.server().await?.find(command), each).await
        };
        self.within_limit(what, documents).await
    }

    /// The same in the database `config` of a sharded cluster.
    async fn query_config(&self, what: &str, command: RawDocumentBuf, each: impl FnMut(&[u8]) + Send) -> Result<(), Fault> {
        let documents = async { each_of(what, self.server().await?.find_in_config(command), each).await };
        self.within_limit(what, documents).await
    }

    async fn within_limit<T>(&self, what: &str, work: impl Future<Output = Result<T, Fault>> + Send) -> Result<T, Fault> {
        match tokio::time::timeout(self.write_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Away(format!("{what}: no answer within {} ms", self.write_timeout.as_millis()))),
        }
    }

    fn error(&self, place: &str, fault: Fault) -> Error {
        fault.into_error(&self.name, place)
    }
}

async fn each_of(
    what: &str,
    found: BoxFuture<'_, mongodb::error::Result<Batches>>,
    mut each: impl FnMut(&[u8]) + Send,
) -> Result<(), Fault> {
    let fault = |error| Fault::of_driver(what, &error);
    let mut batches = found.await.map_err(fault)?;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(fault)?;
        for (_, document) in Elements::of(batch.documents().map_err(fault)?) {
            each(document.bytes);
        }
    }
    Ok(())
}

/// What an element of `writeErrors` means, `None` for one that says nothing yet; the fuzzer asks for it.
pub fn fault_of_write(error: &[u8]) -> Option<Error> {
    let value = Value { kind: bson_bytes::kind::DOCUMENT, bytes: error };
    Fault::of_write_error("update database.collection", value).map(|fault| fault.into_error("mongodb", "collection"))
}

/// What a code means that failed a whole command; the fuzzer asks for it.
pub fn fault_of_command(code: i32, code_name: &str) -> Error {
    Fault::of_code("update database.collection", code, code_name).into_error("mongodb", "collection")
}

/// The collection of a target.
fn collection(target: &TargetSettings) -> Result<&str, Fault> {
    match &target.place {
        Place::MongoDb { collection } => Ok(collection),
        Place::Redis { prefix, .. } => Err(Fault::Setup(format!(
            "target {} is a key prefix, {prefix}, and this sink has collections; give the target a collection",
            target.name
        ))),
    }
}

/// A field of a reply that counts or flags.
fn number(reply: &[u8], field: &str) -> Option<i64> {
    Elements::of(reply).find(field).and_then(Value::as_i64)
}

impl Sink for MongoDbSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.check_server().await.map_err(|fault| self.error(&self.settings.database, fault)) })
    }

    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        Box::pin(self.write_all(writes))
    }

    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        Box::pin(self.mark_all(marks))
    }

    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, Error>> {
        Box::pin(self.read_held(keys))
    }

    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, Error>> {
        Box::pin(async move { self.read_watermark(group, source).await.map_err(|fault| self.error(WATERMARKS, fault)) })
    }

    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, Error>> {
        Box::pin(async move {
            if self.lineage().await? != lineage {
                return Ok(MarkOutcome::OtherServers);
            }
            self.write_watermark(group, source, replaces, watermark).await.map_err(|fault| self.error(WATERMARKS, fault))
        })
    }

    fn lineage(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async { self.ask_lineage().await.map_err(|fault| self.error(&self.settings.database, fault)) })
    }

    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, Error>> {
        Box::pin(async move { self.read_identity(topic).await.map_err(|fault| self.error(IDENTITIES, fault)) })
    }

    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { self.write_identity(topic, identity).await.map_err(|fault| self.error(IDENTITIES, fault)) })
    }

    fn clear<'a>(&'a self, target: &'a TargetSettings, fence: Fence, partition: i32) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let collection = collection(target).map_err(|fault| self.error(&target.name, fault))?;
            self.clear_collection(collection, fence, partition).await.map_err(|fault| self.error(collection, fault))
        })
    }

    fn sweep_generation<'a>(&'a self, target: &'a TargetSettings, generation: Generation) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            let collection = collection(target).map_err(|fault| self.error(&target.name, fault))?;
            self.sweep_collection(collection, generation).await.map_err(|fault| self.error(collection, fault))
        })
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.sweep_tombstones().await.map_err(|fault| self.error(TOMBSTONES, fault))?;
            self.sweep_marks().await.map_err(|fault| self.error(MARKS, fault))
        })
    }

    fn sweep_interval(&self) -> Option<Duration> {
        Some(self.settings.sweep_interval)
    }
}
