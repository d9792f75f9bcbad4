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

/// Has a tombstone only until the sweep has read it; then the document that it stands for.
#[derive(Debug, Default)]
struct Restored {
    deleted: Mutex<u32>,
    written: Mutex<Vec<Document>>,
}

fn tombstone() -> Document {
    doc! { "_id": "the key's", "c": "orders", "k": 7_i64, "v": FENCE, "p": 2 }
}

impl Server for Restored {
    fn run(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<RawDocumentBuf>> {
        let command = Document::try_from(&command).expect("a command");
        let mut reply = doc! { "ok": 1, "n": 1 };
        match command.keys().next().map(String::as_str) {
            Some("delete") => {
                let mut deleted = self.deleted.lock().expect("no panic");
                reply.insert("n", i32::from(*deleted == 0));
                *deleted += 1;
            }
            Some("update") => {
                assert_eq!(command.get_str("update").ok(), Some("_sync_tombstones"), "{command}");
                let updates = command.get_array("updates").expect("updates").iter().filter_map(|update| update.as_document());
                let replacement = |update: &Document| update.get_document("u").expect("a document").clone();
                self.written.lock().expect("no panic").extend(updates.map(replacement));
                reply.insert("upserted", vec![doc! { "index": 0, "_id": 0 }]);
            }
            other => panic!("{other:?}"),
        }
        ready(RawDocumentBuf::try_from(&reply).map_err(Into::into)).boxed()
    }

    fn find(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        let command = Document::try_from(&command).expect("a command");
        let is_page = command.get_str("find").ok() == Some("_sync_tombstones") && command.contains_key("sort");
        let found = if is_page {
            doc! { "0": tombstone() }
        } else {
            doc! {}
        };
        let array = RawDocumentBuf::try_from(&found).expect("an array");
        ready(Ok(stream::iter([Ok(Batch::of_array(array.as_bytes().to_vec()))]).boxed())).boxed()
    }

    fn find_in_config(&self, _: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        ready(Ok(stream::empty().boxed())).boxed()
    }
}

/// The sweep removes the document, as it must; the tombstone, which the copy lacks, is written again.
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
    assert_eq!(*server.deleted.lock().expect("no panic"), 2, "the document goes after its tombstone, as in every delete");
}
