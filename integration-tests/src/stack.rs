//! The real systems, started once for all cases: MySQL, Kafka, Kafka Connect with Debezium, Redis, MongoDB.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use mysql_async::prelude::Queryable as _;
use serde::Deserialize;
use testcontainers::core::{IntoContainerPort as _, Mount};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};

use crate::deadline::until;
use crate::store::{Kind, Place, Store};

const MYSQL_PASSWORD: &str = "streamsync";
const MYSQL_ARGUMENTS: [&str; 8] = [
    "--server-id=1",
    "--log-bin=mysql-bin",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--innodb-flush-log-at-trx-commit=2",
    "--character-set-server=utf8mb4",
];

/// Of the suite's cases, some of which stop it: what it acknowledged must be there afterwards.
const DURABLE_REDIS: &[&str] = &["redis-server", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--databases", "64"];

/// An image, as `cargo xtask` provided it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Image {
    image: String,
    stand_in: Option<String>,
}

/// Where everything is, and what keeps it running.
pub struct Stack {
    images: BTreeMap<String, Image>,
    network: String,
    label: (String, String),
    /// A user who may do everything.
    pub mysql: mysql_async::Pool,
    /// As a client on this machine reaches it.
    pub kafka: String,
    /// Listeners of the same broker, each for one worker behind a proxy.
    pub behind_proxies: Vec<Listener>,
    /// Base URL of Kafka Connect.
    pub connect: String,
    /// Shared by all cases, a database each.
    pub redis: Store,
    /// Shared by all cases, a database each.
    pub mongodb: Store,
    containers: Vec<ContainerAsync<GenericImage>>,
}

/// A listener of the broker's that tells its clients another port than its own.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// Where clients come back to: a proxy has to listen there.
    pub advertised: u16,
    /// Where the broker listens.
    pub port: u16,
}

/// How many workers can be cut off from the broker each for itself.
const PROXIES: u16 = 3;
/// The first of those listeners' ports, inside.
const PROXIED_PORT: u16 = 19100;

impl Stack {
    /// Starts all of them beside each other.
    ///
    /// # Errors
    /// An image is missing, or a system does not answer.
    pub async fn start() -> Result<Self> {
        let (images, label) = (read_images()?, read_label()?);
        let network = format!("streamsync-suite-{}", std::process::id());
        let starter = Starter { images: &images, network: &network, label: &label };

        let (mysql_port, kafka_port, connect_port) = (free_port()?, free_port()?, free_port()?);
        let mysql = starter.request("mysql")?.with_cmd(MYSQL_ARGUMENTS).with_env_var("MYSQL_ROOT_PASSWORD", MYSQL_PASSWORD);
        // The data directory in memory: a test's database need not survive the test, and the disk is not what is tested.
        let mysql = mysql.with_mount(Mount::tmpfs_mount("/var/lib/mysql")).with_mapped_port(mysql_port, 3306.tcp());
        let listener = |_| Ok(Listener { advertised: free_port()?, port: free_port()? });
        let behind_proxies = (0..PROXIES).map(listener).collect::<Result<Vec<_>>>()?;
        let mut kafka =
            kafka_environment(starter.request("kafka")?, &Listeners::behind_ports(&starter.host("kafka"), kafka_port, &behind_proxies));
        for (inside, listener) in (PROXIED_PORT..).zip(&behind_proxies) {
            kafka = kafka.with_mapped_port(listener.port, inside.tcp());
        }
        let connect = connect_environment(starter.request("connect")?, &starter.host("kafka")).with_mapped_port(connect_port, 8083.tcp());
        let requests = [mysql, kafka.with_mapped_port(kafka_port, 19092.tcp()), connect];
        let (containers, redis, mongodb) = tokio::try_join!(
            try_join_all(requests.map(launch)),
            starter.store(Place::new(Kind::Redis, "redis", DURABLE_REDIS)?, None),
            starter.store(Place::new(Kind::MongoDb, "mongodb", &[])?, None)
        )?;

        let url = format!("mysql://root:{MYSQL_PASSWORD}@127.0.0.1:{mysql_port}");
        let mysql = mysql_async::Pool::new(url.as_str());
        let (kafka, connect) = (format!("127.0.0.1:{kafka_port}"), format!("http://127.0.0.1:{connect_port}"));
        let stack = Self { network, label, mysql, kafka, behind_proxies, connect, redis, mongodb, containers, images };
        stack.wait().await?;
        Ok(stack)
    }

    /// The product in MongoDB's place, where it is not MongoDB.
    #[must_use]
    pub fn mongodb_stand_in(&self) -> Option<&str> {
        stand_in(&self.images)
    }

    /// As Kafka Connect, in its container, reaches the broker.
    #[must_use]
    pub fn kafka_inside(&self) -> String {
        format!("{}:9092", self.starter().host("kafka"))
    }

