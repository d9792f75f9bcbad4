//! Who a MongoDB server is, by what it says of itself.

use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, TryFutureExt};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Result;
use streamsync::machine::Machine;
use streamsync::sink::Sink as _;
use streamsync::sink::mongodb::{Batches, MongoDbSink, Server};

use crate::mongodb_store::settings;

/// Answers everything with what it was told last.
#[derive(Debug, Default)]
struct Told(Mutex<Document>);

impl Server for Told {
    fn run(&self, _: RawDocumentBuf) -> BoxFuture<'_, Result<RawDocumentBuf>> {
        let reply = self.0.lock().expect("not poisoned").clone();
        ready(RawDocumentBuf::try_from(&reply)).map_err(Into::into).boxed()
    }

    fn find(&self, _: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        ready(Ok(stream::empty().boxed())).boxed()
    }

    fn find_in_config(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        self.find(command)
    }
}

/// A primary: its process, the election that made it one, the version of its set, and how often its view of the set has changed.
fn primary(process: u8, election: u8, set_version: i32, counter: i64) -> Document {
    let [process, election] = [process, election].map(|id| ObjectId::from_bytes([id; 12]));
    doc! {
        "ok": 1, "maxWireVersion": 21, "isWritablePrimary": true, "setName": "rs0", "setVersion": set_version, "electionId": election,
        "topologyVersion": { "processId": process, "counter": counter },
    }
}

fn router(process: u8) -> Document {
    let process = ObjectId::from_bytes([process; 12]);
    doc! { "ok": 1, "maxWireVersion": 21, "msg": "isdbgrid", "topologyVersion": { "processId": process, "counter": 1_i64 } }
}

/// An election alone may bring a server to power that had not all that was written: the one before may live on, and win again.
pub async fn each_change_of_who_answers_is_counted() {
    let (told, (settings, mongodb)) = (Arc::new(Told::default()), settings("mongodb://set.example/", "shop"));
    let server = Arc::clone(&told) as Arc<dyn Server>;
    let sink = MongoDbSink::with_server(&settings, &mongodb, Vec::new(), server, Machine::REAL).expect("a sink");
    for (what, hello, changes) in [
        ("the first look", primary(1, 1, 1, 6), 0),
        ("the same", primary(1, 1, 1, 6), 0),
        ("it sees another secondary", primary(1, 1, 1, 7), 0),
        ("an election, and no restart", primary(1, 2, 1, 7), 1),
        ("the same", primary(1, 2, 1, 7), 1),
        ("a restart, and no election", primary(3, 2, 1, 0), 2),
        ("another set of members", primary(3, 2, 2, 0), 3),
        ("a failover", primary(4, 5, 2, 9), 4),
        ("and back", primary(3, 2, 2, 0), 5),
        ("a router", router(6), 6),
        ("another router, which holds no data either", router(7), 6),
    ] {
        *told.0.lock().expect("not poisoned") = hello;
        assert_eq!(sink.lineage().await.expect("an answer"), changes, "{what}");
    }
}
