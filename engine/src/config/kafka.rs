//! `[kafka]`: the cluster, and librdkafka's properties.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::fault::Spot;
use super::section::{Reading, Section};
use super::settings::KafkaSettings;
use super::words::shorten;

/// Properties of librdkafka that the engine sets itself, because its guarantees rest on them, and why.
pub const PROTECTED_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.brokers instead"),
    ("metadata.broker.list", "set kafka.brokers instead"),
    ("group.id", "set kafka.group instead"),
    ("group.instance.id", "a static member keeps its partitions while it is gone, and a second process of its name is fenced off"),
    ("group.protocol", "the order in which partitions are given up and settled rests on the classic protocol"),
    ("group.remote.assignor", "the order in which partitions are given up and settled rests on the classic protocol"),
    ("statistics.interval.ms", "the lag is taken from the statistics"),
    ("partition.assignment.strategy", "partitions are given up one by one, which only cooperative-sticky does"),
    ("enable.auto.commit", "an offset is committed only when its record is settled"),
    ("auto.commit.enable", "an offset is committed only when its record is settled"),
    ("auto.commit.interval.ms", "set kafka.commit_interval instead"),
    ("enable.auto.offset.store", "an offset is stored only when its record is settled"),
    ("auto.offset.reset", "a lost offset halts; resetting would skip or repeat records silently"),
    ("offset.store.method", "offsets are kept by the group"),
    ("isolation.level", "records of aborted transactions must not be read"),
    ("max.poll.interval.ms", "set kafka.max_poll_interval instead"),
    ("queued.max.messages.kbytes", "set kafka.queued_max_bytes instead"),
    ("enable.partition.eof", "the engine asks for the end of a partition itself"),
    ("check.crcs", "a broken record must not pass as a change"),
    ("acks", "a dead letter is settled only when all replicas have it"),
    ("request.required.acks", "a dead letter is settled only when all replicas have it"),
    ("enable.idempotence", "a dead letter must not be lost or doubled by a retry"),
    ("transactional.id", "the engine writes no transactions"),
    ("plugin.library.paths", "a configuration must not load code into the process"),
];

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>, reading: &Reading) -> KafkaSettings {
    let mut kafka = section.section("kafka");
    let brokers = kafka.required_text("brokers", "\"localhost:9092\"").unwrap_or_default();
    for broker in brokers.split(',').map(str::trim).filter(|_| !brokers.is_empty()) {
        if !is_host_and_port(broker) {
            kafka.fault("brokers", format!("{} is no host and port", shorten(broker)), "write host:port, several separated by commas");
        }
    }
    let group = kafka.text("group", "streamsync");
    let control_topic = topic(&mut kafka, "control_topic", "streamsync.control");
    let replication_factor = kafka.optional_count("replication_factor", 1..=i16::MAX as u32).and_then(|n| i32::try_from(n).ok());
    let accept_truncated_log = kafka.flag("accept_truncated_log");
    let commit_interval = kafka.duration("commit_interval", "1s", "10ms"..="1m");
    let max_poll_interval = kafka.duration("max_poll_interval", "5m", "10s"..="1d");
    let queued_max_bytes = kafka.size("queued_max_bytes", "2MiB", "64KiB"..="1GiB");
    let unverified = kafka.flag("allow_unverified_tls");
    let pairs = kafka.pairs("properties", is_secret);
    for (name, value, spot) in &pairs {
        check_property(reading, name, value, spot, unverified);
    }
    kafka.finish();
    let properties = pairs.into_iter().map(|(name, value, _)| (name, value)).collect();
    KafkaSettings {
        brokers,
        group,
        control_topic,
        replication_factor,
        accept_truncated_log,
        commit_interval,
        max_poll_interval,
        queued_max_bytes,
        properties,
    }
}

fn check_property(reading: &Reading, name: &str, value: &str, spot: &Spot, unverified: bool) {
    if let Some((_, reason)) = PROTECTED_PROPERTIES.iter().find(|(protected, _)| *protected == name) {
        reading.report.fault(spot, format!("the engine sets this property itself: {reason}"), "remove it");
        return;
    }
    if matches!(name, "sasl.mechanism" | "sasl.mechanisms") && value.trim().eq_ignore_ascii_case("OAUTHBEARER") {
        let remedy =
            "write SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN, or log in with a certificate (ssl.certificate.location, ssl.key.location)";
        reading.report.fault(spot, "no token can be had: this program is built without a client for OAUTHBEARER", remedy);
        return;
    }
    // librdkafka knows its properties best. Nothing is opened here: a configuration is made and thrown away.
    let made = ClientConfig::new().set(name, value).create_native_config();
    if let Err(error) = made {
        let mut message = "librdkafka refuses it".to_owned();
        if let KafkaError::ClientConfig(_, description, ..) = error
            && !is_secret(name)
        {
            message = format!("librdkafka says: {description}");
        }
        reading.report.fault(spot, message, "see librdkafka's CONFIGURATION.md for the property's name and values");
        return;
    }
    if trusts_anyone(name, value) && !unverified {
        let remedy = "name the authority with \"ssl.ca.location\", or set kafka.allow_unverified_tls = true for a test";
        reading.report.fault(spot, "anyone can pretend to be the broker", remedy);
    }
}

/// Of a value that librdkafka takes: it knows several words for each, in any case.
fn trusts_anyone(name: &str, value: &str) -> bool {
    let verifies: &[&str] = match name {
        "enable.ssl.certificate.verification" => &["true", "t", "1"],
        "ssl.endpoint.identification.algorithm" => &["https"],
        _ => return false,
    };
    !verifies.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether a property's value is never shown.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "secret", "key", "pem", "oauthbearer.config", "sasl.username", "jaas", "token"].iter().any(|word| name.contains(word))
}

fn is_host_and_port(broker: &str) -> bool {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A topic's name with a default.
pub(super) fn topic(section: &mut Section<'_>, key: &str, default: &str) -> String {
    let topic = section.text(key, default);
    check_topic(section, key, &topic);
    topic
}

/// Reports what Kafka would refuse as a topic's name.
pub(super) fn check_topic(section: &Section<'_>, key: &str, topic: &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.is_empty() || topic.len() > 249 || topic == "." || topic == ".." || !topic.chars().all(legal) {
        let remedy = "write 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`";
        section.fault(key, format!("{} can't be a topic's name", shorten(topic)), remedy);
    }
}
