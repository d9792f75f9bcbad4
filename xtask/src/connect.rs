//! Kafka Connect's REST interface, as far as the stack needs it: one connector registered, its state asked.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const EXCHANGE_LIMIT: Duration = Duration::from_secs(30);

/// Registers a connector, or replaces its configuration, as soon as the worker answers.
pub(crate) fn register(address: &str, name: &str, config: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match exchange(address, "PUT", &format!("/connectors/{name}/config"), config) {
            Ok((200 | 201, _)) => return Ok(()),
            // 409 while the worker's group is rebalancing, 404 and 5xx while it starts.
            Ok((status, body)) if Instant::now() >= deadline => {
                bail!("Kafka Connect at {address} refused connector {name}: {status} {body}")
            }
            Ok((400, body)) => bail!("Kafka Connect refuses the configuration of connector {name}: {body}"),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("Kafka Connect at {address} does not answer within {} s", limit.as_secs()));
            }
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Waits until the connector's task runs.
pub(crate) fn wait_running(address: &str, name: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let (_, body) = exchange(address, "GET", &format!("/connectors/{name}/status"), "")?;
        let status: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        match status.pointer("/tasks/0/state").and_then(serde_json::Value::as_str) {
            Some("RUNNING") => return Ok(()),
            Some("FAILED") => bail!(
                "connector {name} failed: {}",
                status.pointer("/tasks/0/trace").and_then(serde_json::Value::as_str).unwrap_or_default()
            ),
            _ if Instant::now() >= deadline => bail!("connector {name} does not run after {} s: {body}", limit.as_secs()),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// One HTTP/1.0 request on a connection of its own.
fn exchange(address: &str, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(EXCHANGE_LIMIT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}
