//! What an operator does to a running worker: the commands, each a process of its own, and SIGHUP. The documents in both stores tell which
//! module made them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::{Case, TOKEN};
use integration_tests::deadline::until;
use integration_tests::metrics::Metrics;
use integration_tests::stack::Stack;
use integration_tests::worker::{Worker, attempt};
use serde_json::Value;

/// The first event that a module fails on halts the route, so that none is dead-lettered before.
const AT_ONCE: (&str, &str) = ("STREAMSYNC_TRANSFORMS__MAX_FAILURES_IN_A_ROW", "1");
const OF_CUSTOMERS: (&str, &str) = ("route", "customers");

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "live_changes").await?;
    case.connect().await?;
    for module in ["customers", "passthrough", "orders"] {
        std::fs::write(case.dir().join(format!("{module}.wasm")), case.component(module)?)?;
    }
    std::fs::write(case.dir().join("broken.wasm"), b"\0asm\x01\0\0\0")?;
    let environment = [(AT_ONCE.0.to_owned(), AT_ONCE.1.to_owned())];
    let worker = case.start_worker_with(&[("customers", "orders.wasm".into())], &environment).await?;
    let mut live = Live { case: &case, worker, emails: BTreeMap::new() };

    halted_until_another_module_comes(&mut live).await?;
    refusals(&mut live).await?;
    second_module(&mut live).await?;
    sighup(&mut live).await?;

    let Live { worker, emails, .. } = live;
    let counted = worker.metrics().await?;
    let consumed = counted.sum("streamsync_records_consumed_total", &[OF_CUSTOMERS]);
    ensure!(consumed == emails.len() as f64, "{consumed} records were settled for {} rows", emails.len());
    let applied = counted.sum("streamsync_records_total", &[OF_CUSTOMERS, ("outcome", "applied")]);
    ensure!(applied == emails.len() as f64, "{applied} of {} rows were applied", emails.len());
    let swaps = ["swapped", "refused", "promoted", "rolled_back"].map(|result| swaps(&counted, result));
    ensure!(swaps == [2.0, 3.0, 1.0, 1.0], "{swaps:?} modules swapped, refused, promoted, rolled back");
    worker.stop().await
}

/// The configured module is another table's. Another one lifts the halt, and gets the event that the first one failed on.
async fn halted_until_another_module_comes(live: &mut Live<'_>) -> Result<()> {
    live.insert(Made::ByCustomers).await?;
    until("the route halts", async || {
        let halted = live.worker.metrics().await?.sum("streamsync_route_halted", &[OF_CUSTOMERS]);
        ensure!(halted == 1.0 && !live.worker.is_ready().await?, "the route goes on");
        Ok(())
    })
    .await?;
    let said = live.done(&["swap", "customers", "customers.wasm"]).await?;
    ensure!(said.contains("the route was halted by the module before: its partitions begin again"), "{said}");
    live.stored().await?;
    until("the worker is ready", async || {
        ensure!(live.worker.is_ready().await?, "it is not");
        Ok(())
    })
    .await?;
    let halted = live.worker.metrics().await?.sum("streamsync_route_halted", &[OF_CUSTOMERS]);
    ensure!(halted == 0.0, "streamsync_route_halted is {halted}");
    let letters = live.worker.metrics().await?.sum("streamsync_dead_letters_total", &[]);
    ensure!(letters == 0.0, "{letters} letters");
    Ok(())
}

/// Whatever is refused leaves the module that runs.
async fn refusals(live: &mut Live<'_>) -> Result<()> {
    let said = live.refused(&["swap", "customers", "broken.wasm"]).await?;
    ensure!(said.contains("make a component of it"), "{said}");
    let said = live.refused(&["swap", "customers", "orders.wasm"]).await?;
    ensure!(said.contains("recent events and failed on"), "{said}");
    let said = live.refused(&["rollback", "nobody"]).await?;
    ensure!(said.contains("there is no route nobody"), "{said}");
    let said = live.refused(&["shadow", "customers"]).await?;
    ensure!(said.contains("route customers has no second module"), "{said}");
    let strangers = [(TOKEN, "another-secret-of-the-same-length"), (&format!("token = {TOKEN:?}\n"), "")];
    for ((from, to), expected) in strangers.into_iter().zip(["send the configured http.token", "the configuration has no http.token"]) {
        let text = std::fs::read_to_string(live.case.worker_config())?;
        let config = live.case.dir().join("stranger.toml");
        std::fs::write(&config, text.replace(from, to))?;
        let (success, said) = attempt(&config, &["transform", "swap", "customers", "passthrough.wasm"]).await?;
        ensure!(!success && said.contains(expected), "{said}");
    }
    live.insert(Made::ByCustomers).await?;
    live.stored().await
}

