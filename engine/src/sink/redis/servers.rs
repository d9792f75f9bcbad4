//! The servers behind a sink: one, or the shards of a cluster. Connects when needed, and anew after a fault.
//!
//! A cluster is read here and not by the client library: a batch is sent as one pipeline a shard, watermarks lie on every
//! shard, and each of a pipeline's redirections is followed by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline, RedisError, RedisResult,
    ServerErrorKind, Value,
};

use super::fault::At;
use super::slot::{self, SLOTS};
use crate::config::RedisSettings;
use crate::sink::Error;

/// How a server is reached: over the network, or in a simulation.
pub trait Dial: Send + Sync {
    /// Connects; the connection keeps to the time limits of `config`.
    fn dial(&self, server: ConnectionInfo, config: AsyncConnectionConfig) -> BoxFuture<'static, RedisResult<MultiplexedConnection>>;
}

/// The network.
pub(super) struct Network;

impl Dial for Network {
    fn dial(&self, server: ConnectionInfo, config: AsyncConnectionConfig) -> BoxFuture<'static, RedisResult<MultiplexedConnection>> {
        async move { Client::open(server)?.get_multiplexed_async_connection_with_config(&config).await }.boxed()
    }
}

/// All servers of a sink.
pub(super) struct Servers {
    sink: String,
    cluster: bool,
    timeout: Duration,
    dial: Arc<dyn Dial>,
    /// Where to begin; a cluster names the others.
    seeds: Vec<ConnectionInfo>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    links: HashMap<String, Arc<Link>>,
    topology: Option<Arc<Topology>>,
}

/// Which server holds which keys.
pub(super) struct Topology {
    /// The server, or the primaries that hold slots.
    pub(super) shards: Vec<Arc<Link>>,
    /// For each shard the smallest number whose slot it holds: `{number}` in a key puts the key there.
    pub(super) tags: Vec<u32>,
    /// Index into `shards` of every slot; empty where there is one server.
    by_slot: Vec<Option<u16>>,
}

/// One server.
pub(super) struct Link {
    /// `host:port`.
    pub(super) address: String,
    info: ConnectionInfo,
    timeout: Duration,
    dial: Arc<dyn Dial>,
    connection: tokio::sync::Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    open: Option<MultiplexedConnection>,
    /// Counts how often it was closed, so that a late fault of an earlier one does not close the next.
    serial: u64,
}

/// One connection to a server: whatever is asked on it, the same process answers, or nobody.
pub(super) struct Open<'a> {
    pub(super) link: &'a Link,
    connection: MultiplexedConnection,
    serial: u64,
}

