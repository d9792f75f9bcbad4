//! The end of a librdkafka client. Its threads wait by the wall clock: after that was set back, joining them may take as long as it was set
//! back. So a client ends on a thread of its own, and nobody waits for it without a limit.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How long the end of a client may take. In order it is a second at most.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The last reference to a client. Dropped, it waits [`CLOSE_TIMEOUT`] for the client's end; whatever was to be acknowledged was waited for
/// before.
pub(crate) struct Closing<T: Send + 'static> {
    what: &'static str,
    client: Option<T>,
}

impl<T: Send + 'static> Closing<T> {
    /// `what` names the client in the log.
    pub(crate) fn new(what: &'static str, client: T) -> Self {
        Self { what, client: Some(client) }
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        let (what, client) = (self.what, self.client.take());
        let (done, closed) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new().name("closing".to_owned()).spawn(move || {
            drop(client);
            drop(done);
        });
        match thread {
            Err(error) => tracing::warn!(what, error = %error, "no thread closed a Kafka client; it was closed at once"),
            // The sender is dropped when the client has ended.
            Ok(_) => {
                if closed.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
                    tracing::warn!(
                        what,
                        "a Kafka client does not end in time, as after a clock was set back; it is left to the process's end"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test may fail by panicking")]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::Closing;

    /// Its end waits until it may, and is told.
    struct Client(Receiver<()>, SyncSender<()>);

    impl Drop for Client {
        fn drop(&mut self) {
            self.0.recv().expect("a sign");
            self.1.send(()).expect("someone listens");
        }
    }

    #[test]
    fn a_client_that_does_not_end_holds_nobody_up() {
        let ((may_end, sign), (told, ended)) = (sync_channel(1), sync_channel(1));
        drop(Closing::new("a test's client", Client(sign, told)));
        assert!(ended.try_recv().is_err(), "it has ended before it could");
        may_end.send(()).expect("it waits for the sign");
        ended.recv().expect("it ends as soon as it can");
    }
}
