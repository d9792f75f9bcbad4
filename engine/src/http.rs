//! What an operator and a scheduler see: metrics, liveness, readiness, a status page. Only `control` changes anything.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

mod control;
pub mod health;
mod serve;
mod status;

pub use control::Control;
pub use health::{Coming, Health, LaneHealth, Phase, ShownModule, SinkWait};

use crate::metrics::Metrics;

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be had.
    #[error("http.listen = \"{listen}\" can't be listened on: {source}; choose another address, or stop the process that has it")]
    Listen {
        /// As configured.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// Takes the address, so that one in use is known before anything else starts.
///
/// # Errors
/// [`Error::Listen`].
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(listen).await.map_err(|source| Error::Listen { listen, source })
}

/// Serves until `shutdown`, without anything that changes the worker.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>, shutdown: impl Future<Output = ()>) {
    serve::serve(listener, shown(metrics, health), shutdown).await;
}

/// The same, and what changes the worker.
pub async fn serve_with_control(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    control: Control,
    shutdown: impl Future<Output = ()>,
) {
    serve::serve(listener, shown(metrics, health).merge(control::routes(control)), shutdown).await;
}

fn shown(metrics: Arc<Metrics>, health: Arc<Health>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status", get(status))
        .route("/metrics", get(metrics_text))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .with_state(Shared { metrics, health })
}

const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");
const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        NO_STORE,
    ];
    (headers, include_str!("http/status.html"))
}

async fn status(State(shared): State<Shared>) -> impl IntoResponse {
    ([JSON, NO_STORE], status::json(&shared.metrics, &shared.health).to_string())
}

async fn metrics_text(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), NO_STORE], shared.metrics.render())
}

async fn live() -> impl IntoResponse {
    ([NO_STORE], "live\n")
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    let reasons = shared.health.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
    (status, [JSON, NO_STORE], body.to_string())
}

#[cfg(test)]
mod tests;
