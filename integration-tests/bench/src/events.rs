//! Orders as Debezium wrote them: a real insert and two real updates of the corpus, over and over with other orders in them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration_tests::stack::repository;
use serde::Deserialize;
use streamsync::source::{RecordBatch, TopicPartition};

/// The order that the corpus' events are about, and what differs from order to order.
const ORDER: &str = "\"order_id\":103";
const CUSTOMER: &str = "\"customer_id\":4,";
const TOTALS: [&str; 2] = ["\"B8Y=\"", "\"B8c=\""];

/// A record of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The templates of one format.
pub(crate) struct Events {
    puts: Vec<Event>,
    deletes: Vec<Event>,
    /// Debezium's four headers.
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Line {
    topic: String,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, String)>,
}

impl Events {
    /// Without schema, about 700 bytes.
    pub(crate) fn plain() -> Result<Self> {
        Self::read("02_crud.ecommerce.jsonl")
    }

    /// The same with schema.
    pub(crate) fn with_schema() -> Result<Self> {
        Self::read("02_crud.ecom_schema.jsonl")
    }

    fn read(file: &str) -> Result<Self> {
        let path = repository().join("engine/tests/corpus").join(file);
        Self::parse(&path).with_context(|| format!("{} is not the corpus' file", path.display()))
    }

    fn parse(path: &Path) -> Result<Self> {
        let mut events = Self { puts: Vec::new(), deletes: Vec::new(), headers: Vec::new() };
        for line in std::fs::read_to_string(path)?.lines() {
            let Line { topic, key, value, headers } = serde_json::from_str(line)?;
            let (Some(key), Some(value)) = (key, value) else { continue };
            if !topic.ends_with(".orders") {
                continue;
            }
            events.headers = headers;
            let event = Event { key, value };
            ensure!(event.key.contains(ORDER) && event.value.contains(ORDER), "an event is of another order");
            let of_kind = if event.value.contains("\"op\":\"d\"") { &mut events.deletes } else { &mut events.puts };
            of_kind.push(event);
        }
        ensure!(!events.puts.is_empty() && !events.deletes.is_empty(), "there is no put or no delete of an order");
        Ok(events)
    }

    /// The put of an order; each number is an order of its own.
    pub(crate) fn put(&self, number: u64) -> Option<Event> {
        Self::of(&self.puts, number)
    }

    fn of(templates: &[Event], number: u64) -> Option<Event> {
        let template = templates.get(usize::try_from(number).ok()? % templates.len())?;
        let order = format!("\"order_id\":{}", 100_000 + number);
        let customer = format!("\"customer_id\":{},", 10 + number % 1000);
        // Two bytes, of which the first is not a sign: 1.28 to 327.67.
        let cents = u16::try_from(128 + number % 32_640).ok()?;
        let total = format!("\"{}\"", STANDARD.encode(cents.to_be_bytes()));
        let mut value = template.value.replace(ORDER, &order).replace(CUSTOMER, &customer);
        for known in TOTALS {
            value = value.replace(known, &total);
        }
        Some(Event { key: template.key.replace(ORDER, &order), value })
    }

    /// Batches as the source makes them; the offsets go on from batch to batch.
    pub(crate) fn batches(&self, deletes: bool, batches: usize, records: usize) -> Option<Vec<RecordBatch>> {
        let templates = if deletes { &self.deletes } else { &self.puts };
        let source = TopicPartition::new("bench", 0);
        let mut offset = 0;
        let batch = || {
            let mut batch = RecordBatch::new(source.clone());
            for _ in 0..records {
                let event = Self::of(templates, offset)?;
                let headers = self.headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes())));
                let (key, value) = (Some(event.key.as_bytes()), Some(event.value.as_bytes()));
                batch.push(i64::try_from(offset).ok()?, Some(1_795_368_893_714), key, value, headers)?;
                offset += 1;
            }
            Some(batch)
        };
        std::iter::repeat_with(batch).take(batches).collect()
    }

    /// Mean size of a value.
    pub(crate) fn value_bytes(&self) -> usize {
        self.puts.iter().map(|event| event.value.len()).sum::<usize>() / self.puts.len().max(1)
    }
}
