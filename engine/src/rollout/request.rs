//! How others ask for a change, and what they hear.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Comparison;
use crate::config::Settings;
use crate::transform::SetupError;

/// Changes that may wait: they are carried out one after the other.
const WAITING: usize = 16;

/// A change of what a route runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another module. It lasts until the worker stops: the configuration says what the next one begins with.
    Swap {
        /// As `routes[].transform.module` has it.
        module: String,
        /// It must have this SHA-256, where one is given.
        sha256: Option<String>,
    },
    /// A second module beside the first.
    Shadow {
        /// As `routes[].transform.module` has it.
        module: String,
        /// It must have this SHA-256, where one is given.
        sha256: Option<String>,
        /// The share of keys whose documents it writes; 0: it is only compared.
        canary_percent: u32,
    },
    /// No second module any more.
    Unshadow,
    /// The second module becomes the first.
    Promote,
    /// Back to what ran before; the second time, forth again.
    Rollback,
}

/// What a change came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The module's own name.
    pub name: String,
    /// The module's own version.
    pub version: String,
    /// SHA-256 of what runs now.
    pub digest: String,
    /// SHA-256 of what ran before.
    pub before: String,
    /// What shows that the module is fit.
    pub tried: Tried,
    /// This worker's partitions of the route.
    pub partitions: usize,
    /// Those that adopt it only after the batch that they are at.
    pub late: usize,
    /// The module before had halted the route: its partitions begin again.
    pub lifted: bool,
    /// Why the route is halted all the same.
    pub halted: Option<String>,
    /// Targets that the one before writes and this module names for none of its documents, as far as recent records tell.
    pub left_out: Vec<String>,
}

/// What shows that a module is fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tried {
    /// It answered so many recent events; there may have been none.
    Events(usize),
    /// It ran before.
    RanBefore,
    /// It ran as the second module, and failed on nothing.
    RanBeside,
    /// It runs already.
    #[default]
    Runs,
}

impl Tried {
    /// Recent events that it was tried on; `None`: there was no trial.
    pub fn events(self) -> Option<usize> {
        match self {
            Self::Events(events) => Some(events),
            Self::RanBefore | Self::RanBeside | Self::Runs => None,
        }
    }
}

/// A second module beside the first.
#[derive(Clone, Debug)]
pub struct Shown {
    /// SHA-256 of the second module.
    pub digest: String,
    /// The share of keys whose documents it writes.
    pub canary_percent: u32,
    /// How it fared on this worker.
    pub comparison: Comparison,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such route.
    #[error("there is no route {route}: the routes are {known}")]
    NoRoute {
        /// As asked for.
        route: String,
        /// All names.
        known: String,
    },
    /// The configuration pins another one.
    #[error(
        "route {route} is pinned to {pinned}: change module and sha256 in the configuration and send SIGHUP, so that the next start \
         runs the same module"
    )]
    Pinned {
        /// The route.
        route: String,
        /// The configured digest.
        pinned: String,
    },
    /// The configuration names a key that it was not checked with.
    #[error(
        "route {route} has a signature_key in the configuration, with which {module} was not checked: swap it over HTTP with its signature beside          it, or name it in the configuration and send SIGHUP"
    )]
    OtherKey {
        /// The route.
        route: String,
        /// The file or reference.
        module: String,
    },
    /// The request itself.
    #[error("{message}")]
    Malformed {
        /// What is wrong, and what to write.
        message: String,
    },
    /// The module can't be used.
    #[error("{0}; the module before goes on running")]
    Setup(#[from] SetupError),
    /// It fails on records that the module before handled.
    #[error(
        "module {module} was tried on {tried} recent events and failed on {failed} that the one before handled, first at {place}: {error}; \
         the module before goes on running"
    )]
    Trial {
        /// The file or reference.
        module: String,
        /// Number of events.
        tried: usize,
        /// Number of new failures.
        failed: usize,
        /// Topic, partition and offset.
        place: String,
        /// The first failure.
        error: String,
    },
    /// It rejects everything.
    #[error("module {module} rejected all of {tried} recent events, the one before did not: {error}; the module before goes on running")]
    AllRejected {
        /// The file or reference.
        module: String,
        /// Number of events.
        tried: usize,
        /// The first rejection.
        error: String,
    },
    /// Nothing to promote.
    #[error("route {route} has no second module: name one in [routes.transform.shadow], or over HTTP")]
    NoSecond {
        /// The route.
        route: String,
    },
    /// Nothing to go back to.
    #[error("route {route} has run no other module since this worker started: there is nothing to go back to")]
    NoneBefore {
        /// The route.
        route: String,
    },
    /// A panic, which none of the engine's own code should make.
    #[error("a defect in the engine stopped it while the module was loaded; report this with the log")]
    Defect,
    /// The worker does not answer any more.
    #[error("the worker is starting or stopping: ask again when /ready says yes")]
    Stopped,
}