    /// As Kafka Connect, in its container, reaches MySQL.
    #[must_use]
    pub fn mysql_inside(&self) -> String {
        self.starter().host("mysql")
    }

    /// A Redis for one case, which may stop it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn own_redis(&self, name: &str) -> Result<Store> {
        self.starter().store(Place::new(Kind::Redis, name, DURABLE_REDIS)?, None).await
    }

    /// A MongoDB for one case, which may stop it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn own_mongodb(&self, name: &str) -> Result<Store> {
        self.starter().store(Place::new(Kind::MongoDb, name, &[])?, None).await
    }

    /// Removes a store and puts another one in its place, on the same port: with the data of a copy, or with none.
    ///
    /// # Errors
    /// It does not go, or the other one does not start.
    pub async fn replace(&self, store: &mut Store, data: Option<&Path>) -> Result<()> {
        // Not by value: the port is free only when the old container is gone.
        store.remove().await?;
        *store = self.starter().store(store.place.clone(), data).await?;
        Ok(())
    }

    /// The broker's container.
    ///
    /// # Errors
    /// There is none: a defect of the suite.
    pub fn broker(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.containers.get(1).context("the stack has no broker")
    }

    /// Kafka Connect's container.
    ///
    /// # Errors
    /// There is none: a defect of the suite.
    pub fn connect_worker(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.containers.get(2).context("the stack has no Kafka Connect")
    }

    /// Waits until Kafka Connect answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn wait_for_connect(&self) -> Result<()> {
        let url = format!("{}/connectors", self.connect);
        let client = crate::web::client()?;
        until("Kafka Connect", async || {
            client.get(&url).send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// Removes the containers.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn remove(self) -> Result<()> {
        self.mysql.disconnect().await?;
        for container in self.containers.into_iter().chain([self.redis.container, self.mongodb.container]) {
            container.rm().await?;
        }
        Ok(())
    }

    fn starter(&self) -> Starter<'_> {
        Starter { images: &self.images, network: &self.network, label: &self.label }
    }

    async fn wait(&self) -> Result<()> {
        tokio::try_join!(self.prepare_mysql(), self.wait_for_connect())?;
        Ok(())
    }

    async fn prepare_mysql(&self) -> Result<()> {
        let mut connection = until("MySQL", async || Ok(self.mysql.get_conn().await?)).await?;
        let file = repository().join("deploy/mysql/02-debezium.sql");
        let sql = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        run_statements(&mut connection, &sql).await
    }
}

pub(crate) fn stand_in(images: &BTreeMap<String, Image>) -> Option<&str> {
    images.get("mongodb").and_then(|image| image.stand_in.as_deref())
}

pub(crate) fn read_images() -> Result<BTreeMap<String, Image>> {
    let file = PathBuf::from(std::env::var_os("STREAMSYNC_TEST_IMAGES").context(
        "STREAMSYNC_TEST_IMAGES is not set: start by `cargo xtask test` or `bench`, which provide the images, the engine and the guests",
    )?);
    Ok(serde_json::from_slice(&std::fs::read(&file).with_context(|| format!("read {}", file.display()))?)?)
}

/// What marks the containers, so that `cargo xtask` finds those which a killed run left.
pub(crate) fn read_label() -> Result<(String, String)> {
    let label = std::env::var("STREAMSYNC_TEST_LABEL").unwrap_or_else(|_| "streamsync.suite=by-hand".to_owned());
    let (name, value) = label.split_once('=').context("STREAMSYNC_TEST_LABEL is no name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) struct Starter<'a> {
    pub(crate) images: &'a BTreeMap<String, Image>,
    /// All containers are in it.
    pub(crate) network: &'a str,
    pub(crate) label: &'a (String, String),
}

impl Starter<'_> {
    pub(crate) fn host(&self, role: &str) -> String {
        format!("{}-{role}", self.network)
    }

    pub(crate) fn request(&self, role: &str) -> Result<ContainerRequest<GenericImage>> {
        self.named(role, role)
    }

    pub(crate) fn named(&self, role: &str, name: &str) -> Result<ContainerRequest<GenericImage>> {
        let Some(Image { image, .. }) = self.images.get(role) else { bail!("no image for {role}") };
        // A registry's port has a colon as well, but no tag has a slash.
        let (repository, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((image, "latest"));
        let request = GenericImage::new(repository, tag).with_network(self.network).with_container_name(self.host(name));
        Ok(request.with_label(&self.label.0, &self.label.1).with_startup_timeout(crate::deadline::PATIENCE))
    }

    pub(crate) async fn store(&self, place: Place, data: Option<&Path>) -> Result<Store> {
        let (role, inside) = place.kind.role();
        let mut request = self.named(role, &place.name)?.with_mapped_port(place.port, inside.tcp());
        if !place.arguments.is_empty() {
            request = request.with_cmd(place.arguments.iter().copied());
        }
        if let Some(data) = data {
            request = request.with_copy_to(place.kind.folder(), data.to_owned());
        }
        let store = Store { port: place.port, place, container: launch(request).await? };
        store.wait().await?;
        Ok(store)
    }
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs statements that end with `;` at the end of a line.
///
/// # Errors
/// MySQL refuses one.
pub async fn run_statements(connection: &mut mysql_async::Conn, sql: &str) -> Result<()> {
    let text: String = sql.lines().filter(|line| !line.trim_start().starts_with("--")).flat_map(|line| [line, "\n"]).collect();
    for statement in text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
        let first = statement.lines().next().unwrap_or_default();
        connection.query_drop(statement).await.with_context(|| format!("MySQL refuses the statement that begins with {first:?}"))?;
    }
    Ok(())
}

/// A port that nobody listens on now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) async fn launch(request: ContainerRequest<GenericImage>) -> Result<ContainerAsync<GenericImage>> {
    request.start().await.context("a container does not start")
}

