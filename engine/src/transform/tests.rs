//! Guests that are made to fail, and what the host makes of them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod answers;
mod guests;
mod hostile;
mod modules;
mod registry;
pub(crate) mod signing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::change::{Cells, ChangeBatch, ChangeEvent, Column, Op, TableSchema, Tag, Value};
use crate::config::{
    Format, OnTruncate, Place, PullSettings, RedisForm, RouteSettings, TargetSettings, TransformHostSettings, TransformSettings,
};
use crate::route::RoutedBatch;
use crate::source::{RecordBatch, TopicPartition};

/// The component whose core module is this text, of the world in `wit/transform.wit`, in this version.
pub(crate) fn component(text: &str, version: &str) -> Vec<u8> {
    let mut core = wat::parse_str(text).expect("the text is WebAssembly");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve
        .push_str("transform.wit", &include_str!("../../../wit/transform.wit").replace("@0.1.0", &format!("@{version}")))
        .expect("the contract");
    let world = resolve.select_world(&[package], Some("transformer")).expect("the world");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).expect("fits");
    ComponentEncoder::default().module(&core).expect("fits").encode().expect("fits")
}

/// The guest of `guest.wat`, with this done where column 0 is 666.
pub(crate) fn guest(on_poison: &str) -> Vec<u8> {
    guest_of(&[("ON_POISON", on_poison)])
}

/// The guest of `guest.wat` with these texts replaced.
pub(crate) fn guest_of(replacements: &[(&str, &str)]) -> Vec<u8> {
    let text = replacements.iter().fold(include_str!("tests/guest.wat").to_owned(), |text, (from, to)| text.replace(from, to));
    component(&text.replace("ON_POISON", ""), "0.1.0")
}

fn transform_settings(module: &Path) -> TransformSettings {
    TransformSettings {
        module: module.into(),
        sha256: None,
        signature_key: None,
        config: "{}".into(),
        call_timeout: Duration::from_millis(50),
        max_memory_bytes: 8 << 20,
        max_output_bytes: 1 << 20,
        max_log_lines: 3,
        max_failures: 100,
        shadow: None,
    }
}

fn host_settings(cache_dir: Option<&Path>) -> TransformHostSettings {
    TransformHostSettings { cache_dir: cache_dir.map(Path::to_owned), max_instances: 2, watch: None, pulls: PullSettings::default() }
}

fn route(transform: TransformSettings) -> Arc<RouteSettings> {
    let place = Place::Redis { prefix: "t".into(), form: RedisForm::String };
    Arc::new(RouteSettings {
        name: "t".into(),
        topic: "t".into(),
        database: "shop".into(),
        table: "t".into(),
        format: Format::JsonWithSchema,
        transform,
        targets: vec![
            Arc::new(TargetSettings { name: "t".into(), sink: 0, place, explicit_keys: true, ttl_seconds: None }),
            Arc::new(TargetSettings {
                name: "m".into(),
                sink: 1,
                place: Place::MongoDb { collection: "m".into() },
                explicit_keys: false,
                ttl_seconds: None,
            }),
        ],
        on_truncate: OnTruncate::Halt,
    })
}

fn schema(id: u32) -> Arc<TableSchema> {
    let column = |name: &str, tag| Column { name: name.into(), tag, nullable: true, length: None, scale: None, source_type: "int".into() };
    Arc::new(TableSchema {
        id,
        database: "shop".into(),
        table: "t".into(),
        columns: vec![column("id", Tag::Int), column("name", Tag::Text)],
        primary_key: vec![0],
    })
}

/// One event for each number, of the schema with this id; a delete where the number is negative.
pub(crate) fn events(of: &[(u32, i64)]) -> RoutedBatch {
    let mut batch = ChangeBatch { records: RecordBatch::new(TopicPartition { topic: "t".into(), partition: 3 }), ..ChangeBatch::default() };
    let mut cells = Cells::default();
    for (index, (schema_id, id)) in of.iter().enumerate() {
        batch.records.push(index as i64, None, None, None, []).expect("small");
        let schema = batch.schemas.iter().position(|s| s.id == *schema_id).unwrap_or_else(|| {
            batch.schemas.push(self::schema(*schema_id));
            batch.schemas.len() - 1
        });
        let image = Some(cells.len() as u32);
        cells.push(Value::Int(*id));
        cells.push(Value::Text("n"));
        let delete = *id < 0;
        batch.events.push(ChangeEvent {
            record: index as u32,
            offset: index as i64,
            schema: schema as u32,
            op: if delete { Op::Delete } else { Op::Create },
            changed_at_us: 0,
            snapshot: crate::change::Snapshot::No,
            null_value: false,
            follows_own_delete: false,
            before: image.filter(|_| delete),
            after: image.filter(|_| !delete),
        });
    }
    batch.cells = cells;
    let route = route(transform_settings(Path::new("t.wasm")));
    RoutedBatch { route, batch, faults: vec![] }
}
