//! Watermarks and identities: what the sink remembers of its sources.
//!
//! `_sync_watermarks`: `{_id: "<group>/<topic>/<partition>", generation: int, next_offset: long, written_at: date}`; a topic's name
//! holds no `/`, so no two share an `_id`. `_sync_identities`: `{_id: "<topic>", cluster_id, topic_id, partitions, generation}`.

use super::bson_bytes::{Elements, Value, Writer, kind};
use super::command::{Terms, find, millis};
use super::fault::Fault;
use super::{IDENTITIES, MongoDbSink, WATERMARKS, number};
use crate::fence::Generation;
use crate::sink::{TopicIdentity, Watermark};
use crate::source::TopicPartition;

/// How often an identity is written again because another worker wrote it first.
const MAX_ATTEMPTS: usize = 4;

impl MongoDbSink {
    pub(super) async fn read_watermark(&self, group: &str, source: &TopicPartition) -> Result<Option<Watermark>, Fault> {
        let id = watermark_id(group, source);
        let Some(document) = self.read_one(WATERMARKS, &id, &["generation", "next_offset", "written_at"]).await? else {
            return Ok(None);
        };
        let generation = number(&document, "generation").and_then(|number| u16::try_from(number).ok()).and_then(Generation::new);
        let written_at_ms = Elements::of(&document).find("written_at").and_then(Value::as_date_ms);
        match (generation, number(&document, "next_offset"), written_at_ms) {
            (Some(generation), Some(next_offset), Some(written_at_ms)) => Ok(Some(Watermark { generation, next_offset, written_at_ms })),
            _ => Err(unreadable(WATERMARKS, &id)),
        }
    }

    pub(super) async fn write_watermark(&self, group: &str, source: &TopicPartition, watermark: Watermark) -> Result<(), Fault> {
        let id = watermark_id(group, source);
        let command = upsert_one(WATERMARKS, self.terms(), &id, None, |out| {
            out.i32("generation", watermark.generation.number().into());
            out.i64("next_offset", watermark.next_offset);
            out.date_ms("written_at", watermark.written_at_ms);
        });
        // Two first writes at the same time: the second finds the first's document and replaces it.
        for _ in 0..MAX_ATTEMPTS {
            if self.run_one(WATERMARKS, command.finish_copy()).await? {
                return Ok(());
            }
        }
        Err(contended(WATERMARKS, &id))
    }

    pub(super) async fn read_identity(&self, topic: &str) -> Result<Option<TopicIdentity>, Fault> {
        let Some(document) = self.read_one(IDENTITIES, topic, &["cluster_id", "topic_id", "partitions", "generation"]).await? else {
            return Ok(None);
        };
        let text = |field| Elements::of(&document).find(field).and_then(Value::as_text).map(str::to_owned);
        let partitions = number(&document, "partitions").and_then(|number| i32::try_from(number).ok());
        let generation = number(&document, "generation").and_then(|number| u16::try_from(number).ok());
        match (text("cluster_id"), text("topic_id"), partitions, generation) {
            (Some(cluster_id), Some(topic_id), Some(partitions), Some(generation)) => {
                Ok(Some(TopicIdentity { cluster_id, topic_id, partitions, generation }))
            }
            _ => Err(unreadable(IDENTITIES, topic)),
        }
    }

    /// Keeps what is stored where its generation is later.
    pub(super) async fn write_identity(&self, topic: &str, identity: &TopicIdentity) -> Result<(), Fault> {
        let command = upsert_one(IDENTITIES, self.terms(), topic, Some(identity.generation), |out| {
            out.text("cluster_id", &identity.cluster_id);
            out.text("topic_id", &identity.topic_id);
            out.i32("partitions", identity.partitions);
            out.i32("generation", identity.generation.into());
        });
        for _ in 0..MAX_ATTEMPTS {
            if self.run_one(IDENTITIES, command.finish_copy()).await? {
                return Ok(());
            }
            // The key was taken: by a later generation, which stays, or by one that was written at the same time.
            let stored = self.read_one(IDENTITIES, topic, &["generation"]).await?;
            if stored.and_then(|document| number(&document, "generation")).is_some_and(|stored| stored > identity.generation.into()) {
                return Ok(());
            }
        }
        Err(contended(IDENTITIES, topic))
    }

    async fn read_one(&self, collection: &str, id: &str, fields: &[&str]) -> Result<Option<Vec<u8>>, Fault> {
        let command = find(collection, self.terms(), fields, 1, |out| out.text("_id", id), |out| out.i32("limit", 1));
        let mut found = None;
        self.query(&self.what("find", collection), command, |document| found = Some(document.to_vec())).await?;
        Ok(found)
    }

    /// Runs an update with one statement. `false`: E11000 on `_id`.
    async fn run_one(&self, collection: &str, command: mongodb::error::Result<mongodb::bson::RawDocumentBuf>) -> Result<bool, Fault> {
        let what = self.what("update", collection);
        let reply = self.run(&what, command).await?;
        if let Some(error) = Elements::of(reply.as_bytes()).find("writeErrors").and_then(|errors| errors.elements().next()) {
            return Fault::of_write_error(&what, error.1).map_or(Ok(false), Err);
        }
        match Elements::of(reply.as_bytes()).find("writeConcernError") {
            Some(error) => Err(Fault::of_write_concern_error(&what, error)),
            None => Ok(true),
        }
    }
}

/// The bytes of a command that may be sent again.
struct Command(Vec<u8>);

impl Command {
    fn finish_copy(&self) -> mongodb::error::Result<mongodb::bson::RawDocumentBuf> {
        Ok(mongodb::bson::RawDocumentBuf::from_bytes(self.0.clone())?)
    }
}

/// An update that replaces the document with this text as `_id`, but none whose `generation` is greater than `at_most`.
fn upsert_one(collection: &str, terms: Terms, id: &str, at_most: Option<u16>, fields: impl FnOnce(&mut Writer)) -> Command {
    let mut out = Writer::with_capacity(512);
    out.text("update", collection);
    out.i64("maxTimeMS", millis(terms.timeout));
    out.begin("writeConcern");
    out.text("w", "majority");
    out.i64("wtimeout", millis(terms.timeout));
    out.end();
    out.begin_array("updates");
    out.begin("0");
    out.begin("q");
    out.text("_id", id);
    if let Some(generation) = at_most {
        out.begin("generation");
        out.begin("$not");
        out.i32("$gt", generation.into());
        out.end();
        out.end();
    }
    out.end();
    out.begin("u");
    out.text("_id", id);
    fields(&mut out);
    out.end();
    out.value("upsert", Value { kind: kind::BOOLEAN, bytes: &[1] });
    Command(out.into_bytes())
}

fn watermark_id(group: &str, source: &TopicPartition) -> String {
    format!("{group}/{}/{}", source.topic, source.partition)
}

fn unreadable(collection: &str, id: &str) -> Fault {
    Fault::Setup(format!(
        "the document {id} of {collection} is not what this engine writes; was it edited? restore it, or remove it to start as if there were none"
    ))
}

fn contended(collection: &str, id: &str) -> Fault {
    Fault::Away(format!("the document {id} of {collection} changes faster than it can be written"))
}