impl Servers {
    pub(super) fn new(sink: &str, redis: &RedisSettings, timeout: Duration, dial: Arc<dyn Dial>) -> Result<Self, Error> {
        let setup = |message: &str| Error::Setup { sink: sink.to_owned(), message: message.to_owned() };
        let seeds: Result<Vec<_>, _> = redis.urls.iter().map(|url| url.as_str().into_connection_info()).collect();
        let seeds =
            seeds.map_err(|_| setup("a URL can't be read; write redis://[user:password@]host:port[/database], or rediss:// for TLS"))?;
        if seeds.is_empty() {
            return Err(setup("it has no URL; write redis://[user:password@]host:port[/database]"));
        }
        Ok(Self { sink: sink.to_owned(), cluster: redis.cluster, timeout, dial, seeds, known: Mutex::default() })
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// The shards as they were last seen, asked for where they are not known.
    pub(super) async fn topology(&self) -> Result<Arc<Topology>, Error> {
        if let Some(topology) = self.known().topology.clone() {
            return Ok(topology);
        }
        let topology = Arc::new(if self.cluster { self.discover().await? } else { self.single()? });
        let mut known = self.known();
        // Whoever has left may be gone for good, and its address another cluster's by the time that it would be asked.
        known.links.retain(|address, _| topology.shards.iter().any(|shard| shard.address == *address));
        known.topology = Some(topology.clone());
        Ok(topology)
    }

    /// The shards must be asked for anew: one is gone, or slots have moved.
    pub(super) fn forget_topology(&self) {
        self.known().topology = None;
    }

    /// A server of a cluster that takes nothing now may have a successor that it has not heard of, as a primary that was cut off from the
    /// others. TRYAGAIN is about one key, whose slot is on its way.
    pub(super) fn doubt(&self, code: &str, error: &Error) {
        if self.cluster && code != "TRYAGAIN" && matches!(error, Error::Away { .. }) {
            self.forget_topology();
        }
    }

    /// An error of anything but a write.
    pub(super) fn fault(&self, link: &Link, error: &RedisError) -> Error {
        let fault = self.at(&link.address).command(error);
        self.doubt(error.code().unwrap_or_default(), &fault);
        fault
    }

    /// The server at an address that a redirection names.
    pub(super) fn link(&self, host: &str, port: u16) -> Result<Arc<Link>, Error> {
        let seed = self.seeds.first().ok_or_else(|| self.at(host).setup("it has no URL", "give the sink one"))?;
        Ok(self.link_like(seed, host, port))
    }

    fn single(&self) -> Result<Topology, Error> {
        let seed = self.seeds.first().ok_or_else(|| self.at("redis").setup("it has no URL", "give the sink one"))?;
        let link = Arc::new(self.new_link(seed.clone()));
        Ok(Topology { shards: vec![link], tags: vec![0], by_slot: Vec::new() })
    }

    /// Asks the seeds, which the operator answers for, and then the servers of the last topology, until one says that the cluster is up. A
    /// primary that was cut off keeps to the map that it had, and says that the cluster is down. Where all say so, the newest map counts.
    async fn discover(&self) -> Result<Topology, Error> {
        let known: Vec<_> = self.known().links.values().cloned().collect();
        let seeds = self.seeds.iter().map(|seed| Arc::new(self.new_link(seed.clone())));
        let (mut newest, mut last): (Option<(u64, Topology)>, _) = (None, None);
        for link in seeds.chain(known) {
            match self.map_of(&link).await {
                Ok((topology, None)) => return Ok(topology),
                Ok((topology, Some(epoch))) if newest.as_ref().is_none_or(|(newest, _)| epoch > *newest) => {
                    newest = Some((epoch, topology));
                }
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        newest.map(|(_, topology)| topology).ok_or_else(|| last.unwrap_or_else(|| self.at("redis").away("no server is known")))
    }

    /// The cluster as a server sees it; and, where the server says that it is down, the epoch which that view is of.
    async fn map_of(&self, link: &Link) -> Result<(Topology, Option<u64>), Error> {
        let at = self.at(&link.address);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("CLUSTER").arg("SLOTS");
        pipeline.cmd("CLUSTER").arg("INFO");
        let mut answers = link.run(&mut pipeline).await.map_err(|error| at.command(&error))?.into_iter();
        let slots = answers.next().unwrap_or_default().extract_error().map_err(|error| at.command(&error))?;
        let topology = self.read_slots(link, &slots).ok_or_else(|| at.away("its cluster has no slots assigned"))?;
        // Whoever may not ask, or asks a server that does not know the command, takes the cluster to be up.
        let info = answers.next().and_then(|info| redis::from_redis_value::<String>(info).ok()).unwrap_or_default();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let is_down = field("cluster_state") == Some("fail");
        let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        Ok((topology, is_down.then_some(epoch)))
    }

    /// Reads the answer to CLUSTER SLOTS: `[first, last, [host, port, …], replicas…]` for each range.
    fn read_slots(&self, asked: &Link, answer: &Value) -> Option<Topology> {
        let mut shards: Vec<Arc<Link>> = Vec::new();
        let mut by_slot = vec![None; SLOTS];
        for range in as_array(answer)? {
            let [first, last, primary, ..] = as_array(range)? else { return None };
            let [host, port, ..] = as_array(primary)? else { return None };
            // A server that does not know its own name leaves it out: it is the one that was asked.
            let host = as_text(host).filter(|host| !host.is_empty() && *host != "?").unwrap_or_else(|| asked.host());
            let link = self.link_like(&asked.info, host, u16::try_from(as_integer(port)?).ok()?);
            let shard = shards.iter().position(|shard| shard.address == link.address).unwrap_or_else(|| {
                shards.push(link);
                shards.len() - 1
            });
            let slots = usize::try_from(as_integer(first)?).ok()?..=usize::try_from(as_integer(last)?).ok()?;
            by_slot.get_mut(slots)?.fill(u16::try_from(shard).ok());
        }
        if shards.is_empty() {
            return None;
        }
        let tags = tags(&by_slot, shards.len());
        Some(Topology { shards, tags, by_slot })
    }

    fn link_like(&self, like: &ConnectionInfo, host: &str, port: u16) -> Arc<Link> {
        let address = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = like.addr() {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: *insecure, tls_params: tls_params.clone() }
        } else {
            ConnectionAddr::Tcp(host.to_owned(), port)
        };
        let link = self.new_link(like.clone().set_addr(address));
        self.known().links.entry(link.address.clone()).or_insert_with(|| Arc::new(link)).clone()
    }

    fn new_link(&self, info: ConnectionInfo) -> Link {
        Link::new(info, self.timeout, Arc::clone(&self.dial))
    }

    pub(super) fn at<'a>(&'a self, server: &'a str) -> At<'a> {
        At { sink: &self.sink, server }
    }

    /// What is known is replaced whole, so a poisoned lock is as good as another.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topology {
    /// Whether each slot is on the same server in both.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let address = |topology: &'_ Self, shard: &Option<u16>| {
            shard.and_then(|shard| topology.shards.get(usize::from(shard))).map(|link| link.address.clone())
        };
        self.by_slot.len() == other.by_slot.len()
            && self.by_slot.iter().zip(&other.by_slot).all(|(ours, theirs)| address(self, ours) == address(other, theirs))
    }

