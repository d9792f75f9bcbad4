//! Bare clients: the same writes as the engine's, prepared beforehand, sent by nothing but the database's own driver.
//!
//! Redis gets the same fenced script in pipelines, MongoDB the same conditional upserts in unordered bulks. No Kafka, no JSON, no
//! transform, no offsets: what is left is what the server and its driver take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use streamsync::config::Settings;
use streamsync::decode::Decoder;
use streamsync::fence::Generation;
use streamsync::plan::{FencedWrite, Planner, SinkWrites};
use streamsync::route::Router;
use streamsync::source::{RecordBatch, TopicPartition};
use tokio::task::JoinSet;

use crate::events::Events;
use crate::native::Native;
use crate::topic::PARTITIONS;

const PATIENCE: Duration = Duration::from_secs(30);
/// As the sinks have it in their defaults.
const PIPELINE: usize = 512;
const BULK: usize = 1000;
/// Of a partition, however slow the server is: a drain of fewer batches is over before its rate can be seen.
const LEAST_BULKS: u64 = 4;
/// What the sink sends for a put: `decide` and `put_string` in one.
const SCRIPT: &str =
    concat!(include_str!("../../../engine/src/sink/redis/decide.lua"), include_str!("../../../engine/src/sink/redis/put_string.lua"));

/// What a client did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) writes: u64,
    pub(crate) seconds: f64,
}

impl Sent {
    pub(crate) fn rate(self) -> f64 {
        self.writes as f64 / self.seconds
    }
}

/// The writes of the backlog's first records, as the engine plans them, for each partition.
pub(crate) fn writes(settings: &Settings, events: &Events, records: u64) -> Result<Vec<Vec<SinkWrites>>> {
    let route = settings.routes.first().context("there is no route")?;
    let (router, mut native) = (Router::new(Arc::clone(route)), Native::new(settings)?);
    let partition = |partition: u64| {
        let (mut decoder, mut planner) = (Decoder::new(Arc::clone(route)), Planner::new(route, "0000000000000000"));
        let mut planned = Vec::new();
        let mut numbers = (0..records).filter(|number| number % PARTITIONS == partition);
        loop {
            let batch = batch(events, partition, numbers.by_ref().take(BULK))?;
            if batch.records.is_empty() {
                return Ok(planned);
            }
            let answered = native.apply(router.route(decoder.batch(batch)))?;
            planned.extend(planner.plan(answered, Generation::FIRST).sinks);
        }
    };
    (0..PARTITIONS).map(partition).collect()
}

fn batch(events: &Events, partition: u64, numbers: impl Iterator<Item = u64>) -> Result<RecordBatch> {
    let mut batch = RecordBatch::new(TopicPartition::new("bench", i32::try_from(partition)?));
    for number in numbers {
        let event = events.put(number).context("there is no event")?;
        let offset = i64::try_from(number / PARTITIONS)?;
        batch.push(offset, None, Some(event.key.as_bytes()), Some(event.value.as_bytes()), []).context("a batch is too large")?;
    }
    Ok(batch)
}

/// Sends everything to Redis: a connection a partition, one pipeline under way on each.
pub(crate) async fn redis(url: &str, writes: &Arc<Vec<Vec<SinkWrites>>>) -> Result<Sent> {
    let client = redis::Client::open(url)?;
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..writes.len() {
        connections.push(connect_redis(&client).await?);
    }
    let mut loading = connect_redis(&client).await?;
    let digest: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut loading).await?;
    let begin = Instant::now();
    for (partition, mut connection) in connections.into_iter().enumerate() {
        let (writes, digest) = (Arc::clone(writes), digest.clone());
        tasks.spawn(async move {
            let mut sent = 0;
            for batch in writes.get(partition).into_iter().flatten() {
                for chunk in batch.writes.chunks(PIPELINE) {
                    let mut pipeline = redis::Pipeline::with_capacity(chunk.len());
                    for write in chunk {
                        add_command(&mut pipeline, &digest, batch, write);
                    }
                    let answers: Vec<i64> = pipeline.query_async(&mut connection).await?;
                    ensure!(answers.iter().all(|answer| *answer == 1), "Redis did not apply a write: its database was not empty");
                    sent += chunk.len() as u64;
                }
            }
            Ok(sent)
        });
    }
    finish(tasks, begin).await
}

