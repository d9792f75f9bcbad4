//! The memory sink under the suite. It takes keys and documents as they are; here they have Redis' form.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use streamsync::config::{Place, RedisForm, TargetSettings};
use streamsync::sink::Sink;
use streamsync::sink::memory::MemorySink;

use crate::suite::{Document, Store, Stored, Version, unique};

pub struct Memory(pub MemorySink);

impl Store for Memory {
    fn sink(&self) -> &dyn Sink {
        &self.0
    }

    fn target(&self, name: &str) -> Arc<TargetSettings> {
        let name = unique(name);
        let place = Place::Redis { prefix: name.clone(), form: RedisForm::String };
        Arc::new(TargetSettings { name, sink: 0, place, explicit_keys: false, ttl_seconds: None })
    }

    fn key(&self, _: &TargetSettings, key: &str) -> Vec<u8> {
        key.into()
    }

    fn document(&self, _: &TargetSettings, _: &str, document: &Document, _: &Version) -> Vec<u8> {
        serde_json::to_vec(&(&document.text, document.number)).expect("JSON")
    }

    fn read<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Document>> {
        let document = self.0.document(target.place.name(), key.as_bytes());
        let document = document.map(|json| serde_json::from_slice(&json).expect("the suite's own JSON"));
        ready(document.map(|(text, number)| Document { text, number })).boxed()
    }

    fn stored<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Stored>> {
        let version = self.0.version(target.place.name(), key.as_bytes());
        ready(version.map(|(fence, deleted)| Stored { fence, deleted })).boxed()
    }

    fn plant<'a>(&'a self, target: &'a TargetSettings, key: &'a str, document: &'a Document) -> BoxFuture<'a, ()> {
        let json = serde_json::to_vec(&(&document.text, document.number)).expect("JSON");
        self.0.plant(target.place.name(), key.as_bytes(), json);
        ready(()).boxed()
    }
}
