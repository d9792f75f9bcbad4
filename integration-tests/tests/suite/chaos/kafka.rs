//! Kafka's own faults: the broker, the group's coordinator, its offsets, the dead-letter topic.

use anyhow::{Result, ensure};
use integration_tests::deadline::until;
use integration_tests::store;

use super::ground::Ground;
use super::rig::{Rig, SESSION, Verdict};

const SOME: i64 = 300;

pub(crate) async fn broker_killed(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "broker_killed", 2).await?;
    rig.fault("kill -9 of the broker, started again");
    store::kill(rig.ground.stack.broker()?).await?;
    rig.pass(SESSION / 2).await;
    rig.ground.stack.broker()?.start().await?;
    rig.ground.wait_for_broker().await?;
    rig.healed();
    rig.judge().await
}

/// The one broker is the group's coordinator too: it freezes past the session, and finds all members late when it goes on.
pub(crate) async fn coordinator_lost(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "coordinator_lost", 2).await?;
    rig.fault("the group's coordinator frozen past the session");
    rig.ground.stack.broker()?.pause().await?;
    rig.pass(SESSION * 2).await;
    rig.ground.stack.broker()?.unpause().await?;
    rig.ground.wait_for_broker().await?;
    rig.healed();
    rig.judge().await
}

pub(crate) async fn group_rewound(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "group_rewound", 2).await?;
    rig.fault("the group's offsets set back to the beginning between two runs");
    rig.changes(SOME).await?;
    rig.stop(0).await?;
    rig.stop(1).await?;
    for table in &rig.case.tables {
        // The coordinator may take a moment until it knows that the group's last member has left.
        until("the group is set back", async || rig.case.topics.rewind(&rig.case.group(), &rig.case.topic(table.name))).await?;
    }
    rig.restart(0).await?;
    rig.restart(1).await?;
    rig.judge().await
}

/// A record that can't be decoded waits for the dead-letter topic, and its partition with it; the others go on.
pub(crate) async fn dead_letters_unavailable(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "dead_letters_unavailable", 2).await?;
    rig.fault("the dead-letter topic refuses every letter while a record can't be decoded");
    let (letters, orders) = (rig.case.dead_letter_topic(), rig.case.topic("orders"));
    rig.case.topics.create(&letters, 1).await?;
    // Every letter is older than this by the time it arrives: the broker refuses its timestamp.
    rig.case.topics.configure(&letters, "message.timestamp.before.max.ms", "0").await?;
    let (partition, offset) = rig.case.topics.produce(&orders, 0, b"{\"payload\":{\"order_id\":1}}", b"not json").await?;
    rig.changes(SOME).await?;
    rig.pass(SESSION).await;
    let positions = rig.case.topics.positions(&rig.case.group(), &orders)?;
    let committed = positions.get(usize::try_from(partition)?).and_then(|(committed, _)| *committed).unwrap_or_default();
    ensure!(committed <= offset, "offset {committed} is committed, past the record at {offset} that has no outcome");
    ensure!(rig.case.topics.count(&letters)? == 0, "the dead-letter topic has taken a letter");
    rig.case.topics.configure(&letters, "message.timestamp.before.max.ms", &i64::MAX.to_string()).await?;
    rig.healed();
    rig.judge().await
}
