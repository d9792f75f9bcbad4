//! The configuration of a worker, as text: what is measured is what a user would write.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use streamsync::config::Settings;

use crate::topic::HANGING_TOPIC;

/// The route that is drained.
pub(crate) const ORDERS: &str = "orders";

/// A sink of that route, which writes to the target of the same name.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// Documents as for Redis, and nobody takes them.
    NullRedis,
    /// Documents as for MongoDB, and nobody takes them.
    NullMongoDb,
    /// Its URL.
    Redis(String),
    /// Its URI, and the database.
    MongoDb(String, String),
}

/// The folder with the components.
fn guests() -> Result<PathBuf> {
    Ok(PathBuf::from(
        std::env::var_os("STREAMSYNC_TEST_GUESTS").context("STREAMSYNC_TEST_GUESTS is not set: start by `cargo xtask bench`")?,
    ))
}

const COLUMNS: &str = "[routes.columns]\norder_id = \"int not null\"\ncustomer_id = \"int\"\ntotal_amount = \"decimal(10,2)\"\n\
                       status = \"varchar(20)\"\ncreated_at = \"timestamp\"\nupdated_at = \"timestamp\"\n";

/// The route for orders into these sinks.
pub(crate) fn route(topic: &str, with_schema: bool, sinks: &[Sink]) -> Result<String> {
    let mut toml = String::new();
    for sink in sinks {
        match sink {
            Sink::NullRedis => toml.push_str("[sinks.redis]\nkind = \"null\"\n"),
            Sink::NullMongoDb => toml.push_str("[sinks.mongodb]\nkind = \"null\"\n"),
            Sink::Redis(url) => writeln!(toml, "[sinks.redis]\nkind = \"redis\"\nurl = {url:?}")?,
            Sink::MongoDb(uri, database) => {
                writeln!(toml, "[sinks.mongodb]\nkind = \"mongodb\"\nuri = {uri:?}\ndatabase = {database:?}")?;
            }
        }
    }
    let format = if with_schema { "json-with-schema" } else { "json" };
    writeln!(toml, "[[routes]]\nname = {ORDERS:?}\ntopic = {topic:?}\ntable = \"ecommerce.orders\"\nformat = {format:?}")?;
    if !with_schema {
        toml.push_str(COLUMNS);
    }
    writeln!(toml, "[routes.transform]\nmodule = {:?}", guests()?.join("orders.wasm"))?;
    for sink in sinks {
        toml.push_str(match sink {
            Sink::NullRedis | Sink::Redis(_) => "[routes.targets.redis]\nsink = \"redis\"\nprefix = \"orders\"\n",
            Sink::NullMongoDb | Sink::MongoDb(..) => "[routes.targets.mongodb]\nsink = \"mongodb\"\ncollection = \"orders\"\n",
        });
    }
    Ok(toml)
}

/// A route beside it, whose module hangs on every event, and which nothing halts within a drain.
pub(crate) fn hanging_route(module: &Path) -> String {
    format!(
        "[[routes]]\nname = \"hanging\"\ntopic = {HANGING_TOPIC:?}\ntable = \"ecommerce.orders\"\nformat = \"json\"\n{COLUMNS}\
         [routes.transform]\nmodule = {module:?}\ncall_timeout = \"2s\"\nmax_failures_in_a_row = 0\n\
         [routes.targets.t]\nsink = \"redis\"\nprefix = \"hanging\"\n"
    )
}

/// All of a worker's configuration.
pub(crate) fn worker(name: &str, kafka: &str, http_port: u16, route: &str) -> String {
    format!(
        "[kafka]\nbrokers = {kafka:?}\ngroup = \"{name}\"\ncontrol_topic = \"{name}.control\"\nreplication_factor = 1\n\
         [http]\nlisten = \"127.0.0.1:{http_port}\"\n[dead_letters]\ntopic = \"{name}.dead-letters\"\n{route}"
    )
}

/// The settings of a worker that never runs: its route is run here.
pub(crate) fn settings(with_schema: bool, sinks: &[Sink]) -> Result<Settings> {
    let text = worker("bench", "localhost:9092", 9464, &route("bench", with_schema, sinks)?);
    Settings::parse(&text, Path::new(".")).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("the benchmark's own configuration is refused: {}", faults.join("; "))
    })
}
