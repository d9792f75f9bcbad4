//! An image from its registry, pulled by the engine itself: it alone knows its mirrors and its own proxy.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::docker::docker;

/// Until the first line, which comes with the registry's answer. Where nothing answers most engines give up sooner by themselves.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Between two lines after that: a layer says nothing while it is loaded, and a large one takes long on a slow line.
const LAYER_LIMIT: Duration = Duration::from_secs(1800);

/// What an engine says when it came to no answer of the registry. Anything else, a missing tag or too many pulls, is said of one image.
const NO_ANSWER: [&str; 4] = ["dial tcp", "awaiting headers", "waiting for connection", "TLS handshake timeout"];

/// What came of a pull; the text is the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// The image is here.
    Here,
    /// It can't be had; another one may.
    Refused(String),
    /// No image can be had: the registry can't be reached.
    Unreachable(String),
}

/// Pulls an image.
pub(crate) fn pull(image: &str) -> Pulled {
    attempt(image).unwrap_or_else(|error| Pulled::Refused(format!("{error:#}")))
}

fn attempt(image: &str) -> Result<Pulled> {
    let (reader, writer) = std::io::pipe().context("a pipe for docker pull")?;
    let mut command = docker();
    command.args(["pull", image]).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("start docker")?;
    // It holds the pipe's other end, which would never be closed.
    drop(command);
    let (send, lines) = sync_channel(1);
    std::thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut said: Option<String> = None;
    loop {
        let limit = if said.is_none() { ANSWER_LIMIT } else { LAYER_LIMIT };
        match lines.recv_timeout(limit) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => said = Some(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                let reason = format!("docker pull said nothing for {} s", limit.as_secs());
                return Ok(if said.is_none() { Pulled::Unreachable(reason) } else { Pulled::Refused(reason) });
            }
        }
    }
    Ok(if child.wait()?.success() { Pulled::Here } else { failed(said.unwrap_or_default()) })
}

fn failed(reason: String) -> Pulled {
    if NO_ANSWER.iter().any(|words| reason.contains(words)) { Pulled::Unreachable(reason) } else { Pulled::Refused(reason) }
}

#[cfg(test)]
mod tests {
    use super::{Pulled, failed};

    #[test]
    fn one_image_that_is_refused_says_nothing_of_the_others() {
        let registry = "Error response from daemon: Get \"https://registry.example/v2/\"";
        let cases = [
            (format!("{registry}: dial tcp: lookup registry.example on 192.0.2.53:53: no such host"), true),
            (format!("{registry}: dial tcp 192.0.2.1:443: connect: connection refused"), true),
            (format!("{registry}: dial tcp 192.0.2.1:443: i/o timeout"), true),
            (
                format!(
                    "{registry}: net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"
                ),
                true,
            ),
            (format!("{registry}: net/http: TLS handshake timeout"), true),
            ("Error response from daemon: manifest for mongo:0 not found: manifest unknown: manifest unknown".to_owned(), false),
            ("toomanyrequests: You have reached your unauthenticated pull rate limit.".to_owned(), false),
            (format!("{registry}: unexpected status code 503 Service Unavailable"), false),
        ];
        for (reason, unreachable) in cases {
            let expected = if unreachable { Pulled::Unreachable(reason.clone()) } else { Pulled::Refused(reason.clone()) };
            assert_eq!(failed(reason), expected);
        }
    }
}
