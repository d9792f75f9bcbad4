//! Validated settings: what the rest of the engine reads. Whoever holds one need not check it again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::module::ModuleSource;
use crate::change::Tag;

/// Everything.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster that is read, and what is written to it.
    pub kafka: KafkaSettings,
    /// How records are grouped and how much may wait.
    pub batch: BatchSettings,
    /// Back-off between attempts at a sink or a registry that is away.
    pub retry: RetrySettings,
    /// How long a stop or a revoked partition may take to settle its last batch.
    pub drain_timeout: Duration,
    /// How often an idle partition looks whether its sinks are as it left them. A busy one does with each commit.
    pub loss_check_interval: Duration,
    /// Metrics, health, status.
    pub http: HttpSettings,
    /// Where failed records go.
    pub dead_letters: DeadLetterSettings,
    /// Limits for guests where a route has none of its own, and the module cache.
    pub transforms: TransformHostSettings,
    /// The stores, by index: [`TargetSettings::sink`].
    pub sinks: Vec<SinkSettings>,
    /// One a topic.
    pub routes: Vec<Arc<RouteSettings>>,
    /// Topics whose records are counted and passed over: heartbeats, transactions, schema changes.
    pub passed_over_topics: Vec<String>,
    /// The file's directory: relative paths start here.
    pub directory: PathBuf,
}

/// The Kafka cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// Compacted topic with the generation of every source topic.
    pub control_topic: String,
    /// Replicas of the topics that the engine creates: control and dead letters. `None`: the broker's default.
    pub replication_factor: Option<i32>,
    /// Partitions whose beginning is above offset 0 on a topic with delete policy are accepted as complete.
    pub accept_truncated_log: bool,
    /// How often offsets are committed while records flow.
    pub commit_interval: Duration,
    /// The longest time between two polls before the group takes the partitions away.
    pub max_poll_interval: Duration,
    /// Most bytes that librdkafka keeps fetched a partition.
    pub queued_max_bytes: usize,
    /// librdkafka's own properties, passed through; those which the engine's guarantees rest on are refused.
    pub properties: Vec<(String, String)>,
}

/// How a lane groups records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// So many records of a partition may be written and not committed. A batch closes at half of it,
    pub max_records: usize,
    /// at this number of bytes (one record may be larger),
    pub max_bytes: usize,
    /// or so long after its first record. An idle partition's record is written at once.
    pub linger: Duration,
    /// Batches that may be prepared while one is being written.
    pub prepared_ahead: usize,
}

/// Exponential back-off with jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Before the second attempt.
    pub initial: Duration,
    /// Never longer.
    pub max: Duration,
    /// What the jitter is drawn from. `None`: anew for each series, so that many workers don't knock at the same moment.
    pub jitter_seed: Option<u64>,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Loopback unless the configuration says otherwise.
    pub listen: SocketAddr,
    /// `/ready` fails when a partition with records waiting has settled none for this long.
    pub stalled_after: Duration,
    /// Who knows it may change what the worker does. `None`: nobody may.
    pub token: Option<Token>,
}

/// A secret that a request must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Shorter ones could be guessed.
    pub const MIN_BYTES: usize = 16;

    /// `None`: it is too short.
    pub fn new(secret: String) -> Option<Self> {
        (secret.len() >= Self::MIN_BYTES).then_some(Self(secret))
    }

    /// For whoever sends it.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// Whether it is this one. How long the comparison takes says nothing of the secret.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterSettings {
    /// One topic for all routes.
    pub topic: String,
    /// More of them in a minute halt the route.
    pub max_per_minute: u32,
    /// A record larger than this is kept as a reference (topic, partition, offset), without its bytes.
    pub max_bytes: usize,
}

/// What all guests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformHostSettings {
    /// Where compiled modules are kept; owned by this host alone. `None`: nothing is kept.
    pub cache_dir: Option<PathBuf>,
    /// Instances that may live at the same time: lanes times transforms.
    pub max_instances: u32,
    /// How often it is looked whether a module's file has changed. `None`: never.
    pub watch: Option<Duration>,
    /// How modules are pulled.
    pub pulls: PullSettings,
}

