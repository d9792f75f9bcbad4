//! One scenario: a shop that changes MySQL, workers that sync it, faults, and the judgement after they have ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::{until, within};
use integration_tests::failpoint::{Failpoints, Held};
use integration_tests::metrics::Metrics;
use integration_tests::shop::Shop;
use integration_tests::versions::{Stores, Versions};
use integration_tests::worker::Worker;

use super::ground::{Ground, Wires};

/// How long both stores may differ from MySQL after the last fault has ended; the changes that a scenario makes meanwhile are part of it.
pub(crate) const HEALING: Duration = Duration::from_secs(60);
/// Records of a batch: what a kill may cost for each partition. So few that a partition has many batches.
const BATCH: usize = 20;
/// Partitions of each of the three topics.
const PARTITIONS: i32 = 4;
/// The group gives a silent worker's partitions away after this.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// A scenario's systems, workers and counts.
pub(crate) struct Rig<'g> {
    pub(crate) ground: &'g mut Ground,
    pub(crate) case: Case,
    pub(crate) members: Vec<Member>,
    pub(crate) versions: Versions,
    shop: Option<Shop>,
    statements: u64,
    faults: Vec<&'static str>,
    /// The last figures of workers that are gone.
    gone: Vec<Metrics>,
    /// The end of the last fault.
    healed: Option<Instant>,
    /// What a scenario allows its kills to cost, in records.
    replay_limit: Option<usize>,
}

/// A worker's place; the process in it may change.
pub(crate) struct Member {
    name: String,
    worker: Option<Worker>,
    pub(crate) failpoints: Failpoints,
    pub(crate) environment: Vec<(String, String)>,
    /// Its process is killed at the end, in place of a stop.
    pub(crate) may_hang: bool,
}

/// How a scenario ended.
pub(crate) struct Verdict {
    pub(crate) faults: String,
    /// From the end of the last fault.
    pub(crate) equal_after: Duration,
    /// Records that were settled more than once.
    pub(crate) repeated: f64,
    pub(crate) statements: u64,
    pub(crate) looks: u64,
}

impl<'g> Rig<'g> {
    /// Workers in their places, the shop open, and the first changes in both stores.
    pub(crate) async fn start(ground: &'g mut Ground, name: &'static str, workers: usize) -> Result<Self> {
        Self::start_with(ground, name, workers, &[]).await
    }

    /// The same with further variables for all workers.
    pub(crate) async fn start_with(
        ground: &'g mut Ground,
        name: &'static str,
        workers: usize,
        environment: &[(String, String)],
    ) -> Result<Self> {
        ground.mend().await?;
        let case = Case::shop_on(&ground.stack, name, PARTITIONS, &ground.redis, &ground.mongodb).await?;
        let versions = Versions::watch(Stores {
            redis: case.checker.redis.clone(),
            mongodb: case.checker.mongodb.clone(),
            tables: case.tables.iter().map(|table| table.name).collect(),
            // The interval, and the sweep itself.
            resurrection: SWEEP_INTERVAL * 3 / 2,
        });
        let mut rig = Self {
            ground,
            case,
            members: Vec::new(),
            versions,
            shop: None,
            statements: 0,
            faults: Vec::new(),
            gone: Vec::new(),
            healed: None,
            replay_limit: None,
        };
        rig.open_shop();
        rig.case.connect().await?;
        for _ in 0..workers {
            rig.join(environment).await?;
        }
        for index in 0..workers {
            rig.wait_working(index).await?;
        }
        Ok(rig)
    }

    /// One more worker; it is not waited for.
    pub(crate) async fn join(&mut self, environment: &[(String, String)]) -> Result<usize> {
        let index = self.add(environment)?;
        self.restart(index).await?;
        Ok(index)
    }

    /// One more place for a worker.
    pub(crate) fn add(&mut self, environment: &[(String, String)]) -> Result<usize> {
        let index = self.members.len();
        let wires = self.ground.wires.get(index).context("there are no wires for another worker")?;
        let name = format!("worker-{index}");
        let failpoints = Failpoints::new(self.case.dir().join(format!("{name}.failpoints")))?;
        let mut all = settings(wires, &self.case, &failpoints);
        all.extend_from_slice(environment);
        self.members.push(Member { name, worker: None, failpoints, environment: all, may_hang: false });
        Ok(index)
    }

