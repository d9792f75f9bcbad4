//! A server that is put back to an older copy of its data while a sweep is under way.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, future::ready};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Result;
use streamsync::machine::Machine;
use streamsync::sink::Sink as _;
use streamsync::sink::mongodb::{Batch, Batches, MongoDbSink, Server};

use crate::mongodb_store::settings;

const FENCE: i64 = (1 << 48) + 14;

/// Has a tombstone only until the sweep has read it; then an older document of its key.
#[derive(Debug, Default)]
struct Restored {
    /// The commands that change something, by name.
    commands: Mutex<Vec<&'static str>>,
    written: Mutex<Vec<Document>>,
}

fn tombstone() -> Document {
    doc! { "_id": "the key's", "c": "orders", "k": 7_i64, "v": FENCE, "p": 2 }
}

impl Server for Restored {
    fn run(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<RawDocumentBuf>> {
        let command = Document::try_from(&command).expect("a command");
        let name = match command.keys().next().map(String::as_str) {
            Some("delete") => "delete",
            Some("update") => "update",
            other => panic!("{other:?}"),
        };
        self.commands.lock().expect("no panic").push(name);
        if name == "update" {
            assert_eq!(command.get_str("update").ok(), Some("_sync_tombstones"), "{command}");
            let updates = command.get_array("updates").expect("updates").iter().filter_map(|update| update.as_document());
            let replacement = |update: &Document| update.get_document("u").expect("a document").clone();
            self.written.lock().expect("no panic").extend(updates.map(replacement));
        }
        ready(RawDocumentBuf::try_from(&doc! { "ok": 1, "n": 1 }).map_err(Into::into)).boxed()
    }

    fn find(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        let command = Document::try_from(&command).expect("a command");
        let found = match command.get_str("find") {
            Ok("_sync_tombstones") if command.contains_key("sort") => doc! { "0": tombstone() },
            Ok("orders") => doc! { "0": { "_id": 7_i64, "_sync": { "v": FENCE - 1, "p": 2 } } },
            _ => doc! {},
        };
        let array = RawDocumentBuf::try_from(&found).expect("an array");
        ready(Ok(stream::iter([Ok(Batch::of_array(array.as_bytes().to_vec()))]).boxed())).boxed()
    }

    fn find_in_config(&self, _: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        ready(Ok(stream::empty().boxed())).boxed()
    }
}

/// The sweep writes the tombstone again, which the copy lacks, and only then removes the document.
pub async fn tombstones_come_back() {
    let (settings, mongodb) = settings("mongodb://restored.example/", "shop");
    let server = Arc::new(Restored::default());
    let sink = MongoDbSink::with_server(&settings, &mongodb, Vec::new(), Arc::clone(&server) as _, Machine::REAL).expect("a sink");
    sink.sweep().await.expect("a sweep");
    let written = server.written.lock().expect("no panic").clone();
    let [written] = &*written else { panic!("{written:?}") };
    for field in ["c", "k", "v", "p"] {
        assert_eq!(written.get(field), tombstone().get(field), "{written}");
    }
    assert_eq!(*server.commands.lock().expect("no panic"), ["update", "delete"]);
}
