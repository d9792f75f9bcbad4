//! A worker that is cut off: requests that don't arrive, answers that don't, and both.

use anyhow::Result;
use integration_tests::proxy::Cut;

use super::ground::Ground;
use super::rig::{Rig, SESSION, Verdict};

const SOME: i64 = 300;

pub(crate) async fn kafka_cut_both_ways(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "kafka_cut_both_ways", 2).await?;
    rig.fault("one worker cut off from Kafka both ways, past the session");
    cut_kafka(&mut rig, Cut::BOTH).await?;
    rig.judge().await
}

pub(crate) async fn kafka_cut_one_way(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "kafka_cut_one_way", 2).await?;
    rig.fault("one worker's requests don't reach Kafka, then Kafka's answers don't reach it, each past the session");
    cut_kafka(&mut rig, Cut::TO_SERVER).await?;
    rig.wait_back(0).await?;
    cut_kafka(&mut rig, Cut::TO_CLIENT).await?;
    rig.judge().await
}

pub(crate) async fn stores_cut_both_ways(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "stores_cut_both_ways", 2).await?;
    rig.fault("one worker cut off from Redis both ways, then from MongoDB, past the write's time limit");
    cut_stores(&mut rig, Cut::BOTH).await?;
    rig.judge().await
}

pub(crate) async fn stores_cut_one_way(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "stores_cut_one_way", 2).await?;
    rig.fault("one worker's writes reach Redis and the answers don't come back, then the same with MongoDB; then the writes don't arrive");
    cut_stores(&mut rig, Cut::TO_CLIENT).await?;
    rig.changes(SOME).await?;
    cut_stores(&mut rig, Cut::TO_SERVER).await?;
    rig.judge().await
}

/// Until the other worker has all partitions and has gone on with them.
async fn cut_kafka(rig: &mut Rig<'_>, cut: Cut) -> Result<()> {
    rig.wires(0)?.kafka.cut(cut);
    rig.wait_alone(1).await?;
    rig.changes(SOME).await?;
    rig.heal(0)
}

async fn cut_stores(rig: &mut Rig<'_>, cut: Cut) -> Result<()> {
    rig.wires(0)?.redis.cut(cut);
    rig.pass(SESSION).await;
    rig.heal(0)?;
    rig.changes(SOME).await?;
    rig.wires(0)?.mongodb.cut(cut);
    rig.pass(SESSION).await;
    rig.heal(0)
}