    pub(crate) fn member(&self, index: usize) -> Result<&Member> {
        self.members.get(index).context("there is no such worker")
    }

    pub(crate) fn wires(&self, index: usize) -> Result<&Wires> {
        self.ground.wires.get(index).context("there are no such wires")
    }

    /// A worker reaches everything again.
    pub(crate) fn heal(&mut self, index: usize) -> Result<()> {
        self.wires(index)?.heal();
        self.healed();
        Ok(())
    }

    /// Names what is done, for the table.
    pub(crate) fn fault(&mut self, what: &'static str) {
        self.faults.push(what);
    }

    /// The last fault ends here, if no other one follows. A worker that is started in a dead one's place ends one as well.
    pub(crate) fn healed(&mut self) {
        self.healed = Some(Instant::now());
    }

    /// Holds a worker at a point of its code.
    pub(crate) async fn hold(&self, index: usize, point: &str) -> Result<Held> {
        self.member(index)?.failpoints.hold(point).await
    }

    /// SIGKILL. What the worker may have settled without committing it counts from here on as the kill's cost: no more than a batch of each
    /// partition.
    pub(crate) async fn kill(&mut self, index: usize) -> Result<()> {
        let worker = self.take(index)?;
        let metrics = worker.metrics().await?;
        let lanes = metrics.sum("streamsync_partitions_assigned", &[]) as usize;
        *self.replay_limit.get_or_insert_default() += lanes.max(1) * BATCH;
        self.gone.push(metrics);
        worker.kill().await?;
        self.check_replay().await
    }

    /// In no partition is the group's offset further behind what was written than a batch: so much is written again. The partitions of living
    /// workers are held to it too.
    async fn check_replay(&self) -> Result<()> {
        for table in &self.case.tables {
            let (topic, written) = (self.case.topic(table.name), self.versions.written(table.name).await?);
            // Asked for later: what was committed meanwhile is no fault.
            let positions = self.case.topics.positions(&self.case.group(), &topic)?;
            for (partition, next) in written {
                let committed = positions.get(partition as usize).and_then(|(committed, _)| *committed).unwrap_or_default();
                ensure!(
                    next - committed <= i64::try_from(BATCH)?,
                    "{topic} {partition}: written up to {next}, committed up to {committed}: more than a batch of {BATCH} would be written again"
                );
            }
        }
        Ok(())
    }

    /// SIGTERM, until it has stopped.
    pub(crate) async fn stop(&mut self, index: usize) -> Result<()> {
        let worker = self.take(index)?;
        self.gone.push(worker.metrics().await?);
        worker.stop().await
    }