async fn second_module(live: &mut Live<'_>) -> Result<()> {
    let said = live.done(&["shadow", "customers", "passthrough.wasm"]).await?;
    ensure!(said.contains(", canary 0 %\nequal 0, different 0, failed 0"), "{said}");
    live.insert(Made::ByCustomers).await?;
    let key = live.emails.len();
    let said = until("the difference is seen", async || {
        let said = live.done(&["shadow", "customers"]).await?;
        ensure!(said.contains("equal 0, different 1, failed 0"), "{said}");
        Ok(said)
    })
    .await?;
    ensure!(said.contains(&format!("  key {key} (partition ")) && said.contains("email"), "{said}");
    live.stored().await?;

    let said = live.done(&["shadow", "customers", "passthrough.wasm", "--canary", "100"]).await?;
    ensure!(said.contains(", canary 100 %"), "{said}");
    live.insert(Made::ByPassthrough).await?;
    live.stored().await?;
    let said = live.done(&["promote", "customers"]).await?;
    ensure!(
        said.starts_with("passthrough ") && said.contains("not tried, because it ran beside the one before; runs on 2 partitions"),
        "{said}"
    );
    live.insert(Made::ByPassthrough).await?;
    live.stored().await?;

    // Back to the first one with its canary, which decides all keys; without it the first one does.
    let said = live.done(&["rollback", "customers"]).await?;
    ensure!(said.starts_with("customers ") && said.contains("not tried, because it ran before; runs on 2 partitions"), "{said}");
    live.insert(Made::ByPassthrough).await?;
    live.stored().await?;
    live.done(&["shadow", "customers", "--off"]).await?;
    live.insert(Made::ByCustomers).await?;
    live.stored().await
}

async fn sighup(live: &mut Live<'_>) -> Result<()> {
    live.configure("orders.wasm", "passthrough.wasm").await?;
    live.wait_swaps("swapped", 2.0).await?;
    live.insert(Made::ByPassthrough).await?;
    live.stored().await?;

    live.configure("passthrough.wasm", "broken.wasm").await?;
    live.wait_swaps("refused", 3.0).await?;
    live.insert(Made::ByPassthrough).await?;
    live.stored().await?;

    live.configure("[dead_letters]", "[dead_leters]").await?;
    until("the faults are told", async || {
        let log = std::fs::read_to_string(live.case.log())?;
        ensure!(log.contains("SIGHUP: nothing was changed, the configuration has faults"), "nothing is told");
        Ok(())
    })
    .await?;
    live.insert(Made::ByPassthrough).await?;
    live.stored().await
}

/// Which module made a row's document.
#[derive(Clone, Copy)]
enum Made {
    /// The email is in lower case.
    ByCustomers,
    /// The email is as it is.
    ByPassthrough,
}

struct Live<'c> {
    case: &'c Case,
    worker: Worker,
    /// By customer, as the stores are to have them.
    emails: BTreeMap<i64, String>,
}

impl Live<'_> {
    /// One more customer.
    async fn insert(&mut self, made: Made) -> Result<()> {
        let id = self.emails.len() as i64 + 1;
        let email = format!("Mail{id}@Example.com");
        self.case.sql(&format!("INSERT INTO customers (customer_id, name, email) VALUES ({id}, 'Name', '{email}');")).await?;
        let stored = match made {
            Made::ByCustomers => email.to_lowercase(),
            Made::ByPassthrough => email,
        };
        self.emails.insert(id, stored);
        Ok(())
    }

    /// Waits until both stores hold what the modules made, and nothing else.
    async fn stored(&self) -> Result<()> {
        until("the stores hold what the modules made", async || {
            let in_redis = self.case.checker.redis_documents("customers").await?;
            let of_redis = |(key, text): (String, String)| {
                let email = serde_json::from_str::<Value>(&text)?.get("email").and_then(Value::as_str).context("no email")?.to_owned();
                Ok((key.strip_prefix("customers:").context("another key")?.parse()?, email))
            };
            let in_redis: BTreeMap<i64, String> = in_redis.into_iter().map(of_redis).collect::<Result<_>>()?;
            ensure!(in_redis == self.emails, "Redis holds {in_redis:?}, not {:?}", self.emails);
            let in_mongodb = self.case.checker.mongodb_documents("customers").await?;
            let of_mongodb = |document: bson::Document| {
                let id = document.get_i32("_id").map(i64::from).or_else(|_| document.get_i64("_id"))?;
                Ok((id, document.get_str("email")?.to_owned()))
            };
            let in_mongodb: BTreeMap<i64, String> = in_mongodb.into_iter().map(of_mongodb).collect::<Result<_>>()?;
            ensure!(in_mongodb == self.emails, "MongoDB holds {in_mongodb:?}, not {:?}", self.emails);
            Ok(())
        })
        .await
    }

    async fn command(&self, arguments: &[&str]) -> Result<(bool, String)> {
        attempt(&self.case.worker_config(), &[&["transform"], arguments].concat()).await
    }

    /// Runs a command that succeeds; returns what it said.
    async fn done(&self, arguments: &[&str]) -> Result<String> {
        let (success, said) = self.command(arguments).await?;
        ensure!(success, "{arguments:?}: {said}");
        Ok(said)
    }

    /// The same for one that fails.
    async fn refused(&self, arguments: &[&str]) -> Result<String> {
        let (success, said) = self.command(arguments).await?;
        ensure!(!success, "{arguments:?}: {said}");
        Ok(said)
    }

    /// Changes the worker's configuration, and sends SIGHUP.
    async fn configure(&self, from: &str, to: &str) -> Result<()> {
        let config = self.case.worker_config();
        let text = std::fs::read_to_string(&config)?;
        ensure!(text.contains(from), "the configuration has no {from}");
        std::fs::write(&config, text.replacen(from, to, 1))?;
        self.worker.signal("HUP").await
    }

    async fn wait_swaps(&self, result: &str, wanted: f64) -> Result<()> {
        until("the configuration is taken over", async || {
            let found = swaps(&self.worker.metrics().await?, result);
            ensure!(found == wanted, "{found} modules {result}, not {wanted}");
            Ok(())
        })
        .await
    }
}

fn swaps(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("streamsync_module_swaps_total", &[OF_CUSTOMERS, ("result", result)])
}
