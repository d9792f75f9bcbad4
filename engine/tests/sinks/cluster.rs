//! Redis Cluster where it is split, shrinks or moves its slots: nodes that answer what the test lets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use streamsync::config::{Place, RedisForm, TargetSettings};
use streamsync::fence::{Fence, Generation};
use streamsync::plan::{Bytes, FencedWrite, SinkWrites};
use streamsync::sink::redis::RedisSink;
use streamsync::sink::{Error, Sink as _, WriteOutcome};

use crate::redis_store::settings;

/// What a node answers to a command, in Redis' protocol.
type Answer = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

const LAST: u16 = 16383;
const APPLIED: &str = ":1\r\n";
const DOWN: &str = "-CLUSTERDOWN The cluster is down\r\n";
pub const INFO: &str = "redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:1\r\nmaxmemory_policy:noeviction\r\nrun_id:a\r\n";

/// A primary that the others can't reach keeps its clients, and refuses them: they go to the one that was elected in its place.
pub async fn a_primary_cut_off() {
    let [(cut, cut_port), (rest, rest_port), (heir, heir_port)] = [listen(), listen(), listen()];
    let (is_cut, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let of = |behind: bool, port: u16| {
        let (is_cut, taken) = (is_cut.clone(), taken.clone());
        move |command: &[String]| {
            let split = is_cut.load(Ordering::SeqCst);
            let first = if split && !behind { heir_port } else { cut_port };
            match said(command).as_str() {
                "CLUSTER SLOTS" => map(&[(0, 8191, first), (8192, LAST, rest_port)]),
                "CLUSTER INFO" if behind && split => bulk("cluster_state:fail\r\ncluster_current_epoch:1\r\n"),
                "CLUSTER INFO" => bulk("cluster_state:ok\r\ncluster_current_epoch:2\r\n"),
                "EVALSHA" if behind && split => DOWN.to_owned(),
                "EVALSHA" => {
                    taken.fetch_add(usize::from(port == heir_port), Ordering::SeqCst);
                    APPLIED.to_owned()
                }
                _ => ok(),
            }
        }
    };
    serve(cut, of(true, cut_port));
    serve(rest, of(false, rest_port));
    serve(heir, of(false, heir_port));
    // The only seed is the one that will be cut off.
    let sink = sink(&[cut_port]);
    assert_eq!(write(&sink).await, (64, 0));
    is_cut.store(true, Ordering::SeqCst);
    let (applied, away) = write(&sink).await;
    assert!(applied > 0 && away > 0, "{applied} {away}");
    assert_eq!(write(&sink).await, (64, 0), "it still writes to the one that was cut off");
    assert_eq!(taken.load(Ordering::SeqCst), away);
}

/// Servers that have left are part of another cluster later: what they say is of no account.
pub async fn addresses_used_again() {
    let (home, home_port) = listen();
    let (heir, heir_port) = listen();
    let gone: Vec<_> = (0..8).map(|_| listen()).collect();
    let ports: Vec<u16> = gone.iter().map(|(_, port)| *port).collect();
    let (has_left, is_silent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let strangers = Arc::new(AtomicUsize::new(0));
    for (listener, port) in gone {
        let (has_left, strangers) = (has_left.clone(), strangers.clone());
        serve(listener, move |command| match said(command).as_str() {
            "CLUSTER SLOTS" => map(&[(0, LAST, port)]),
            "CLUSTER INFO" => bulk("cluster_state:ok\r\ncluster_current_epoch:99\r\n"),
            "INFO" => bulk(INFO),
            "EVALSHA" => {
                strangers.fetch_add(usize::from(has_left.load(Ordering::SeqCst)), Ordering::SeqCst);
                APPLIED.to_owned()
            }
            _ => ok(),
        });
    }
    for listener in [home, heir] {
        let (has_left, is_silent, ports) = (has_left.clone(), is_silent.clone(), ports.clone());
        let is_home = listener.local_addr().expect("a port").port() == home_port;
        serve(listener, move |command| match said(command).as_str() {
            "CLUSTER SLOTS" if is_home && is_silent.load(Ordering::SeqCst) => "-LOADING the dataset\r\n".to_owned(),
            "CLUSTER SLOTS" if has_left.load(Ordering::SeqCst) => map(&[(0, LAST, heir_port)]),
            "CLUSTER SLOTS" => {
                let ranges: Vec<_> = (0..8).zip(&ports).map(|(part, port)| (part * 2048, part * 2048 + 2047, *port)).collect();
                map(&ranges)
            }
            "CLUSTER INFO" => bulk("cluster_state:ok\r\ncluster_current_epoch:2\r\n"),
            "INFO" => bulk(INFO),
            "EVALSHA" => APPLIED.to_owned(),
            _ => ok(),
        });
    }
    let sink = sink(&[home_port]);
    assert_eq!(write(&sink).await, (64, 0));
    has_left.store(true, Ordering::SeqCst);
    for silent in [false, true] {
        is_silent.store(silent, Ordering::SeqCst);
        sink.check().await.expect("servers that are fit");
        assert_eq!(write(&sink).await, (64, 0));
        assert_eq!(strangers.load(Ordering::SeqCst), 0, "written to another cluster");
    }
}

/// A scan of all shards that slots may have moved past is not done.
pub async fn slots_move_past_a_scan() {
    let [(first, first_port), (second, second_port)] = [listen(), listen()];
    let flag = || Arc::new(AtomicBool::new(false));
    let (moves, has_moved, is_open) = (flag(), flag(), flag());
    for listener in [first, second] {
        let (moves, has_moved, is_open) = (moves.clone(), has_moved.clone(), is_open.clone());
        let is_second = listener.local_addr().expect("a port").port() == second_port;
        serve(listener, move |command| match said(command).as_str() {
            "CLUSTER SLOTS" => {
                let last = if has_moved.load(Ordering::SeqCst) { 9000 } else { 8191 };
                map(&[(0, last, first_port), (last + 1, LAST, second_port)])
            }
            "CLUSTER INFO" => bulk("cluster_state:ok\r\ncluster_current_epoch:2\r\n"),
            "CLUSTER NODES" => {
                let open = if is_second && is_open.load(Ordering::SeqCst) { " [9001->-a]" } else { "" };
                bulk(&format!("b 127.0.0.1:1@2 myself,master - 0 0 1 connected 1-2{open}\nc 127.0.0.1:3@4 master - 0 0 1 connected 3-4\n"))
            }
            // A slot goes over when the first shard is done, and no command meets a redirection.
            "SCAN" => {
                if is_second && moves.load(Ordering::SeqCst) {
                    has_moved.store(true, Ordering::SeqCst);
                }
                "*2\r\n$1\r\n0\r\n*0\r\n".to_owned()
            }
            _ => ok(),
        });
    }
    let (target, generation) = (target(), Generation::new(2).expect("a generation"));
    let fence = Fence::new(generation, 9).expect("a fence");
    for sweeps in [false, true] {
        moves.store(true, Ordering::SeqCst);
        has_moved.store(false, Ordering::SeqCst);
        let sink = sink(&[first_port]);
        for (open, expected) in [(false, true), (true, true), (false, false)] {
            is_open.store(open, Ordering::SeqCst);
            let result = match sweeps {
                true => sink.sweep_generation(&target, generation).await.map(|_| ()),
                false => sink.clear(&target, fence, 0).await,
            };
            let is_away = matches!(result, Err(Error::Away { .. }));
            assert_eq!(is_away, expected, "sweeps: {sweeps}, a slot is on its way: {open}: {result:?}");
        }
    }
}

fn sink(seeds: &[u16]) -> RedisSink {
    let urls: Vec<String> = seeds.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect();
    let (settings, redis) = settings(&urls.iter().map(String::as_str).collect::<Vec<_>>(), true);
    RedisSink::new(&settings, &redis, Vec::new()).expect("URLs that can be read")
}

fn target() -> Arc<TargetSettings> {
    let place = Place::Redis { prefix: "orders".into(), form: RedisForm::String };
    Arc::new(TargetSettings { name: "orders".into(), sink: 0, place, explicit_keys: false, ttl_seconds: None })
}

/// Deletes 64 keys of all shards: how many are applied, and for how many the sink is away.
pub async fn write(sink: &RedisSink) -> (usize, usize) {
    let mut writes = SinkWrites { module: "0000000000000000".into(), targets: vec![target()], ..SinkWrites::default() };
    let fence = Fence::new(Generation::FIRST, 1).expect("a fence");
    for number in 0..64 {
        let key = format!("orders:{number}");
        let bytes = Bytes { start: writes.bytes.len(), len: key.len() };
        writes.bytes.extend_from_slice(key.as_bytes());
        writes.writes.push(FencedWrite { target: 0, record: 0, fence, key: bytes, document: None, ttl_seconds: 0, content: 0 });
    }
    let results = sink.write(&writes).await;
    let applied = results.iter().filter(|result| matches!(result, Ok(WriteOutcome::Applied))).count();
    let away = results.iter().filter(|result| matches!(result, Err(Error::Away { .. }))).count();
    assert_eq!(applied + away, 64, "{results:?}");
    (applied, away)
}

pub fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    (listener, port)
}

/// Answers as long as the test runs.
fn serve(listener: TcpListener, answer: impl Fn(&[String]) -> String + Send + Sync + 'static) {
    let answer: Answer = Arc::new(answer);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer_all(connection, &*answer));
        }
    });
}

