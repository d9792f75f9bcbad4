//! A wire between a worker and a system, which can be cut in one direction or in both, as a network is: what was sent waits, and
//! arrives when the wire is whole again, unless its sender has given up and the connection with it. One request can also be kept back by
//! itself, and arrives when it is let go, whatever has become of its sender by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CHUNK_BYTES: usize = 16 * 1024;

/// What does not get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Requests don't arrive.
    pub to_server: bool,
    /// Requests arrive and are done; their answers don't.
    pub to_client: bool,
}

impl Cut {
    /// Nothing gets through.
    pub const BOTH: Self = Self { to_server: true, to_client: true };
    /// Requests don't arrive.
    pub const TO_SERVER: Self = Self { to_server: true, to_client: false };
    /// Answers don't arrive.
    pub const TO_CLIENT: Self = Self { to_server: false, to_client: true };
}

/// A request that was kept back, and what became of it; in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// What had come of it: none as long as none was caught.
    pub kept: usize,
    /// What the server was sent of that once it was let go.
    pub delivered: usize,
    /// What the server answered on its connection since.
    pub answered: usize,
}

/// A port of the loopback that leads to another one.
pub struct Proxy {
    /// Where clients connect.
    pub port: u16,
    wire: Arc<Wire>,
    /// Ends with the proxy.
    _carrying: JoinSet<()>,
}

impl Proxy {
    /// Listens on a port, or on any free one for 0.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(port: u16, target: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("listen on port {port}"))?;
        let port = listener.local_addr()?.port();
        let wire = Arc::new(Wire { target, cut: watch::Sender::default(), trap: watch::Sender::default() });
        let mut carrying = JoinSet::new();
        carrying.spawn(accept(listener, Arc::clone(&wire)));
        Ok(Self { port, wire, _carrying: carrying })
    }

    /// Cuts the wire, for connections that are open and those that come.
    pub fn cut(&self, cut: Cut) {
        self.wire.cut.send_replace(cut);
    }

    /// Makes it whole again; what was kept back arrives.
    pub fn heal(&self) {
        self.cut(Cut::default());
        self.let_go();
    }

    /// Keeps back the next request that holds these bytes, with whatever follows it on its connection. Other connections go on.
    pub fn catch(&self, bait: &'static [u8]) {
        self.wire.trap.send_replace(Trap { bait: Some(bait), ..Trap::default() });
    }

    /// What was kept back goes on, and nothing else will be.
    pub fn let_go(&self) {
        self.wire.trap.send_modify(|trap| (trap.bait, trap.is_open) = (None, true));
    }

    /// What was kept back since [`Proxy::catch`].
    #[must_use]
    pub fn caught(&self) -> Caught {
        self.wire.trap.borrow().caught
    }
}

/// What all connections of a proxy share.
struct Wire {
    target: u16,
    cut: watch::Sender<Cut>,
    trap: watch::Sender<Trap>,
}

#[derive(Default)]
struct Trap {
    /// What the request holds that is to be caught; `None` once it was.
    bait: Option<&'static [u8]>,
    is_open: bool,
    caught: Caught,
}

impl Wire {
    /// Whether this is the request that is to be caught. A bait that is torn apart by a chunk's end is none: the next request has one too.
    fn catches(&self, request: &[u8]) -> bool {
        self.trap.send_if_modified(|trap| {
            let is_caught = trap.bait.is_some_and(|bait| request.windows(bait.len().max(1)).any(|window| window == bait));
            if is_caught {
                (trap.bait, trap.caught.kept) = (None, request.len());
            }
            is_caught
        })
    }

