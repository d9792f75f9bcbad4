//! `[sinks.<name>]`: the stores.

use super::fault::Spot;
use super::section::Section;
use super::settings::{MongoDbSettings, RedisSettings, SinkKind, SinkSettings};
use super::words::shorten;

const REDIS_EXAMPLE: &str = "\"redis://localhost:6379\"";
const MONGODB_EXAMPLE: &str = "\"mongodb://localhost:27017\"";

#[derive(Clone, Copy)]
enum Kind {
    Redis,
    MongoDb,
    Memory,
    Null,
}

/// Reads all sinks. One of unknown kind is reported and left out; the names of all are returned beside them.
pub(super) fn read(root: &mut Section<'_>) -> (Vec<SinkSettings>, Vec<String>) {
    let mut sinks = Vec::new();
    let mut names = Vec::new();
    for (name, mut section) in root.named_sections("sinks") {
        names.push(name.clone());
        check_name(&section.here(), &section, &name);
        let kinds = [("redis", Kind::Redis), ("mongodb", Kind::MongoDb), ("memory", Kind::Memory), ("null", Kind::Null)];
        let kind = section.choice("kind", None, &kinds);
        let tombstone_ttl = section.duration("tombstone_ttl", "7d", "1m"..="3650d");
        let write_timeout = section.duration("write_timeout", "30s", "100ms"..="10m");
        let kind = match kind {
            Some(Kind::Redis) => SinkKind::Redis(redis(&mut section)),
            Some(Kind::MongoDb) => SinkKind::MongoDb(mongodb(&mut section)),
            Some(Kind::Memory) => SinkKind::Memory,
            Some(Kind::Null) => SinkKind::Null,
            // Which keys it may have is unknown: only the kind is reported.
            None => continue,
        };
        section.finish();
        sinks.push(SinkSettings { name, kind, tombstone_ttl, write_timeout });
    }
    if names.is_empty() {
        root.fault("sinks", "there is no sink", "add [sinks.redis] with kind = \"redis\" and its url, or [sinks.mongodb]");
    }
    (sinks, names)
}

/// Names become labels, parts of variables' names and of messages.
pub(super) fn check_name(spot: &Spot, section: &Section<'_>, name: &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
        let message = format!("{} can't be a name", shorten(name));
        section.reading.report.fault(spot, message, "write 1 to 64 of the characters a-z, A-Z, 0-9, `_` and `-`");
    }
}

fn redis(section: &mut Section<'_>) -> RedisSettings {
    let url = section.url("url", REDIS_EXAMPLE);
    let urls = section.texts("urls", true);
    let cluster = section.flag("cluster");
    let max_pipeline = section.count("max_pipeline", 512, 1..=10_000) as usize;
    let unverified = section.flag("allow_unverified_tls");
    if url.is_none() && urls.is_empty() {
        missing_url(section, "url", REDIS_EXAMPLE);
    }
    if url.is_some() && !urls.is_empty() {
        section.fault("urls", "both url and urls are set", "leave one of them away");
    }
    if urls.len() > 1 && !cluster {
        section.fault("urls", "several addresses, but not a cluster", "set cluster = true, or name one server");
    }
    let key = if url.is_some() { "url" } else { "urls" };
    let urls: Vec<String> = url.into_iter().chain(urls).collect();
    for url in &urls {
        check_redis_url(section, key, url, unverified);
    }
    RedisSettings { urls, cluster, max_pipeline }
}

fn check_redis_url(section: &Section<'_>, key: &str, url: &str, unverified: bool) {
    let Some((scheme, rest)) = url.split_once("://") else {
        section.fault(key, "is no URL", format!("write for example {key} = {REDIS_EXAMPLE}"));
        return;
    };
    if !["redis", "rediss"].contains(&scheme) {
        section.fault(key, format!("Redis has no scheme {}", shorten(scheme)), "write redis:// or, for TLS, rediss://");
        return;
    }
    // The client's own parser decides; its error quotes nothing of the URL.
    if rest.is_empty() || redis::IntoConnectionInfo::into_connection_info(url).is_err() {
        section.fault(
            key,
            "the Redis client can't read the URL",
            "write redis://user:password@host:port/database; percent-encode what is special",
        );
    }
    if url.ends_with("#insecure") && !unverified {
        let remedy = "remove #insecure, or set allow_unverified_tls = true on this sink for a test";
        section.fault(key, "anyone can pretend to be the server", remedy);
    }
}

fn missing_url(section: &Section<'_>, key: &str, example: &str) {
    // A value that is there and wrong has been reported already.
    if !section.was_read(key) {
        section.fault(key, "is required and not set", format!("add {key} = {example}"));
    }
}

fn mongodb(section: &mut Section<'_>) -> MongoDbSettings {
    let uri = section.url("uri", MONGODB_EXAMPLE);
    let database = section.required_text("database", "\"ecommerce\"").unwrap_or_default();
    let max_bulk = section.count("max_bulk", 1_000, 1..=100_000) as usize;
    let sweep_interval = section.duration("sweep_interval", "1m", "1s"..="1d");
    let sweep_page = section.count("sweep_page", 1_000, 1..=100_000) as usize;
    let unverified = section.flag("allow_unverified_tls");
    match &uri {
        Some(uri) => check_mongodb_uri(section, uri, unverified),
        None => missing_url(section, "uri", MONGODB_EXAMPLE),
    }
    let illegal = |c: char| "/\\. \"$*<>:|?\0".contains(c);
    if database.len() > 63 || database.contains(illegal) {
        section.fault(
            "database",
            format!("{} can't be a database's name", shorten(&database)),
            "write up to 63 letters, digits, `_` and `-`",
        );
    }
    if ["admin", "local", "config"].contains(&database.as_str()) {
        section.fault("database", format!("{} is MongoDB's own", shorten(&database)), "name a database of your own");
    }
    MongoDbSettings { uri: uri.unwrap_or_default(), database, max_bulk, sweep_interval, sweep_page }
}

fn check_mongodb_uri(section: &Section<'_>, uri: &str, unverified: bool) {
    // An SRV name is resolved by the network, which is not asked here.
    let Some(rest) = uri.strip_prefix("mongodb://").or(uri.strip_prefix("mongodb+srv://")) else {
        section.fault("uri", "is no MongoDB URI", format!("write for example uri = {MONGODB_EXAMPLE}"));
        return;
    };
    let srv = uri.starts_with("mongodb+srv://");
    if rest.is_empty() || (!srv && mongodb::options::ConnectionString::parse(uri).is_err()) {
        let remedy = "write mongodb://user:password@host:port/?options; percent-encode what is special in user and password";
        section.fault("uri", "the MongoDB client can't read the URI", remedy);
    }
    let lower = uri.to_ascii_lowercase();
    let trusts_anyone = ["tlsinsecure=true", "tlsallowinvalidcertificates=true", "tlsallowinvalidhostnames=true"];
    if trusts_anyone.iter().any(|option| lower.contains(option)) && !unverified {
        let remedy = "name the authority with tlsCAFile, or set allow_unverified_tls = true on this sink for a test";
        section.fault("uri", "anyone can pretend to be the server", remedy);
    }
    if lower.contains("w=0") || lower.contains("w=1&") || lower.ends_with("w=1") {
        section.fault("uri", "the write concern loses acknowledged writes in a failover", "remove w from the URI: majority is used");
    }
}
