//! A reader of both stores who expects rows that nobody changes to be there, as they are, at every look.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checker::Checker;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads until it is closed.
pub struct Reader {
    stop: watch::Sender<bool>,
    reading: JoinSet<Result<u64>>,
}

/// What a look found: in Redis the texts, in MongoDB the fields without the version.
type Found = (Vec<Option<String>>, BTreeMap<String, Document>);

impl Reader {
    /// Begins with what both stores hold of these rows of a table.
    ///
    /// # Errors
    /// A store does not answer, or lacks a row.
    pub async fn open(checker: &Checker, table: &'static str, ids: &[i64]) -> Result<Self> {
        let (redis, mongodb, ids) = (checker.redis.clone(), checker.mongodb.clone(), ids.to_vec());
        let first = look(&redis, &mongodb, table, &ids).await?;
        ensure!(first.0.iter().all(Option::is_some) && first.1.len() == ids.len(), "a row that is to be read is not there");
        let (stop, stopped) = watch::channel(false);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut looks = 0;
            while !*stopped.borrow() {
                let found = look(&redis, &mongodb, table, &ids).await?;
                ensure!(found == first, "a reader's look {looks} at {table} found {found:?}, and expected {first:?}");
                looks += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(looks)
        });
        Ok(Self { stop, reading })
    }

    /// Ends it, and returns how often it has looked.
    ///
    /// # Errors
    /// A row was not there, or not as it had been.
    pub async fn close(mut self) -> Result<u64> {
        self.stop.send_replace(true);
        self.reading.join_next().await.context("the reader has no task")??
    }
}

async fn look(redis: &redis::Client, mongodb: &mongodb::Database, table: &str, ids: &[i64]) -> Result<Found> {
    let mut connection = redis.get_multiplexed_async_connection().await?;
    let keys: Vec<String> = ids.iter().map(|id| format!("{table}:{id}")).collect();
    let texts = redis::cmd("MGET").arg(&keys).query_async(&mut connection).await?;
    let ids: Vec<Bson> = ids.iter().copied().map(Bson::Int64).collect();
    let found = mongodb.collection::<Document>(table).find(doc! { "_id": { "$in": ids } }).projection(doc! { "_sync": 0 }).await?;
    let documents: Vec<Document> = found.try_collect().await?;
    let by_id = documents.into_iter().map(|document| (format!("{:?}", document.get("_id")), document));
    Ok((texts, by_id.collect()))
}
