//! Stores that die, and that lose what they had acknowledged.

use std::sync::Arc;

use anyhow::Result;
use integration_tests::store::Kind;

use super::ground::Ground;
use super::rig::{Rig, SESSION, Verdict};

/// Changes before and after the loss.
const SOME: i64 = 300;

pub(crate) async fn redis_killed(ground: &mut Ground) -> Result<Verdict> {
    killed(ground, "redis_killed", Kind::Redis).await
}

pub(crate) async fn mongodb_killed(ground: &mut Ground) -> Result<Verdict> {
    killed(ground, "mongodb_killed", Kind::MongoDb).await
}

async fn killed(ground: &mut Ground, name: &'static str, kind: Kind) -> Result<Verdict> {
    let mut rig = Rig::start(ground, name, 2).await?;
    // A store that was started anew may have lost what it had acknowledged: whoever writes to it begins again where its watermark is.
    rig.fault("kill -9 of the store, started again with its data");
    rig.ground.store(kind).kill().await?;
    rig.pass(SESSION / 2).await;
    rig.ground.store(kind).start().await?;
    rig.healed();
    rig.judge().await
}

pub(crate) async fn redis_emptied(ground: &mut Ground) -> Result<Verdict> {
    replaced(ground, "redis_emptied", Kind::Redis, Data::None).await
}

pub(crate) async fn mongodb_emptied(ground: &mut Ground) -> Result<Verdict> {
    replaced(ground, "mongodb_emptied", Kind::MongoDb, Data::None).await
}

pub(crate) async fn redis_restored(ground: &mut Ground) -> Result<Verdict> {
    replaced(ground, "redis_restored", Kind::Redis, Data::Older).await
}

pub(crate) async fn mongodb_restored(ground: &mut Ground) -> Result<Verdict> {
    replaced(ground, "mongodb_restored", Kind::MongoDb, Data::Older).await
}

/// Everything is deleted by a command, while connections stay as they are.
pub(crate) async fn redis_flushed(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "redis_flushed", 2).await?;
    rig.fault("FLUSHALL");
    rig.changes(SOME).await?;
    rig.versions.forget(Kind::Redis);
    rig.ground.store(Kind::Redis).flush().await?;
    rig.healed();
    rig.versions.again(Kind::Redis);
    rig.changes(SOME).await?;
    rig.judge().await
}

/// What the store begins with after it was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    None,
    /// A copy that was made when the scenario began: what was acknowledged since is gone.
    Older,
}

async fn replaced(ground: &mut Ground, name: &'static str, kind: Kind, data: Data) -> Result<Verdict> {
    let mut rig = Rig::start(ground, name, 2).await?;
    let copy = rig.case.dir().join("copy");
    rig.fault(match data {
        Data::None => "kill -9 of the store, started again empty",
        Data::Older => "kill -9 of the store, started again from an older copy",
    });
    if data == Data::Older {
        rig.ground.store(kind).back_up(&copy).await?;
    }
    rig.changes(SOME).await?;
    rig.versions.forget(kind);
    let stack = Arc::clone(&rig.ground.stack);
    rig.ground.store(kind).kill().await?;
    stack.replace(rig.ground.store(kind), (data == Data::Older).then_some(copy.as_path())).await?;
    rig.healed();
    rig.versions.again(kind);
    rig.changes(SOME).await?;
    rig.judge().await
}
