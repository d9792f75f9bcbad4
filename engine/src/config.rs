//! What the operator wants: a TOML file, environment variables over it, secrets from variables and files.
//!
//! Enters: the file and the environment. Leaves: validated [`Settings`]. The file is read into a [`tree`] in which each value knows its
//! line; `section` takes typed values out of it and reports whatever is wrong, so that all faults come at once, each with its
//! place and its remedy. No value that may be a secret is ever part of a message.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod environment;
mod fault;
mod kafka;
mod module;
mod places;
mod reload;
mod routes;
mod secret;
mod section;
pub mod settings;
mod sinks;
mod transforms;
mod tree;
mod units;
mod words;

pub use fault::{ConfigFault, Entry};
pub use kafka::PROTECTED_PROPERTIES;
pub(crate) use module::is_loopback;
pub use module::{ModuleSource, OciReference};
pub use settings::*;
pub(crate) use units::duration;

use fault::{Origin, Report, Spot};
use section::{Reading, Section};

/// What was read.
pub struct Loaded {
    /// Valid.
    pub settings: Settings,
    /// Every setting in force and where it comes from, secrets masked.
    pub entries: Vec<Entry>,
}

impl Settings {
    /// Reads a configuration. Without a file the environment alone is read.
    ///
    /// # Errors
    /// All faults.
    pub fn load(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Vec<ConfigFault>> {
        load(path, environment).map(|loaded| loaded.settings)
    }

    /// Reads a configuration that a program made. Relative paths start at `directory`.
    ///
    /// # Errors
    /// All faults.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<ConfigFault>> {
        let report = Report::new("configuration".to_owned());
        let (loaded, faults, _) = read_text(text, false, directory.to_path_buf(), report, std::iter::empty());
        if faults.is_empty() { Ok(loaded.settings) } else { Err(faults) }
    }
}