    /// Another process in a worker's place, with its variables.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<()> {
        let member = self.members.get_mut(index).context("there is no such worker")?;
        member.failpoints.clear()?;
        member.worker = Some(self.case.start_worker_as(&member.name, &member.environment).await?);
        self.healed();
        Ok(())
    }

    /// The same, held at a point that it passes while it starts.
    pub(crate) async fn restart_held(&mut self, index: usize, point: &str) -> Result<()> {
        let member = self.members.get_mut(index).context("there is no such worker")?;
        member.failpoints.clear()?;
        member.failpoints.arm(point)?;
        member.worker = Some(self.case.start_worker_as(&member.name, &member.environment).await?);
        self.member(index)?.failpoints.reached(point).await?;
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<Worker> {
        self.members.get_mut(index).and_then(|member| member.worker.take()).context("there is no such worker")
    }

    /// Waits until a worker has partitions and has settled records of them.
    pub(crate) async fn wait_working(&self, index: usize) -> Result<()> {
        until(&format!("worker {index} has partitions and settles records"), async || {
            let metrics = self.member(index)?.metrics().await?;
            let (lanes, settled) = (metrics.sum("streamsync_partitions_assigned", &[]), crate::metrics::settled(&metrics));
            ensure!(lanes > 0.0 && settled > 0.0, "{lanes} partitions, {settled} records settled");
            Ok(())
        })
        .await
    }

    /// Waits until a worker that had lost its partitions has some again, by its own account and the others'.
    pub(crate) async fn wait_back(&self, index: usize) -> Result<()> {
        until(&format!("worker {index} is back in the group"), async || {
            let mut all = 0;
            for (other, member) in self.members.iter().enumerate().filter(|(_, member)| member.worker.is_some()) {
                let lanes = member.metrics().await?.sum("streamsync_partitions_assigned", &[]) as usize;
                ensure!(lanes > 0 || other != index, "it has no partition");
                all += lanes;
            }
            ensure!(all == self.case.lanes(), "{all} partitions, each worker's added up");
            Ok(())
        })
        .await
    }

    /// A fault's own time: how long something is away.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Waits until a worker has all partitions: the others have lost theirs.
    pub(crate) async fn wait_alone(&self, index: usize) -> Result<()> {
        until(&format!("worker {index} has all partitions"), async || {
            let lanes = self.member(index)?.metrics().await?.sum("streamsync_partitions_assigned", &[]);
            ensure!(lanes as usize == self.case.lanes(), "{lanes} partitions");
            Ok(())
        })
        .await
    }

    /// Lets the shop change so many more records: a wait that ends as soon as they are in Kafka.
    pub(crate) async fn changes(&self, records: i64) -> Result<()> {
        // A broker that has just begun to answer does not lead everything yet.
        let before = until("the topics' ends", async || self.case.records()).await?;
        until(&format!("{records} more changes"), async || {
            let now = self.case.records()?;
            ensure!(now >= before + records, "{} so far", now - before);
            Ok(())
        })
        .await
    }

    /// MySQL changes from here on.
    pub(crate) fn open_shop(&mut self) {
        self.shop = Some(Shop::open(&self.case.checker.mysql, self.case.name, seed(self.case.name)));
    }

    /// MySQL stays as it is from here on, but for what the scenario does itself.
    pub(crate) async fn close_shop(&mut self) -> Result<()> {
        self.statements += self.shop.take().context("the shop was closed before")?.close().await?;
        Ok(())
    }

    /// Waits until both stores hold what MySQL does, where that has stopped changing.
    pub(crate) async fn wait_equal(&self) -> Result<()> {
        within(HEALING, "both stores equal MySQL", async || self.case.assert_equal().await).await
    }

    /// An operator's command for one route.
    pub(crate) async fn rebuild(&self, route: &str, steps: &[&str]) -> Result<()> {
        let command = [&["rebuild", "--route", route], steps].concat();
        // The coordinator may take a moment until it knows that the group's last member has left.
        until(&format!("{command:?}"), async || {
            let (done, said) = self.case.attempt(&command).await?;
            ensure!(done, "{said}");
            Ok(())
        })
        .await
    }

    /// Workers that say of a route that deletions may be missing in the stores.
    pub(crate) async fn unproven(&self, route: &str) -> Result<f64> {
        let mut sum = 0.0;
        for member in self.members.iter().filter(|member| member.worker.is_some()) {
            sum += member.metrics().await?.sum("streamsync_route_unproven", &[("route", route)]);
        }
        Ok(sum)
    }

    /// The last fault has ended: the shop closes, and both stores must equal MySQL within [`HEALING`] of that end. Then every record has been settled
    /// and committed, the figures of the workers agree with the topics', nothing has gone back, and the workers stop with success.
    pub(crate) async fn judge(mut self) -> Result<Verdict> {
        let healed = self.healed.context("the scenario does not say when its last fault has ended")?;
        if self.shop.is_some() {
            self.close_shop().await?;
        }
        let left = HEALING.saturating_sub(healed.elapsed());
        within(left, "both stores equal MySQL", async || self.case.assert_equal().await).await?;
        let equal_after = healed.elapsed();
        ensure!(equal_after <= HEALING, "both stores equal MySQL after {equal_after:.0?}, and {HEALING:?} are allowed");
        self.wait_committed().await?;
        let repeated = self.check_metrics().await?;
        // A late write of a worker that was thought dead may show in MongoDB until the next sweep, and no longer.
        within(SWEEP_INTERVAL * 3, "both stores still equal MySQL", async || self.case.assert_equal().await).await?;
        let looks = self.versions.verdict().await?;
        for member in std::mem::take(&mut self.members) {
            match member.worker {
                Some(worker) if member.may_hang => worker.kill().await?,
                Some(worker) => worker.stop().await?,
                None => {}
            }
        }
        self.case.disconnect(self.case.name).await?;
        Ok(Verdict { faults: self.faults.join("; "), equal_after, repeated, statements: self.statements, looks })
    }

    /// Every record of every topic is behind the group's offsets.
    async fn wait_committed(&self) -> Result<()> {
        until("everything is committed", async || {
            for table in &self.case.tables {
                let topic = self.case.topic(table.name);
                for (partition, (committed, high)) in self.case.topics.positions(&self.case.group(), &topic)?.into_iter().enumerate() {
                    ensure!(committed.unwrap_or(0) == high, "{topic} {partition}: committed {committed:?}, its end is {high}");
                }
            }
            Ok(())
        })
        .await
    }

    /// Compares the workers' counts with the topics': nothing is settled without an outcome, and nothing is missing.
    async fn check_metrics(&self) -> Result<f64> {
        let mut living = Vec::new();
        for member in self.members.iter().filter(|member| member.worker.is_some()) {
            let metrics = member.metrics().await?;
            let (consumed, settled) = (metrics.sum("streamsync_records_consumed_total", &[]), crate::metrics::settled(&metrics));
            ensure!(consumed == settled, "{}: {consumed} records consumed, {settled} have an outcome", member.name);
            living.push(metrics);
        }
        let all = || living.iter().chain(&self.gone);
        let (settled, records): (f64, _) = (all().map(crate::metrics::settled).sum(), self.case.records()?);
        // A worker that was killed may have settled some more after its last figures were read.
        let unseen = self.replay_limit.unwrap_or_default() as f64;
        ensure!(records as f64 - settled <= unseen, "{records} records in the topics, {settled} with an outcome");
        let letters = self.case.topics.count(&self.case.dead_letter_topic()).unwrap_or_default() as f64;
        let counted: f64 = all().map(|metrics| crate::metrics::outcome(metrics, "dead_lettered")).sum();
        ensure!(counted == letters, "{counted} records dead-lettered, {letters} letters");
        let stale: f64 = living.iter().map(|metrics| crate::metrics::outcome(metrics, "stale")).sum();
        let repeated = stale.max(settled - records as f64);
        if let Some(limit) = self.replay_limit {
            ensure!(
                repeated <= limit as f64,
                "the kills cost a replay of {repeated} records, more than a batch of each partition: {limit}"
            );
        }
        Ok(repeated)
    }
}

