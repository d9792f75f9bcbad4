//! `streamsync transform swap | shadow | promote | rollback`: asks a running worker over HTTP, as anyone could.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::run::environment;
use super::{ConfigArguments, Exit, say, say_error};
use crate::config::Settings;

/// A module of an interpreted language takes seconds to compile, and is tried afterwards.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Run another module on a route of a running worker.
    Swap(SwapArguments),
    /// Compare a second module with the route's own, or let it write a share of the keys; without MODULE: show how it fares.
    Shadow(ShadowArguments),
    /// Make the second module the route's own.
    Promote(RouteArguments),
    /// Go back to the module that ran before.
    Rollback(RouteArguments),
}

#[derive(Args, Clone, Debug)]
pub(super) struct SwapArguments {
    #[command(flatten)]
    route: RouteArguments,
    /// As routes[].transform.module has it: the worker reads it, relative to its configuration's directory.
    module: String,
    /// Refuse any other module than this one.
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ShadowArguments {
    #[command(flatten)]
    route: RouteArguments,
    /// As routes[].transform.shadow.module has it.
    module: Option<String>,
    /// Refuse any other module than this one.
    #[arg(long, value_name = "DIGEST", requires = "module")]
    sha256: Option<String>,
    /// The share of keys whose documents it writes.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, requires = "module", value_parser = clap::value_parser!(u32).range(0..=100))]
    canary: u32,
    /// Take the second module away.
    #[arg(long, conflicts_with = "module")]
    off: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct RouteArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The worker's HTTP server, where it is not the configuration's http.listen.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The route's name.
    route: String,
}

/// A request to a worker.
struct Ask {
    method: reqwest::Method,
    path: &'static str,
    body: Option<Value>,
}

/// Asks, and says what came of it.
pub(super) async fn rollout(command: RolloutCommand) -> Exit {
    let post = |path, body| Ask { method: reqwest::Method::POST, path, body };
    let (route, ask) = match command {
        RolloutCommand::Swap(SwapArguments { route, module, sha256 }) => {
            (route, post("module", Some(json!({ "module": module, "sha256": sha256 }))))
        }
        RolloutCommand::Shadow(ShadowArguments { route, off: true, .. }) => {
            (route, Ask { method: reqwest::Method::DELETE, path: "shadow", body: None })
        }
        RolloutCommand::Shadow(ShadowArguments { route, module: Some(module), sha256, canary, .. }) => {
            (route, post("shadow", Some(json!({ "module": module, "sha256": sha256, "canary_percent": canary }))))
        }
        RolloutCommand::Shadow(ShadowArguments { route, module: None, .. }) => {
            (route, Ask { method: reqwest::Method::GET, path: "shadow", body: None })
        }
        RolloutCommand::Promote(route) => (route, post("promote", None)),
        RolloutCommand::Rollback(route) => (route, post("rollback", None)),
    };
    let settings = match Settings::load(Some(&route.config.config), environment()) {
        Ok(settings) => settings,
        Err(faults) => {
            faults.iter().for_each(|fault| say_error(&fault.to_string()));
            return Exit::Usage;
        }
    };
    let Some(token) = &settings.http.token else {
        say_error("the configuration has no http.token: without it a worker changes nothing over HTTP");
        return Exit::Usage;
    };
    let base = route.url.unwrap_or_else(|| format!("http://{}", settings.http.listen));
    let url = format!("{}/routes/{}/{}", base.trim_end_matches('/'), route.route, ask.path);
    // What a second module is compared with is no news: the second one is shown.
    let shown = (ask.method == reqwest::Method::POST && ask.path == "shadow").then_some(Ask {
        method: reqwest::Method::GET,
        path: "shadow",
        body: None,
    });
    let mut answer = send(ask, &url, token.secret(), PATIENCE).await;
    if let (Ok(changed), Some(shown)) = (&mut answer, shown) {
        let left_out = changed.get_mut("left_out").map(Value::take);
        answer = send(shown, &url, token.secret(), PATIENCE).await;
        if let (Ok(Value::Object(shown)), Some(left_out)) = (&mut answer, left_out) {
            shown.insert("left_out".to_owned(), left_out);
        }
    }
    match answer {
        Ok(answer) => {
            told(&answer).iter().for_each(|line| say(line));
            Exit::Done
        }
        Err(message) => {
            say_error(&message);
            Exit::No
        }
    }
}

async fn send(ask: Ask, url: &str, token: &str, patience: Duration) -> Result<Value, String> {
    let away = |error: reqwest::Error| match error.is_timeout() && !error.is_connect() {
        true => format!(
            "{url} has not answered within {} s: the worker was reached, and may still carry this out; its status page and its log say what runs",
            patience.as_secs()
        ),
        false => format!("{url}: {}; is the worker running, and is --url its http.listen?", chain(&error)),
    };
    let client = reqwest::Client::builder().timeout(patience).no_proxy().build().map_err(away)?;
    let mut request = client.request(ask.method, url).bearer_auth(token);
    if let Some(body) = &ask.body {
        request = request.json(body);
    }
    let answer = request.send().await.map_err(away)?;
    let status = answer.status();
    let body: Value = answer.json().await.map_err(|_| format!("{url} answered {status}, which no worker of this version does"))?;
    match body.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None if status.is_success() => Ok(body),
        None => Err(format!("{url} answered {status}")),
    }
}