/// As [`Settings::load`], with the settings' origins.
///
/// # Errors
/// All faults.
pub fn load(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, Vec<ConfigFault>> {
    let (loaded, faults, _) = read(path, environment);
    if faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// Reads a configuration that a program put together around a file's text; `name` is that file's, for the places of faults. Relative paths start at
/// `directory`.
///
/// # Errors
/// All faults.
pub fn load_text(
    text: &str,
    name: &str,
    directory: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, Vec<ConfigFault>> {
    let (loaded, faults, _) = read_text(text, false, directory.to_path_buf(), Report::new(name.to_owned()), environment);
    if faults.is_empty() { Ok(loaded.settings) } else { Err(faults) }
}

/// The settings as far as they could be read, the faults, and all keys that exist with their defaults.
fn read(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> (Loaded, Vec<ConfigFault>, BTreeMap<String, String>) {
    let name = path.and_then(Path::file_name).map_or_else(|| "environment".to_owned(), |name| name.to_string_lossy().into_owned());
    let report = Report::new(name);
    let text = path.map(std::fs::read_to_string).transpose().unwrap_or_else(|error| {
        let spot = Spot { origin: Origin::File, key: String::new() };
        report.fault(&spot, format!("the configuration can't be read: {error}"), "name the file with --config");
        None
    });
    // Without its file, a configuration has no other faults worth telling.
    let unread = path.is_some() && text.is_none();
    let directory = path.and_then(Path::parent).map_or_else(PathBuf::new, Path::to_path_buf);
    read_text(text.as_deref().unwrap_or_default(), unread, directory, report, environment)
}

fn read_text(
    text: &str,
    unread: bool,
    directory: PathBuf,
    report: Report,
    environment: impl Iterator<Item = (String, String)>,
) -> (Loaded, Vec<ConfigFault>, BTreeMap<String, String>) {
    let variables: Vec<(String, String)> = environment.collect();
    let mut tree = tree::parse(text, &report);
    if !unread {
        environment::overlay(&mut tree, &variables, &report);
    }
    let reading = Reading { report, variables: variables.into_iter().collect(), directory };
    let settings = sections(Section::root(&reading, tree), &reading);
    let (mut faults, entries, keys) = reading.report.finish();
    if unread {
        faults.truncate(1);
    }
    (Loaded { settings, entries }, faults, keys)
}

fn sections(mut root: Section<'_>, reading: &Reading) -> Settings {
    let drain_timeout = root.duration("drain_timeout", "30s", "1s"..="10m");
    let loss_check_interval = root.duration("loss_check_interval", "5s", "100ms"..="10m");
    let passed_over_topics = root.texts("passed_over_topics", false);
    passed_over_topics.iter().for_each(|topic| kafka::check_topic(&root, "passed_over_topics", topic));
    let kafka = kafka::read(&mut root, reading);
    let batch = batch(&mut root);
    let retry = retry(&mut root);
    let http = http(&mut root);
    let dead_letters = dead_letters(&mut root);
    let (transforms, limits) = transforms::read(&mut root, reading);
    let (sinks, names) = sinks::read(&mut root);
    let (routes, written) = routes::read(&mut root, &routes::Sinks { settings: &sinks, names: &names }, &limits);
    places::check(&written, &sinks, &reading.report);
    let settings = Settings {
        kafka,
        batch,
        retry,
        drain_timeout,
        loss_check_interval,
        http,
        dead_letters,
        transforms,
        sinks,
        routes,
        passed_over_topics,
        directory: reading.directory.clone(),
    };
    check_topics(&root, &settings);
    root.finish();
    settings
}

fn batch(root: &mut Section<'_>) -> BatchSettings {
    let mut section = root.section("batch");
    let settings = BatchSettings {
        max_records: section.count("max_records", 4_000, 1..=100_000) as usize,
        max_bytes: section.size("max_bytes", "4MiB", "1KiB"..="256MiB"),
        linger: section.duration("linger", "5ms", "0ms"..="10s"),
        prepared_ahead: section.count("prepared_ahead", 1, 1..=64) as usize,
    };
    section.finish();
    settings
}

fn retry(root: &mut Section<'_>) -> RetrySettings {
    let mut section = root.section("retry");
    let initial = section.duration("initial", "100ms", "1ms"..="1m");
    let max = section.duration("max", "10s", "1ms"..="10m");
    if initial > max {
        section.fault("initial", "is longer than retry.max", "make it shorter, or retry.max longer");
    }
    section.finish();
    RetrySettings { initial, max, jitter_seed: None }
}

fn http(root: &mut Section<'_>) -> HttpSettings {
    let mut section = root.section("http");
    let text = section.text("listen", "127.0.0.1:9464");
    let expose = section.flag("expose");
    let stalled_after = section.duration("stalled_after", "1m", "1s"..="1d");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9464));
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let listen = named.as_ref().unwrap_or(&text).parse().unwrap_or_else(|_| {
        section.fault("listen", format!("{} is no IP address and port", words::shorten(&text)), "write for example \"127.0.0.1:9464\"");
        loopback
    });
    if !listen.ip().is_loopback() && !expose {
        let remedy = "set http.expose = true if the network may see metrics and status, or listen on 127.0.0.1";
        section.fault("listen", format!("{listen} can be reached from other machines"), remedy);
    }
    let token = section.secret("token", "\"${file:/run/secrets/streamsync_token}\"").and_then(|secret| {
        let token = Token::new(secret);
        if token.is_none() {
            let remedy = format!("make one of at least {} bytes, for example with `openssl rand -hex 24`", Token::MIN_BYTES);
            section.fault("token", "is too short", remedy);
        }
        token
    });
    section.finish();
    HttpSettings { listen, stalled_after, token }
}

fn dead_letters(root: &mut Section<'_>) -> DeadLetterSettings {
    let mut section = root.section("dead_letters");
    let settings = DeadLetterSettings {
        topic: kafka::topic(&mut section, "topic", "streamsync.dead-letters"),
        max_per_minute: section.count("max_per_minute", 600, 1..=u32::MAX),
        max_bytes: section.size("max_bytes", "900KB", "1KB"..="1GB"),
    };
    section.finish();
    settings
}

/// No topic has two roles.
fn check_topics(root: &Section<'_>, settings: &Settings) {
    let report = &root.reading.report;
    let own = [("kafka.control_topic", &settings.kafka.control_topic), ("dead_letters.topic", &settings.dead_letters.topic)];
    let [(_, control), (letters_key, letters)] = own;
    if control == letters {
        let spot = Spot { origin: Origin::File, key: letters_key.to_owned() };
        report.fault(&spot, "is the control topic too, which is compacted", "name another topic");
    }
    let passed_over = Spot { origin: Origin::File, key: "passed_over_topics".to_owned() };
    for (key, topic) in own.iter().filter(|(_, topic)| settings.passed_over_topics.contains(topic)) {
        report.fault(&passed_over, format!("has {topic}, which is {key}: the engine writes it"), "leave it away");
    }
    for route in settings.routes.iter().filter(|route| !route.topic.is_empty()) {
        let spot = Spot { origin: Origin::File, key: format!("routes.{}.topic", route.name) };
        if let Some((key, _)) = own.iter().find(|(_, topic)| **topic == route.topic) {
            report.fault(&spot, format!("is also {key}, which the engine writes"), "name the topic that the connector writes");
        }
        if settings.passed_over_topics.contains(&route.topic) {
            report.fault(&spot, "is also one of passed_over_topics", "leave it away in one of the two");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
