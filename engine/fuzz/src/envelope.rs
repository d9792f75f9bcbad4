//! Records as Kafka has them: key and value, with a schema, without one, and nonsense.
//!
//! An input is records, each a line for the key and a line for the value, a dash for null; an empty line stands between two records.

use streamsync::config::{DeclaredColumn, Format};
use streamsync::decode::Decoder;
use streamsync::decode::declared::{Modes, column};
use streamsync::source::{RecordBatch, TopicPartition};

use crate::stored::{check_batch, route};

const COLUMNS: [(&str, &str); 6] = [
    ("customer_id", "int"),
    ("name", "varchar(100)"),
    ("email", "varchar(100)"),
    ("address", "text"),
    ("created_at", "timestamp"),
    ("total_amount", "decimal(10,2)"),
];

pub(crate) fn run(data: &[u8]) {
    let columns: Vec<DeclaredColumn> =
        COLUMNS.iter().map(|(name, kind)| column(name, kind, true, &Modes::default()).expect("a type")).collect();
    for format in [Format::JsonWithSchema, Format::Json { columns }] {
        let mut decoder = Decoder::new(route(format, "ecommerce", "customers"));
        // Twice: the second time the schemas are remembered.
        let first = decoder.batch(records(data));
        check_batch(&first);
        let second = decoder.batch(records(data));
        check_batch(&second);
        assert_eq!(first.events.len(), second.events.len(), "what is remembered changes nothing");
        assert_eq!(first.faults.len(), second.faults.len(), "what is remembered changes nothing");
        assert_eq!(first.cells, second.cells, "what is remembered changes nothing");
    }
}

fn records(data: &[u8]) -> RecordBatch {
    let mut batch = RecordBatch::new(TopicPartition::new("t", 0));
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut offset = 0;
    while let Some(key) = lines.next() {
        let value = lines.next().unwrap_or(b"-");
        batch.push(offset, Some(offset), or_null(key), or_null(value), []).expect("small");
        offset += 1;
        // The empty line between two records.
        lines.next();
    }
    batch
}

fn or_null(bytes: &[u8]) -> Option<&[u8]> {
    if bytes == b"-" { None } else { Some(bytes) }
}
