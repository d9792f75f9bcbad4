//! Workers that stop, lose their partitions to another one, and go on later as if nothing had been.

use anyhow::Result;

use super::ground::Ground;
use super::rig::{Rig, Verdict};

/// Changes that the zombie does not see.
const SOME: i64 = 400;

pub(crate) async fn zombie_frozen(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "zombie_frozen", 2).await?;
    rig.fault("SIGSTOP past the session, SIGCONT when another worker has the partitions");
    rig.member(0)?.worker()?.signal("STOP").await?;
    rig.wait_alone(1).await?;
    rig.changes(SOME).await?;
    rig.member(0)?.worker()?.signal("CONT").await?;
    rig.wait_back(0).await?;
    rig.judge().await
}

/// The worst moment: the worker has looked whether it still polls, and its next step is to send.
pub(crate) async fn zombie_writes_late(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "zombie_writes_late", 2).await?;
    rig.fault("SIGSTOP just before a write to Redis, then to MongoDB; sent when another worker has changed and deleted the same rows");
    for point in ["write-redis", "write-mongodb"] {
        let held = rig.hold(0, point).await?;
        rig.member(0)?.worker()?.signal("STOP").await?;
        rig.wait_alone(1).await?;
        rig.changes(SOME).await?;
        held.let_go()?;
        rig.member(0)?.worker()?.signal("CONT").await?;
        rig.wait_back(0).await?;
    }
    rig.judge().await
}
