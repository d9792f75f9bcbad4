//! Recorded events: Kafka's records as lines of JSON, as `streamsync capture` writes them.
//!
//! Enters: the text of a file, or records as they were read. Leaves: [`RecordBatch`]es, or lines. Pure; nothing is lost on the way: a key, a value or
//! a header that is no UTF-8 stands as base64 under a name of its own.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::source::{RecordBatch, TopicPartition};

/// A record as Kafka had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its topic,
    pub topic: String,
    /// partition
    pub partition: i32,
    /// and offset.
    pub offset: i64,
    /// Kafka's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// `CreateTime` or `LogAppendTime`.
    pub timestamp_type: Option<String>,
    /// `None`: it has no key.
    pub key: Option<Vec<u8>>,
    /// `None`: a null value.
    pub value: Option<Vec<u8>>,
    /// Name, and value where there is one.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Why a file of recorded events can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "line {line}: {what}: each line is one record as `streamsync capture` writes it, {{\"topic\": …, \"partition\": …, \"offset\": …, \"key\": …, \"value\": …}}"
)]
pub struct Error {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it. Never a row's value.
    pub what: String,
}

/// A line as it stands in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_type: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<(String, HeaderValue)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    Text(Option<String>),
    Bytes { base64: String },
}

/// Reads a file of recorded events. Empty lines are passed over.
///
/// # Errors
/// The first line that is no record.
pub fn parse(text: &str) -> Result<Vec<RecordedEvent>, Error> {
    let mut events = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let event = serde_json::from_str(line).map_err(|error| without_position(&error)).and_then(event);
        events.push(event.map_err(|what| Error { line: number, what })?);
    }
    Ok(events)
}

/// serde_json counts lines of its own: of a line, only the column says something.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} (column {})", error.column())
}

fn event(line: Line) -> Result<RecordedEvent, String> {
    let header = |(name, value): (String, HeaderValue)| match value {
        HeaderValue::Text(text) => Ok((name, text.map(String::into_bytes))),
        HeaderValue::Bytes { base64 } => Ok((name, Some(decoded("headers", &base64)?))),
    };
    Ok(RecordedEvent {
        topic: line.topic,
        partition: line.partition,
        offset: line.offset,
        timestamp_ms: line.timestamp,
        timestamp_type: line.timestamp_type,
        key: bytes("key", line.key, line.key_base64)?,
        value: bytes("value", line.value, line.value_base64)?,
        headers: line.headers.into_iter().map(header).collect::<Result<_, String>>()?,
    })
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 are both set")),
        (text, None) => Ok(text.map(String::into_bytes)),
        (None, Some(base64)) => decoded(&format!("{name}_base64"), &base64).map(Some),
    }
}

fn decoded(name: &str, base64: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(base64).map_err(|_| format!("{name} is not base64"))
}

impl RecordedEvent {
    /// The record's line, without its end.
    pub fn line(&self) -> String {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().filter(|b| std::str::from_utf8(b).is_err()).map(|b| STANDARD.encode(b));
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            let value = base64(value).map_or_else(|| HeaderValue::Text(text(value)), |base64| HeaderValue::Bytes { base64 });
            (name.clone(), value)
        };
        let line = Line {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp_ms,
            timestamp_type: self.timestamp_type.clone(),
            key: text(&self.key),
            key_base64: base64(&self.key),
            value: text(&self.value),
            value_base64: base64(&self.value),
            headers: self.headers.iter().map(header).collect(),
        };
        // Texts, numbers and lists of them: there is nothing in it that JSON can't hold.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// Batches of at most `max_records` records, each of one partition and in offset order.
///
/// A batch's bytes are those of its records: a file is far from the 4 GiB that a batch holds, and what goes beyond is an error.
///
/// # Errors
/// A batch would hold more than 4 GiB.
pub fn batches(events: &[RecordedEvent], max_records: usize) -> Result<Vec<RecordBatch>, String> {
    let mut ordered: Vec<&RecordedEvent> = events.iter().collect();
    ordered.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    let mut batches = Vec::new();
    for partition in ordered.chunk_by(|a, b| a.topic == b.topic && a.partition == b.partition) {
        for records in partition.chunks(max_records.max(1)) {
            let Some(first) = records.first() else { continue };
            let mut batch = RecordBatch::new(TopicPartition::new(first.topic.as_str(), first.partition));
            for record in records {
                let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                batch
                    .push(record.offset, record.timestamp_ms, key, value, headers)
                    .ok_or("the events have more than 4 GiB: use fewer of them")?;
            }
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// `database.table` of the first row change among the events, as Debezium's source block has it.
pub fn table_of(events: &[RecordedEvent]) -> Option<(String, String)> {
    let source = |event: &RecordedEvent| {
        let value: serde_json::Value = serde_json::from_slice(event.value.as_ref()?).ok()?;
        let source = value.get("payload").unwrap_or(&value).get("source")?;
        let text = |name: &str| source.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some((text("db")?, text("table")?))
    };
    events.iter().find_map(source)
}
