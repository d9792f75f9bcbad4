//! Records of a topic outside of any group: all of them, some, or one by its offset. Blocking: call it off the runtime's threads.

use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, REQUEST_TIMEOUT};
use super::cluster::Cluster;
use super::reader::{Fetched, fault_of};
use super::{CommittedPartition, Error, RecordBatch, TopicPartition};
use crate::config::Settings;

/// How long a broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads records where an operator points. Nothing is committed, and no worker notices.
pub struct Lookup {
    consumer: BaseConsumer,
    cluster: Cluster,
}

impl Lookup {
    /// Connects lazily: an error here is one of the configuration.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let mut config = client::outside(settings);
        // The end is told, so that a log which ends with offsets that hold no record is not waited for.
        config.set("enable.partition.eof", "true");
        let consumer = BaseConsumer::from_config(&config)
            .map_err(|error| Error::Setup { message: format!("{error}; check [kafka] in the configuration") })?;
        Ok(Self { consumer, cluster: Cluster::new(settings)? })
    }

    /// Hands each record to `each`, as a batch of its own, in offset order within a partition and up to where the ends are now. A topic
    /// that does not exist has no records.
    pub fn scan(&self, topic: &str, mut each: impl FnMut(RecordBatch)) -> Result<(), Error> {
        for partition in 0..self.cluster.partitions(topic)?.unwrap_or_default() {
            let source = TopicPartition::new(topic, partition);
            let (low, high) = self.bounds(&source)?;
            self.read(&source, low, high, |message| {
                each(batch_of(&source, message)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The record at an offset; `None` where the log no longer has it, or never had.
    pub fn record(&self, source: &TopicPartition, offset: i64) -> Result<Option<RecordBatch>, Error> {
        let exists = self.cluster.partitions(&source.topic)?.is_some_and(|partitions| (0..partitions).contains(&source.partition));
        if !exists {
            return Ok(None);
        }
        let (low, high) = self.bounds(source)?;
        if offset < low || offset >= high {
            return Ok(None);
        }
        let mut found = None;
        self.read(source, offset, offset + 1, |message| {
            found = Some(batch_of(source, message)?);
            Ok(())
        })?;
        Ok(found.filter(|records| records.records.first().is_some_and(|record| record.offset == offset)))
    }

    /// The offset behind the last record of a partition. It may be before the log's end, which markers of transactions move too.
    pub fn end_of_records(&self, partition: &CommittedPartition) -> Result<i64, Error> {
        let CommittedPartition { source, low, high, .. } = partition;
        let mut from = *high;
        let mut back = 1;
        while from > *low {
            from = (*high - back).max(*low);
            let mut last = None;
            self.read(source, from, *high, |message| {
                last = Some(Fetched::offset(message));
                Ok(())
            })?;
            if let Some(last) = last {
                return Ok(last + 1);
            }
            back *= 4;
        }
        Ok(*low)
    }

    /// What else Kafka knows of topics.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The first offset, and the one behind the last.
    pub(crate) fn bounds(&self, source: &TopicPartition) -> Result<(i64, i64), Error> {
        let bounds = self.consumer.fetch_watermarks(&source.topic, source.partition, REQUEST_TIMEOUT);
        bounds.map_err(|error| fault(source, &error))
    }

    /// Reads from an offset until a record has reached `end`, or the log has ended.
    pub(crate) fn read(
        &self,
        source: &TopicPartition,
        from: i64,
        end: i64,
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if from >= end {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::with_capacity(1);
        let assigned = assignment
            .add_partition_offset(&source.topic, source.partition, Offset::Offset(from))
            .and_then(|()| self.consumer.assign(&assignment));
        assigned.map_err(|error| fault(source, &error))?;
        let mut heard = Instant::now();
        let mut last = None;
        while heard.elapsed() < PATIENCE {
            let Some(polled) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            match polled {
                Ok(message) if message.topic() != &*source.topic || message.partition() != source.partition => {}
                Ok(message) => {
                    heard = Instant::now();
                    each(&message)?;
                    if Fetched::offset(&message) + 1 >= end {
                        return Ok(());
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) if partition == source.partition => return Ok(()),
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => match fault(source, &error) {
                    // librdkafka goes on by itself.
                    away @ Error::Away { .. } => last = Some(away),
                    error @ (Error::OffsetLost { .. } | Error::Setup { .. }) => return Err(error),
                },
            }
        }
        Err(last.unwrap_or_else(|| Error::Away {
            message: format!("{source}: no answer within {} s; check kafka.brokers and what the brokers advertise", PATIENCE.as_secs()),
        }))
    }
}

fn batch_of(source: &TopicPartition, message: &BorrowedMessage<'_>) -> Result<RecordBatch, Error> {
    let mut records = RecordBatch::new(source.clone());
    let too_large = || Error::Setup { message: format!("{source}: the record at offset {} passes 4 GiB", Fetched::offset(message)) };
    Fetched::push(message, &mut records).ok_or_else(too_large)?;
    Ok(records)
}

fn fault(source: &TopicPartition, error: &KafkaError) -> Error {
    fault_of(source, error).unwrap_or_else(|| Error::Away { message: format!("{source}: {error}") })
}
