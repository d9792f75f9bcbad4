//! The program itself, with secrets wherever its configuration may hold some, and nobody who takes them: what it logs and prints.

#[path = "../sinks/wire.rs"]
mod wire;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mongodb::bson::doc;

use wire::serve;

use crate::component::component;

/// It stands in each of the secrets, and is written alike in whichever form they are.
const SECRET: &str = "hunter2";

/// All that anyone in the process has to say. The compiler knows the module alone, and would fill a disk.
const LEVEL: &str = "trace,librdkafka=trace,rdkafka=trace,cranelift=off,wasmtime=off,regalloc2=off";

const DEADLINE: Duration = Duration::from_secs(90);

/// Ports of Kafka, Redis and MongoDB.
type Ports = [u16; 3];

const NOBODY: Ports = [1, 2, 3];

/// What the program is to do, and lines of which it must have told, each by words that stand in it.
struct Case {
    name: &'static str,
    ports: Ports,
    command: &'static [&'static str],
    told: Vec<Vec<String>>,
    /// It is told to stop when all this is told; else it ends by itself.
    goes_on: bool,
}

#[test]
fn the_program_tells_no_secret_however_much_it_tells() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("guest.wasm"), component(include_str!("../simulation/guest.wat"))).expect("written");
    std::fs::write(directory.path().join("salt"), format!("guest-{SECRET}\n")).expect("written");
    let (cases, directory) = (cases(), directory.path());
    std::thread::scope(|scope| {
        for case in &cases {
            for format in ["text", "json"] {
                scope.spawn(move || play(directory, case, format));
            }
        }
    });
}

fn cases() -> [Case; 3] {
    let refusing = [hangs_up(), redis_that_repeats(), mongodb_that_repeats()];
    let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let refused = |port: &u16| line(&[&format!("127.0.0.1:{port}"), "Connection refused"]);
    // librdkafka shows its whole configuration.
    let shown = line(&["sasl.password", "redacted"]);
    [
        Case {
            name: "run-away",
            ports: NOBODY,
            command: &["run"],
            told: NOBODY.iter().map(refused).chain([line(&["waiting for Kafka"]), shown]).collect(),
            goes_on: true,
        },
        Case {
            name: "run-refused",
            ports: refusing,
            command: &["run"],
            told: vec![line(&["the engine stopped", "authentication failed"])],
            goes_on: false,
        },
        Case {
            name: "check-refused",
            ports: refusing,
            command: &["check", "--print", "--connect"],
            told: vec![
                line(&["Kafka is away", &format!("127.0.0.1:{}", refusing[0])]),
                line(&["redis can't be used", "authentication failed"]),
                line(&["store can't be used", "authentication failed"]),
                line(&["kafka.properties.sasl.password = "]),
            ],
            goes_on: false,
        },
    ]
}

/// Runs the program, and looks through all that came of it.
fn play(directory: &Path, case: &Case, format: &str) {
    let name = format!("{}-{format}", case.name);
    let (config, log) = (directory.join(format!("{name}.toml")), directory.join(format!("{name}.log")));
    std::fs::write(&config, configuration(case.ports)).expect("written");
    let out = File::create(&log).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamsync"));
    // Each of these would be a setting, and most of them an unknown one.
    for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("STREAMSYNC_")) {
        command.env_remove(variable);
    }
    let mut program = command
        .args(["--log-format", format, "--log-level", LEVEL])
        .args(case.command)
        .arg("--config")
        .arg(&config)
        .env("STREAMSYNC_HTTP__TOKEN", format!("http-{SECRET}-and-more"))
        .stdout(out.try_clone().expect("the same file"))
        .stderr(out)
        .spawn()
        .expect("the program starts");
    let said = || String::from_utf8_lossy(&std::fs::read(&log).expect("a log")).into_owned();
    let untold = |said: &str| {
        let is_told = |words: &[String]| said.lines().any(|line| words.iter().all(|word| line.contains(word)));
        case.told.iter().find(|words| !is_told(words)).cloned()
    };
    let deadline = Instant::now() + DEADLINE;
    let mut is_asked_to_stop = !case.goes_on;
    let ended = loop {
        if let Some(status) = program.try_wait().expect("a child") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            break None;
        }
        if !is_asked_to_stop && untold(&said()).is_none() {
            Command::new("sh").args(["-c", &format!("kill {}", program.id())]).status().expect("a shell");
            is_asked_to_stop = true;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    program.kill().ok();
    program.wait().expect("a child");
    let said = said();
    assert_eq!(said.lines().find(|line| line.contains(SECRET)), None, "{name}");
    let last = said.lines().rev().take(5).collect::<Vec<_>>();
    assert_eq!(untold(&said), None, "{name} told nothing of this, and at last: {last:#?}");
    assert_eq!(ended.map(|status| status.code()), Some(Some(i32::from(!case.goes_on))), "{name}: {last:#?}");
}

fn configuration([kafka, redis, mongodb]: Ports) -> String {
    format!(
        r#"
[kafka]
brokers = "127.0.0.1:{kafka}"
[kafka.properties]
"debug" = "all"
"security.protocol" = "sasl_plaintext"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "ada"
"sasl.password" = "kafka-{SECRET}"
[http]
listen = "127.0.0.1:0"
[transforms]
cache_dir = ""
[sinks.redis]
kind = "redis"
url = "redis://ada:redis-{SECRET}%2F@127.0.0.1:{redis}"
write_timeout = "1s"
[sinks.store]
kind = "mongodb"
uri = "mongodb://ada:mongodb-{SECRET}%2F@127.0.0.1:{mongodb}/?authMechanism=PLAIN&directConnection=true&serverSelectionTimeoutMS=500"
database = "shop"
write_timeout = "1s"
[[routes]]
name = "orders"
topic = "shop.orders"
table = "shop.orders"
format = "json"
[routes.columns]
id = "int not null"
line = "varchar(9) not null"
note = "varchar(9)"
v = "int not null"
[routes.transform]
module = "guest.wasm"
config = {{ salt = "${{file:salt}}" }}
[routes.targets.r]
sink = "redis"
prefix = "orders"
[routes.targets.m]
sink = "store"
collection = "orders"
"#
    )
}

/// A server that does this with each connection, for as long as the test lives.
fn server(converse: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(converse));
    port
}

fn hangs_up() -> u16 {
    server(drop)
}

/// Refuses every command, and repeats its arguments, as a Redis does that does not know the command.
fn redis_that_repeats() -> u16 {
    server(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let sent = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let arguments: Vec<&str> = sent.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
            let refusal = format!("-ERR unknown command 'AUTH', with args beginning with: {}\r\n", arguments.join(" "));
            let commands = sent.lines().filter(|line| line.starts_with('*')).count();
            if stream.write_all(refusal.repeat(commands).as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Takes no log-in, and repeats what it was logged in with: by this mechanism, the password.
fn mongodb_that_repeats() -> u16 {
    serve(|command| {
        let payload = command.get_binary_generic("payload").ok().filter(|_| command.contains_key("saslStart"))?;
        assert!(String::from_utf8_lossy(payload).contains(SECRET), "a log-in without its password");
        let message = format!("no log-in with {}", String::from_utf8_lossy(payload));
        doc! { "ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": message }.to_vec().ok()
    })
}
