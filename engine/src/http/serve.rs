//! Connections: how many, and how long each may say nothing. Without bounds a client that is gone, or means ill, keeps its socket until the process
//! has none left for Kafka and the stores.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long open requests may take when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Scrapers, probes and a few people; more wait until one of them is done.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// A connection ends that has sent no whole head of a request in this time, between two requests too.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Before the next look at a system that has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until `shutdown`.
pub(super) async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) {
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (graceful, mut connections) = (GracefulShutdown::new(), JoinSet::new());
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, stream) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            // Nothing is kept of those that have ended.
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone()));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP connection broke off");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::debug!("HTTP requests are left unanswered at the stop");
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_client(&error) => tracing::debug!(%error, "an HTTP client has gone before it was heard"),
            Err(error) => {
                tracing::warn!(%error, "HTTP connections can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionRefused | E::ConnectionAborted | E::ConnectionReset)
}
