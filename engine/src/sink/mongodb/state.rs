//! Watermarks and identities: what the sink remembers of its sources.
//!
//! `_sync_watermarks`: `{_id: "<group>/<topic>/<partition>", generation: int, next_offset: long, written_at: date,
//! complete_until: date}`; a topic's name holds no `/`, so no two share an `_id`. `_sync_identities`: `{_id: "<topic>", cluster_id, topic_id, partitions, generation}`.

use mongodb::bson::{RawDocumentBuf, rawdoc};

use super::bson_bytes::{Elements, Value, Writer, kind};
use super::command::{Terms, find, millis};
use super::fault::Fault;
use super::{IDENTITIES, MongoDbSink, WATERMARKS, number};
use crate::fence::Generation;
use crate::sink::{MarkOutcome, Replaces, TopicIdentity, Watermark};
use crate::source::TopicPartition;

/// How often an identity is written again because another worker wrote it first.
const MAX_ATTEMPTS: usize = 4;

impl MongoDbSink {
    pub(super) async fn read_watermark(&self, group: &str, source: &TopicPartition) -> Result<Option<Watermark>, Fault> {
        let id = watermark_id(group, source);
        let Some(document) = self.read_one(WATERMARKS, &id, &["generation", "next_offset", "written_at", "complete_until"]).await? else {
            return Ok(None);
        };
        let generation = number(&document, "generation").and_then(|number| u16::try_from(number).ok()).and_then(Generation::new);
        let date = |field| Elements::of(&document).find(field).and_then(Value::as_date_ms);
        match (generation, number(&document, "next_offset"), date("written_at")) {
            (Some(generation), Some(next_offset), Some(written_at_ms)) => {
                // Earlier engines took the one time for both.
                let complete_until_ms = date("complete_until").unwrap_or(written_at_ms);
                Ok(Some(Watermark { generation, next_offset, written_at_ms, complete_until_ms }))
            }
            _ => Err(unreadable(WATERMARKS, &id)),
        }
    }

    /// Nothing is written over what the lane does not know: each attempt's condition is what tells a watermark from all others, or that there is
    /// none.
    pub(super) async fn write_watermark(
        &self,
        group: &str,
        source: &TopicPartition,
        replaces: Replaces,
        watermark: Watermark,
    ) -> Result<MarkOutcome, Fault> {
        let id = watermark_id(group, source);
        let mut found = None;
        for _ in 0..MAX_ATTEMPTS {
            let replaced = match replaces {
                Replaces::Own(known, tried) => vec![Some(known), tried, Some(watermark)],
                Replaces::NotBehind(_) => vec![self.read_watermark(group, source).await?],
            };
            let permitted = |old: &Option<Watermark>| replaces.permits(*old, watermark);
            for old in replaced.into_iter().filter(permitted) {
                if self.replace_watermark(&id, old, watermark).await? {
                    return Ok(MarkOutcome::Stored);
                }
            }
            found = self.read_watermark(group, source).await?;
            if !replaces.permits(found, watermark) {
                return Ok(MarkOutcome::Found(found));
            }
        }
        // It changes faster than it can be replaced: another worker has the partition.
        Ok(MarkOutcome::Found(found))
    }

    /// Whether it was `old` that stood there.
    async fn replace_watermark(&self, id: &str, old: Option<Watermark>, new: Watermark) -> Result<bool, Fault> {
        let condition = |out: &mut Writer| match old {
            Some(old) => {
                out.i32("generation", old.generation.number().into());
                out.i64("next_offset", old.next_offset);
                out.date_ms("written_at", old.written_at_ms);
            }
            None => {
                out.begin("generation");
                out.value("$exists", Value { kind: kind::BOOLEAN, bytes: &[0] });
                out.end();
            }
        };
        let command = update_one(WATERMARKS, self.terms(), id, old.is_none(), condition, |out| {
            out.i32("generation", new.generation.number().into());
            out.i64("next_offset", new.next_offset);
            out.date_ms("written_at", new.written_at_ms);
            out.date_ms("complete_until", new.complete_until_ms);
        });
        Ok(self.run_one(WATERMARKS, command.finish_copy()).await? == Some(1))
    }

    /// A server process has an id, and a replica set's primary an election's. A majority's writes outlive both, but not a disk that was
    /// emptied or put back to an earlier copy. Of routers there may be several, each a process of its own, and none of them holds data.
    pub(super) async fn ask_lineage(&self) -> Result<u64, Fault> {
        let hello = self.run("hello", Ok(rawdoc! { "hello": 1 })).await?;
        let fields = || Elements::of(hello.as_bytes());
        let server = if fields().find("msg").and_then(Value::as_text) == Some("isdbgrid") {
            "router".to_owned()
        } else {
            let process = fields().find("topologyVersion").and_then(|version| version.elements().find("processId"));
            let parts = [process, fields().find("electionId"), fields().find("setVersion")];
            format!("{:?}", parts.map(|part| part.map(|value| value.bytes)))
        };
        Ok(self.lineage.seen(vec![server]))
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
        let not_later = |out: &mut Writer| {
            out.begin("generation");
            out.begin("$not");
            out.i32("$gt", identity.generation.into());
            out.end();
            out.end();
        };
        let command = update_one(IDENTITIES, self.terms(), topic, true, not_later, |out| {
            out.text("cluster_id", &identity.cluster_id);
            out.text("topic_id", &identity.topic_id);
            out.i32("partitions", identity.partitions);
            out.i32("generation", identity.generation.into());
        });
        for _ in 0..MAX_ATTEMPTS {
            if self.run_one(IDENTITIES, command.finish_copy()).await?.is_some() {
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

    /// Runs an update with one statement: how many documents it replaced or inserted. `None`: E11000 on `_id`.
    async fn run_one(&self, collection: &str, command: mongodb::error::Result<RawDocumentBuf>) -> Result<Option<i64>, Fault> {
        let what = self.what("update", collection);
        let reply = self.run(&what, command).await?;
        if let Some(error) = Elements::of(reply.as_bytes()).find("writeErrors").and_then(|errors| errors.elements().next()) {
            return Fault::of_own_write_error(&what, error.1).map_or(Ok(None), Err);
        }
        match Elements::of(reply.as_bytes()).find("writeConcernError") {
            Some(error) => Err(Fault::of_write_concern_error(&what, error)),
            None => Ok(Some(number(reply.as_bytes(), "n").unwrap_or_default())),
        }
    }
}

/// The bytes of a command that may be sent again.
struct Command(Vec<u8>);

impl Command {
    fn finish_copy(&self) -> mongodb::error::Result<RawDocumentBuf> {
        Ok(RawDocumentBuf::from_bytes(self.0.clone())?)
    }
}

/// An update that replaces the document with this text as `_id`, where `condition` holds too.
fn update_one(
    collection: &str,
    terms: Terms,
    id: &str,
    upsert: bool,
    condition: impl FnOnce(&mut Writer),
    fields: impl FnOnce(&mut Writer),
) -> Command {
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
    condition(&mut out);
    out.end();
    out.begin("u");
    out.text("_id", id);
    fields(&mut out);
    out.end();
    out.boolean("upsert", upsert);
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
