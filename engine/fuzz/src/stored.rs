//! Routes, schemas and plans for the targets, and what every plan must hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamsync::change::{ChangeBatch, Tag};
use streamsync::config::{Format, OnTruncate, Place, RedisForm, RouteSettings, TargetSettings, TransformSettings};
use streamsync::plan::{MAX_DOCUMENT_BYTES, SinkWrites, WritePlan};

/// Index of the targets' sinks.
const REDIS: usize = 0;
const MONGODB: usize = 1;
const REDIS_HASH: usize = 2;

/// A target for each form in which a document is encoded. All may have explicit keys.
pub(crate) fn targets() -> Vec<Arc<TargetSettings>> {
    let target = |name: &str, sink: usize, place: Place| {
        Arc::new(TargetSettings { name: name.to_owned(), sink, place, explicit_keys: true, ttl_seconds: None })
    };
    vec![
        target("redis", REDIS, Place::Redis { prefix: "t".to_owned(), form: RedisForm::String }),
        target("mongodb", MONGODB, Place::MongoDb { collection: "t".to_owned() }),
        target("hash", REDIS_HASH, Place::Redis { prefix: "h".to_owned(), form: RedisForm::Hash }),
    ]
}

pub(crate) fn route(format: Format, database: &str, table: &str) -> Arc<RouteSettings> {
    Arc::new(RouteSettings {
        name: "fuzz".to_owned(),
        topic: "t".to_owned(),
        database: database.to_owned(),
        table: table.to_owned(),
        format,
        transform: TransformSettings {
            module: PathBuf::new().into(),
            sha256: None,
            signature_key: None,
            config: "{}".to_owned(),
            call_timeout: Duration::from_secs(1),
            max_memory_bytes: 1 << 24,
            max_output_bytes: 1 << 20,
            max_log_lines: 10,
            max_failures: 100,
            shadow: None,
        },
        targets: targets(),
        on_truncate: OnTruncate::Halt,
    })
}

/// What a decoder promises of its batch.
pub(crate) fn check_batch(batch: &ChangeBatch) {
    let cells = &batch.cells;
    assert_eq!(cells.tags.len(), cells.words.len());
    for (tag, word) in cells.tags.iter().zip(&cells.words) {
        let tag = Tag::from_number(*tag).expect("a decoded cell has a tag of the contract");
        if tag.is_span() {
            let (start, len) = ((word >> 32) as usize, *word as u32 as usize);
            let bytes = cells.heap.get(start..start + len).expect("a span of the heap");
            if matches!(tag, Tag::Text | Tag::Decimal | Tag::Json) {
                std::str::from_utf8(bytes).expect("texts are UTF-8");
            }
        }
    }
    let mut kinds = vec![0_u8; batch.records.records.len()];
    for event in &batch.events {
        let record = batch.records.records.get(event.record as usize).expect("an event of a record");
        assert_eq!(event.offset, record.offset);
        let schema = batch.schemas.get(event.schema as usize).expect("an event of a schema");
        assert!(!schema.primary_key.is_empty() && schema.primary_key.iter().all(|column| (*column as usize) < schema.columns.len()));
        for image in event.before.iter().chain(&event.after) {
            assert!(*image as usize + schema.columns.len() <= cells.len(), "an image of all columns");
        }
        assert!(event.key_image().is_some(), "an event has a key");
        kinds[event.record as usize] |= 1;
    }
    batch.passed_over.iter().for_each(|(record, _)| kinds[*record as usize] |= 2);
    batch.truncates.iter().for_each(|record| kinds[*record as usize] |= 4);
    for (record, error) in &batch.faults {
        kinds[*record as usize] |= 8;
        assert!(!error.code().is_empty() && !error.to_string().is_empty());
    }
    assert!(kinds.iter().all(|kind| kind.is_power_of_two()), "each record is one thing: {kinds:?}");
}

/// What a plan promises: whole keys and documents, in the form of their sink.
pub(crate) fn check_plan(plan: &WritePlan) {
    for sink in plan.sinks.iter().chain(&plan.marks) {
        for write in &sink.writes {
            assert!((write.record as usize) < plan.records.records.len());
            let target = sink.targets.get(write.target as usize).expect("a write's target");
            let key = sink.slice(write.key);
            assert_eq!(key.len(), write.key.len, "a key lies in the batch");
            if let Some(document) = write.document {
                let bytes = sink.slice(document);
                assert_eq!(bytes.len(), document.len, "a document lies in the batch");
                assert!(bytes.len() + key.len() <= MAX_DOCUMENT_BYTES);
                check_document(&target.place, bytes);
            }
            check_key(&target.place, key);
        }
    }
    check_distinct(&plan.sinks);
}

/// At most one write for each key.
fn check_distinct(sinks: &[SinkWrites]) {
    for sink in sinks {
        let mut keys: Vec<_> = sink.writes.iter().map(|write| (write.target, sink.slice(write.key))).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "two writes of one key");
    }
}

fn check_key(place: &Place, key: &[u8]) {
    match place {
        Place::Redis { prefix, .. } => {
            let text = std::str::from_utf8(key).expect("Redis keys are text");
            let parts = text.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix(':')).expect("the prefix");
            assert!(!parts.contains(['{', '}']), "a key chooses no slot");
        }
        Place::MongoDb { .. } => {
            let (kind, value) = key.split_first().expect("a type");
            let mut document = vec![0; 4];
            document.push(*kind);
            document.extend_from_slice(b"_id\0");
            document.extend_from_slice(value);
            document.push(0);
            let len = i32::try_from(document.len()).expect("short").to_le_bytes();
            document[..4].copy_from_slice(&len);
            as_bson(&document);
        }
    }
}

fn check_document(place: &Place, bytes: &[u8]) {
    match place {
        Place::Redis { form: RedisForm::String | RedisForm::Json, .. } => {
            serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
        }
        Place::Redis { form: RedisForm::Hash, .. } => check_hash(bytes),
        Place::MongoDb { .. } => {
            let document = as_bson(bytes);
            let sync = document.get_document("_sync").expect("a version");
            assert!(sync.get_i64("v").is_ok() && sync.get_i32("p").is_ok() && sync.get_str("m").is_ok() && sync.get_i64("h").is_ok());
            let names: Vec<&String> = document.keys().collect();
            assert_eq!((names.first().map(|n| n.as_str()), names.last().map(|n| n.as_str())), (Some("_id"), Some("_sync")));
        }
    }
}

fn as_bson(bytes: &[u8]) -> bson::Document {
    let raw = bson::RawDocumentBuf::from_bytes(bytes.to_vec()).expect("framed BSON");
    bson::Document::try_from(raw).expect("BSON to its leaves")
}

/// Pairs of name and value, each with its length.
fn check_hash(mut bytes: &[u8]) {
    let mut pieces = 0;
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (piece, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).expect("a whole piece");
        std::str::from_utf8(piece).expect("text");
        bytes = rest;
        pieces += 1;
    }
    assert!(bytes.is_empty() && pieces > 0 && pieces % 2 == 0, "names and values");
}
