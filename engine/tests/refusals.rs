//! What streamsync refuses. One test for each promise; its name is the promise.
//!
//! What else belongs here stands where its parts are: a batch that unpacks beyond the limit is `tests/kafka.rs`,
//! `a_batch_that_unpacks_beyond_the_limit_halts_and_is_not_passed_over`; a compiled module that someone else changed in the cache is
//! `src/transform/tests/modules.rs`; memory, time and output of guests are `src/transform/tests/guests.rs`.
#![expect(clippy::expect_used, clippy::indexing_slicing, unreachable_pub, reason = "a test fails by panicking")]

#[path = "fixtures/component.rs"]
mod component;
#[path = "refusals/secrets.rs"]
mod secrets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use streamsync::change::{Cells, ChangeBatch, ChangeEvent, Column, Op, TableSchema, Tag, Value};
use streamsync::config::{self, PullSettings, Settings, TransformHostSettings, TransformSettings};
use streamsync::decode::Decoder;
use streamsync::fence::Generation;
use streamsync::http::{self, Health};
use streamsync::metrics::{MAX_GUEST_LABELS, Metrics};
use streamsync::plan::{self, MAX_DOCUMENT_BYTES, WritePlan};
use streamsync::rollout;
use streamsync::route::RoutedBatch;
use streamsync::sink;
use streamsync::source::{RecordBatch, TopicPartition};
use streamsync::transform::{GuestAction, GuestBatch, GuestGroup, GuestWrite, OpenedSchema, SetupError, TransformHost, wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECRET: &str = "hunter2";

/// A valid configuration, changed in one place.
fn configuration(replace: &str, with: &str) -> String {
    let valid = r#"
[kafka]
brokers = "127.0.0.1:1"
[kafka.properties]
"socket.timeout.ms" = "1000"
[http]
listen = "127.0.0.1:9464"
[sinks.redis]
kind = "redis"
url = "redis://127.0.0.1:1"
[sinks.store]
kind = "mongodb"
uri = "mongodb://127.0.0.1:1"
database = "shop"
[[routes]]
name = "orders"
topic = "shop.orders"
table = "shop.orders"
format = "json"
[routes.columns]
id = "varchar(99) not null"
doc = "json"
[routes.transform]
module = "guest.wasm"
[routes.targets.r]
sink = "redis"
prefix = "orders"
[routes.targets.m]
sink = "store"
collection = "orders"
"#;
    assert!(valid.contains(replace), "{replace}");
    valid.replace(replace, with)
}

/// The faults of a configuration; none where it is valid.
fn faults(text: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("guest.wasm"), b"").expect("written");
    Settings::parse(text, directory.path()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn settings() -> Settings {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("guest.wasm"), b"").expect("written");
    Settings::parse(&configuration("orders", "orders"), directory.path()).expect("valid")
}

/// The change is refused with these words, and the way out is taken.
fn check_refused(replace: &str, with: &str, words: &str, allowed: &str) {
    let found = faults(&configuration(replace, with));
    assert!(found.iter().any(|fault| fault.contains(words)), "{with}: {words}: {found:?}");
    let found = faults(&configuration(replace, &format!("{with}\n{allowed}")));
    assert!(allowed.is_empty() || found.is_empty(), "{with}\n{allowed}: {found:?}");
}

/// What becomes of a file that is to be a module.
fn load(content: &[u8], pinned: Option<&str>) -> SetupError {
    let directory = tempfile::tempdir().expect("a directory");
    let module = directory.path().join("t.wasm");
    std::fs::write(&module, content).expect("written");
    let host =
        TransformHost::new(&TransformHostSettings { cache_dir: None, max_instances: 1, watch: None, pulls: PullSettings::default() })
            .expect("a host");
    let settings = TransformSettings {
        module: module.into(),
        sha256: pinned.map(str::to_owned),
        signature_key: None,
        config: "{}".to_owned(),
        call_timeout: Duration::from_secs(1),
        max_memory_bytes: 1 << 24,
        max_output_bytes: 1 << 20,
        max_log_lines: 10,
        max_failures: 100,
        shadow: None,
    };
    host.load(&settings).expect_err("refused")
}

#[test]
fn a_module_imports_nothing_foreign() {
    for import in ["wasi:clocks/wall-clock@0.2.0", "wasi:sockets/tcp@0.2.0", "streamsync:transform/files@0.1.0", "env:env/env"] {
        let module = wat::parse_str(format!(r#"(component (import "{import}" (instance)))"#)).expect("a component");
        let error = load(&module, None);
        assert!(matches!(&error, SetupError::ForeignImports { imports, .. } if imports == import), "{error}");
    }
}

#[test]
fn a_module_has_the_digest_that_is_pinned() {
    let module = wat::parse_str("(component)").expect("a component");
    let error = load(&module, Some(&"00".repeat(32)));
    assert!(matches!(&error, SetupError::OtherDigest { pinned, .. } if *pinned == "00".repeat(32)), "{error}");
}

#[test]
fn machine_code_is_never_loaded() {
    let engine = wasmtime::Engine::default();
    let compiled = engine.precompile_component(&wat::parse_str("(component)").expect("a component")).expect("compiled");
    let core = engine.precompile_module(&wat::parse_str("(module)").expect("a module")).expect("compiled");
    for artefact in [compiled.as_slice(), &core, b"\x7fELF", b"!<arch>\n", b"MZ"] {
        let error = load(artefact, None);
        assert!(matches!(error, SetupError::NotAComponent { .. }), "{error}");
    }
}

#[test]
fn names_hold_no_operators_and_no_paths() {
    for (replace, with) in [
        (r#"topic = "shop.orders""#, r#"topic = "../orders""#),
        (r#"topic = "shop.orders""#, r#"topic = "a/b""#),
        (r#"database = "shop""#, r#"database = "a.b""#),
        (r#"database = "shop""#, r#"database = "$shop""#),
        (r#"database = "shop""#, r#"database = "admin""#),
        (r#"collection = "orders""#, r#"collection = "$cmd""#),
        (r#"collection = "orders""#, r#"collection = "system.users""#),
        (r#"collection = "orders""#, r#"collection = "_sync_tombstones""#),
        (r#"collection = "orders""#, "collection = \"a\\u0000b\""),
        (r#"prefix = "orders""#, r#"prefix = "{orders}""#),
        (r#"prefix = "orders""#, r#"prefix = "_sync""#),
        (r#"name = "orders""#, r#"name = "or\"ders{}""#),
        ("[routes.targets.r]", r#"[routes.targets."r/../x"]"#),
    ] {
        assert!(!faults(&configuration(replace, with)).is_empty(), "{with} was taken");
    }
    let open = |target: &str, key: &[&str], fields: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let output = wire::Output { target: target.to_owned(), key: owned(key), fields: owned(fields) };
        let said = wire::Plan { before: vec![], after: vec![], sees_deletes: false, outputs: vec![output] };
        let mut route = (*settings().routes[0]).clone();
        for target in &mut route.targets {
            *target = Arc::new(config::TargetSettings { explicit_keys: true, ..(**target).clone() });
        }
        OpenedSchema::new(schema(), &route, said).map(drop)
    };
    open("m", &["id"], &["a", "a2.b"]).expect("plain names");
    for field in ["$set", "_id", "_sync", "_sync.v", "a..b", ".a", "a.", "a\0b"] {
        assert!(open("m", &[], &[field]).is_err(), "the field {field:?} was taken");
    }
    for key in ["$where", "a\0b", ""] {
        assert!(open("m", &[key, "id"], &["a"]).is_err(), "the key part {key:?} was taken");
    }
    assert!(open("users", &[], &["a"]).is_err(), "a guest names no target that its route has not");
}

#[test]
fn a_key_is_data_whatever_it_looks_like() {
    let keys = |id: &str| {
        let plan = planned(Value::Text(id), Value::Json("{}"));
        assert!(plan.faults.is_empty(), "{:?}", plan.faults);
        // Targets come in the order of their names: `m` before `r`.
        [1, 0].map(|sink: usize| plan.sinks[sink].slice(plan.sinks[sink].writes[0].key).to_vec())
    };
    for (id, redis) in [
        ("a:b", "orders:a%3Ab"),
        ("{slot}", "orders:%7Bslot%7D"),
        ("../../etc/passwd", "orders:../../etc/passwd"),
        ("a%3Ab", "orders:a%253Ab"),
        ("1\r\nFLUSHALL\r\n", "orders:1\r\nFLUSHALL\r\n"),
    ] {
        assert_eq!(String::from_utf8_lossy(&keys(id)[0]), redis);
    }
    // A BSON text, with its length: never a document with an operator.
    for id in [r#"{"$gt":""}"#, "$where", "a\0b"] {
        let [_, mongodb] = keys(id);
        assert_eq!((mongodb[0], mongodb.len()), (0x02, 1 + 4 + id.len() + 1), "{id}");
    }
}

#[tokio::test]
async fn secrets_are_in_no_log_no_error_and_no_dump() {
    // A reference beside a secret, and what only looks like one, hide it no less.
    let text = configuration("redis://127.0.0.1:1", &format!("redis://user:{SECRET}@127.0.0.1${{file:guest.wasm}}:1"))
        .replace("mongodb://127.0.0.1:1", &format!("mongodb://user:{SECRET}@127.0.0.1:1"))
        .replace(r#""socket.timeout.ms" = "1000""#, &format!(r#""sasl.password" = "{SECRET}$${{x}}""#))
        .replace("[http]", &format!("[http]\ntoken = \"{SECRET}-and-more$${{x}}\""))
        .replace("[routes.targets.r]", &format!("config = {{ salt = \"{SECRET}\" }}\n[routes.targets.r]"));
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("guest.wasm"), b"").expect("written");
    let file = directory.path().join("streamsync.toml");
    std::fs::write(&file, &text).expect("written");
    let loaded = config::load(Some(&file), std::iter::empty()).map_err(|faults| format!("{faults:?}")).expect("valid");
    let mut said = vec![format!("{:?}", loaded.settings)];
    // What `check --print` prints; a guest's configuration is the operator's own, and shown where it is not drawn from a secret.
    said.extend(loaded.entries.iter().filter(|entry| !entry.key.contains("transform.config")).map(|entry| format!("{entry:?}")));
    // Nobody listens: each client says what it could not reach.
    let mut settings = loaded.settings;
    for sink in &mut settings.sinks {
        sink.write_timeout = Duration::from_millis(300);
    }
    for sink in sink::build(&settings).expect("URLs that can be read") {
        said.push(sink.check().await.expect_err("nobody listens").to_string());
    }
    for broken in ["redis://user:hunter2@[::", "mongodb://user:hunter2@h:port"] {
        let (replace, key) = if broken.starts_with("redis") { ("redis://127.0.0.1:1", "url") } else { ("mongodb://127.0.0.1:1", "uri") };
        let found = faults(&configuration(replace, broken));
        assert!(found.iter().any(|fault| fault.contains(key)), "{found:?}");
        said.extend(found);
    }
    for text in said {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn nothing_is_changed_over_http_without_a_token() {
    let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let mut server = tokio::task::JoinSet::new();
    // Nobody serves the desk: a request that is let through is answered with 503.
    let (requests, _) = rollout::desk();
    let control = http::Control { token: config::Token::new("0123456789abcdef".to_owned()), requests };
    let health = Health::new(Duration::from_secs(60));
    server.spawn(http::serve_with_control(listener, metrics, health, control, std::future::pending()));
    let paths = [
        "/",
        "/status",
        "/metrics",
        "/live",
        "/ready",
        "/routes/orders/module",
        "/routes/orders/rollback",
        "/routes/orders/promote",
        "/routes/orders/shadow",
        "/reload",
        "/stop",
    ];
    for path in paths {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
            let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            let status: u16 = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            assert!((400..500).contains(&status), "{method} {path}: {answer}");
        }
    }
}

#[test]
fn other_machines_reach_nothing_without_saying_so() {
    for address in ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464"] {
        let listen = format!(r#"listen = "{address}""#);
        check_refused(r#"listen = "127.0.0.1:9464""#, &listen, "can be reached from other machines", "expose = true");
    }
    assert!(faults(&configuration("127.0.0.1:9464", "[::1]:9464")).is_empty());
}

#[test]
fn tls_is_verified_unless_said_otherwise() {
    let allowed = "allow_unverified_tls = true";
    let redis = r#"url = "rediss://127.0.0.1:1/#insecure""#;
    check_refused(r#"url = "redis://127.0.0.1:1""#, redis, "anyone can pretend to be the server", allowed);
    for option in ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsallowinvalidhostnames"] {
        let uri = format!(r#"uri = "mongodb://127.0.0.1:1/?tls=true&{option}=true""#);
        let found = faults(&configuration(r#"uri = "mongodb://127.0.0.1:1""#, &uri));
        assert!(found.iter().any(|fault| fault.contains("anyone can pretend to be the server")), "{option}: {found:?}");
    }
    let (certificate, host) = ("enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm");
    for (property, value) in
        [(certificate, "\"false\""), (certificate, "0"), (certificate, "\"F\""), (host, "\"none\""), (host, "\"None\"")]
    {
        let property = &format!("{property:?} = {value}");
        let found = faults(&configuration(r#""socket.timeout.ms" = "1000""#, property));
        assert!(found.iter().any(|fault| fault.contains("anyone can pretend to be the broker")), "{property}: {found:?}");
        let said = configuration(r#""socket.timeout.ms" = "1000""#, property)
            .replace("[kafka.properties]", &format!("{allowed}\n[kafka.properties]"));
        assert_eq!(faults(&said), Vec::<String>::new());
    }
    for property in [format!("{certificate:?} = \"TRUE\""), format!("{host:?} = \"https\"")] {
        assert_eq!(faults(&configuration(r#""socket.timeout.ms" = "1000""#, &property)), Vec::<String>::new());
    }
}

#[test]
fn no_message_is_unbounded() {
    // What a store takes is bounded, whatever a record holds.
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_DOCUMENT_BYTES));
    let plan = planned(Value::Text("1"), Value::Json(&large));
    assert!(plan.faults.iter().any(|fault| fault.fault.to_string().contains("at most")), "{:?}", plan.faults);
    assert!(plan.sinks.iter().all(|sink| sink.writes.is_empty()), "one write that can't be stored leaves none");
    // And so are the sizes that may be configured.
    for (key, value) in [("max_bytes", "10GiB"), ("max_records", "1000000000"), ("prepared_ahead", "1000000")] {
        let text = format!(
            "[batch]\n{key} = {}\n{}",
            if value.ends_with('B') { format!("{value:?}") } else { value.to_owned() },
            configuration("a", "a")
        );
        assert!(!faults(&text).is_empty(), "{key} = {value} was taken");
    }
}

#[test]
fn no_record_is_deeper_than_a_stack() {
    let settings = settings();
    let mut decoder = Decoder::new(Arc::clone(&settings.routes[0]));
    for deep in ["[".repeat(100_000), format!(r#"{{"after":{}"#, r#"{"a":"#.repeat(5_000))] {
        let mut records = RecordBatch::new(TopicPartition::new("shop.orders", 0));
        records.push(0, None, Some(br#"{"id":"1"}"#), Some(deep.as_bytes()), []).expect("small");
        let batch = decoder.batch(records);
        let codes: Vec<&str> = batch.faults.iter().map(|(_, error)| error.code()).collect();
        assert_eq!(codes, ["too-deep"]);
    }
    let deep = format!("{}1{}", r#"{"a":"#.repeat(101), "}".repeat(101));
    let plan = planned(Value::Text("1"), Value::Json(&deep));
    assert!(plan.faults.iter().any(|fault| fault.fault.to_string().contains("deeper than 100 levels")), "{:?}", plan.faults);
}

#[test]
fn metric_labels_are_bounded_and_hold_no_row() {
    let metrics = Metrics::new().expect("metrics");
    let route = metrics.route("orders");
    for number in 0..10_000 {
        route.dead_letter("transform", &format!("code-{number}"));
        route.guest(&format!("name-{number}"), 1);
    }
    let text = metrics.render();
    for name in ["streamsync_dead_letters_total{", "streamsync_guest_total{"] {
        let series = text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series, MAX_GUEST_LABELS + 1, "{name}");
    }
}

fn schema() -> Arc<TableSchema> {
    let column = |name: &str, tag| Column { name: name.into(), tag, nullable: true, length: None, scale: None, source_type: "x".into() };
    let columns = vec![column("id", Tag::Text), column("doc", Tag::Json)];
    Arc::new(TableSchema { id: 1, database: "shop".into(), table: "orders".into(), columns, primary_key: vec![0] })
}

/// A guest that passes `doc` on to both targets, for one row.
fn planned(id: Value<'_>, doc: Value<'_>) -> WritePlan {
    let route = Arc::clone(&settings().routes[0]);
    let output = |target: &str| wire::Output { target: target.to_owned(), key: vec![], fields: vec!["doc".to_owned()] };
    let said = wire::Plan { before: vec![], after: vec![], sees_deletes: false, outputs: vec![output("r"), output("m")] };
    let opened = Arc::new(OpenedSchema::new(schema(), &route, said).expect("an allowed plan"));
    let mut batch =
        ChangeBatch { records: RecordBatch::new(TopicPartition::new("shop.orders", 0)), schemas: vec![schema()], ..ChangeBatch::default() };
    batch.records.push(0, None, None, None, []).expect("small");
    [id, Value::Null].into_iter().for_each(|value| batch.cells.push(value));
    batch.events.push(ChangeEvent {
        record: 0,
        offset: 0,
        schema: 0,
        op: Op::Create,
        changed_at_us: 0,
        snapshot: streamsync::change::Snapshot::No,
        null_value: false,
        follows_own_delete: false,
        before: None,
        after: Some(0),
    });
    let mut cells = Cells::default();
    let put = |output: u32, cells: &Cells| GuestWrite {
        event: 0,
        action: GuestAction::Put { output, first_cell: cells.len() as u32, ttl_seconds: 0 },
    };
    let first = put(0, &cells);
    cells.push(doc);
    let second = put(1, &cells);
    cells.push(doc);
    let group = GuestGroup { opened, events: vec![0], writes: vec![first, second], cells };
    let routed = RoutedBatch { route, batch, faults: vec![] };
    plan::build(GuestBatch { routed, groups: vec![group], faults: vec![], canary: None }, Generation::FIRST, "0123456789abcdef")
}

#[test]
fn the_configuration_that_the_others_change_is_valid() {
    assert_eq!(faults(&configuration("orders", "orders")), Vec::<String>::new());
}