    /// Index of the shard that holds a key; `None` where a cluster has no server for its slot.
    pub(super) fn shard_of(&self, key: &[u8]) -> Option<usize> {
        if self.by_slot.is_empty() {
            return Some(0);
        }
        self.by_slot.get(slot::of_key(key)).copied().flatten().map(usize::from)
    }
}

/// For each shard the smallest number whose slot it holds. Every shard has a slot, and every slot a number.
fn tags(by_slot: &[Option<u16>], shards: usize) -> Vec<u32> {
    let mut tags = vec![None; shards];
    let mut missing = shards;
    for number in 0u32.. {
        if missing == 0 {
            break;
        }
        let shard = by_slot.get(slot::of_key(number.to_string().as_bytes())).copied().flatten();
        if let Some(tag @ None) = shard.and_then(|shard| tags.get_mut(usize::from(shard))) {
            *tag = Some(number);
            missing -= 1;
        }
    }
    tags.into_iter().flatten().collect()
}

impl Link {
    fn new(info: ConnectionInfo, timeout: Duration, dial: Arc<dyn Dial>) -> Self {
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => "redis".to_owned(),
        };
        Self { address, info, timeout, dial, connection: tokio::sync::Mutex::default() }
    }

    pub(super) fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(&self.address, |(host, _)| host)
    }

    /// [`Open::run`].
    pub(super) async fn run(&self, pipeline: &mut Pipeline) -> RedisResult<Vec<Value>> {
        self.open().await?.run(pipeline).await
    }

    /// [`Open::one`].
    pub(super) async fn one(&self, command: Cmd) -> RedisResult<Value> {
        self.open().await?.one(command).await
    }

    /// Whether a slot is on its way to or from it. A server that does not let itself be asked is taken at its map.
    pub(super) async fn moves_slots(&self) -> RedisResult<bool> {
        let mut command = Cmd::new();
        command.arg("CLUSTER").arg("NODES");
        let nodes = match self.one(command).await {
            Ok(nodes) => redis::from_redis_value::<String>(nodes).unwrap_or_default(),
            Err(error) if error.code().is_some() => return Ok(false),
            Err(error) => return Err(error),
        };
        // "<id> <address> myself,master - 0 0 1 connected 0-5460 [5461->-<id>]"
        let is_open = |line: &str| line.contains("myself") && line.split(' ').skip(8).any(|slots| slots.starts_with('['));
        Ok(nodes.lines().any(is_open))
    }

    /// The next command connects anew.
    pub(super) async fn disconnect(&self) {
        self.connection.lock().await.close();
    }

    /// The lock is held while connecting, so that all who wait get the one connection; the time for it is limited.
    pub(super) async fn open(&self) -> RedisResult<Open<'_>> {
        let mut connection = self.connection.lock().await;
        let open = if let Some(open) = &connection.open {
            open.clone()
        } else {
            let config = AsyncConnectionConfig::new().set_connection_timeout(Some(self.timeout)).set_response_timeout(Some(self.timeout));
            connection.open.insert(self.dial.dial(self.info.clone(), config).await?).clone()
        };
        Ok(Open { link: self, connection: open, serial: connection.serial })
    }
}

impl Connection {
    fn close(&mut self) {
        *self = Self { open: None, serial: self.serial + 1 };
    }
}

impl Open<'_> {
    /// Sends a pipeline and returns a value for each command; an error that the server answers to one of them is among the values. After a
    /// fault the next command asks for the server anew: its name may lead elsewhere by then.
    pub(super) async fn run(&mut self, pipeline: &mut Pipeline) -> RedisResult<Vec<Value>> {
        pipeline.ignore_errors();
        let values = pipeline.query_async::<Vec<Value>>(&mut self.connection).await;
        let useless = match &values {
            Ok(values) => values.iter().any(is_read_only),
            Err(_) => true,
        };
        if useless {
            let mut connection = self.link.connection.lock().await;
            if connection.serial == self.serial {
                connection.close();
            }
        }
        values
    }

    /// Sends one command.
    pub(super) async fn one(&mut self, command: Cmd) -> RedisResult<Value> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let values = self.run(&mut pipeline).await?;
        values.into_iter().next().unwrap_or_default().extract_error()
    }
}

fn is_read_only(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::ReadOnly))
}

fn as_array(value: &Value) -> Option<&[Value]> {
    if let Value::Array(values) = value { Some(values) } else { None }
}

fn as_integer(value: &Value) -> Option<i64> {
    if let Value::Int(number) = value { Some(*number) } else { None }
}

fn as_text(value: &Value) -> Option<&str> {
    if let Value::BulkString(text) = value { std::str::from_utf8(text).ok() } else { None }
}
