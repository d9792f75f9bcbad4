//! SIGKILL at the places where most is under way.

use anyhow::{Result, bail};
use integration_tests::deadline::until;
use integration_tests::store::Kind;

use super::ground::Ground;
use super::rig::{Rig, Verdict};

/// Changes between two faults.
const SOME: i64 = 300;

pub(crate) async fn kill_before_write(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "kill_before_write", 2).await?;
    rig.fault("kill -9 with a batch planned and nothing of it written");
    kill_at(&mut rig, "before-write").await?;
    rig.judge().await
}

pub(crate) async fn kill_between_sinks(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "kill_between_sinks", 2).await?;
    for (point, ahead) in [("write-mongodb", Kind::Redis), ("write-redis", Kind::MongoDb)] {
        until("a batch that one store has and the other lacks", async || {
            let held = rig.hold(0, point).await?;
            if rig.versions.is_ahead(ahead).await {
                return Ok(());
            }
            // Its records were such that nothing can be seen of them: another batch.
            held.let_go()?;
            bail!("{ahead:?} is not ahead");
        })
        .await?;
        rig.kill(0).await?;
        rig.restart(0).await?;
        rig.wait_working(0).await?;
    }
    rig.fault("kill -9 with a batch in Redis and not in MongoDB, then the other way round");
    rig.judge().await
}

pub(crate) async fn kill_before_commit(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "kill_before_commit", 2).await?;
    rig.fault("kill -9 after the write: before the watermarks, then before the commit");
    kill_at(&mut rig, "after-write").await?;
    kill_at(&mut rig, "before-commit").await?;
    rig.judge().await
}

pub(crate) async fn kill_inside_rebalance(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "kill_inside_rebalance", 2).await?;
    rig.fault("kill -9 of a worker that is being given partitions, and of one that gives some back");
    let newcomer = rig.add(&[])?;
    rig.restart_held(newcomer, "assigned").await?;
    rig.kill(newcomer).await?;
    // Until the group knows that it is dead, it owns partitions, and the next newcomer would get those.
    rig.wait_back(0).await?;
    rig.changes(SOME).await?;

    rig.member(0)?.failpoints.arm("revoked")?;
    rig.restart(newcomer).await?;
    let _held = rig.member(0)?.failpoints.reached("revoked").await?;
    rig.kill(0).await?;
    rig.changes(SOME).await?;
    rig.restart(0).await?;
    rig.judge().await
}

/// Kills a worker there, and starts another one in its place.
async fn kill_at(rig: &mut Rig<'_>, point: &str) -> Result<()> {
    let _held = rig.hold(0, point).await?;
    rig.kill(0).await?;
    rig.changes(SOME).await?;
    rig.restart(0).await?;
    rig.wait_working(0).await
}