impl Refusal {
    /// For whoever looks at the status page: without the guest's own words, which may hold a row's values. The log has them.
    pub(super) fn in_public(&self) -> String {
        let error = "the log has the guest's words".to_owned();
        match self {
            Self::Trial { module, tried, failed, place, .. } => {
                Self::Trial { module: module.clone(), tried: *tried, failed: *failed, place: place.clone(), error }.to_string()
            }
            Self::AllRejected { module, tried, .. } => Self::AllRejected { module: module.clone(), tried: *tried, error }.to_string(),
            Self::Setup(error) => format!("{}; the module before goes on running", error.in_public()),
            Self::NoRoute { .. }
            | Self::Pinned { .. }
            | Self::OtherKey { .. }
            | Self::Malformed { .. }
            | Self::NoSecond { .. }
            | Self::NoneBefore { .. }
            | Self::Defect
            | Self::Stopped => self.to_string(),
        }
    }
}

/// Asks. Every clone asks the same desk.
#[derive(Clone, Debug)]
pub struct Requests(mpsc::Sender<Message>);

/// Where requests arrive.
#[derive(Debug)]
pub struct Desk(pub(super) mpsc::Receiver<Message>);

#[derive(Debug)]
pub(super) enum Message {
    Change { route: String, change: Change, reply: oneshot::Sender<Result<Done, Refusal>> },
    Show { route: String, reply: oneshot::Sender<Result<Shown, Refusal>> },
    Reload { settings: Arc<Settings>, done: oneshot::Sender<()> },
}

/// A desk and the way to it.
pub fn desk() -> (Requests, Desk) {
    let (requests, messages) = mpsc::channel(WAITING);
    (Requests(requests), Desk(messages))
}

impl Requests {
    /// Asks for a change, and waits until it is made or refused.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn change(&self, route: &str, change: Change) -> Result<Done, Refusal> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Change { route: route.to_owned(), change, reply };
        self.0.send(message).await.map_err(|_| Refusal::Stopped)?;
        answer.await.map_err(|_| Refusal::Stopped)?
    }

    /// Asks how a route's second module fares.
    ///
    /// # Errors
    /// There is none.
    pub async fn show(&self, route: &str) -> Result<Shown, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::Show { route: route.to_owned(), reply }).await.map_err(|_| Refusal::Stopped)?;
        answer.await.map_err(|_| Refusal::Stopped)?
    }

    /// Hands over a configuration that was read anew, and waits until its transforms are in force or refused: the log says which.
    ///
    /// # Errors
    /// The worker is stopping, and takes nothing over.
    pub async fn reload(&self, settings: Arc<Settings>) -> Result<(), Refusal> {
        let (done, answer) = oneshot::channel();
        self.0.send(Message::Reload { settings, done }).await.map_err(|_| Refusal::Stopped)?;
        answer.await.map_err(|_| Refusal::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Error;

    #[test]
    fn the_status_page_has_no_words_of_a_guest() {
        let error = || "rejected by the transform: bad-name: ada@example.com".to_owned();
        let trial =
            Refusal::Trial { module: "two.wasm".to_owned(), tried: 3, failed: 1, place: "shop.t/0 offset 5".to_owned(), error: error() };
        let rejected = Refusal::AllRejected { module: "two.wasm".to_owned(), tried: 3, error: error() };
        let start = Refusal::Setup(SetupError::Start {
            module: "two.wasm".to_owned(),
            route: "rows".to_owned(),
            source: Error::GuestError { message: "invalid type: string \"ada@example.com\", expected u32".to_owned() },
        });
        for refusal in [trial, rejected, start] {
            assert!(refusal.to_string().contains("ada@example.com"), "whoever has the token and the log sees it: {refusal}");
            let public = refusal.in_public();
            assert!(public.contains("two.wasm") && public.contains("the log has the guest's words") && !public.contains("ada"), "{public}");
        }
    }
}