/// The library's own text leaves the reason to its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The answer for a person.
fn told(answer: &Value) -> Vec<String> {
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    if answer.get("module").is_some() {
        let mut lines = vec![format!("{} {} sha256 {}", text("/module/name"), text("/module/version"), text("/module/sha256"))];
        lines.push(format!("before sha256 {}", text("/before")));
        let proof = match text("/trial") {
            "ran before" => "not tried, because it ran before".to_owned(),
            "ran beside" => "not tried, because it ran beside the one before".to_owned(),
            "runs already" => "ran already".to_owned(),
            _ => format!("tried on {} recent events", number("/tried_events")),
        };
        lines.push(format!("{proof}; runs on {} partitions", number("/partitions")));
        if number("/late_partitions") > 0 {
            lines.push(format!("{} of them adopt it only after the batch that they are at", number("/late_partitions")));
        }
        if answer.get("lifted").and_then(Value::as_bool).unwrap_or_default() {
            lines.push("the route was halted by the module before: its partitions begin again".to_owned());
        }
        if !text("/halted").is_empty() {
            lines.push(format!("the route stays halted: {}", text("/halted")));
        }
        lines.extend(left_out(answer));
        return lines;
    }
    let mut lines = vec![format!("second module sha256 {}, canary {} %", text("/sha256"), number("/canary_percent"))];
    lines.push(format!("equal {}, different {}, failed {}", number("/equal"), number("/different"), number("/failed")));
    lines.extend(left_out(answer));
    for found in answer.get("newest").and_then(Value::as_array).into_iter().flatten() {
        let names: Vec<&str> = found.get("differs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let of =
            |name: &str| found.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default();
        lines.push(format!("  key {} (partition {} offset {}): {}", of("key"), of("partition"), of("offset"), names.join(", ")));
    }
    lines
}

/// Targets that the module does not write, which may be a mistake.
fn left_out(answer: &Value) -> Option<String> {
    let targets: Vec<&str> = answer.get("left_out")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let list = targets.join(", ");
    (!targets.is_empty()).then(|| format!("the module leaves out {list}: rows that change have no document there any more"))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_to_a_person() {
        let changed = |trial: &str, lifted: bool, halted: Option<&str>| {
            told(&json!({ "module": { "name": "orders", "version": "2", "sha256": "bb" }, "before": "aa", "tried_events": 5,
                "trial": trial, "partitions": 3, "late_partitions": 1, "lifted": lifted, "halted": halted }))
        };
        let expected = |proof: &str, halt: Option<&str>| {
            let lines = ["orders 2 sha256 bb", "before sha256 aa", proof, "1 of them adopt it only after the batch that they are at"];
            lines.into_iter().chain(halt).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(changed("tried", false, None), expected("tried on 5 recent events; runs on 3 partitions", None));
        assert_eq!(
            changed("ran before", true, None),
            expected(
                "not tried, because it ran before; runs on 3 partitions",
                Some("the route was halted by the module before: its partitions begin again")
            )
        );
        assert_eq!(
            changed("ran beside", false, Some("mend MySQL")),
            expected("not tried, because it ran beside the one before; runs on 3 partitions", Some("the route stays halted: mend MySQL"))
        );
        let shown = json!({ "sha256": "cc", "canary_percent": 5, "equal": 7, "different": 1, "failed": 0, "left_out": ["mongodb", "search"],
            "newest": [{ "key": "42", "partition": 1, "offset": 9, "differs": ["redis.total", "mongodb.total"] }] });
        let expected = [
            "second module sha256 cc, canary 5 %",
            "equal 7, different 1, failed 0",
            "the module leaves out mongodb, search: rows that change have no document there any more",
            "  key 42 (partition 1 offset 9): redis.total, mongodb.total",
        ];
        assert_eq!(told(&shown), expected);
    }

    /// A worker that is still at it is not one that is away.
    #[tokio::test]
    async fn no_answer_in_time_is_not_taken_for_no_worker() {
        crate::machine::use_ring();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/routes/rows/module", silent.local_addr().expect("an address"));
        let ask = || Ask { method: reqwest::Method::POST, path: "module", body: None };
        let message = send(ask(), &url, "token", Duration::from_millis(200)).await.expect_err("no answer");
        assert!(message.contains("has not answered within") && message.contains("may still carry this out"), "{message}");
        drop(silent);
        let message = send(ask(), &url, "token", Duration::from_secs(5)).await.expect_err("nobody there");
        assert!(message.contains("is the worker running"), "{message}");
    }
}
