#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;

/// One route into memory, of a table of one column; and the directory that holds its guest.
pub(crate) fn one_route(guest: &[u8], transform: &str) -> (tempfile::TempDir, Settings) {
    let text = format!(
        r#"
[kafka]
brokers = "127.0.0.1:1"
[sinks.one]
kind = "memory"
[transforms]
cache_dir = ""
[[routes]]
name = "rows"
topic = "shop.t"
table = "shop.t"
format = "json"
[routes.columns]
id = "int not null"
[routes.transform]
module = "guest.wasm"
{transform}
[routes.targets.t]
sink = "one"
prefix = "t"
"#
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("guest.wasm"), guest).unwrap();
    let settings = Settings::parse(&text, directory.path()).unwrap();
    (directory, settings)
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// Each `*.toml` of `tests/config` has its faults, line by line, in a file beside it; `UPDATE_EXPECTED=1` writes them anew.
#[test]
fn every_fault_of_every_case_is_told() {
    let mut seen = 0;
    for entry in std::fs::read_dir(cases()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let faults = Settings::load(Some(&file), std::iter::empty()).err().unwrap_or_default();
        let directory = format!("{}/", cases().display());
        let found: String = faults.iter().map(|fault| format!("{fault}\n").replace(&directory, "")).collect();
        assert!(!found.contains("hunter2"), "a secret is shown: {found}");
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&expected).unwrap(), "{}", file.display());
    }
    assert!(seen >= 2);
}

/// The shipped configuration beside its three modules.
fn shipped(variables: &[(&str, &str)]) -> Result<Loaded, Vec<ConfigFault>> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("transforms")).unwrap();
    for module in ["customers", "orders", "shipping_info"] {
        std::fs::write(directory.path().join(format!("transforms/{module}.wasm")), "").unwrap();
    }
    let file = directory.path().join("streamsync.toml");
    std::fs::write(&file, include_str!("../../../deploy/streamsync.toml")).unwrap();
    load(Some(&file), variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn the_shipped_configuration_is_valid() {
    let settings = shipped(&[]).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>()).map(|l| l.settings).unwrap();
    assert_eq!(settings.routes.len(), 3);
    assert_eq!((settings.batch.max_records, settings.batch.max_bytes, settings.batch.linger), (4_000, 4 << 20, Duration::from_millis(5)));
    assert_eq!(settings.dead_letters.max_bytes, 900_000);
}

