//! One case: a database in each system, a connector and a consumer group of its own, so that cases run beside each other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};

use crate::checker::Checker;
use crate::deadline::until;
use crate::stack::{Stack, free_port, repository, run_statements};
use crate::store::Store;
use crate::tables::{SHOP, TableCheck};
use crate::topics::Topics;
use crate::worker::{Environment, Worker};

/// Who sends it may change what a case's workers do.
pub const TOKEN: &str = "a-secret-of-the-suite";
/// Partitions of a case's topics: more than one, so that lanes run beside each other.
const PARTITIONS: i32 = 2;
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A case's systems.
pub struct Case {
    /// Name of the databases, of the connector, of the topics' prefix and of the group.
    pub name: &'static str,
    stack: Arc<Stack>,
    number: u32,
    partitions: i32,
    /// What becomes of its tables.
    pub tables: Vec<TableCheck>,
    redis_port: u16,
    mongodb_port: u16,
    dir: PathBuf,
    /// What its routes do at a truncate, where that is not the default.
    pub on_truncate: Option<&'static str>,
    /// Kafka.
    pub topics: Topics,
    /// The judge.
    pub checker: Checker,
}

impl Case {
    /// The main job's three tables, empty.
    ///
    /// # Errors
    /// A system refuses.
    pub async fn shop(stack: &Arc<Stack>, name: &'static str) -> Result<Self> {
        let case = Self::new(stack, name, &SHOP, PARTITIONS, (stack.redis.port, stack.mongodb.port)).await?;
        case.create_shop().await?;
        Ok(case)
    }

    /// The same on stores that this case may stop.
    ///
    /// # Errors
    /// A system refuses.
    pub async fn shop_on(stack: &Arc<Stack>, name: &'static str, partitions: i32, redis: &Store, mongodb: &Store) -> Result<Self> {
        let case = Self::new(stack, name, &SHOP, partitions, (redis.port, mongodb.port)).await?;
        case.create_shop().await?;
        Ok(case)
    }

    /// Tables of a file in `sql/`.
    ///
    /// # Errors
    /// A system refuses.
    pub async fn with_sql(stack: &Arc<Stack>, name: &'static str, tables: &[TableCheck], sql: &str) -> Result<Self> {
        let case = Self::new(stack, name, tables, PARTITIONS, (stack.redis.port, stack.mongodb.port)).await?;
        case.sql(sql).await?;
        Ok(case)
    }

    async fn new(
        stack: &Arc<Stack>,
        name: &'static str,
        tables: &[TableCheck],
        partitions: i32,
        (redis_port, mongodb_port): (u16, u16),
    ) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/suite").join(name);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::fs::create_dir_all(&dir)?;
        let mongodb = mongodb::Client::with_uri_str(mongodb_uri(mongodb_port)).await?.database(name);
        let redis = redis::Client::open(redis_url(redis_port, number))?;
        let checker = Checker { mysql: stack.mysql.clone(), schema: name.to_owned(), redis, mongodb };
        let topics = Topics::new(&stack.kafka);
        for table in tables {
            topics.create(&topic(name, table.name), partitions).await?;
        }
        let tables = tables.to_vec();
        let case = Self {
            name,
            stack: Arc::clone(stack),
            number,
            partitions,
            tables,
            redis_port,
            mongodb_port,
            dir,
            on_truncate: None,
            topics,
            checker,
        };
        let mut connection = stack.mysql.get_conn().await?;
        connection.query_drop(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await?;
        Ok(case)
    }

    async fn create_shop(&self) -> Result<()> {
        let file = repository().join("deploy/mysql/01-ecommerce.sql");
        let sql = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let own = sql.replace("ecommerce.", &format!("{}.", self.name));
        // The file makes its own database as well, which each case has already.
        let tables = own.lines().filter(|line| !line.starts_with("CREATE DATABASE")).collect::<Vec<_>>().join("\n");
        self.sql(&tables).await
    }

    /// Statements in the case's database, in a session whose zone is UTC.
    ///
    /// # Errors
    /// MySQL refuses one.
    pub async fn sql(&self, statements: &str) -> Result<()> {
        let mut connection = self.stack.mysql.get_conn().await?;
        connection.query_drop(format!("USE {}", self.name)).await?;
        connection.query_drop("SET time_zone = '+00:00'").await?;
        run_statements(&mut connection, &format!("{}\n", statements.trim())).await
    }

    /// Registers the case's connector, as `deploy/connect` has it, and waits until its task runs.
    ///
    /// # Errors
    /// Kafka Connect refuses, or the task fails.
    pub async fn connect(&self) -> Result<()> {
        self.connect_as(self.name).await
    }

