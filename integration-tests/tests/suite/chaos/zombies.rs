//! Workers that stop, lose their partitions to another one, and go on later as if nothing had been.

use anyhow::{Result, ensure};
use integration_tests::deadline::until;
use integration_tests::proxy::{Caught, Proxy};
use integration_tests::store::Kind;

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
    rig.healed();
    rig.wait_back(0).await?;
    rig.judge().await
}

/// The worst moment: the writes have left the worker, and reach the stores when another one has deleted everything that they are about.
pub(crate) async fn zombie_writes_late(ground: &mut Ground) -> Result<Verdict> {
    let mut rig = Rig::start(ground, "zombie_writes_late", 2).await?;
    rig.fault(
        "a write to each store kept back on the wire, its worker stopped by SIGSTOP; delivered when another worker has deleted all rows",
    );
    // MongoDB first: a connection there has one batch's requests, and the one to Redis has those of all lanes, which then wait.
    for store in [Kind::MongoDb, Kind::Redis] {
        catch(&rig, store).await?;
    }
    rig.member(0)?.worker()?.signal("STOP").await?;
    rig.wait_alone(1).await?;
    rig.changes(SOME).await?;
    rig.close_shop().await?;
    rig.case.sql("DELETE FROM shipping_info;\nDELETE FROM orders;\nDELETE FROM customers;").await?;
    rig.wait_equal().await?;
    // So that each row is seen to be gone before its late write: what comes is then one that came back.
    rig.versions.look_again().await?;
    for store in [Kind::MongoDb, Kind::Redis] {
        deliver(&rig, store).await?;
    }
    rig.versions.look_again().await?;
    rig.wait_equal().await?;
    rig.member(0)?.worker()?.signal("CONT").await?;
    rig.healed();
    rig.wait_back(0).await?;
    rig.open_shop();
    rig.changes(SOME).await?;
    rig.judge().await
}

/// What is in the write of a row and in nothing else that a worker sends to a store: in Redis the key of its version
/// (docs/decisions/0003-redis-format.md), in MongoDB the version itself, a document within the row's (0006-stored-version.md).
fn bait(store: Kind) -> &'static [u8] {
    match store {
        Kind::Redis => b"_sync:{",
        Kind::MongoDb => b"\x03_sync\0",
    }
}

fn wire<'r>(rig: &'r Rig<'_>, store: Kind) -> Result<&'r Proxy> {
    let wires = rig.wires(0)?;
    Ok(match store {
        Kind::Redis => &wires.redis,
        Kind::MongoDb => &wires.mongodb,
    })
}

/// Keeps back a write of the first worker's.
async fn catch(rig: &Rig<'_>, store: Kind) -> Result<()> {
    let wire = wire(rig, store)?;
    wire.catch(bait(store));
    until(&format!("a write to {store:?} is kept back"), async || {
        ensure!(wire.caught().kept > 0, "worker 0 has sent none");
        Ok(())
    })
    .await
}

/// Lets it go, and waits until the store has done it. Its worker is stopped still, so that nothing else can have been answered.
async fn deliver(rig: &Rig<'_>, store: Kind) -> Result<()> {
    let wire = wire(rig, store)?;
    ensure!(wire.caught().delivered == 0, "the write to {store:?} was delivered too early: {:?}", wire.caught());
    wire.let_go();
    until(&format!("{store:?} has answered the late write"), async || {
        let Caught { kept, delivered, answered } = wire.caught();
        ensure!(delivered == kept && answered > 0, "of {kept} bytes {delivered} were delivered, and {answered} came back");
        Ok(())
    })
    .await
}
