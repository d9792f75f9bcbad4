//! The one place where commands leave the process: the driver, or a simulated server in its stead.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use mongodb::Database;
use mongodb::bson::RawDocumentBuf;
use mongodb::error::{Error, Result};
use mongodb::raw_batch_cursor::RawBatch;

/// One database of a server.
pub trait Server: std::fmt::Debug + Send + Sync {
    /// Runs a command on the primary and returns its reply. A server's "no" to the whole command is an error; what it says of single
    /// statements stands in the reply.
    fn run(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<RawDocumentBuf>>;

    /// Runs a command that answers with a cursor.
    fn find(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>>;

    /// The same in the database `config`, where a sharded cluster keeps what it knows of itself. Asked of routers alone.
    fn find_in_config(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>>;
}

/// A cursor's documents, as they come.
pub type Batches = BoxStream<'static, Result<Batch>>;

/// Some of a cursor's documents.
#[derive(Debug)]
pub struct Batch(Kind);

#[derive(Debug)]
enum Kind {
    Reply(RawBatch),
    Array(Vec<u8>),
}

impl Batch {
    /// Of the bytes of a BSON array.
    pub fn of_array(array: Vec<u8>) -> Self {
        Self(Kind::Array(array))
    }

    /// The bytes of a BSON array.
    pub(super) fn documents(&self) -> Result<&[u8]> {
        match &self.0 {
            Kind::Reply(reply) => reply.doc_slices().map(|array| array.as_bytes()),
            Kind::Array(array) => Ok(array),
        }
    }
}

impl Server for Database {
    fn run(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<RawDocumentBuf>> {
        async move {
            match self.run_raw_command(command).await {
                Ok(reply) => RawDocumentBuf::try_from(&reply).map_err(Error::from),
                Err(error) => unread(&error).ok_or(error),
            }
        }
        .boxed()
    }

    fn find(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        find_in(self.clone(), command).boxed()
    }

    fn find_in_config(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        find_in(self.client().database("config"), command).boxed()
    }
}

/// A reply that the driver could not read as a whole, although the command was carried out: a server cuts a long value in a message, perhaps in
/// the midst of a character. What stands beside the message is whole.
fn unread(error: &Error) -> Option<RawDocumentBuf> {
    let reply = error.server_response()?;
    let ok = reply.get("ok").ok()??;
    let carried_out = ok.as_f64() == Some(1.0) || ok.as_i32() == Some(1) || ok.as_i64() == Some(1) || ok.as_bool() == Some(true);
    carried_out.then(|| reply.clone())
}

async fn find_in(database: Database, command: RawDocumentBuf) -> Result<Batches> {
    // The command's own counts for its first page alone; without one here the later ones are as large as a message may be.
    let page = command.get_i32("batchSize").ok().and_then(|size| u32::try_from(size).ok());
    let find = database.run_raw_cursor_command(command);
    let find = match page {
        Some(size) => find.batch_size(size),
        None => find,
    };
    let batches = find.batch().await?;
    Ok(batches.map(|batch| batch.map(|reply| Batch(Kind::Reply(reply)))).boxed())
}