    /// The same under another name: without offsets, so that it begins with a snapshot.
    ///
    /// # Errors
    /// As [`Case::connect`].
    pub async fn connect_as(&self, connector: &str) -> Result<()> {
        let file = repository().join("deploy/connect/ecommerce.json");
        let mut config: serde_json::Map<String, Value> = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let tables: Vec<String> = self.tables.iter().map(|table| format!("{}.{}", self.name, table.name)).collect();
        let own = [
            ("database.hostname", self.stack.mysql_inside()),
            ("database.server.id", (5400 + self.number).to_string()),
            ("topic.prefix", self.name.to_owned()),
            ("database.include.list", self.name.to_owned()),
            ("table.include.list", tables.join(",")),
            ("schema.history.internal.kafka.bootstrap.servers", self.stack.kafka_inside()),
            ("schema.history.internal.kafka.topic", format!("schema-history.{connector}")),
        ];
        for (key, value) in own {
            ensure!(config.insert(key.to_owned(), json!(value)).is_some(), "{} has no {key}", file.display());
        }
        let url = self.connector(connector);
        let client = crate::web::client()?;
        until("the connector is taken", async || {
            // 409 while the worker's group settles another connector.
            client.put(format!("{url}/config")).json(&config).send().await?.error_for_status()?;
            Ok(())
        })
        .await?;
        self.wait_for_connector(connector).await
    }

    /// Waits until a connector's task runs.
    ///
    /// # Errors
    /// It does not.
    pub async fn wait_for_connector(&self, connector: &str) -> Result<()> {
        let url = format!("{}/status", self.connector(connector));
        let client = crate::web::client()?;
        until("the connector's task runs", async || {
            let status: Value = client.get(&url).send().await?.json().await?;
            ensure!(status.pointer("/tasks/0/state").and_then(Value::as_str) == Some("RUNNING"), "{status}");
            Ok(())
        })
        .await
    }

    /// Removes a connector; Kafka Connect keeps its offsets.
    ///
    /// # Errors
    /// Kafka Connect refuses.
    pub async fn disconnect(&self, connector: &str) -> Result<()> {
        let client = crate::web::client()?;
        until("the connector is removed", async || {
            client.delete(self.connector(connector)).send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// A connector's URL.
    #[must_use]
    pub fn connector(&self, connector: &str) -> String {
        format!("{}/connectors/{connector}", self.stack.connect)
    }

    /// Runs another command of the program with the case's configuration: whether it succeeded, and what it said.
    ///
    /// # Errors
    /// The program does not start.
    pub async fn attempt(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let config = self.write_config("command", free_port()?)?;
        crate::worker::attempt(&config, arguments).await
    }

    /// Starts a worker with the case's configuration.
    ///
    /// # Errors
    /// It does not serve.
    pub async fn start_worker(&self) -> Result<Worker> {
        self.start_worker_as("worker", &[]).await
    }

    /// One of several workers, with variables that come over the configuration.
    ///
    /// # Errors
    /// It does not serve.
    pub async fn start_worker_as(&self, name: &str, environment: &Environment) -> Result<Worker> {
        let http_port = free_port()?;
        let config = self.write_config(name, http_port)?;
        Worker::start(&config, http_port, &self.dir.join(format!("{name}.log")), environment).await
    }

    fn write_config(&self, name: &str, http_port: u16) -> Result<PathBuf> {
        let config = self.dir.join(format!("{name}.toml"));
        std::fs::write(&config, self.config(http_port, &[])?).with_context(|| format!("write {}", config.display()))?;
        Ok(config)
    }

    /// Runs another command of `streamsync` with the case's configuration: whether it ended with success, and what it printed to stdout.
    ///
    /// # Errors
    /// It does not start, or does not end in time.
    pub async fn command(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let config = self.write_config("command", free_port()?)?;
        crate::worker::printed(&config, arguments).await
    }

    /// Starts a worker with these modules in place of their tables' own, and with variables that come over the configuration.
    ///
    /// # Errors
    /// It does not serve.
    pub async fn start_worker_with(&self, modules: &[(&str, PathBuf)], environment: &Environment) -> Result<Worker> {
        let http_port = free_port()?;
        let config = self.worker_config();
        std::fs::write(&config, self.config(http_port, modules)?).with_context(|| format!("write {}", config.display()))?;
        Worker::start(&config, http_port, &self.log(), environment).await
    }

    /// The configuration of a case's one worker.
    #[must_use]
    pub fn worker_config(&self) -> PathBuf {
        self.dir.join("worker.toml")
    }

    /// The component of a transform, as `cargo xtask guests` built it.
    ///
    /// # Errors
    /// It can't be read.
    pub fn component(&self, transform: &str) -> Result<Vec<u8>> {
        let path = guests()?.join(format!("{transform}.wasm"));
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Where the workers of this case log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("worker.log")
    }

    /// Where this case keeps its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lanes that all of its workers have together.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.tables.len() * usize::try_from(self.partitions).unwrap_or_default()
    }

    /// The number of its database in Redis.
    #[must_use]
    pub fn redis_database(&self) -> u32 {
        self.number
    }

    /// The topic of one of its tables.
    #[must_use]
    pub fn topic(&self, table: &str) -> String {
        topic(self.name, table)
    }

    /// Its consumer group.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{}-group", self.name)
    }

    /// Where its failed records go.
    #[must_use]
    pub fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letters", self.name)
    }