/// Where a broker listens, and what it tells its clients.
pub(crate) struct Listeners {
    listeners: String,
    advertised: String,
    protocols: String,
    controller_port: u16,
    between_brokers: &'static str,
}

impl Listeners {
    /// In a network of containers, and on ports of this machine that lead into it.
    pub(crate) fn behind_ports(host: &str, port: u16, behind_proxies: &[Listener]) -> Self {
        let mut listeners = "INTERNAL://:9092,HOST://:19092,CONTROLLER://:9093".to_owned();
        let mut advertised = format!("INTERNAL://{host}:9092,HOST://127.0.0.1:{port}");
        let mut protocols = "INTERNAL:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (inside, listener) in (PROXIED_PORT..).zip(behind_proxies) {
            listeners += &format!(",PROXY{inside}://:{inside}");
            advertised += &format!(",PROXY{inside}://127.0.0.1:{}", listener.advertised);
            protocols += &format!(",PROXY{inside}:PLAINTEXT");
        }
        Self { listeners, advertised, protocols, controller_port: 9093, between_brokers: "INTERNAL" }
    }

    /// On this machine's own loopback.
    pub(crate) fn on_loopback(port: u16, controller_port: u16) -> Self {
        Self {
            listeners: format!("HOST://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
            advertised: format!("HOST://127.0.0.1:{port}"),
            protocols: "HOST:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            controller_port,
            between_brokers: "HOST",
        }
    }
}

/// A JVM of a few minutes would spend more on optimising its code than it gains, and on few cores that time is missing elsewhere.
const JVM: &str = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1";

pub(crate) fn kafka_environment(request: ContainerRequest<GenericImage>, listeners: &Listeners) -> ContainerRequest<GenericImage> {
    let voters = format!("1@localhost:{}", listeners.controller_port);
    let variables = [
        ("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw"),
        ("KAFKA_NODE_ID", "1"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", &voters),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_LISTENERS", &listeners.listeners),
        ("KAFKA_ADVERTISED_LISTENERS", &listeners.advertised),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", &listeners.protocols),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", listeners.between_brokers),
        ("KAFKA_LOG_DIRS", "/tmp/kafka-logs"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "4"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS", "4"),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR", "1"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_HEAP_OPTS", &format!("-Xms256m -Xmx512m {JVM}")),
    ];
    variables.into_iter().fold(request, |request, (name, value)| request.with_env_var(name, value))
}

fn connect_environment(request: ContainerRequest<GenericImage>, kafka: &str) -> ContainerRequest<GenericImage> {
    let brokers = format!("{kafka}:9092");
    let variables = [
        ("BOOTSTRAP_SERVERS", brokers.as_str()),
        ("GROUP_ID", "connect"),
        ("CONFIG_STORAGE_TOPIC", "connect-configs"),
        ("OFFSET_STORAGE_TOPIC", "connect-offsets"),
        ("STATUS_STORAGE_TOPIC", "connect-status"),
        ("CONNECT_CONFIG_STORAGE_REPLICATION_FACTOR", "1"),
        ("CONNECT_OFFSET_STORAGE_REPLICATION_FACTOR", "1"),
        ("CONNECT_OFFSET_STORAGE_PARTITIONS", "1"),
        ("CONNECT_STATUS_STORAGE_REPLICATION_FACTOR", "1"),
        ("CONNECT_STATUS_STORAGE_PARTITIONS", "1"),
        ("CONNECT_OFFSET_FLUSH_INTERVAL_MS", "500"),
        ("HEAP_OPTS", &format!("-Xms256m -Xmx768m {JVM}")),
    ];
    variables.into_iter().fold(request, |request, (name, value)| request.with_env_var(name, value))
}