impl Member {
    pub(crate) fn worker(&self) -> Result<&Worker> {
        self.worker.as_ref().with_context(|| format!("{} does not run", self.name))
    }

    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        self.worker()?.metrics().await
    }
}

/// What comes over the case's configuration: the worker's own wires, and times as short as a scenario.
fn settings(wires: &Wires, case: &Case, failpoints: &Failpoints) -> Vec<(String, String)> {
    let folder: PathBuf = failpoints.folder().to_owned();
    let settings = BTreeMap::from([
        ("FAILPOINTS", folder.to_string_lossy().into_owned()),
        ("STREAMSYNC_BATCH__MAX_RECORDS", BATCH.to_string()),
        ("STREAMSYNC_DRAIN_TIMEOUT", "5s".to_owned()),
        ("STREAMSYNC_KAFKA__BROKERS", format!("127.0.0.1:{}", wires.kafka.port)),
        ("STREAMSYNC_KAFKA__PROPERTIES__HEARTBEAT_INTERVAL_MS", "1000".to_owned()),
        ("STREAMSYNC_KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", SESSION.as_millis().to_string()),
        ("STREAMSYNC_SINKS__MONGODB__SWEEP_INTERVAL", format!("{}ms", SWEEP_INTERVAL.as_millis())),
        ("STREAMSYNC_SINKS__MONGODB__URI", integration_tests::case::mongodb_uri(wires.mongodb.port)),
        ("STREAMSYNC_SINKS__MONGODB__WRITE_TIMEOUT", "3s".to_owned()),
        ("STREAMSYNC_SINKS__REDIS__URL", integration_tests::case::redis_url(wires.redis.port, case.redis_database())),
        ("STREAMSYNC_SINKS__REDIS__WRITE_TIMEOUT", "3s".to_owned()),
    ]);
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Another shop for each scenario, the same at each run.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0x9e37_79b9, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}