    fn count(&self, count: impl FnOnce(&mut Caught)) {
        self.trap.send_modify(|trap| count(&mut trap.caught));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// One client's.
struct Connection {
    wire: Arc<Wire>,
    /// Its request was caught, and let go.
    is_late: AtomicBool,
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, Arc::clone(&wire)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that is refused behind the wire ends at this end too.
async fn carry(client: TcpStream, wire: Arc<Wire>) {
    // A handshake needs both directions.
    wire.cut.subscribe().wait_for(|cut| *cut == Cut::default()).await.ok();
    let Ok(server) = TcpStream::connect(("127.0.0.1", wire.target)).await else { return };
    // Without it small answers wait for one another; where it can't be set they do.
    let _slower = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let connection = Connection { wire, is_late: AtomicBool::new(false) };
    // Both to their ends: what a client sent before it gave up arrives late, as a network would have it.
    tokio::join!(
        pump(from_client, to_server, &connection, Direction::ToServer),
        pump(from_server, to_client, &connection, Direction::ToClient)
    );
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection, direction: Direction) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        let bytes = chunk.get(..read).unwrap_or_default();
        // Looked at after reading: what comes in during the cut must not slip through.
        let was_caught = connection.gate(direction, bytes).await;
        if bytes.is_empty() {
            break;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
        if was_caught {
            connection.is_late.store(true, Ordering::Relaxed);
            connection.wire.count(|caught| caught.delivered += bytes.len());
        }
    }
    // The other side may have closed first, which is the same end.
    to.shutdown().await.ok();
}

impl Connection {
    /// Returns when these bytes may go on: whether they were caught.
    async fn gate(&self, direction: Direction, bytes: &[u8]) -> bool {
        let was_caught = direction == Direction::ToServer && self.wire.catches(bytes);
        if was_caught {
            self.wire.trap.subscribe().wait_for(|trap| trap.is_open).await.ok();
        }
        // Before it is handed on: a client that is gone takes no answer, and yet there was one.
        if direction == Direction::ToClient && self.is_late.load(Ordering::Relaxed) {
            self.wire.count(|caught| caught.answered += bytes.len());
        }
        let is_whole = |cut: &Cut| match direction {
            Direction::ToServer => !cut.to_server,
            Direction::ToClient => !cut.to_client,
        };
        self.wire.cut.subscribe().wait_for(is_whole).await.ok();
        was_caught
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::ensure;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Caught, Cut, Proxy};
    use crate::deadline::until;

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn what_is_cut_waits_and_arrives_later() -> anyhow::Result<()> {
        let server = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::start(0, server.local_addr()?.port()).await?;
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
        let (mut served, _) = server.accept().await?;
        let mut byte = [0];
        for (cut, request_arrives, answer_arrives) in
            [(Cut::TO_SERVER, false, true), (Cut::TO_CLIENT, true, false), (Cut::BOTH, false, false)]
        {
            proxy.cut(cut);
            client.write_all(b"?").await?;
            served.write_all(b"!").await?;
            let request = tokio::time::timeout(SHORT, served.read_exact(&mut byte)).await.is_ok();
            let answer = tokio::time::timeout(SHORT, client.read_exact(&mut byte)).await.is_ok();
            assert_eq!((request, answer), (request_arrives, answer_arrives), "{cut:?}");
            proxy.heal();
            if !request {
                served.read_exact(&mut byte).await?;
                assert_eq!(&byte, b"?");
            }
            if !answer {
                client.read_exact(&mut byte).await?;
                assert_eq!(&byte, b"!");
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn one_request_is_kept_back_and_arrives_when_its_client_is_gone() -> anyhow::Result<()> {
        let server = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::start(0, server.local_addr()?.port()).await?;
        let mut gone = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
        let (mut late, _) = server.accept().await?;
        let mut other = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
        let (mut at_once, _) = server.accept().await?;
        let mut request = *b".....";
        proxy.catch(b"write");
        gone.write_all(b"?").await?;
        late.read_exact(&mut [0]).await?;
        gone.write_all(b"write").await?;
        until("the request is caught", async || {
            ensure!(proxy.caught().kept == 5, "{:?}", proxy.caught());
            Ok(())
        })
        .await?;
        other.write_all(b"write").await?;
        at_once.read_exact(&mut request).await?;
        drop(gone);
        assert!(tokio::time::timeout(SHORT, late.read_exact(&mut request)).await.is_err(), "what is kept back does not arrive");
        proxy.let_go();
        late.read_exact(&mut request).await?;
        assert_eq!(&request, b"write");
        late.write_all(b"done").await?;
        until("the answer is counted", async || {
            ensure!(proxy.caught() == Caught { kept: 5, delivered: 5, answered: 4 }, "{:?}", proxy.caught());
            Ok(())
        })
        .await
    }
}