    /// Waits until both stores equal MySQL in all of the case's tables.
    ///
    /// # Errors
    /// They differ at the deadline, or the worker stopped.
    pub async fn wait_equal(&self, worker: &mut Worker) -> Result<()> {
        self.checker.wait_equal(&self.tables).await.and_then(|()| worker.assert_alive())
    }

    /// All of the case's tables are compared once.
    ///
    /// # Errors
    /// The differences.
    pub async fn assert_equal(&self) -> Result<()> {
        self.checker.equal(&self.tables).await
    }

    /// Records in the topics of all tables.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn records(&self) -> Result<i64> {
        self.tables.iter().map(|table| self.topics.count(&self.topic(table.name))).sum()
    }

    /// Everything that both stores hold, versions included, in a form that can be compared.
    ///
    /// # Errors
    /// A store does not answer.
    pub async fn contents(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for table in &self.tables {
            let documents = self.checker.redis_documents(table.name).await?;
            all.extend(documents.into_iter().map(|(key, text)| format!("{key} {text}")));
            let documents = self.checker.mongodb_documents(table.name).await?;
            all.extend(documents.into_iter().map(|document| format!("{} {document:?}", table.name)));
        }
        all.sort();
        Ok(all)
    }

    fn config(&self, http_port: u16, modules: &[(&str, PathBuf)]) -> Result<String> {
        let guests = guests()?;
        let Self { name, stack, redis_port, mongodb_port, number, .. } = self;
        let mut toml = format!(
            "[kafka]\nbrokers = {:?}\ngroup = {:?}\ncontrol_topic = \"{name}.control\"\nreplication_factor = 1\ncommit_interval = \"100ms\"\n\n\
             [http]\nlisten = \"127.0.0.1:{http_port}\"\ntoken = {TOKEN:?}\n\n[dead_letters]\ntopic = {:?}\n\n\
             [retry]\ninitial = \"50ms\"\nmax = \"1s\"\n\n\
             [sinks.redis]\nkind = \"redis\"\nurl = {:?}\nwrite_timeout = \"5s\"\n\n\
             [sinks.mongodb]\nkind = \"mongodb\"\nuri = {:?}\ndatabase = \"{name}\"\nwrite_timeout = \"10s\"\n",
            stack.kafka,
            self.group(),
            self.dead_letter_topic(),
            redis_url(*redis_port, *number),
            mongodb_uri(*mongodb_port),
        );
        for TableCheck { name: table, transform, .. } in &self.tables {
            let own = modules.iter().find(|(of, _)| of == table).map(|(_, module)| module.clone());
            write!(
                toml,
                "\n[[routes]]\nname = \"{table}\"\ntopic = {:?}\ntable = \"{name}.{table}\"\nformat = \"json-with-schema\"\n{}\
                 [routes.transform]\nmodule = {:?}\n\
                 [routes.targets.redis]\nsink = \"redis\"\nprefix = \"{table}\"\n\
                 [routes.targets.mongodb]\nsink = \"mongodb\"\ncollection = \"{table}\"\n",
                self.topic(table),
                self.on_truncate.map(|what| format!("on_truncate = {what:?}\n")).unwrap_or_default(),
                own.unwrap_or_else(|| guests.join(format!("{transform}.wasm"))),
            )?;
        }
        Ok(toml)
    }
}

fn guests() -> Result<PathBuf> {
    let guests = std::env::var_os("STREAMSYNC_TEST_GUESTS").context("STREAMSYNC_TEST_GUESTS is not set: start by `cargo xtask test`")?;
    Ok(PathBuf::from(guests))
}

fn topic(name: &str, table: &str) -> String {
    format!("{name}.{name}.{table}")
}

/// Where a worker reaches Redis.
#[must_use]
pub fn redis_url(port: u16, database: u32) -> String {
    format!("redis://127.0.0.1:{port}/{database}")
}

/// Where a worker reaches MongoDB.
#[must_use]
pub fn mongodb_uri(port: u16) -> String {
    format!("mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=3000")
}
