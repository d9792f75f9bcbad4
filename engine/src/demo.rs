//! The main job in one process: librdkafka's mock cluster, a shop that writes to it as Debezium would, a worker, and a check at the end.
//!
//! The mock keeps about 5 MB a partition and forgets everything with the process, so the shop never runs far ahead of what is
//! settled, and every run writes under a prefix and a database of its own, removed afterwards.

mod debezium;
mod expected;
mod shop;
mod stores;

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::debezium::{Record, Table};
use self::shop::Shop;
use self::stores::{Documents, MongoStore, RedisStore};
use crate::config::Settings;
use crate::dead_letter::MemoryDeadLetters;
use crate::engine::{self, Parts};
use crate::http::Health;
use crate::identity::MemoryIdentities;
use crate::metrics::Metrics;
use crate::sink::Sink;
use crate::sink::memory::MemorySink;
use crate::source::cluster::{CleanupPolicy, TopicFacts, Topics, UNKNOWN_ID};
use crate::source::{self, TopicPartition};

const PARTITIONS: i32 = 2;

/// Records that may wait in a partition: some 3 KB each, far from what the mock keeps.
const MAX_WAITING: i64 = 200;

/// Dead letters that are kept; the shop makes none.
const MAX_LETTERS: usize = 1000;

/// How long the last records may take to settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a person may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `customers.wasm`, `orders.wasm` and `shipping_info.wasm` are.
    pub modules: PathBuf,
    /// End after so many changes; without it, at Ctrl-C.
    pub changes: Option<u64>,
    /// Changes a second.
    pub rate: u32,
    /// A real Redis instead of memory.
    pub redis: Option<String>,
    /// A real MongoDB instead of memory.
    pub mongodb: Option<String>,
    /// Where metrics and the status page are.
    pub listen: SocketAddr,
    /// The shop's history.
    pub seed: u64,
}

/// Why the demo could not run or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The in-process Kafka.
    #[error("the in-process Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The worker.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The status page.
    #[error(transparent)]
    Http(#[from] crate::http::Error),
    /// A store could not be read or cleaned.
    #[error("{0}")]
    Store(String),
    /// The demo's own configuration was refused.
    #[error("the demo's configuration: {0}")]
    Configuration(String),
    /// Records did not settle in time.
    #[error("{waiting} records were not settled within {} s; /status says why", SETTLE_TIMEOUT.as_secs())]
    Unsettled {
        /// How many.
        waiting: i64,
    },
    /// The terminal.
    #[error("writing to the terminal: {0}")]
    Terminal(#[from] std::io::Error),
}

/// Runs until `options.changes` were made or `stop` resolves; then compares. `Ok(true)`: both stores equal the shop.
pub async fn run(options: Options, mut out: impl Write + Send, stop: impl Future<Output = ()> + Send) -> Result<bool, Error> {
    let run = format!("streamsync-demo-{}-{}", std::process::id(), now_ms() / 1000);
    let cluster = MockCluster::new(1)?;
    for table in Table::ALL {
        cluster.create_topic(&topic(&run, table), PARTITIONS, 1)?;
    }
    let settings = settings(&run, &cluster.bootstrap_servers(), &options)?;
    let metrics = Arc::new(Metrics::new().map_err(|error| Error::Configuration(error.to_string()))?);
    let health = Health::new(settings.http.stalled_after);
    let listener = crate::http::bind(options.listen).await?;
    let mut parts = Parts::build(Arc::new(settings), Arc::clone(&metrics), Arc::clone(&health)).await?;
    // The mock can neither create topics nor tell what they are.
    parts.dead_letters = Arc::new(MemoryDeadLetters::new(MAX_LETTERS));
    parts.identities = Arc::new(MemoryIdentities::default());
    parts.topics = Arc::new(MockTopics);
    let mut stores = Stores::open(&options, &run, &mut parts).await?;

    let (ending, ended) = watch::channel(false);
    let mut page = JoinSet::new();
    page.spawn(crate::http::serve(listener, Arc::clone(&metrics), Arc::clone(&health), told(ended.clone())));
    let mut worker = JoinSet::new();
    worker.spawn(engine::run_parts(parts, told(ended)));
    writeln!(out, "shop -> Kafka (in process) -> 3 transforms -> {} and {}", stores.redis_name, stores.mongodb_name)?;
    writeln!(out, "status page http://{}/   metrics http://{}/metrics", options.listen, options.listen)?;
    writeln!(
        out,
        "{}\n",
        if options.changes.is_some() { "Ends by itself." } else { "Ctrl-C stops the shop and compares both stores with it." }
    )?;

    let mut till = Till { producer: producer(&cluster)?, run: run.clone(), produced: HashMap::new(), records: 0 };
    let mut shop = Shop::new(options.seed);
    let sold = tokio::select! {
        sold = sell(&options, &mut shop, &mut till, &health, &mut out, stop) => sold,
        Some(early) = worker.join_next() => match early {
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) | Err(_) => Err(Error::Store("the worker ended before the shop closed".to_owned())),
        },
    };
    let equal = match sold {
        Ok(()) => match till.settle(&health).await {
            Ok(()) => stores.compare(&run, &shop, &mut out).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if let Ok(true) = equal {
        write_totals(&mut out, &metrics, till.records)?;
    }
    ending.send_replace(true);
    while worker.join_next().await.is_some() {}
    page.join_all().await;
    stores.remove(&run).await?;
    equal
}

async fn told(mut ended: watch::Receiver<bool>) {
    ended.wait_for(|end| *end).await.ok();
}

/// Makes changes at the chosen rate, and shows once a second what flows.
async fn sell(
    options: &Options,
    shop: &mut Shop,
    till: &mut Till,
    health: &Health,
    out: &mut (impl Write + Send),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    tokio::pin!(stop);
    let start = Instant::now();
    let mut shown = start;
    let mut made = 0u64;
    while options.changes.is_none_or(|limit| made < limit) {
        let due = start + Duration::from_secs_f64(made as f64 / f64::from(options.rate.max(1)));
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = tokio::time::sleep_until(due) => {}
        }
        let now = now_ms();
        let change = shop.change(now / 1000);
        for record in debezium::records(&change, now) {
            till.put(record).await?;
        }
        made += 1;
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = till.wait_for_room(health) => {}
        }
        if shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            writeln!(
                out,
                "{:>4} s   {made:>7} changes   {:>5} customers   {:>5} orders   {:>5} shipments   {:>4} records waiting",
                start.elapsed().as_secs(),
                shop.customers.len(),
                shop.orders.len(),
                shop.shipments.len(),
                till.waiting(health),
            )?;
        }
    }
    writeln!(out, "\n{made} changes made in {:.1} s; waiting until all are settled", start.elapsed().as_secs_f64())?;
    Ok(())
}

