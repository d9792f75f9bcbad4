//! The backlogs: orders, written before anything reads.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::topics::Topics;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

use crate::events::Events;

/// What is drained.
pub(crate) const TOPIC: &str = "bench.ecommerce.orders";
pub(crate) const PARTITIONS: u64 = 4;
/// What is drained to its end, by sinks that are slow: of a backlog that goes on, whole batches would be under way when the clock stops.
pub(crate) const SHORT_TOPIC: &str = "bench.short.orders";
/// What a module hangs on.
pub(crate) const HANGING_TOPIC: &str = "bench.hanging.orders";
const LIMIT: Duration = Duration::from_secs(60);

/// Writes `records` orders, each with a key of its own, the partitions in turn.
pub(crate) async fn preload(kafka: &str, topic: &str, partitions: u64, events: &Events, records: u64) -> Result<()> {
    let topics = Topics::new(kafka);
    topics.create(topic, i32::try_from(partitions)?).await?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("acks", "all")
        .set("linger.ms", "20")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.kbytes", "65536")
        .create()?;
    let headers =
        events.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| headers.insert(Header { key: name, value: Some(value) }));
    for number in 0..records {
        let event = events.put(number).context("there is no event")?;
        let record = BaseRecord::to(topic).partition(i32::try_from(number % partitions)?).key(&event.key).payload(&event.value);
        send(&producer, record.headers(headers.clone()))?;
    }
    producer.flush(LIMIT).context("the broker does not take the backlog")?;
    let stored = topics.count(topic)?;
    ensure!(u64::try_from(stored)? == records, "{stored} of {records} records are in the topic");
    Ok(())
}

/// Waits while the producer's queue is full.
fn send(producer: &BaseProducer<DefaultProducerContext>, record: BaseRecord<'_, String, String>) -> Result<()> {
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                producer.poll(Duration::from_millis(10));
                record = refused;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}