#[test]
fn the_environment_comes_over_the_file() {
    let loaded = shipped(&[
        ("STREAMSYNC_KAFKA__BROKERS", "a:1,b:2"),
        ("STREAMSYNC_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
        ("STREAMSYNC_KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
        ("STREAMSYNC_SINKS__REDIS__URL", "redis://:${env:REDIS_PASSWORD}@cache:6379"),
        ("REDIS_PASSWORD", "hunter2/@"),
        ("STREAMSYNC_ROUTES__SHIPPING_INFO__TOPIC", "other"),
        ("STREAMSYNC_ROUTES__0__ON_TRUNCATE", "clear"),
        ("STREAMSYNC_ROUTES__ORDERS__TRANSFORM__CONFIG", r#"{"permitted_status":["NEW"]}"#),
        ("STREAMSYNC_BATCH__MAX_RECORDS", "10"),
        ("STREAMSYNC_PASSED_OVER_TOPICS", "heartbeat, schema"),
        ("STREAMSYNC_SERVICE_HOST", "10.0.0.1"),
        ("STREAMSYNC_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("STREAMSYNC_LOG_LEVEL", "debug"),
    ])
    .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())
    .unwrap_or_else(|faults| unreachable!("{faults:#?}"));
    let settings = &loaded.settings;
    assert_eq!(settings.kafka.brokers, "a:1,b:2");
    assert!(settings.kafka.properties.contains(&("security.protocol".to_owned(), "SASL_SSL".to_owned())));
    let redis = settings.sinks.iter().find_map(|sink| if let SinkKind::Redis(redis) = &sink.kind { Some(redis) } else { None }).unwrap();
    assert_eq!(redis.urls, ["redis://:hunter2%2F%40@cache:6379"]);
    let topics: Vec<&str> = settings.routes.iter().map(|route| route.topic.as_str()).collect();
    assert_eq!(topics, ["ecommerce.ecommerce.customers", "ecommerce.ecommerce.orders", "other"]);
    assert_eq!(settings.routes.first().unwrap().on_truncate, OnTruncate::Clear);
    assert_eq!(settings.routes.get(1).unwrap().transform.config, r#"{"permitted_status":["NEW"]}"#);
    assert_eq!((settings.batch.max_records, settings.passed_over_topics.len()), (10, 2));
    let shown = format!("{settings:?} {:?}", loaded.entries);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(loaded.entries.iter().any(|e| e.key == "kafka.brokers" && e.place == "STREAMSYNC_KAFKA__BROKERS"));
}

#[test]
fn wrong_variables_are_faults_of_their_own() {
    let faults = shipped(&[
        ("STREAMSYNC_KAFKA__BROKER", "x:1"),
        ("STREAMSYNC_ROUTES__NOWHERE__TOPIC", "t"),
        ("STREAMSYNC_BATCH__LINGER", "5"),
        ("STREAMSYNC_WHAT", "5"),
        ("STREAMSYNC_SINKS__REDIS__URL__HOST", "h"),
    ])
    .err()
    .unwrap();
    let places: Vec<&str> = faults.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "STREAMSYNC_BATCH__LINGER",
            "STREAMSYNC_KAFKA__BROKER",
            "STREAMSYNC_ROUTES__NOWHERE__TOPIC",
            "STREAMSYNC_SINKS__REDIS__URL__HOST",
            "STREAMSYNC_WHAT"
        ]
    );
    let remedies: Vec<&str> = faults.iter().map(|fault| fault.remedy.as_str()).collect();
    assert!(remedies.contains(&"did you mean `brokers`?"), "{remedies:?}");
}

#[test]
fn a_missing_file_is_the_only_fault() {
    let faults = Settings::load(Some(Path::new("gone.toml")), std::iter::empty()).err().unwrap();
    assert_eq!(faults.len(), 1);
    assert!(faults.first().unwrap().to_string().starts_with("gone.toml: the configuration can't be read"), "{faults:?}");
}

/// The reference names every key that the code asks for, with its default, and no other.
#[test]
fn the_reference_is_what_the_code_reads() {
    let file = cases().join("places.toml");
    let environment =
        [("STREAMSYNC_SINKS__M__KIND", "mongodb"), ("STREAMSYNC_SINKS__M__URI", "mongodb://h"), ("STREAMSYNC_SINKS__M__DATABASE", "d")]
            .into_iter()
            .chain([("STREAMSYNC_ROUTES__ONE__TRANSFORM__SHADOW__MODULE", "places.toml")])
            .chain([("STREAMSYNC_TRANSFORMS__REGISTRIES__LOCALHOST__PLAIN_HTTP", "true")])
            .chain([("STREAMSYNC_ROUTES__ONE__TARGETS__M__SINK", "m"), ("STREAMSYNC_ROUTES__ONE__TARGETS__M__COLLECTION", "c")])
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (_, _, keys) = read(Some(&file), environment);
    let read: Vec<String> = keys.iter().map(|(key, default)| format!("| `{key}` | `{default}` |")).collect();
    let reference = include_str!("../../../docs/configuration.md").lines().filter(|line| line.starts_with("| `"));
    let mut documented: Vec<String> = reference.map(|line| line.split('|').take(3).collect::<Vec<_>>().join("|") + "|").collect();
    documented.sort();
    let mut sorted = read;
    sorted.sort();
    assert_eq!(documented, sorted);
}
