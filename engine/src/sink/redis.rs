//! Redis and compatible servers, single or as a cluster.
//!
//! A document lies at its plain key, where GET, HGETALL or JSON.GET reads it; its version lies beside it in a companion key of the same
//! cluster slot (docs/decisions/0003-redis-format.md). One script a key compares and writes both at once; scripts travel in pipelines.

mod check;
mod fault;
mod script;
mod servers;
mod slot;
mod state;
mod sweep;
mod version;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, future::BoxFuture, future::ready};
use redis::{Cmd, Pipeline, ServerErrorKind, Value};

use self::script::{Act, By, Scratch, Scripts};
pub use self::servers::Dial;
use self::servers::{Link, Servers};
pub use self::version::StoredVersion;
use super::lineage::Lineage;
use super::{Error, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use crate::config::{RedisSettings, SinkSettings, TargetSettings};
use crate::fence::{Fence, Generation};
use crate::plan::{FencedWrite, SinkWrites};
use crate::source::TopicPartition;

/// Pipelines of one batch that are under way to one shard: the next is written while the server works on the last.
const PIPELINES_AHEAD: usize = 2;

/// Documents in Redis.
pub struct RedisSink {
    name: String,
    max_pipeline: usize,
    tombstone_seconds: u64,
    targets: Vec<Arc<TargetSettings>>,
    servers: Servers,
    scripts: Scripts,
    lineage: Lineage,
    /// A server that was a primary once is no wrong address when it is a replica.
    was_fit: AtomicBool,
}

/// What became of each write of a pipeline; `None` where it must be sent again.
type Results = Vec<(usize, Option<Result<WriteOutcome, Error>>)>;

/// A write that a server sent elsewhere, or whose script it did not have.
struct Again {
    index: usize,
    link: Arc<Link>,
    /// The server takes this one command for a slot that it is still being given.
    asking: bool,
}

impl RedisSink {
    /// Connects when it is first used. [`Error::Setup`] where a URL can't be read.
    pub fn new(settings: &SinkSettings, redis: &RedisSettings, targets: Vec<Arc<TargetSettings>>) -> Result<Self, Error> {
        Self::with_dial(settings, redis, targets, Arc::new(servers::Network))
    }

    /// The same where the caller connects.
    pub fn with_dial(
        settings: &SinkSettings,
        redis: &RedisSettings,
        targets: Vec<Arc<TargetSettings>>,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, Error> {
        Ok(Self {
            name: settings.name.clone(),
            max_pipeline: redis.max_pipeline.max(1),
            tombstone_seconds: settings.tombstone_ttl.as_secs().max(1),
            targets,
            servers: Servers::new(&settings.name, redis, settings.write_timeout, dial)?,
            scripts: Scripts::new(),
            lineage: Lineage::default(),
            was_fit: AtomicBool::new(false),
        })
    }

    async fn write_all(&self, act: Act, writes: &SinkWrites) -> Vec<Result<WriteOutcome, Error>> {
        let topology = match self.servers.topology().await {
            Ok(topology) => topology,
            Err(error) => return writes.writes.iter().map(|_| Err(copy(&error))).collect(),
        };
        let mut results: Vec<_> = writes.writes.iter().map(|_| None).collect();
        let mut by_shard = vec![Vec::new(); topology.shards.len()];
        for (index, write) in writes.writes.iter().enumerate() {
            // Without a shard for its slot the write stays without a result, which says that the sink is away.
            if let Some(of_shard) = topology.shard_of(writes.slice(write.key)).and_then(|shard| by_shard.get_mut(shard)) {
                of_shard.push(index);
            }
        }
        let mut chunks = Vec::new();
        for (of_shard, link) in by_shard.iter().zip(&topology.shards) {
            chunks.extend(of_shard.chunks(self.max_pipeline).map(|chunk| self.send_chunk(act, writes, link, chunk)));
        }
        let mut sent = stream::iter(chunks).buffer_unordered(PIPELINES_AHEAD * topology.shards.len());
        while let Some(of_chunk) = sent.next().await {
            for (index, result) in of_chunk {
                if let Some(slot) = results.get_mut(index) {
                    *slot = result;
                }
            }
        }
        // A map with a hole, as a lost shard leaves it: the next try asks the cluster again.
        let missing = || {
            self.servers.forget_topology();
            Err(self.servers.at("cluster").away("no server holds the key's slot"))
        };
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    /// Sends one pipeline, and once more what was redirected or not known to the server.
    async fn send_chunk(&self, act: Act, writes: &SinkWrites, link: &Arc<Link>, chunk: &[usize]) -> Results {
        let (mut results, again) = self.send((act, By::Digest), writes, link, chunk, false).await;
        if again.is_empty() {
            return results;
        }
        let mut rest = again.as_slice();
        while let Some(first) = rest.first() {
            let together = rest.iter().take_while(|again| again.link.address == first.link.address && again.asking == first.asking).count();
            let (now, later) = rest.split_at(together);
            let indexes: Vec<_> = now.iter().map(|again| again.index).collect();
            let (resent, still) = self.send((act, By::Text), writes, &first.link, &indexes, first.asking).await;
            let away = |index| (index, Some(Err(self.servers.at(&first.link.address).away("slots of the cluster are moving"))));
            results.extend(resent);
            results.extend(still.iter().map(|again| away(again.index)));
            rest = later;
        }
        results
    }

    async fn send(
        &self,
        (act, by): (Act, By),
        writes: &SinkWrites,
        link: &Arc<Link>,
        indexes: &[usize],
        asking: bool,
    ) -> (Results, Vec<Again>) {
        let (mut results, mut again) = (Results::with_capacity(indexes.len()), Vec::new());
        let mut sent = Vec::with_capacity(indexes.len());
        let mut pipeline = Pipeline::with_capacity(if asking { 2 * indexes.len() } else { indexes.len() });
        let mut scratch = Scratch::default();
        for &index in indexes {
            let command = writes.writes.get(index).and_then(|write| match act {
                Act::Write => self.scripts.command(by, writes, write, self.tombstone_seconds, &mut scratch),
                Act::Mark => Some(self.scripts.mark(by, writes, write, &mut scratch)),
            });
            match command {
                Some(command) => {
                    if asking {
                        pipeline.cmd("ASKING");
                    }
                    pipeline.add_command(command);
                    sent.push(index);
                }
                None => results.push((index, Some(Err(self.malformed(writes, index))))),
            }
        }
        if sent.is_empty() {
            return (results, again);
        }
        let replies = match link.run(&mut pipeline).await {
            Ok(replies) => replies,
            Err(error) => {
                self.servers.forget_topology();
                let error = self.servers.at(&link.address).command(&error);
                results.extend(sent.into_iter().map(|index| (index, Some(Err(copy(&error))))));
                return (results, again);
            }
        };
        let step = if asking { 2 } else { 1 };
        for (index, reply) in sent.into_iter().zip(replies.into_iter().skip(step - 1).step_by(step)) {
            match self.elsewhere(link, index, &reply) {
                Some(elsewhere) => again.push(elsewhere),
                None => results.push((index, Some(self.outcome(writes, link, index, &reply)))),
            }
        }
        (results, again)
    }

    /// Where a write must be sent again; `None` where the reply is its result.
    fn elsewhere(&self, link: &Arc<Link>, index: usize, reply: &Value) -> Option<Again> {
        let Value::ServerError(error) = reply else { return None };
        let kind = error.kind()?;
        if kind == ServerErrorKind::NoScript {
            return Some(Again { index, link: link.clone(), asking: false });
        }
        let asking = kind == ServerErrorKind::Ask;
        if !asking && kind != ServerErrorKind::Moved {
            return None;
        }
        if !asking {
            self.servers.forget_topology();
        }
        // "3999 10.0.0.2:6379"; a server that does not know its own host leaves it out.
        let address = error.details()?.split_ascii_whitespace().nth(1)?;
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() { link.host() } else { host };
        let link = self.servers.link(host, port.parse().ok()?).ok()?;
        Some(Again { index, link, asking })
    }

    fn outcome(&self, writes: &SinkWrites, link: &Link, index: usize, reply: &Value) -> Result<WriteOutcome, Error> {
        let write = writes.writes.get(index);
        let place = || write.map_or_else(String::new, |write| place_of(writes, write));
        let at = self.servers.at(&link.address);
        if let Value::ServerError(error) = reply {
            let fault = at.write(&place(), error);
            self.servers.doubt(error.code(), &fault);
            return Err(fault);
        }
        if let Value::Int(code) = reply
            && let Some(outcome) = outcome_of(*code)
        {
            return Ok(outcome);
        }
        let stored = if let Value::BulkString(text) = reply { StoredVersion::parse(text) } else { None };
        let (Some(stored), Some(write)) = (stored, write) else {
            return Err(at.setup("the script's answer is not understood", "see whether it is a Redis server"));
        };
        if stored.fence.generation() > write.fence.generation() {
            return Ok(WriteOutcome::Stale);
        }
        Err(Error::OtherPartition { sink: self.name.clone(), place: place(), stored: stored.partition, incoming: writes.partition })
    }

    fn malformed(&self, writes: &SinkWrites, index: usize) -> Error {
        Error::Refused {
            sink: self.name.clone(),
            place: writes.writes.get(index).map_or_else(String::new, |write| place_of(writes, write)),
            code: "malformed",
            message: "the write is not in this sink's form".to_owned(),
        }
    }

    /// Sends a command to the shard of a key, and follows one redirection by asking for the shards anew.
    async fn at_key(&self, key: &(impl AsRef<[u8]> + ?Sized + Sync), command: Cmd) -> Result<Value, Error> {
        for last in [false, true] {
            let topology = self.servers.topology().await?;
            let Some(link) = topology.shard_of(key.as_ref()).and_then(|shard| topology.shards.get(shard)) else {
                self.servers.forget_topology();
                return Err(self.servers.at("cluster").away("no server holds the key's slot"));
            };
            match link.one(command.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    self.servers.forget_topology();
                    if last || error.kind() != redis::ErrorKind::Server(ServerErrorKind::Moved) {
                        return Err(self.servers.at(&link.address).command(&error));
                    }
                }
            }
        }
        Err(self.servers.at("cluster").away("slots of the cluster are moving"))
    }

    async fn read_held(&self, keys: &SinkWrites) -> Result<Vec<Held>, Error> {
        let mut found = Vec::with_capacity(keys.writes.len());
        let mut companion = Vec::new();
        for key in &keys.writes {
            version::write_key(&mut companion, keys.slice(key.key));
            let mut command = Cmd::new();
            command.arg("GET").arg(&companion);
            let Value::BulkString(text) = self.at_key(&companion, command).await? else {
                found.push(Held::default());
                continue;
            };
            found.push(version::held(&text).ok_or_else(|| Error::Setup {
                sink: self.name.clone(),
                message: format!("a companion key of {} holds something that is no version", place_of(keys, key)),
            })?);
        }
        Ok(found)
    }
}

/// What an error means that a server answered to a write; the fuzzer asks for it.
pub fn fault_of_write(code: &str, detail: &str) -> Error {
    fault::At { sink: "redis", server: "server" }.server_error("place", code, detail)
}

/// As `decide.lua` numbers them.
fn outcome_of(code: i64) -> Option<WriteOutcome> {
    match code {
        1 => Some(WriteOutcome::Applied),
        2 => Some(WriteOutcome::Duplicate),
        3 => Some(WriteOutcome::Conflict),
        4 => Some(WriteOutcome::Stale),
        _ => None,
    }
}

fn place_of(writes: &SinkWrites, write: &FencedWrite) -> String {
    writes.targets.get(write.target as usize).map_or_else(String::new, |target| target.place.name().to_owned())
}

/// One fault of a connection is the fault of each write that was under way on it.
fn copy(error: &Error) -> Error {
    match error {
        Error::Away { sink, message } => Error::Away { sink: sink.clone(), message: message.clone() },
        Error::Full { sink, message } => Error::Full { sink: sink.clone(), message: message.clone() },
        Error::Refused { sink, place, code, message } => {
            Error::Refused { sink: sink.clone(), place: place.clone(), code, message: message.clone() }
        }
        Error::OtherPartition { sink, place, stored, incoming } => {
            Error::OtherPartition { sink: sink.clone(), place: place.clone(), stored: *stored, incoming: *incoming }
        }
        Error::Setup { sink, message } => Error::Setup { sink: sink.clone(), message: message.clone() },
    }
}

impl Sink for RedisSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.check_servers().boxed()
    }

    fn write<'a>(&'a self, writes: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        self.write_all(Act::Write, writes).boxed()
    }

    fn mark<'a>(&'a self, marks: &'a SinkWrites) -> BoxFuture<'a, Vec<Result<WriteOutcome, Error>>> {
        self.write_all(Act::Mark, marks).boxed()
    }

    fn held<'a>(&'a self, keys: &'a SinkWrites) -> BoxFuture<'a, Result<Vec<Held>, Error>> {
        self.read_held(keys).boxed()
    }

    fn watermark<'a>(&'a self, group: &'a str, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<Watermark>, Error>> {
        self.read_watermark(group, source).boxed()
    }

    fn store_watermark<'a>(
        &'a self,
        group: &'a str,
        source: &'a TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> BoxFuture<'a, Result<MarkOutcome, Error>> {
        self.write_watermark(group, source, lineage, replaces, watermark).boxed()
    }

    fn lineage(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.ask_lineage().boxed()
    }

    fn identity<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicIdentity>, Error>> {
        self.read_identity(topic).boxed()
    }

    fn store_identity<'a>(&'a self, topic: &'a str, identity: &'a TopicIdentity) -> BoxFuture<'a, Result<(), Error>> {
        self.write_identity(topic, identity).boxed()
    }

    fn clear<'a>(&'a self, target: &'a TargetSettings, fence: Fence, partition: i32) -> BoxFuture<'a, Result<(), Error>> {
        self.clear_target(target, fence, partition).boxed()
    }

    fn sweep_generation<'a>(&'a self, target: &'a TargetSettings, generation: Generation) -> BoxFuture<'a, Result<u64, Error>> {
        self.sweep_target(target, generation).boxed()
    }

    /// Nothing: Redis expires tombstones itself, and a script can't be overtaken by another.
    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }

    fn sweep_interval(&self) -> Option<Duration> {
        None
    }
}
