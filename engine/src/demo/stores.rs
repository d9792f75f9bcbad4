//! The stores of a demo, read with code of its own: what is there is compared with what the shop has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::Document;
use futures_util::StreamExt;
use redis::AsyncTypedCommands;
use serde_json::Value;

use super::Error;
use super::debezium::Table;
use crate::sink::memory::MemorySink;

/// How long a store may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Documents by table and primary key.
pub(super) type Documents<D> = BTreeMap<(&'static str, String), D>;

/// Where the demo's Redis documents are.
pub(super) enum RedisStore {
    Memory(Arc<MemorySink>),
    Real(redis::aio::MultiplexedConnection),
}

/// Where the demo's MongoDB documents are.
pub(super) enum MongoStore {
    Memory(Arc<MemorySink>),
    Real(mongodb::Database),
}

impl RedisStore {
    pub(super) async fn connect(url: &str) -> Result<Self, Error> {
        let client = redis::Client::open(url).map_err(|error| Error::Store(format!("--redis: {error}")))?;
        // The client's own limit of half a second is none for a busy server with many keys.
        let patient = redis::AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
        Ok(Self::Real(connection.map_err(|error| Error::Store(format!("--redis: {error}")))?))
    }

    /// All documents under the run's prefix.
    pub(super) async fn documents(&mut self, run: &str) -> Result<Documents<Value>, Error> {
        let mut documents = Documents::new();
        for table in Table::ALL {
            let prefix = prefix(run, table);
            for (key, text) in self.texts(&prefix).await? {
                let id = key.strip_prefix(&format!("{prefix}:")).unwrap_or(&key).to_owned();
                let document =
                    serde_json::from_slice(&text).map_err(|error| Error::Store(format!("the document at {key} is no JSON: {error}")))?;
                documents.insert((table.name(), id), document);
            }
        }
        Ok(documents)
    }

    async fn texts(&mut self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        match self {
            Self::Memory(sink) => {
                let text = |(key, document): (Vec<u8>, Vec<u8>)| (String::from_utf8_lossy(&key).into_owned(), document);
                Ok(sink.documents(prefix).into_iter().map(text).collect())
            }
            Self::Real(connection) => {
                let mut texts = Vec::new();
                for key in keys(connection, &format!("{prefix}:*")).await? {
                    let text: Option<Vec<u8>> =
                        redis::cmd("GET").arg(&key).query_async(connection).await.map_err(|error| Error::Store(error.to_string()))?;
                    texts.extend(text.map(|text| (key, text)));
                }
                Ok(texts)
            }
        }
    }

    /// Removes what the run has written, versions and watermarks too.
    pub(super) async fn remove(&mut self, run: &str) -> Result<(), Error> {
        let Self::Real(connection) = self else { return Ok(()) };
        for key in keys(connection, &format!("*{run}*")).await? {
            connection.del(key).await.map_err(|error| Error::Store(error.to_string()))?;
        }
        Ok(())
    }
}

impl MongoStore {
    pub(super) async fn connect(uri: &str, database: &str) -> Result<Self, Error> {
        let client = mongodb::Client::with_uri_str(uri).await.map_err(|error| Error::Store(format!("--mongodb: {error}")))?;
        Ok(Self::Real(client.database(database)))
    }

    /// All documents of the run, without their versions.
    pub(super) async fn documents(&self) -> Result<Documents<Document>, Error> {
        let mut documents = Documents::new();
        for table in Table::ALL {
            for mut document in self.collection(table).await? {
                document.remove("_sync");
                let id = document.get("_id").map(ToString::to_string).unwrap_or_default();
                documents.insert((table.name(), id), document);
            }
        }
        Ok(documents)
    }

    async fn collection(&self, table: Table) -> Result<Vec<Document>, Error> {
        match self {
            Self::Memory(sink) => {
                let parse = |bytes: Vec<u8>| Document::from_reader(bytes.as_slice()).map_err(|error| Error::Store(error.to_string()));
                sink.documents(table.name()).into_values().map(parse).collect()
            }
            Self::Real(database) => {
                let fault = |error: mongodb::error::Error| Error::Store(error.to_string());
                let mut found = database.collection::<Document>(table.name()).find(Document::new()).await.map_err(fault)?;
                let mut documents = Vec::new();
                while let Some(document) = found.next().await {
                    documents.push(document.map_err(fault)?);
                }
                Ok(documents)
            }
        }
    }

    /// Drops the run's database.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let Self::Real(database) = self else { return Ok(()) };
        database.drop().await.map_err(|error| Error::Store(error.to_string()))
    }
}

/// The run's key prefix for a table.
pub(super) fn prefix(run: &str, table: Table) -> String {
    format!("{run}-{}", table.name())
}

async fn keys(connection: &mut redis::aio::MultiplexedConnection, pattern: &str) -> Result<Vec<String>, Error> {
    let fault = |error: redis::RedisError| Error::Store(error.to_string());
    let mut found = Vec::new();
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
        let (next, page): (u64, Vec<String>) = scan.query_async(connection).await.map_err(fault)?;
        found.extend(page);
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
