//! The judge: reads MySQL's rows, recomputes the documents, and compares both stores with them, key by key and field by field; then what lies
//! beside each document: its version, which is the same in both stores, and that nothing of it expires.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mysql_async::prelude::Queryable as _;
use redis::AsyncCommands as _;
use serde_json::Value;

use crate::cell::Cell;
use crate::deadline::{PATIENCE, until};
use crate::fence::{Companion, companion_key, in_mongodb, in_redis, told};
use crate::tables::{Fields, Row, TableCheck};

/// Differences that an error lists.
const SHOWN: usize = 8;
/// Keys that Redis is asked for at once.
const ASKED: usize = 1000;

/// The three systems of one case.
pub struct Checker {
    /// MySQL's user who may do everything.
    pub mysql: mysql_async::Pool,
    /// MySQL's database.
    pub schema: String,
    /// With the database's number.
    pub redis: redis::Client,
    /// The case's database.
    pub mongodb: mongodb::Database,
}

/// A document in Redis, and what lies beside it.
struct Held {
    text: String,
    /// What its companion key holds.
    companion: Option<Vec<u8>>,
    /// What its key and its companion's have left to live, in milliseconds; below 0 where nothing ends them.
    ttl_ms: [i64; 2],
}

impl Checker {
    /// Waits until both stores hold exactly what MySQL's rows say.
    ///
    /// # Errors
    /// They still differ at the deadline; the error lists how.
    pub async fn wait_equal(&self, tables: &[TableCheck]) -> Result<()> {
        until("both stores equal MySQL", async || self.equal(tables).await).await
    }

    /// Fails where a store differs from MySQL's rows.
    ///
    /// # Errors
    /// The differences.
    pub async fn equal(&self, tables: &[TableCheck]) -> Result<()> {
        let mut differences = Vec::new();
        for table in tables {
            let rows = self.rows(table).await?;
            let in_redis = compare_redis(table, &rows, &self.redis_held(table.name).await?, &mut differences);
            let in_mongodb = compare_mongodb(table, &rows, self.mongodb_documents(table.name).await?, &mut differences);
            compare_fences(table, &rows, &in_redis, &in_mongodb, &mut differences);
        }
        if differences.is_empty() {
            return Ok(());
        }
        let more = differences.len().saturating_sub(SHOWN);
        differences.truncate(SHOWN);
        bail!("{}{}", differences.join("\n"), if more > 0 { format!("\n… and {more} more") } else { String::new() })
    }

    /// MySQL's rows, in UTC and as text.
    ///
    /// # Errors
    /// MySQL does not answer.
    pub async fn rows(&self, table: &TableCheck) -> Result<Vec<Row>> {
        let mut connection = self.mysql.get_conn().await?;
        connection.query_drop("SET time_zone = '+00:00'").await?;
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let query = format!("SELECT {} FROM {}.{}", columns.join(", "), self.schema, table.name);
        // A query without parameters comes back as text: MySQL's own, not a driver's reading of it.
        let rows: Vec<mysql_async::Row> = connection.query(query).await?;
        rows.into_iter().map(|row| cells(table, row)).collect()
    }

    /// Keys and texts below a prefix.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn redis_documents(&self, prefix: &str) -> Result<BTreeMap<String, String>> {
        Ok(self.redis_held(prefix).await?.into_iter().map(|(key, held)| (key, held.text)).collect())
    }

    async fn redis_held(&self, prefix: &str) -> Result<BTreeMap<String, Held>> {
        let mut connection = redis_connection(&self.redis).await?;
        let keys: Vec<String> = connection.keys(format!("{prefix}:*")).await?;
        let mut documents = BTreeMap::new();
        for keys in keys.chunks(ASKED) {
            let companions: Vec<String> = keys.iter().map(|key| companion_key(key)).collect();
            let mut lives = redis::Pipeline::with_capacity(2 * keys.len());
            for key in keys.iter().zip(&companions).flat_map(|(key, companion)| [key, companion]) {
                lives.cmd("PTTL").arg(key);
            }
            let texts: Vec<Option<String>> = redis::cmd("MGET").arg(keys).query_async(&mut connection).await?;
            let versions: Vec<Option<Vec<u8>>> = redis::cmd("MGET").arg(&companions).query_async(&mut connection).await?;
            let lives: Vec<i64> = lives.query_async(&mut connection).await?;
            for (((key, text), companion), ttl_ms) in keys.iter().zip(texts).zip(versions).zip(lives.as_chunks().0) {
                // A key that went between two commands is no document.
                if let Some(text) = text {
                    documents.insert(key.clone(), Held { text, companion, ttl_ms: *ttl_ms });
                }
            }
        }
        Ok(documents)
    }

    /// All documents of a collection.
    ///
    /// # Errors
    /// MongoDB does not answer.
    pub async fn mongodb_documents(&self, collection: &str) -> Result<Vec<Document>> {
        let cursor = self.mongodb.collection::<Document>(collection).find(doc! {}).await?;
        Ok(cursor.try_collect().await?)
    }
}

/// A connection whose answers may take as long as anything here: the client's own limit of half a second is none for a busy machine.
///
/// # Errors
/// Redis does not answer.
pub async fn redis_connection(client: &redis::Client) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let patient = redis::AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&patient).await
}

fn cells(table: &TableCheck, row: mysql_async::Row) -> Result<Row> {
    let values = row.unwrap();
    ensure!(values.len() == table.columns.len(), "{} has other columns", table.name);
    let read = |((name, kind), value): (&(&str, crate::cell::Kind), mysql_async::Value)| {
        let bytes = match value {
            mysql_async::Value::NULL => None,
            mysql_async::Value::Bytes(bytes) => Some(bytes),
            other => bail!("{}.{name} did not come as text: {other:?}", table.name),
        };
        Cell::read(*kind, bytes.as_deref()).with_context(|| format!("{}.{name}", table.name))
    };
    table.columns.iter().zip(values).map(read).collect()
}