/// How modules are pulled from OCI registries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSettings {
    /// Time for one pull.
    pub timeout: Duration,
    /// The registries that need something special.
    pub registries: Vec<RegistrySettings>,
}

impl Default for PullSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(120), registries: Vec::new() }
    }
}

/// An OCI registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Host, and port, as references have them.
    pub name: String,
    /// User and password, or a token in the password's place. `None`: nobody in particular.
    pub credentials: Option<(String, String)>,
    /// Whether it is reached without TLS.
    pub plain_http: bool,
}

/// The password is shown to nobody.
impl std::fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySettings").field("name", &self.name).field("plain_http", &self.plain_http).finish_non_exhaustive()
    }
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// The name in the configuration.
    pub name: String,
    /// Which store, and how it is reached.
    pub kind: SinkKind,
    /// How long a delete's tombstone is kept: longer than any zombie lives.
    pub tombstone_ttl: Duration,
    /// Time limit of one write.
    pub write_timeout: Duration,
}

/// Which store, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Redis or a compatible server.
    Redis(RedisSettings),
    /// MongoDB or a compatible server.
    MongoDb(MongoDbSettings),
    /// In this process; for the demo and for tests.
    Memory,
    /// Nowhere: every write is taken, no document is kept. For measurements.
    Null,
}

/// How Redis is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`; with several seed nodes for a cluster. May hold a password: never logged.
    pub urls: Vec<String>,
    /// Whether the server is a Redis cluster.
    pub cluster: bool,
    /// Most commands in one pipeline.
    pub max_pipeline: usize,
}

/// How MongoDB is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoDbSettings {
    /// `mongodb://`, `mongodb+srv://`. May hold a password: never logged.
    pub uri: String,
    /// Database of all collections of this sink.
    pub database: String,
    /// Most writes in one bulk.
    pub max_bulk: usize,
    /// How often tombstones are swept: a zombie's late insert stays for at most one interval.
    pub sweep_interval: Duration,
    /// Most tombstones that one sweep page covers.
    pub sweep_page: usize,
}

/// Values of librdkafka's properties may be secrets: names alone are shown.
impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("control_topic", &self.control_topic)
            .field("properties", &names)
            .finish_non_exhaustive()
    }
}

/// The guest's configuration may hold a secret, the salt of a hash for example.
impl std::fmt::Debug for TransformSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransformSettings")
            .field("module", &self.module)
            .field("sha256", &self.sha256)
            .field("call_timeout", &self.call_timeout)
            .field("max_memory_bytes", &self.max_memory_bytes)
            .field("max_output_bytes", &self.max_output_bytes)
            .field("max_log_lines", &self.max_log_lines)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings").field("cluster", &self.cluster).field("max_pipeline", &self.max_pipeline).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MongoDbSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoDbSettings").field("database", &self.database).field("max_bulk", &self.max_bulk).finish_non_exhaustive()
    }
}

/// One table's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The name in the configuration, in metrics and in messages.
    pub name: String,
    /// The topic; no two routes share one.
    pub topic: String,
    /// MySQL's database, as `source.db` has it.
    pub database: String,
    /// MySQL's table, as `source.table` has it.
    pub table: String,
    /// The shape of the records.
    pub format: Format,
    /// The guest.
    pub transform: TransformSettings,
    /// What the guest may write.
    pub targets: Vec<Arc<TargetSettings>>,
    /// What a truncate event does.
    pub on_truncate: OnTruncate,
}

impl RouteSettings {
    /// The sinks that the route writes to, each once: indexes into [`Settings::sinks`].
    pub fn sinks(&self) -> Vec<usize> {
        self.targets.iter().map(|target| target.sink).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The shape of a route's records; declared, never guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Kafka Connect's JSON with `schemas.enable=true`.
    JsonWithSchema,
    /// Kafka Connect's JSON with `schemas.enable=false`; the types are declared.
    Json {
        /// The table's columns, in any order.
        columns: Vec<DeclaredColumn>,
    },
}

/// A column's type where the records do not tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredColumn {
    /// As in MySQL.
    pub name: String,
    /// As in MySQL: "decimal(10,2)", "bigint unsigned".
    pub source_type: String,
    /// The tag of its values.
    pub tag: Tag,
    /// How the connector writes the values.
    pub wire: Wire,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Declared length.
    pub length: Option<u32>,
    /// Digits behind the point.
    pub scale: Option<i32>,
}

