//! What changes a worker over HTTP. Every request must know the configured token; without one in the configuration none is served.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use super::{JSON, NO_STORE};
use crate::config::Token;
use crate::plan::compare::Difference;
use crate::rollout::{Change, Done, Refusal, Requests, Shown, Tried};

/// A request names a module, it does not hold one.
const MAX_BODY_BYTES: usize = 16 << 10;

/// Who may change something, and who carries it out.
#[derive(Clone, Debug)]
pub struct Control {
    /// `None`: nobody may.
    pub token: Option<Token>,
    /// The worker.
    pub requests: Requests,
}

/// The routes that change something.
pub(super) fn routes(control: Control) -> Router {
    let control = Arc::new(control);
    Router::new()
        .route("/routes/{route}/module", post(swap))
        .route("/routes/{route}/rollback", post(rollback))
        .route("/routes/{route}/promote", post(promote))
        .route("/routes/{route}/shadow", get(show).post(shadow).delete(unshadow))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&control), guard))
        .with_state(control)
}

/// Nothing of a request is looked at before its token.
async fn guard(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let Some(token) = &control.token else {
        return refuse(StatusCode::FORBIDDEN, "the configuration has no http.token: nothing can be changed over HTTP");
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(BEARER.len()));
    match given {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(BEARER) && token.is(secret) => next.run(request).await,
        _ => {
            let refused = refuse(StatusCode::UNAUTHORIZED, "send the configured http.token: Authorization: Bearer <token>");
            ([(header::WWW_AUTHENTICATE, "Bearer")], refused).into_response()
        }
    }
}

const BEARER: &[u8] = b"Bearer ";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Swap {
    module: String,
    sha256: Option<String>,
}

async fn swap(State(control): State<Arc<Control>>, Path(route): Path<String>, body: Bytes) -> Response {
    match serde_json::from_slice::<Swap>(&body) {
        Ok(Swap { module, sha256 }) => change(&control, &route, Change::Swap { module, sha256 }).await,
        Err(error) => refuse(
            StatusCode::BAD_REQUEST,
            &format!("the body can't be read: {error}; write {{\"module\": \"transforms/orders.wasm\"}}, and \"sha256\" to be sure"),
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shadow {
    module: String,
    sha256: Option<String>,
    #[serde(default)]
    canary_percent: u32,
}

async fn shadow(State(control): State<Arc<Control>>, Path(route): Path<String>, body: Bytes) -> Response {
    match serde_json::from_slice::<Shadow>(&body) {
        Ok(Shadow { canary_percent: 101.., .. }) => refuse(StatusCode::BAD_REQUEST, "canary_percent is above 100"),
        Ok(Shadow { module, sha256, canary_percent }) => change(&control, &route, Change::Shadow { module, sha256, canary_percent }).await,
        Err(error) => refuse(
            StatusCode::BAD_REQUEST,
            &format!("the body can't be read: {error}; write {{\"module\": \"transforms/orders-2.wasm\", \"canary_percent\": 0}}"),
        ),
    }
}

async fn unshadow(State(control): State<Arc<Control>>, Path(route): Path<String>) -> Response {
    change(&control, &route, Change::Unshadow).await
}

/// Needs the token as well: it names the keys of rows.
async fn show(State(control): State<Arc<Control>>, Path(route): Path<String>) -> Response {
    match control.requests.show(&route).await {
        Ok(Shown { digest, canary_percent, comparison }) => {
            let difference = |(partition, found): &(i32, Difference)| json!({ "key": found.key, "partition": partition, "offset": found.offset, "differs": found.names });
            let shown = json!({
                "sha256": digest,
                "canary_percent": canary_percent,
                "equal": comparison.equal,
                "different": comparison.different,
                "failed": comparison.failed,
                "newest": comparison.differences.iter().map(difference).collect::<Vec<_>>(),
            });
            ([JSON, NO_STORE], shown.to_string()).into_response()
        }
        Err(refusal) => refuse(status(&refusal), &refusal.to_string()),
    }
}

async fn promote(State(control): State<Arc<Control>>, Path(route): Path<String>) -> Response {
    change(&control, &route, Change::Promote).await
}

async fn rollback(State(control): State<Arc<Control>>, Path(route): Path<String>) -> Response {
    change(&control, &route, Change::Rollback).await
}

async fn change(control: &Control, route: &str, change: Change) -> Response {
    match control.requests.change(route, change).await {
        Ok(done) => ([JSON, NO_STORE], told(&done).to_string()).into_response(),
        Err(refusal) => refuse(status(&refusal), &refusal.to_string()),
    }
}

fn told(done: &Done) -> serde_json::Value {
    let Done { name, version, digest, before, tried, partitions, late, lifted, halted, left_out } = done;
    json!({
        "module": { "name": name, "version": version, "sha256": digest },
        "before": before,
        "tried_events": tried.events(),
        "trial": match tried {
            Tried::Events(_) => "tried",
            Tried::RanBefore => "ran before",
            Tried::RanBeside => "ran beside",
            Tried::Runs => "runs already",
        },
        "partitions": partitions,
        "late_partitions": late,
        "lifted": lifted,
        "halted": halted,
        "left_out": left_out,
    })
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoRoute { .. } => StatusCode::NOT_FOUND,
        Refusal::Pinned { .. } | Refusal::OtherKey { .. } | Refusal::NoneBefore { .. } | Refusal::NoSecond { .. } => StatusCode::CONFLICT,
        Refusal::Malformed { .. } => StatusCode::BAD_REQUEST,
        Refusal::Setup(_) | Refusal::Trial { .. } | Refusal::AllRejected { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Defect => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, [JSON, NO_STORE], json!({ "error": message }).to_string()).into_response()
}
