//! `streamsync run`: settings, metrics, HTTP and the engine, until a signal.

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{ConfigArguments, Exit};
use crate::config::Settings;
use crate::engine;
use crate::http::{self, Control, Health};
use crate::metrics::Metrics;
use crate::rollout::{self, Requests};

/// Variables whose name or value is no UTF-8 can't be settings.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs until a signal or a failure.
pub(super) async fn run(arguments: ConfigArguments) -> Exit {
    let settings = match Settings::load(Some(&arguments.config), environment()) {
        Ok(settings) => Arc::new(settings),
        Err(faults) => {
            for fault in faults {
                tracing::error!(place = %fault.place, key = %fault.key, remedy = %fault.remedy, "{}", fault.message);
            }
            return Exit::Usage;
        }
    };
    let metrics = match Metrics::new() {
        Ok(metrics) => Arc::new(metrics),
        Err(error) => {
            tracing::error!(error = %error, "the metrics can't be registered");
            return Exit::No;
        }
    };
    let health = Health::new(settings.http.stalled_after);
    let signals = Signals::new().and_then(|signals| Ok((signals, signal(SignalKind::hangup())?)));
    let ((signals, hangups), listener) = match (signals, http::bind(settings.http.listen).await) {
        (Ok(signals), Ok(listener)) => (signals, listener),
        (Err(error), _) => {
            tracing::error!(error = %error, "signals can't be received");
            return Exit::No;
        }
        (_, Err(error)) => {
            tracing::error!(error = %error, "the HTTP server can't start");
            return Exit::Usage;
        }
    };
    tracing::info!(listen = %settings.http.listen, "metrics at /metrics, status at /");

    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let until = wait_for(stopped.clone());
    let (requests, desk) = rollout::desk();
    let control = Control { token: settings.http.token.clone(), requests: requests.clone() };
    tasks.spawn(http::serve_with_control(listener, Arc::clone(&metrics), Arc::clone(&health), control, until));
    let engine = engine::run(Arc::clone(&settings), metrics, health, desk, wait_for(stopped));
    let exit = tokio::select! {
        biased;
        exit = supervise(signals, &stop) => exit,
        exit = reload(hangups, &arguments.config, &requests) => exit,
        result = engine => match result {
            Ok(()) => Exit::Done,
            Err(error) => {
                tracing::error!(error = %error, "the engine stopped");
                // A module that is unfit is the configuration's fault, as `check` says of it.
                let is_unfit = matches!(&error, engine::Error::Transform { error, .. } if !error.is_away());
                if is_unfit { Exit::Usage } else { Exit::No }
            }
        },
    };
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    exit
}

/// Reads the configuration anew at every SIGHUP. A faulty one changes nothing.
async fn reload(mut hangups: Signal, config: &Path, requests: &Requests) -> Exit {
    while hangups.recv().await.is_some() {
        match Settings::load(Some(config), environment()) {
            Ok(settings) => {
                tracing::info!(file = %config.display(), "SIGHUP: the configuration is read anew");
                if let Err(refusal) = requests.reload(Arc::new(settings)).await {
                    tracing::warn!(%refusal, "SIGHUP: nothing was changed");
                }
            }
            Err(faults) => {
                for fault in faults {
                    tracing::error!(place = %fault.place, key = %fault.key, remedy = %fault.remedy, "SIGHUP: {}", fault.message);
                }
                tracing::error!("SIGHUP: nothing was changed, the configuration has faults");
            }
        }
    }
    std::future::pending().await
}

/// The first signal asks the engine to stop; a second one ends the process.
pub(super) async fn supervise(mut signals: Signals, stop: &watch::Sender<bool>) -> Exit {
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping: what was read is being settled; a second signal stops at once");
    stop.send_replace(true);
    let name = signals.next().await;
    tracing::warn!(signal = name, "stopped at once; what was not committed is read again");
    Exit::Interrupted
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Ends when the stop begins, or when whoever could begin it is gone.
pub(super) async fn wait_for(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        tracing::debug!("the stop's sender is gone");
    }
}