/// The driver's own limit of half a second is none for a server that is at its limit.
pub(crate) async fn connect_redis(client: &redis::Client) -> Result<MultiplexedConnection> {
    let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    Ok(client.get_multiplexed_async_connection_with_config(&patient).await?)
}

/// docs/decisions/0003-redis-format.md has the companion key and its text.
fn add_command(pipeline: &mut redis::Pipeline, digest: &str, batch: &SinkWrites, write: &FencedWrite) {
    let key = batch.slice(write.key);
    let companion = [b"_sync:{", key, b"}"].concat();
    let version = format!("{} p {:016x} {:0>16} {}", write.fence, write.content, batch.module, batch.partition);
    let smallest = format!("{:019}", (write.fence.number() >> 48) << 48);
    let document = write.document.map(|document| batch.slice(document)).unwrap_or_default();
    pipeline.cmd("EVALSHA").arg(digest).arg(2).arg(key).arg(companion).arg(version).arg(smallest).arg(document);
}

/// Sends to MongoDB until all is sent, or the time is over and each partition has had some bulks: one is under way a partition.
pub(crate) async fn mongodb(uri: &str, database: &str, commands: &Arc<Vec<Vec<RawDocumentBuf>>>, limit: Duration) -> Result<Sent> {
    let database = mongodb::Client::with_uri_str(uri).await?.database(database);
    database.run_command(bson::doc! { "ping": 1 }).await?;
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for partition in 0..commands.len() {
        let (commands, database) = (Arc::clone(commands), database.clone());
        tasks.spawn(async move {
            let mut sent = 0;
            for command in commands.get(partition).into_iter().flatten() {
                if begin.elapsed() >= limit && sent >= LEAST_BULKS * BULK as u64 {
                    break;
                }
                let reply = database.run_raw_command(command.clone()).await?;
                ensure!(reply.get("writeErrors").is_none(), "MongoDB refused a write: its collection was not empty");
                sent += u64::try_from(reply.get_i32("n")?)?;
            }
            Ok(sent)
        });
    }
    finish(tasks, begin).await
}

/// The commands that [`mongodb`] sends; docs/decisions/0004-mongodb-writes.md has their conditions.
pub(crate) fn bulks(writes: &[Vec<SinkWrites>]) -> Result<Vec<Vec<RawDocumentBuf>>> {
    writes.iter().map(|batches| batches.iter().map(bulk).collect()).collect()
}

fn bulk(batch: &SinkWrites) -> Result<RawDocumentBuf> {
    let mut updates = RawArrayBuf::new();
    for write in &batch.writes {
        let document = RawDocument::from_bytes(batch.slice(write.document.context("the write is a delete")?))?;
        let id = document.get("_id")?.context("a document has no _id")?;
        let mut condition = RawDocumentBuf::new();
        condition.append(cstr!("_id"), id);
        condition.append(cstr!("_sync.v"), rawdoc! { "$not": { "$gte": write.fence.number() } });
        condition.append(cstr!("_sync.p"), rawdoc! { "$in": [batch.partition, bson::RawBson::Null] });
        updates.push(rawdoc! { "q": condition, "u": document.to_owned(), "upsert": true });
    }
    Ok(rawdoc! { "update": "orders", "ordered": false, "writeConcern": { "w": "majority" }, "updates": updates })
}

async fn finish(mut tasks: JoinSet<Result<u64>>, begin: Instant) -> Result<Sent> {
    let mut writes = 0;
    while let Some(sent) = tasks.join_next().await {
        writes += sent??;
    }
    Ok(Sent { writes, seconds: begin.elapsed().as_secs_f64() })
}
