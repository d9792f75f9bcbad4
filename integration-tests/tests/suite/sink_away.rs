//! A store that goes away and comes back, unreachable or silent: the worker meets it, waits for it in its group and writes to the other
//! store meanwhile; nothing is lost, and nothing goes to the dead letters.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::metrics::Metrics;
use integration_tests::stack::Stack;
use integration_tests::store::{Kind, Store};
use integration_tests::worker::Worker;

/// Soon over, because only then has the worker met that a store says nothing.
const WRITE_TIMEOUT: &str = "3s";
const ROWS: u32 = 99;

/// How a store is away.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// Connections stay open, and nothing answers.
    Paused,
    /// Connections break, and new ones are refused.
    Stopped,
}

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let (redis, mongodb) = tokio::try_join!(stack.own_redis("redis-away"), stack.own_mongodb("mongodb-away"))?;
    let case = Case::shop_on(stack, "sink_away", 2, &redis, &mongodb).await?;
    case.connect().await?;
    case.sql("INSERT INTO customers (customer_id, name) VALUES (1, 'before');").await?;
    for (store, first) in [(&redis, 100), (&mongodb, 400)] {
        waited_for(&case, store, first).await.with_context(|| format!("{:?} was away", store.place.kind))?;
    }
    redis.container.rm().await?;
    mongodb.container.rm().await?;
    Ok(())
}

/// Each store has a worker of its own, and is stopped last: a store that was started anew makes partitions begin again, and one that begins
/// does not write.
async fn waited_for(case: &Case, store: &Store, first: u32) -> Result<()> {
    let environment = ["REDIS", "MONGODB"].map(|sink| (format!("STREAMSYNC_SINKS__{sink}__WRITE_TIMEOUT"), WRITE_TIMEOUT.to_owned()));
    let mut worker = case.start_worker_as("worker", &environment).await?;
    change(case, first).await?;
    case.wait_equal(&mut worker).await?;
    let before = worker.metrics().await?;
    for (absence, first) in [(Absence::Paused, first + 100), (Absence::Stopped, first + 200)] {
        away_and_back(case, &mut worker, store, absence, first).await.with_context(|| format!("{absence:?}"))?;
    }
    let after = worker.metrics().await?;
    let [joined, rejoined] = [&before, &after].map(|metrics| metrics.sum("streamsync_rebalances_total", &[]));
    ensure!(joined == rejoined, "the worker has left its group: {joined} rebalances before, {rejoined} afterwards");
    let dead = after.sum("streamsync_dead_letters_total", &[]);
    ensure!(dead == 0.0, "{dead} records were given up because a store was away");
    worker.stop().await
}

async fn away_and_back(case: &Case, worker: &mut Worker, store: &Store, absence: Absence, first: u32) -> Result<()> {
    let sink = sink(store.place.kind);
    let retries = until("the worker has found the store", async || {
        let metrics = worker.metrics().await?;
        let up = up(&metrics, sink);
        ensure!(up == 1.0, "streamsync_sink_up of {sink} is {up}");
        Ok(retries(&metrics, sink))
    })
    .await?;
    match absence {
        Absence::Paused => store.container.pause().await?,
        Absence::Stopped => store.stop().await?,
    }
    let met = met(case, worker, store.place.kind, retries, first).await;
    // Whatever came of it: what is paused could not be removed.
    match absence {
        Absence::Paused => store.container.unpause().await?,
        Absence::Stopped => store.start().await?,
    }
    met?;
    worker.assert_alive()?;
    case.wait_equal(worker).await
}

/// The worker is refused by the store that is away, and has written to the other one.
async fn met(case: &Case, worker: &Worker, away: Kind, retries_before: f64, first: u32) -> Result<()> {
    let (sink, other) = match away {
        Kind::Redis => (sink(away), Kind::MongoDb),
        Kind::MongoDb => (sink(away), Kind::Redis),
    };
    let documents_before = documents(case, other).await?;
    change(case, first).await?;
    until(&format!("the worker meets that {sink} is away"), async || {
        let metrics = worker.metrics().await?;
        let (up, retries) = (up(&metrics, sink), retries(&metrics, sink));
        ensure!(up == 0.0 && retries > retries_before, "streamsync_sink_up is {up}; {retries} retries, {retries_before} before");
        Ok(())
    })
    .await?;
    // Both sinks get a batch at once. How many rows a partition's first batch has is Kafka's affair; the next one waits for both.
    until(&format!("{other:?} has a batch that {sink} lacks"), async || {
        let found = documents(case, other).await?;
        ensure!(found > documents_before, "it holds {found} documents, {documents_before} before");
        Ok(())
    })
    .await
}

/// As the configuration names it.
fn sink(kind: Kind) -> &'static str {
    match kind {
        Kind::Redis => "redis",
        Kind::MongoDb => "mongodb",
    }
}

fn up(metrics: &Metrics, sink: &str) -> f64 {
    metrics.sum("streamsync_sink_up", &[("sink", sink)])
}

fn retries(metrics: &Metrics, sink: &str) -> f64 {
    metrics.sum("streamsync_retries_total", &[("sink", sink)])
}

async fn documents(case: &Case, kind: Kind) -> Result<usize> {
    Ok(match kind {
        Kind::Redis => case.checker.redis_documents("customers").await?.len(),
        Kind::MongoDb => case.checker.mongodb_documents("customers").await?.len(),
    })
}

/// A hundred records more.
async fn change(case: &Case, first: u32) -> Result<()> {
    let values: Vec<String> = (first..first + ROWS).map(|id| format!("({id}, 'Name {id}')")).collect();
    let insert = format!("INSERT INTO customers (customer_id, name) VALUES {};", values.join(","));
    case.sql(&format!("{insert}\nUPDATE customers SET name = 'changed {first}' WHERE customer_id = 1;")).await
}