/// Answers the commands of one connection until it ends.
pub fn answer_all(connection: impl Read + Write, answer: &dyn Fn(&[String]) -> String) {
    let mut connection = BufReader::new(connection);
    while let Some(command) = read_command(&mut connection) {
        if connection.get_mut().write_all(answer(&command).as_bytes()).and_then(|()| connection.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn read_command(connection: &mut impl BufRead) -> Option<Vec<String>> {
    let parts = read_number(connection, "*")?;
    (0..parts).map(|_| read_bulk(connection)).collect()
}

fn read_number(connection: &mut impl BufRead, mark: &str) -> Option<usize> {
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    line.trim().strip_prefix(mark)?.parse().ok()
}

fn read_bulk(connection: &mut impl BufRead) -> Option<String> {
    let length = read_number(connection, "$")?;
    let mut bytes = vec![0; length + 2];
    connection.read_exact(&mut bytes).ok()?;
    bytes.truncate(length);
    String::from_utf8(bytes).ok()
}

/// The command by its name, CLUSTER's with its second word.
fn said(command: &[String]) -> String {
    let words = if command[0] == "CLUSTER" { 2 } else { 1 };
    command[..words].join(" ")
}

pub fn ok() -> String {
    "+OK\r\n".to_owned()
}

pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// CLUSTER SLOTS: ranges of slots, each with its primary.
fn map(ranges: &[(u16, u16, u16)]) -> String {
    let mut out = format!("*{}\r\n", ranges.len());
    for (first, last, port) in ranges {
        out += &format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n{}:{port}\r\n$1\r\na\r\n", bulk("127.0.0.1"));
    }
    out
}
