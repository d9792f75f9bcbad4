//! librdkafka's properties: what the guarantees rest on is set here and can't be changed, the rest is the user's.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{PROTECTED_PROPERTIES, Settings};

/// One answer of a broker; a wait for more than one is a multiple of it.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often librdkafka reports lag.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(5);

/// The default of librdkafka; it must not exceed `max.poll.interval.ms`.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// For admin requests.
pub(crate) fn admin(settings: &Settings) -> ClientConfig {
    finish(ClientConfig::new(), settings)
}

/// For the group's consumer. Bounded queues: librdkafka holds at most `queued_max_bytes` and one fetch answer a partition.
pub(crate) fn consumer(settings: &Settings) -> ClientConfig {
    let kafka = &settings.kafka;
    let queued_kbytes = (kafka.queued_max_bytes / 1024).clamp(1, 2_097_151);
    let partition_fetch_bytes = kafka.queued_max_bytes.clamp(64 << 10, 1 << 20);
    let mut config = ClientConfig::new();
    config
        .set("session.timeout.ms", millis(SESSION_TIMEOUT.min(kafka.max_poll_interval)))
        .set("queued.min.messages", "10000")
        .set("fetch.message.max.bytes", partition_fetch_bytes.to_string())
        .set("fetch.max.bytes", (8 << 20).to_string())
        // A full queue drains in milliseconds; the default of a second would leave the lane idle.
        .set("fetch.queue.backoff.ms", "5")
        // A table's topic appears with its first row: look for it more often than every five minutes.
        .set("topic.metadata.refresh.interval.ms", "10000");
    let mut config = finish(config, settings);
    config
        .set("group.id", &kafka.group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("max.poll.interval.ms", millis(kafka.max_poll_interval))
        .set("queued.max.messages.kbytes", queued_kbytes.to_string())
        .set("statistics.interval.ms", millis(STATISTICS_INTERVAL));
    config
}

/// For reading, and for asking about the group or setting its offsets, without being in it. librdkafka wants a group's name for all of these
/// and asks for its coordinator, so that it is the one to which a worker has its rights.
pub(crate) fn outside(settings: &Settings) -> ClientConfig {
    let mut config = finish(ClientConfig::new(), settings);
    config
        .set("group.id", &settings.kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true");
    config
}

/// For what the engine writes itself: acknowledged by all replicas, in order, once.
pub(crate) fn producer(settings: &Settings, message_max_bytes: usize, timeout: Duration) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("message.max.bytes", message_max_bytes.clamp(1 << 20, 1_000_000_000).to_string())
        .set("message.timeout.ms", millis(timeout))
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", "65536")
        // The Java producer's partitioner, so that a key's letters lie where other tools expect them.
        .set("partitioner", "murmur2_random");
    let mut config = finish(config, settings);
    config.set("acks", "all").set("enable.idempotence", "true");
    config
}

fn finish(mut config: ClientConfig, settings: &Settings) -> ClientConfig {
    config.set("client.id", "streamsync");
    for (name, value) in &settings.kafka.properties {
        // The configuration refuses these already; a second look costs nothing.
        if !PROTECTED_PROPERTIES.iter().any(|(protected, _)| protected == name) {
            config.set(name, value);
        }
    }
    config.set("bootstrap.servers", &settings.kafka.brokers);
    config
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