/// How a value stands in JSON. The names are Debezium's handling modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `true` or `false`.
    Boolean,
    /// A JSON integer.
    Integer,
    /// A JSON integer that is negative where an unsigned value passed 2^63 (`bigint.unsigned.handling.mode=long`).
    WrappedInteger,
    /// A JSON number; also `decimal.handling.mode=double`.
    Number,
    /// A JSON number of any length (`decimal.format=NUMERIC`).
    NumericDecimal,
    /// Base64 of a big-endian two's complement with the column's scale (`decimal.handling.mode=precise`).
    Base64Decimal,
    /// Text: `decimal.handling.mode=string`, and all texts.
    Text,
    /// Base64 (`binary.handling.mode=bytes` or `base64`).
    Base64,
    /// URL-safe base64.
    Base64Url,
    /// Hexadecimal.
    Hex,
    /// Base64 of little-endian bytes, as BIT(n) has them.
    Base64Bits,
    /// JSON in a text.
    JsonText,
    /// Debezium's geometry struct: `wkb` in base64 and `srid`.
    Geometry,
    /// Days since 1970-01-01.
    Days,
    /// Milliseconds: of the day, or since 1970-01-01.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// ISO 8601 text, with a zone for TIMESTAMP.
    Iso,
    /// A JSON array of numbers, as VECTOR has it; kept as it stands.
    Array,
    /// Debezium's `VariableScaleDecimal` struct: `scale`, and `value` in base64.
    VariableScale,
}

/// A guest and its limits.
#[derive(Clone, PartialEq, Eq)]
pub struct TransformSettings {
    /// The component.
    pub module: ModuleSource,
    /// Its SHA-256, in lower-case hexadecimal, where it is pinned.
    pub sha256: Option<String>,
    /// PEM of the public key whose signature the module must have: in a file beside it, or in its registry.
    pub signature_key: Option<PathBuf>,
    /// JSON, handed to the guest's `init`.
    pub config: String,
    /// Time for one call.
    pub call_timeout: Duration,
    /// Linear memory of one instance, in bytes. An instance is retired at half of it, at a batch boundary.
    pub max_memory_bytes: usize,
    /// Bytes of one answer.
    pub max_output_bytes: usize,
    /// Log lines of one call.
    pub max_log_lines: usize,
    /// A partition halts when its guest has failed on so many events in a row; 0: never.
    pub max_failures: u32,
    /// A second module, which sees the same events.
    pub shadow: Option<Box<ShadowSettings>>,
}

/// A second module of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowSettings {
    /// The guest; it has no shadow of its own.
    pub transform: TransformSettings,
    /// The share of keys whose documents it writes; 0: it writes nothing and is only compared.
    pub canary_percent: u32,
}

/// What a guest may write: one collection, or one key prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSettings {
    /// The name that the guest uses.
    pub name: String,
    /// Index into [`Settings::sinks`].
    pub sink: usize,
    /// Where in the sink, and in which form.
    pub place: Place,
    /// Whether the guest may name key parts of its own.
    pub explicit_keys: bool,
    /// Time to live of a document, in seconds, where the guest names none. Redis only.
    pub ttl_seconds: Option<u32>,
}

/// Where in a sink a target's documents lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Keys `<prefix>:<primary key>` in Redis.
    Redis {
        /// Without `:` at the end; never with braces.
        prefix: String,
        /// In which form.
        form: RedisForm,
    },
    /// A collection in MongoDB.
    MongoDb {
        /// In the sink's database.
        collection: String,
    },
}

impl Place {
    /// The key prefix, or the collection.
    pub fn name(&self) -> &str {
        match self {
            Self::Redis { prefix, .. } => prefix,
            Self::MongoDb { collection } => collection,
        }
    }
}

/// How Redis keeps a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisForm {
    /// A string with JSON: a plain GET reads it.
    String,
    /// A hash: a field each, nested documents as JSON.
    Hash,
    /// Redis JSON, where the server has it.
    Json,
}

/// What a truncate event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTruncate {
    /// The route stops and says how to go on.
    Halt,
    /// The targets are cleared; the topic must have one partition.
    Clear,
}