fn key_of(table: &TableCheck, row: &Row) -> Vec<Cell> {
    table.key.iter().filter_map(|index| row.get(*index).cloned()).collect()
}

/// Returns the fence of each row's document, as far as it has one.
fn compare_redis(table: &TableCheck, rows: &[Row], held: &BTreeMap<String, Held>, differences: &mut Vec<String>) -> Vec<Option<i64>> {
    let (mut wanted, mut fences) = (BTreeSet::new(), Vec::with_capacity(rows.len()));
    for row in rows {
        let parts: Vec<String> = key_of(table, row).iter().map(Cell::as_key).collect();
        let key = format!("{}:{}", table.name, parts.join(":"));
        let found = held.get(&key);
        match found.map(|held| serde_json::from_str::<Value>(&held.text)) {
            None => differences.push(format!("Redis lacks {key}")),
            Some(Ok(Value::Object(document))) => {
                let fields = (table.document)(table, row);
                compare_fields(&format!("Redis {key}"), &fields, document.len(), differences, |name, cell| {
                    document.get(name).map(|value| (cell.is_json(value), value.to_string()))
                });
            }
            Some(other) => differences.push(format!("Redis {key} is no JSON object: {other:?}")),
        }
        fences.push(found.and_then(|held| fence_beside(&key, held, differences)));
        wanted.insert(key);
    }
    differences.extend(held.keys().filter(|key| !wanted.contains(*key)).map(|key| format!("Redis holds {key}, MySQL has no such row")));
    fences
}

/// A row's document and its version stay until the row goes: none of the suite's routes has a time to live.
fn fence_beside(key: &str, held: &Held, differences: &mut Vec<String>) -> Option<i64> {
    for (what, ttl_ms) in ["it", "its version"].into_iter().zip(held.ttl_ms) {
        if ttl_ms >= 0 {
            differences.push(format!("Redis {key}: {what} expires in {ttl_ms} ms"));
        }
    }
    match held.companion.as_deref().map(in_redis) {
        Some(Ok(Companion { fence, is_put: true, .. })) => return Some(fence),
        Some(Ok(Companion { is_put: false, .. })) => differences.push(format!("Redis {key}: its version is that of no put")),
        Some(Err(error)) => differences.push(format!("Redis {key}: {error:#}")),
        None => differences.push(format!("Redis {key}: it has no version")),
    }
    None
}

/// The same as [`compare_redis`].
fn compare_mongodb(table: &TableCheck, rows: &[Row], held: Vec<Document>, differences: &mut Vec<String>) -> Vec<Option<i64>> {
    let mut held: Vec<Option<Document>> = held.into_iter().map(Some).collect();
    let mut fences = Vec::with_capacity(rows.len());
    for row in rows {
        let key = key_of(table, row);
        let place = format!("MongoDB {} {key:?}", table.name);
        let found = held
            .iter_mut()
            .find(|document| document.as_ref().and_then(|document| document.get("_id")).is_some_and(|id| is_id(table, &key, id)));
        let Some(document) = found.and_then(Option::take) else {
            differences.push(format!("{place} is missing"));
            fences.push(None);
            continue;
        };
        let fence = in_mongodb(&document);
        if let Err(error) = &fence {
            differences.push(format!("{place}: {error:#}"));
        }
        fences.push(fence.ok());
        // `_id` and `_sync` stand beside the transform's fields.
        compare_fields(&place, &(table.document)(table, row), document.len().saturating_sub(2), differences, |name, cell| {
            document.get(name).map(|value| (cell.is_bson(value), format!("{value:?}")))
        });
    }
    differences.extend(
        held.into_iter().flatten().map(|left| format!("MongoDB {} holds {:?}, MySQL has no such row", table.name, left.get("_id"))),
    );
    fences
}

/// Both stores apply a key's newest record and none before it: at rest they hold the same version.
fn compare_fences(table: &TableCheck, rows: &[Row], redis: &[Option<i64>], mongodb: &[Option<i64>], differences: &mut Vec<String>) {
    for (row, fences) in rows.iter().zip(redis.iter().zip(mongodb)) {
        // Where one is missing, that was said.
        if let (Some(redis), Some(mongodb)) = fences
            && redis != mongodb
        {
            let key = key_of(table, row);
            differences.push(format!("{} {key:?} has version {} in Redis, {} in MongoDB", table.name, told(*redis), told(*mongodb)));
        }
    }
}

/// A scalar where the key has one column, else a document with the columns in key order.
fn is_id(table: &TableCheck, key: &[Cell], id: &Bson) -> bool {
    match (key, id) {
        ([cell], id) => cell.is_bson(id),
        (cells, Bson::Document(parts)) => {
            let names = table.key.iter().filter_map(|index| table.columns.get(*index)).map(|(name, _)| *name);
            parts.len() == cells.len()
                && parts.iter().zip(names.zip(cells)).all(|((held, value), (name, cell))| held == name && cell.is_bson(value))
        }
        _ => false,
    }
}

fn compare_fields(
    place: &str,
    fields: &Fields,
    held: usize,
    differences: &mut Vec<String>,
    find: impl Fn(&str, &Cell) -> Option<(bool, String)>,
) {
    if fields.len() != held {
        differences.push(format!("{place} has {held} fields, not {}", fields.len()));
    }
    for (name, cell) in fields {
        match find(name, cell) {
            None => differences.push(format!("{place} lacks {name}")),
            Some((false, value)) => differences.push(format!("{place}: {name} is {value}, MySQL says {cell:?}")),
            Some((true, _)) => {}
        }
    }
}
