#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::health::Phase;
use super::*;
use crate::source::TopicPartition;

struct Server {
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinSet<()>,
}

async fn start() -> Server {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (health, metrics) = (Health::new(Duration::from_secs(60)), Arc::new(Metrics::new().unwrap()));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async { stopped.await.unwrap_or_default() };
    let mut task = tokio::task::JoinSet::new();
    task.spawn(serve(listener, Arc::clone(&metrics), Arc::clone(&health), shutdown));
    Server { address, health, metrics, stop, task }
}

/// Code and body of the answer to a request without a body.
async fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    answered(address, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

/// Code and body of the answer to a request as it stands.
async fn answered(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_has_no_place_for_long() {
    let server = start().await;
    let began = tokio::time::Instant::now();
    let mut silent = Vec::new();
    for number in 0..serve::MAX_CONNECTIONS {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        // One says half of what it wants, as one that is gone would.
        let half = if number == 0 { "GET /metrics HTTP/1.1\r\nhost:" } else { "" };
        stream.write_all(half.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    assert_eq!(request(server.address, "GET", "/live").await.0, 200);
    assert!(began.elapsed() >= serve::HEAD_TIMEOUT, "it has waited for a place, {:?}", began.elapsed());
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0, "closed");
    }
}

#[tokio::test]
async fn every_endpoint_answers() {
    let server = start().await;
    let (address, health) = (server.address, &server.health);
    assert_eq!(request(address, "GET", "/live").await, (200, "live\n".to_owned()));
    assert_eq!(request(address, "GET", "/ready").await.0, 503);

    health.phase(Phase::Running);
    health.route("orders", "shop.orders", "ecommerce.orders");
    health.sink_found("redis", &server.metrics.sink("redis").up);
    let lane = health.lane_started("orders", &TopicPartition { topic: "shop.orders".into(), partition: 1 });
    lane.settled(42);
    server.metrics.route("orders").applied.inc_by(7);
    assert_eq!(request(address, "GET", "/ready").await, (200, r#"{"ready":true,"reasons":[]}"#.to_owned()));

    let (code, body) = request(address, "GET", "/metrics").await;
    assert!(code == 200 && body.contains(r#"streamsync_records_total{outcome="applied",route="orders"} 7"#), "{body}");
    let status: serde_json::Value = serde_json::from_str(&request(address, "GET", "/status").await.1).unwrap();
    assert_eq!(status.pointer("/partitions/0/next_offset"), Some(&42.into()));
    assert_eq!(status.pointer("/routes/0/applied"), Some(&7.into()));
    assert_eq!(status.pointer("/sinks/0/up"), Some(&true.into()));
    assert_eq!(status.pointer("/routes/0/unproven"), Some(&serde_json::Value::Null));
    health.route_unproven("orders", "a second snapshot", &server.metrics.route("orders").unproven);
    let status: serde_json::Value = serde_json::from_str(&request(address, "GET", "/status").await.1).unwrap();
    assert_eq!(status.pointer("/routes/0/unproven"), Some(&"a second snapshot".into()));
    assert_eq!(request(address, "GET", "/ready").await.0, 200, "what is unproven still syncs");
    let coming = health.partition_comes("orders", &TopicPartition { topic: "shop.orders".into(), partition: 2 }, None);
    coming.waits_for("sink redis: refused");
    let status: serde_json::Value = serde_json::from_str(&request(address, "GET", "/status").await.1).unwrap();
    assert_eq!(status.pointer("/partitions/0/coming"), Some(&serde_json::Value::Null));
    assert_eq!(status.pointer("/partitions/1/coming"), Some(&"it waits for sink redis: refused".into()));
    let (code, page) = request(address, "GET", "/").await;
    assert!(code == 200 && page.starts_with("<!doctype html>"));

    health.route_halted("orders", "why");
    let (code, body) = request(address, "GET", "/ready").await;
    assert_eq!((code, body.as_str()), (503, r#"{"ready":false,"reasons":["route orders is halted: why"]}"#));
    assert_eq!(request(address, "POST", "/ready").await.0, 405);
    assert_eq!(request(address, "GET", "/nowhere").await.0, 404);

    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server.task.join_all()).await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_silent_client() {
    let server = start().await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    silent.write_all(b"GET /live HTTP/1.1\r\n").await.unwrap();
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server.task.join_all()).await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_names_the_setting() {
    let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = first.local_addr().unwrap();
    let message = bind(address).await.unwrap_err().to_string();
    assert!(message.contains(&format!("http.listen = \"{address}\"")) && message.contains("choose another address"), "{message}");
}

/// A worker's desk that answers as told, once; the answer to the request with these headers.
async fn asked(token: Option<&str>, path: &str, headers: &str, body: &str) -> (u16, String) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, desk) = crate::rollout::desk();
    // Nobody serves the desk: whoever comes so far is told that the worker stops.
    drop(desk);
    let control = Control { token: token.and_then(|token| crate::config::Token::new(token.to_owned())), requests };
    let (health, metrics) = (Health::new(Duration::from_secs(60)), Arc::new(Metrics::new().unwrap()));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(serve_with_control(listener, metrics, health, control, std::future::pending()));
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    answered(address, &request).await
}

#[tokio::test]
async fn nothing_changes_without_the_token() {
    let token = Some("0123456789abcdef");
    let right = "authorization: Bearer 0123456789abcdef\r\n";
    let swap = ("/routes/orders/module", r#"{"module":"x.wasm"}"#);
    let cases = [
        (None, swap, right, 403, "no http.token"),
        (token, swap, "", 401, "Authorization: Bearer"),
        (token, swap, "authorization: Bearer 0123456789abcdeF\r\n", 401, "Authorization: Bearer"),
        (token, swap, "authorization: Bearer 0123456789abcdef0\r\n", 401, "Authorization: Bearer"),
        (token, swap, "authorization: Basic 0123456789abcdef\r\n", 401, "Authorization: Bearer"),
        (token, ("/routes/orders/rollback", ""), "", 401, "Authorization: Bearer"),
        (token, ("/routes/orders/promote", ""), "", 401, "Authorization: Bearer"),
        (token, ("/routes/orders/shadow", swap.1), "", 401, "Authorization: Bearer"),
        (token, ("/routes/orders/shadow", r#"{"module":"x","canary_percent":101}"#), right, 400, "above 100"),
        (token, ("/routes/orders/shadow", swap.1), right, 503, "starting or stopping"),
        (token, ("/routes/orders/module", "\0asm"), right, 400, "the body can't be read"),
        (token, ("/routes/orders/module", r#"{"modul":"x"}"#), right, 400, "unknown field"),
        (token, swap, right, 503, "starting or stopping"),
        (token, swap, "authorization: bearer 0123456789abcdef\r\n", 503, "starting or stopping"),
        (token, ("/routes/orders/rollback", ""), right, 503, "starting or stopping"),
    ];
    for (token, (path, body), headers, code, words) in cases {
        let (found, text) = asked(token, path, headers, body).await;
        assert_eq!(found, code, "{path} {headers:?}: {text}");
        assert!(text.contains(words), "{path} {headers:?}: {text}");
        assert!(!text.contains("0123456789abcde"), "a secret is shown: {text}");
    }
    assert_eq!(asked(token, swap.0, right, &"x".repeat(20 << 10)).await.0, 413);
    let server = start().await;
    assert_eq!(request(server.address, "GET", "/routes/orders/shadow").await.0, 404);
}