/// Where the shop's records go, and how far they have come.
struct Till {
    producer: FutureProducer,
    run: String,
    /// The offset behind the last record of each partition.
    produced: HashMap<TopicPartition, i64>,
    records: u64,
}

impl Till {
    /// Returns when Kafka has the record, so that a key's records keep their order.
    async fn put(&mut self, record: Record) -> Result<(), Error> {
        let topic = topic(&self.run, record.table);
        let mut headers = OwnedHeaders::new();
        if let Some((key, value)) = &record.header {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut message = FutureRecord::to(&topic).key(&record.key).headers(headers);
        message.payload = record.value.as_ref();
        let delivered = self.producer.send(message, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
        let source = TopicPartition { topic: topic.as_str().into(), partition: delivered.partition };
        self.produced.insert(source, delivered.offset + 1);
        self.records += 1;
        Ok(())
    }

    fn waiting(&self, health: &Health) -> i64 {
        self.produced.iter().map(|(source, end)| end - health.position(source).unwrap_or(0)).sum()
    }

    async fn wait_for_room(&self, health: &Health) {
        while self.produced.iter().any(|(source, end)| end - health.position(source).unwrap_or(0) > MAX_WAITING) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn settle(&self, health: &Health) -> Result<(), Error> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.waiting(health) > 0 {
            if Instant::now() >= deadline {
                return Err(Error::Unsettled { waiting: self.waiting(health) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// What the mock's topics are; it does not tell it itself.
struct MockTopics;

impl Topics for MockTopics {
    fn facts(&self, _: &str) -> Result<TopicFacts, source::Error> {
        Ok(TopicFacts {
            cluster_id: "mock".to_owned(),
            topic_id: UNKNOWN_ID.to_owned(),
            partitions: PARTITIONS,
            cleanup_policy: CleanupPolicy::DELETE,
            delete_retention_ms: None,
        })
    }
}

/// Both stores of the run.
struct Stores {
    redis: RedisStore,
    redis_name: &'static str,
    mongodb: MongoStore,
    mongodb_name: &'static str,
}

impl Stores {
    /// Connects, or puts memory sinks of our own in the place of the worker's, so that they can be read.
    async fn open(options: &Options, run: &str, parts: &mut Parts) -> Result<Self, Error> {
        let mut memory = |index: usize, name: &str| {
            let sink = Arc::new(MemorySink::new(name));
            if let Some(place) = parts.sinks.get_mut(index) {
                *place = Arc::clone(&sink) as Arc<dyn Sink>;
            }
            sink
        };
        let (redis, redis_name) = match &options.redis {
            Some(url) => (RedisStore::connect(url).await?, "Redis"),
            None => (RedisStore::Memory(memory(sink_index(&parts.settings, "redis"), "redis")), "memory in Redis' place"),
        };
        let (mongodb, mongodb_name) = match &options.mongodb {
            Some(uri) => (MongoStore::connect(uri, run).await?, "MongoDB"),
            None => (MongoStore::Memory(memory(sink_index(&parts.settings, "mongodb"), "mongodb")), "memory in MongoDB's place"),
        };
        Ok(Self { redis, redis_name, mongodb, mongodb_name })
    }

    async fn compare(&mut self, run: &str, shop: &Shop, out: &mut (impl Write + Send)) -> Result<bool, Error> {
        let redis = compare(out, self.redis_name, &self.redis.documents(run).await?, &expected::redis(shop))?;
        let mongodb = compare(out, self.mongodb_name, &self.mongodb.documents().await?, &expected::mongodb(shop))?;
        Ok(redis && mongodb)
    }

    async fn remove(&mut self, run: &str) -> Result<(), Error> {
        self.redis.remove(run).await?;
        self.mongodb.remove().await
    }
}

fn sink_index(settings: &Settings, name: &str) -> usize {
    settings.sinks.iter().position(|sink| sink.name == name).unwrap_or(usize::MAX)
}

fn compare<D: PartialEq + std::fmt::Debug>(
    out: &mut impl Write,
    name: &str,
    found: &Documents<D>,
    expected: &Documents<D>,
) -> Result<bool, Error> {
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(*key)).collect();
    let ghosts: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
    let other: Vec<_> = expected.iter().filter(|(key, document)| found.get(*key).is_some_and(|f| f != *document)).collect();
    if missing.is_empty() && ghosts.is_empty() && other.is_empty() {
        writeln!(out, "{name}: equal to the shop, {} documents", found.len())?;
        return Ok(true);
    }
    writeln!(out, "{name}: NOT equal to the shop: {} missing, {} ghosts, {} different", missing.len(), ghosts.len(), other.len())?;
    for (what, keys) in [("missing", &missing), ("ghost", &ghosts)] {
        for key in keys.iter().take(5) {
            writeln!(out, "  {what} {} {}", key.0, key.1)?;
        }
    }
    for (key, document) in other.iter().take(5) {
        writeln!(out, "  {} {}\n    has  {:?}\n    must {document:?}", key.0, key.1, found.get(*key))?;
    }
    Ok(false)
}

fn write_totals(out: &mut impl Write, metrics: &Metrics, records: u64) -> Result<(), Error> {
    write!(out, "{records} records:")?;
    for (outcome, count) in metrics.outcomes() {
        write!(out, "  {count} {outcome}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn producer(cluster: &MockCluster<'static, DefaultProducerContext>) -> Result<FutureProducer, Error> {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("partitioner", "murmur2_random").set("linger.ms", "0");
    Ok(config.create()?)
}

fn topic(run: &str, table: Table) -> String {
    format!("{run}.ecommerce.{}", table.name())
}

/// The same configuration file as any other worker's, made here.
fn settings(run: &str, brokers: &str, options: &Options) -> Result<Settings, Error> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let store = |name: &str, key: &str, url: &Option<String>, rest: &str| match url {
        Some(url) => format!("[sinks.{name}]\nkind = \"{name}\"\n{key} = {}\n{rest}", quoted(url)),
        None => format!("[sinks.{name}]\nkind = \"memory\"\n"),
    };
    let mut text = format!(
        "[kafka]\nbrokers = {}\ngroup = {}\ncontrol_topic = {}\n[dead_letters]\ntopic = {}\n[http]\nlisten = {}\n{}{}",
        quoted(brokers),
        quoted(run),
        quoted(&format!("{run}.control")),
        quoted(&format!("{run}.dead-letters")),
        quoted(&options.listen.to_string()),
        store("redis", "url", &options.redis, ""),
        store("mongodb", "uri", &options.mongodb, &format!("database = {}\n", quoted(run))),
    );
    for table in Table::ALL {
        let name = table.name();
        let module = options.modules.join(format!("{name}.wasm"));
        text.push_str(&format!(
            "[[routes]]\nname = {n}\ntopic = {t}\ntable = \"ecommerce.{name}\"\nformat = \"json-with-schema\"\n[routes.transform]\nmodule = {m}\n\
             [routes.targets.redis]\nsink = \"redis\"\nprefix = {p}\n[routes.targets.mongodb]\nsink = \"mongodb\"\ncollection = {n}\n",
            n = quoted(name),
            t = quoted(&topic(run, table)),
            m = quoted(&module.to_string_lossy()),
            p = quoted(&stores::prefix(run, table)),
        ));
    }
    Settings::parse(&text, Path::new("."))
        .map_err(|faults| Error::Configuration(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
