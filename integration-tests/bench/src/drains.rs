//! The whole engine into each kind of sink, in turn with the bare client of that sink.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::stores::Stores;
use integration_tests::worker::program;
use serde::Serialize;

use crate::clients::{self, Sent};
use crate::configuration::{self, Sink};
use crate::drain::{Drain, drain};
use crate::events::Events;
use crate::hanging;
use crate::median::median;
use crate::topic::{self, HANGING_TOPIC, PARTITIONS, SHORT_TOPIC, TOPIC};

/// Records in the topic: more than any drain of it takes, so that the backlog never ends.
const BACKLOG: u64 = 1_000_000;
/// More than a module that hangs on each of them comes to.
const HANGING_BACKLOG: u64 = 10_000;
const NULL_RECORDS: u64 = 700_000;
/// Some seconds: Redis makes its table anew at half a million keys and at each doubling, and is slower then, for whoever writes.
const REDIS_RECORDS: u64 = 800_000;
/// At most; a slow server gets as many as the bare client writes in [`MONGODB_LIMIT`], and the topic has no more.
const MONGODB_RECORDS: u64 = 120_000;
const MONGODB_LIMIT: Duration = Duration::from_secs(7);
const ROUNDS: usize = 3;
/// A guest that hangs has done so once by then.
const HANGING_WARM_UP: Duration = Duration::from_millis(2_500);
const HANGING_RECORDS: u64 = 200_000;
/// A round of Redis is over in seconds, and what else runs on the machine shows in it.
const REDIS_ROUNDS: usize = 5;

/// Every round's figures.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Drains {
    pub(crate) null: Vec<Drain>,
    pub(crate) redis: Vec<Drain>,
    /// Writes a second of the bare client.
    pub(crate) redis_client: Vec<f64>,
    pub(crate) mongodb: Vec<Drain>,
    /// Writes a second of the bare client.
    pub(crate) mongodb_client: Vec<f64>,
    /// Into Redis, beside a route whose module hangs; and, at the same time of their life, without it.
    pub(crate) beside_hanging: Vec<Drain>,
    pub(crate) beside_none: Vec<Drain>,
    /// Into both sinks at once.
    pub(crate) both: Vec<Drain>,
}

impl Drains {
    /// Each round's drain over what the same round's other side wrote a second.
    pub(crate) fn to(rates: &[f64], drains: &[Drain]) -> f64 {
        let ratios: Vec<f64> = drains.iter().zip(rates).map(|(drain, rate)| drain.records_per_second / rate).collect();
        median(&ratios)
    }

    /// The most memory that any worker took.
    pub(crate) fn peak_rss_mb(&self) -> f64 {
        let all = [&self.null, &self.redis, &self.mongodb, &self.both];
        all.into_iter().flatten().map(|drain| drain.peak_rss_mb).fold(0.0, f64::max)
    }
}

/// Fills the topic, then measures.
pub(crate) async fn measure(stores: &Stores, say: &dyn Fn(&str)) -> Result<Drains> {
    let events = Events::plain()?;
    let mut bench = Bench::begin(stores, &events, say).await?;
    bench.null().await.context("null sinks")?;
    bench.redis(&events).await.context("Redis")?;
    bench.beside_hanging(&events).await.context("beside a module that hangs")?;
    let mongodb_records = bench.mongodb(&events).await.context("MongoDB")?;
    bench.both(mongodb_records).await.context("both sinks")?;
    Ok(bench.drains)
}

/// What is measured with.
pub(crate) struct Bench<'a> {
    stores: &'a Stores,
    say: &'a dyn Fn(&str),
    /// Of the next worker: each has a group, a control topic and a database of its own.
    number: u32,
    drains: Drains,
}

impl<'a> Bench<'a> {
    /// Fills the topic.
    pub(crate) async fn begin(stores: &'a Stores, events: &Events, say: &'a dyn Fn(&str)) -> Result<Self> {
        say(&format!("writing a backlog of {BACKLOG} records into {PARTITIONS} partitions"));
        topic::preload(&stores.kafka, TOPIC, PARTITIONS, events, BACKLOG).await?;
        Ok(Self { stores, say, number: 0, drains: Drains::default() })
    }

