//! Kafka as the cases use it beside the worker: topics made, records written and read, offsets set back.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// For a cluster that may be away.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A cluster.
pub struct Topics {
    brokers: String,
}

impl Topics {
    /// Connects when it is used.
    #[must_use]
    pub fn new(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The broker refuses; that it exists is none.
    pub async fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for result in admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(CALL_LIMIT))).await? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => bail!("topic {topic} could not be made: {code}"),
            }
        }
        Ok(())
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn delete(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        for result in admin.delete_topics(&[topic], &AdminOptions::new().operation_timeout(Some(CALL_LIMIT))).await? {
            if let Err((topic, code)) = result {
                bail!("topic {topic} could not be deleted: {code}");
            }
        }
        crate::deadline::until("the topic is gone", async || {
            let metadata = admin.inner().fetch_metadata(None, CALL_LIMIT)?;
            anyhow::ensure!(metadata.topics().iter().all(|found| found.name() != topic), "topic {topic} is still there");
            Ok(())
        })
        .await
    }

    /// Whether the cluster answers.
    ///
    /// # Errors
    /// It does not.
    pub fn answer(&self) -> Result<()> {
        let consumer: BaseConsumer = self.config().create()?;
        consumer.fetch_metadata(None, ANSWER_LIMIT)?;
        Ok(())
    }

    /// Writes one record and returns its partition and offset.
    ///
    /// # Errors
    /// The broker does not take it.
    pub async fn produce(&self, topic: &str, partition: i32, key: &[u8], value: &[u8]) -> Result<(i32, i64)> {
        let producer: FutureProducer = self.config().create()?;
        let record = FutureRecord::to(topic).partition(partition).key(key).payload(value);
        let delivery = producer.send(record, CALL_LIMIT).await.map_err(|(error, _)| error)?;
        Ok((delivery.partition, delivery.offset))
    }

    /// Records in a topic, over all partitions, as offsets tell.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn count(&self, topic: &str) -> Result<i64> {
        let consumer: BaseConsumer = self.config().set("group.id", "suite-counts").create()?;
        let mut sum = 0;
        for partition in partitions(&consumer, topic)? {
            let (low, high) = consumer.fetch_watermarks(topic, partition, CALL_LIMIT)?;
            sum += high - low;
        }
        Ok(sum)
    }

    /// All records that a topic has now.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn read_all(&self, topic: &str) -> Result<Vec<OwnedMessage>> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "suite-reads")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        let mut wanted = 0;
        for partition in partitions(&consumer, topic)? {
            let (low, high) = consumer.fetch_watermarks(topic, partition, CALL_LIMIT)?;
            wanted += high - low;
            assignment.add_partition_offset(topic, partition, Offset::Offset(low))?;
        }
        consumer.assign(&assignment)?;
        let mut records = Vec::new();
        while i64::try_from(records.len())? < wanted {
            let message = consumer.poll(CALL_LIMIT).context("the topic gave fewer records than its offsets promise")??;
            records.push(message.detach());
        }
        Ok(records)
    }

    /// For each partition of a topic: what a group has committed, and the end of the log.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn positions(&self, group: &str, topic: &str) -> Result<Vec<(Option<i64>, i64)>> {
        let consumer: BaseConsumer = self.config().set("group.id", group).set("enable.auto.commit", "false").create()?;
        let mut asked = TopicPartitionList::new();
        let partitions = partitions(&consumer, topic)?;
        for partition in &partitions {
            asked.add_partition(topic, *partition);
        }
        let committed = consumer.committed_offsets(asked, CALL_LIMIT)?;
        let position = |partition: i32| {
            let (_, high) = consumer.fetch_watermarks(topic, partition, CALL_LIMIT)?;
            let offset = committed.find_partition(topic, partition).map(|found| found.offset());
            Ok((offset.and_then(|offset| offset.to_raw()).filter(|offset| *offset >= 0), high))
        };
        partitions.into_iter().map(position).collect()
    }

    /// Sets one of a topic's configurations.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn configure(&self, topic: &str, name: &str, value: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        for result in admin.alter_configs([&change], &AdminOptions::new().operation_timeout(Some(CALL_LIMIT))).await? {
            if let Err((_, code)) = result {
                bail!("{name}={value} of topic {topic} could not be set: {code}");
            }
        }
        Ok(())
    }

    /// Sets a group that has no members back to the beginning of a topic.
    ///
    /// # Errors
    /// The group still has members.
    pub fn rewind(&self, group: &str, topic: &str) -> Result<()> {
        let consumer: BaseConsumer = self.config().set("group.id", group).set("enable.auto.commit", "false").create()?;
        let mut offsets = TopicPartitionList::new();
        for partition in partitions(&consumer, topic)? {
            let (low, _) = consumer.fetch_watermarks(topic, partition, CALL_LIMIT)?;
            offsets.add_partition_offset(topic, partition, Offset::Offset(low))?;
        }
        consumer.commit(&offsets, CommitMode::Sync).with_context(|| format!("set group {group} back"))
    }
}

/// A header's text.
#[must_use]
pub fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let found = record.headers()?.iter().find(|header| header.key == name)?;
    found.value.map(|value| String::from_utf8_lossy(value).into_owned())
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), CALL_LIMIT)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic).with_context(|| format!("there is no topic {topic}"))?;
    anyhow::ensure!(!found.partitions().is_empty(), "there is no topic {topic}");
    Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}
