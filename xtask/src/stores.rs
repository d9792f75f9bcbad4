//! The stores of the sinks' conformance tests: a Redis, a Redis Cluster and a MongoDB, each in a container that keeps nothing on disk.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::docker::{Labelled, docker};
use crate::images::Image;
use crate::progress::capture;

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// The cluster's ports inside its one container; the nodes talk to each other on ports above these.
const CLUSTER: [u16; 3] = [7000, 7001, 7002];
const BUS_ABOVE: u16 = 10_000;
/// A third of the slots for each.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

/// A server for each argument. The container ends with the first of them that does. DEBUG lets a test change who a server says that it is.
const CLUSTER_SERVERS: &str = r#"for port; do
  redis-server --port "$port" --cluster-enabled yes --cluster-config-file "nodes-$port.conf" --dir /tmp --save "" \
    --protected-mode no --maxmemory-policy noeviction --enable-debug-command yes &
done
wait -n"#;

/// What the tests are told.
pub(crate) struct Stores {
    redis: String,
    redis_cluster: [String; 3],
    mongodb: String,
    _removed_at_the_end: Labelled,
}

impl Stores {
    /// Starts all of them, and returns when all answer.
    pub(crate) fn start(images: &BTreeMap<String, Image>) -> Result<Self> {
        let label = format!("streamsync.conformance={}", std::process::id());
        let removed_at_the_end = Labelled::new(label.clone())?;
        let start = Start { images, label: &label };
        let Store { addresses: [redis], .. } =
            start.store("redis", [6379], &["redis-server", "--save", "", "--maxmemory-policy", "noeviction"])?;
        let redis_cluster = start.cluster()?;
        let Store { addresses: [mongodb], .. } = start.store("mongodb", [27017], &[])?;
        Ok(Self { redis, redis_cluster, mongodb, _removed_at_the_end: removed_at_the_end })
    }

    /// Tells a test run where they are, and that none may be left out.
    pub(crate) fn tell(&self, tests: &mut Command) {
        tests.env("STREAMSYNC_TEST_REQUIRE_STORES", "1");
        tests.env("STREAMSYNC_TEST_REDIS_URL", format!("redis://{}", self.redis));
        tests.env("STREAMSYNC_TEST_REDIS_CLUSTER_URLS", self.redis_cluster.each_ref().map(|node| format!("redis://{node}")).join(","));
        tests.env("STREAMSYNC_TEST_MONGODB_URI", format!("mongodb://{}/?directConnection=true", self.mongodb));
    }
}

/// A container, and where its ports are reached.
struct Store<const N: usize> {
    id: String,
    addresses: [String; N],
}

struct Start<'a> {
    images: &'a BTreeMap<String, Image>,
    label: &'a str,
}

impl Start<'_> {
    /// Starts a container and returns as soon as its ports accept.
    fn store<const N: usize>(&self, role: &str, ports: [u16; N], arguments: &[&str]) -> Result<Store<N>> {
        let image = &self.images.get(role).with_context(|| format!("no image for {role}"))?.image;
        let mut run = docker();
        run.args(["run", "-d", "--label", self.label]);
        for port in ports {
            run.args(["-p", &format!("127.0.0.1::{port}")]);
        }
        let id = capture(&format!("start {role}"), run.arg(image).args(arguments), LIMIT)?.trim().to_owned();
        let mut addresses = ports.map(|_| String::new());
        for (address, port) in addresses.iter_mut().zip(ports) {
            let published = capture("docker port", docker().args(["port", &id, &port.to_string()]), LIMIT)?;
            *address = published.lines().next().with_context(|| format!("{role} has no published port"))?.to_owned();
            until(&id, &format!("{role} answers at {address}"), || answers(&id, port, address))?;
        }
        Ok(Store { id, addresses })
    }

    /// A Redis Cluster of three primaries in one container. Each is told by which port it is reached from outside; what they have to say to each
    /// other stays inside. A cluster is ready when all three say so, and name all three as they are reached.
    fn cluster(&self) -> Result<[String; 3]> {
        let ports = CLUSTER.map(|port| port.to_string());
        let mut arguments = vec!["bash", "-c", CLUSTER_SERVERS, "bash"];
        arguments.extend(ports.iter().map(String::as_str));
        let Store { id, addresses } = self.store("redis", CLUSTER, &arguments)?;
        for (node, address) in CLUSTER.iter().zip(&addresses) {
            let (host, port) = split(address)?;
            redis_cli(&id, *node, &["CONFIG", "SET", "cluster-announce-ip", host, "cluster-announce-port", port])?;
        }
        for (epoch, (node, (first, last))) in (1..).zip(CLUSTER.iter().zip(SLOTS)) {
            redis_cli(&id, *node, &["CLUSTER", "SET-CONFIG-EPOCH", &format!("{epoch}")])?;
            redis_cli(&id, *node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
        }
        let [first, others @ ..] = CLUSTER;
        for (node, address) in others.iter().zip(addresses.iter().skip(1)) {
            let (host, port) = split(address)?;
            redis_cli(&id, first, &["CLUSTER", "MEET", host, port, &(node + BUS_ABOVE).to_string()])?;
        }
        for node in CLUSTER {
            until(&id, "the nodes of the Redis Cluster agree", || {
                let state = redis_cli(&id, node, &["CLUSTER", "INFO"]).unwrap_or_default();
                let nodes = redis_cli(&id, node, &["CLUSTER", "NODES"]).unwrap_or_default();
                state.contains("cluster_state:ok") && addresses.iter().all(|address| nodes.contains(&format!(" {address}@")))
            })?;
        }
        Ok(addresses)
    }
}

fn split(address: &str) -> Result<(&str, &str)> {
    address.rsplit_once(':').with_context(|| format!("{address} is no host:port"))
}

/// Asks a server inside its container; an error that it answers is one.
fn redis_cli(id: &str, port: u16, command: &[&str]) -> Result<String> {
    let mut ask = docker();
    ask.args(["exec", id, "redis-cli", "-e", "-p", &port.to_string()]).args(command);
    capture(&format!("redis-cli {}", command.join(" ")), &mut ask, LIMIT)
}

/// Waits until something holds of a container, and otherwise shows the end of its log.
fn until(id: &str, what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        if Instant::now() >= deadline {
            let log = capture("docker logs", docker().args(["logs", "--tail", "20", id]), LIMIT).unwrap_or_default();
            bail!("not within {} s: {what}\n{log}", LIMIT.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The published port accepts as soon as Docker's proxy is there; the server behind it is asked inside the container.
fn answers(id: &str, port: u16, address: &str) -> bool {
    let inside = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let mut probe = docker();
    probe.args(["exec", id, "bash", "-c", &inside]);
    capture("probe", &mut probe, LIMIT).is_ok() && TcpStream::connect(address).is_ok()
}
