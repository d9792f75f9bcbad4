//! What a router of a sharded cluster says of its collections.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, future::ready};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Result;
use streamsync::config::{Place, TargetSettings};
use streamsync::machine::Machine;
use streamsync::sink::Sink as _;
use streamsync::sink::mongodb::{Batch, Batches, MongoDbSink, Server};

use crate::mongodb_store::settings;

/// Has one sharded collection; `None` where the user may not read which.
#[derive(Clone, Debug)]
struct Router(Option<Document>);

impl Server for Router {
    fn run(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<RawDocumentBuf>> {
        let is_hello = command.get("hello").is_ok_and(|hello| hello.is_some());
        let reply = if is_hello {
            doc! { "ok": 1, "maxWireVersion": 21, "msg": "isdbgrid" }
        } else {
            doc! { "ok": 1, "n": 0 }
        };
        ready(RawDocumentBuf::try_from(&reply).map_err(Into::into)).boxed()
    }

    fn find(&self, _: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        ready(Ok(stream::empty().boxed())).boxed()
    }

    fn find_in_config(&self, command: RawDocumentBuf) -> BoxFuture<'_, Result<Batches>> {
        let command = Document::try_from(&command).expect("a command");
        let asked = command.get_document("filter").and_then(|filter| filter.get_document("_id")).and_then(|id| id.get_array("$in"));
        assert!(asked.expect("names").contains(&"shop.orders".into()), "{command}");
        let Some(found) = &self.0 else {
            return ready(Err(std::io::Error::other("not authorized on config").into())).boxed();
        };
        let array = RawDocumentBuf::try_from(&doc! { "0": found.clone() }).expect("an array");
        ready(Ok(stream::iter([Ok(Batch::of_array(array.as_bytes().to_vec()))]).boxed())).boxed()
    }
}

/// A collection that may hold two documents of one key is refused; what can't be read is let pass.
pub async fn shard_keys() {
    let orders = |key: Document| Some(doc! { "_id": "shop.orders", "key": key });
    for (found, refused) in [
        (orders(doc! { "_id": 1 }), false),
        (orders(doc! { "_id": "hashed" }), false),
        (orders(doc! { "region": 1 }), true),
        (orders(doc! { "_id": 1, "region": 1 }), true),
        (orders(doc! { "region": 1, "_id": 1 }), true),
        (None, false),
    ] {
        let (settings, mongodb) = settings("mongodb://router.example/", "shop");
        let place = Place::MongoDb { collection: "orders".into() };
        let target = TargetSettings { name: "orders".into(), sink: 0, place, explicit_keys: false, ttl_seconds: None };
        let router = Arc::new(Router(found.clone()));
        let sink = MongoDbSink::with_server(&settings, &mongodb, vec![Arc::new(target)], router, Machine::REAL).expect("a sink");
        let checked = sink.check().await;
        assert_eq!(checked.is_err(), refused, "{found:?}: {checked:?}");
        if let Err(error) = checked {
            assert!(error.to_string().contains("shop.orders is sharded by") && error.to_string().contains("reshard it by"), "{error}");
        }
    }
}
