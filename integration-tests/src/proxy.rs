//! A wire between a worker and a system, which can be cut in one direction or in both, as a network is: what was sent waits, and
//! arrives when the wire is whole again, unless its sender has given up and the connection with it.

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

/// A port of the loopback that leads to another one.
pub struct Proxy {
    /// Where clients connect.
    pub port: u16,
    cut: watch::Sender<Cut>,
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
        let (cut, watched) = watch::channel(Cut::default());
        let mut carrying = JoinSet::new();
        carrying.spawn(accept(listener, target, watched));
        Ok(Self { port, cut, _carrying: carrying })
    }

    /// Cuts the wire, for connections that are open and those that come.
    pub fn cut(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }

    /// Makes it whole again.
    pub fn heal(&self) {
        self.cut(Cut::default());
    }
}

async fn accept(listener: TcpListener, target: u16, cut: watch::Receiver<Cut>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, target, cut.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that is refused behind the wire ends at this end too.
async fn carry(client: TcpStream, target: u16, mut cut: watch::Receiver<Cut>) {
    // A handshake needs both directions.
    if cut.wait_for(|cut| *cut == Cut::default()).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    // Without it small answers wait for one another; where it can't be set they do.
    let _slower = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Both to their ends: what a client sent before it gave up arrives late, as a network would have it.
    tokio::join!(pump(from_client, to_server, cut.clone(), |cut| cut.to_server), pump(from_server, to_client, cut, |cut| cut.to_client));
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<Cut>, is_cut: fn(&Cut) -> bool) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        // Looked at after reading: what comes in during the cut must not slip through.
        if cut.wait_for(|cut| !is_cut(cut)).await.is_err() {
            return;
        }
        let Some(bytes @ [_, ..]) = chunk.get(..read) else { break };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
    // The other side may have closed first, which is the same end.
    to.shutdown().await.ok();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Cut, Proxy};

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
}
