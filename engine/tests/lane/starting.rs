//! What a worker tells of its stores and of partitions that are not at work yet, and what follows where they never are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use streamsync::identity::MemoryIdentities;

use crate::group::Running;
use crate::rolling::wait_for;
use crate::world::Row::Put;

/// What `/ready` and the gauge say of store one.
fn one(running: &Running) -> (Vec<String>, i64) {
    (running.health.reasons(), running.metrics.sink("one").up.get())
}

const AWAY: &str = "sink one is away";

async fn until_away(running: &Running) {
    let away = || one(running).0.iter().any(|reason| reason.starts_with(AWAY)) && one(running).1 == 0;
    wait_for("the sink is told to be away", away).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_partitions_says_that_its_stores_are_up() {
    let running = Running::start("", MemoryIdentities::default()).await;
    assert_eq!(["one", "two"].map(|sink| running.metrics.sink(sink).up.get()), [1, 1]);
    running.stop().await.expect("in order");
}

/// Whoever waited for the store is gone, and nobody else asks anything of it.
#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_while_it_waits_for_a_store_takes_its_complaint_along() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    running.settled(0).await;
    running.one.watermarks_away.store(true, Ordering::SeqCst);
    log.assign(1).await;
    until_away(&running).await;
    log.revoke(1).await;
    wait_for("the worker is ready", || one(&running) == (Vec::new(), 1)).await;
    running.one.watermarks_away.store(false, Ordering::SeqCst);

    let sink = Arc::clone(&running.one);
    running.one.fail(move |_| Some(sink.away()));
    log.append(0, &[Put(2)]);
    until_away(&running).await;
    log.revoke(0).await;
    wait_for("the worker is ready", || one(&running) == (Vec::new(), 1)).await;
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn a_store_is_away_until_it_takes_what_waits_for_it() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1] {
        log.append(number, &[Put(number.into())]);
        log.assign(number).await;
        running.settled(number).await;
    }
    // Full: it answers whatever reads, and the other partition's lane finds it as it left it.
    let sink = Arc::clone(&running.one);
    running.one.fail(move |_| Some(sink.away()));
    log.append(0, &[Put(2)]);
    until_away(&running).await;
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        assert_eq!(one(&running).1, 0);
    }
    running.one.mend();
    running.settled(0).await;
    assert_eq!(one(&running), (Vec::new(), 1));
    running.stop().await.expect("in order");
}