    async fn null(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let drain = self.drain("null", TOPIC, &[Sink::NullRedis, Sink::NullMongoDb], NULL_RECORDS).await?;
            self.drains.null.push(drain);
        }
        Ok(())
    }

    async fn redis(&mut self, events: &Events) -> Result<()> {
        let writes = Arc::new(clients::writes(&configuration::settings(false, &[Sink::NullRedis])?, events, REDIS_RECORDS)?);
        for round in 0..REDIS_ROUNDS {
            // Whoever is second finds another machine, if only by its temperature: they change places.
            for engine in [round % 2 == 1, round % 2 == 0] {
                self.empty_redis().await?;
                if engine {
                    let drain = self.drain("redis", TOPIC, &[Sink::Redis(self.redis_url())], REDIS_RECORDS).await?;
                    self.drains.redis.push(drain);
                } else {
                    let sent = clients::redis(&self.redis_url(), &writes).await?;
                    self.client("Redis", sent);
                    self.drains.redis_client.push(sent.rate());
                }
            }
        }
        self.empty_redis().await
    }

    async fn beside_hanging(&mut self, events: &Events) -> Result<()> {
        topic::preload(&self.stores.kafka, HANGING_TOPIC, 1, events, HANGING_BACKLOG).await?;
        let orders = configuration::route(TOPIC, false, &[Sink::Redis(self.redis_url())])?;
        let directory = tempfile::tempdir()?;
        let both = format!("{orders}{}", configuration::hanging_route(&hanging::module(directory.path())?));
        for round in 0..REDIS_ROUNDS {
            for hangs in [round % 2 == 1, round % 2 == 0] {
                self.empty_redis().await?;
                let (what, routes) = if hangs { ("beside-hanging", &both) } else { ("beside-none", &orders) };
                let drain = self.drain_by(&program()?, what, routes, HANGING_WARM_UP, HANGING_RECORDS).await?;
                if hangs { &mut self.drains.beside_hanging } else { &mut self.drains.beside_none }.push(drain);
            }
        }
        self.empty_redis().await
    }

    /// Returns how many records each side wrote.
    async fn mongodb(&mut self, events: &Events) -> Result<u64> {
        let writes = clients::writes(&configuration::settings(false, &[Sink::NullMongoDb])?, events, MONGODB_RECORDS)?;
        let commands = Arc::new(clients::bulks(&writes)?);
        drop(writes);
        let mut records = 0;
        for round in 0..ROUNDS {
            for engine in [round % 2 == 1, round % 2 == 0] {
                let database = self.next_name("mongodb");
                if engine {
                    let drain = self.drain("mongodb", SHORT_TOPIC, &[self.mongodb_sink(&database)], records).await?;
                    self.drains.mongodb.push(drain);
                } else {
                    let sent = clients::mongodb(&self.mongodb_uri(), &database, &commands, MONGODB_LIMIT).await?;
                    self.client("MongoDB", sent);
                    self.drains.mongodb_client.push(sent.rate());
                    if round == 0 {
                        records = sent.writes;
                        self.preload_short(events, records).await?;
                    }
                }
                self.drop_mongodb(&database).await?;
            }
        }
        Ok(records)
    }

    async fn both(&mut self, records: u64) -> Result<()> {
        for _ in 0..ROUNDS {
            self.empty_redis().await?;
            let database = self.next_name("both");
            let sinks = [Sink::Redis(self.redis_url()), self.mongodb_sink(&database)];
            let drain = self.drain("both", SHORT_TOPIC, &sinks, records).await?;
            self.drains.both.push(drain);
            self.drop_mongodb(&database).await?;
        }
        self.empty_redis().await
    }

    async fn drain(&mut self, what: &str, topic: &str, sinks: &[Sink], records: u64) -> Result<Drain> {
        self.drain_by(&program()?, what, &configuration::route(topic, false, sinks)?, Duration::ZERO, records).await
    }

    pub(crate) async fn preload_short(&self, events: &Events, records: u64) -> Result<()> {
        topic::preload(&self.stores.kafka, SHORT_TOPIC, PARTITIONS, events, records).await
    }

    /// The same by any build of the program, with routes as text.
    pub(crate) async fn drain_by(&mut self, program: &Path, what: &str, routes: &str, warm_up: Duration, records: u64) -> Result<Drain> {
        let name = self.next_name(what);
        let drain = drain(program, &name, &self.stores.kafka, routes, warm_up, records).await?;
        (self.say)(&format!(
            "{name}: {:.0} records/s, {:.0} a CPU second, peak {:.0} MB",
            drain.records_per_second, drain.records_per_cpu_second, drain.peak_rss_mb
        ));
        Ok(drain)
    }

    fn client(&self, server: &str, sent: Sent) {
        (self.say)(&format!("bare client of {server}: {:.0} writes/s ({} in {:.1} s)", sent.rate(), sent.writes, sent.seconds));
    }

    pub(crate) fn next_name(&mut self, what: &str) -> String {
        self.number += 1;
        format!("bench-{what}-{}", self.number)
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.stores.redis.port)
    }

    fn mongodb_uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.stores.mongodb.port)
    }

    pub(crate) fn mongodb_sink(&self, database: &str) -> Sink {
        Sink::MongoDb(self.mongodb_uri(), database.to_owned())
    }

    /// What a server frees in the background would be paid for by whoever comes next.
    pub(crate) async fn empty_redis(&self) -> Result<()> {
        let mut connection = clients::connect_redis(&redis::Client::open(self.redis_url())?).await?;
        redis::cmd("FLUSHALL").arg("SYNC").exec_async(&mut connection).await?;
        Ok(())
    }

    pub(crate) async fn drop_mongodb(&self, database: &str) -> Result<()> {
        Ok(mongodb::Client::with_uri_str(self.mongodb_uri()).await?.database(database).drop().await?)
    }
}
