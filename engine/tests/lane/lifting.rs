//! A halt that the module caused ends when another module runs: nothing is lost, and nothing goes to the dead-letter topic that it handles.

use std::time::Duration;

use streamsync::identity::{Entry, Identities, MemoryIdentities};
use streamsync::rollout::{Change, Tried};
use streamsync::sink::TopicIdentity;
use streamsync::source::cluster::UNKNOWN_ID;

use crate::group::Running;
use crate::rolling::wait_for;
use crate::world::{POISON, Row, Row::Incomplete, Row::Put, locked};

#[tokio::test(start_paused = true)]
async fn a_module_that_only_fails_is_replaced_and_nothing_is_lost() {
    let running = Running::start("max_failures_in_a_row = 3", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1] {
        log.append(number, &[Put(number.into())]);
        log.assign(number).await;
    }
    wait_for("both rows are committed", || log.committed(0) == Some(1) && log.committed(1) == Some(1)).await;
    log.append(0, &[Put(POISON), Put(POISON), Put(POISON)]);
    log.append(0, &[Put(10)]);
    let message = running.halted().await;
    assert!(
        message.starts_with(
            "shop.t/0 offset 3: the transform failed on all of the last 3 events of this partition, on this one with trapped ("
        ),
        "{message}"
    );
    assert!(message.ends_with("The route goes on by itself as soon as it runs another module"), "{message}");
    // What comes meanwhile waits, also a partition.
    wait_for("the other partition is let go", || running.metrics.partitions_assigned.get() == 0).await;
    log.append(1, &[Put(11)]);
    log.append(2, &[Put(12)]);
    log.assign(2).await;
    // A module that writes nothing changes nothing.
    let shadow = Change::Shadow { module: "other.wasm".to_owned(), sha256: None, canary_percent: 0 };
    let done = running.requests.change("rows", shadow).await.expect("fit");
    assert_eq!((done.lifted, done.halted.as_deref()), (false, Some(&*message)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((running.stored(), running.metrics.route("rows").consumed.get()), (vec![0, 1], 2));

    let done = running.swap("healed.wasm").await;
    assert_eq!((done.lifted, done.halted, done.late), (true, None, 0));
    assert!(matches!(done.tried, Tried::Events(5..)), "{:?}", done.tried);
    for number in [0, 1, 2] {
        running.settled(number).await;
    }
    running.assert_goes_on();
    assert_eq!(running.stored(), [0, 1, 10, 11, 12, POISON]);
    let route = running.metrics.route("rows");
    // The three are images of one row.
    assert_eq!((route.applied.get(), route.superseded.get(), route.consumed.get(), running.letters.count()), (6, 2, 8, 0));
    assert_eq!(running.metrics.partitions_assigned.get(), 3);
    running.stop().await.expect("a halt that was lifted counts for nothing");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_revoked_meanwhile_does_not_begin_again() {
    let running = Running::start("max_failures_in_a_row = 1", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1, 2] {
        log.append(number, &[Put(number.into())]);
        log.assign(number).await;
        running.settled(number).await;
    }
    log.append(0, &[Put(POISON)]);
    running.halted().await;
    log.assign(3).await;
    log.revoke(1).await;
    log.revoke(3).await;
    for number in [0, 1, 2, 3] {
        log.append(number, &[Put(10 + i64::from(number))]);
    }
    locked(&log.reads).clear();
    assert!(running.swap("healed.wasm").await.lifted);
    running.settled(0).await;
    running.settled(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.reads(), [0, 2]);
    assert_eq!(running.stored(), [0, 1, 2, 10, 12, POISON]);
    // Where it comes again it is read like any other.
    log.assign(3).await;
    running.settled(3).await;
    assert_eq!(running.outcomes(), (7, 0));
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn each_module_has_a_budget_of_its_own() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    log.append(0, &[Put(1), Put(POISON), Put(POISON), Put(POISON)]);
    log.append(0, &[Put(2), Put(POISON)]);
    log.assign(0).await;
    let message = running.halted().await;
    assert!(
        message.starts_with(
            "shop.t partition 0 offset 5: more than 3 records a minute would be dead-lettered, the last with transform trapped ("
        ),
        "{message}"
    );
    assert_eq!((running.outcomes(), log.committed(0)), ((1, 3), Some(4)));
    // The next one fails on the same row, and may spend as much.
    assert!(running.swap("other.wasm").await.lifted);
    running.settled(0).await;
    log.append(0, &[Put(3), Put(POISON), Put(POISON)]);
    running.settled(0).await;
    assert_eq!(running.outcomes(), (3, 6));
    log.append(0, &[Put(4), Put(POISON)]);
    running.halted().await;
    let back = running.requests.change("rows", Change::Rollback).await.expect("one ran before");
    assert_eq!((back.lifted, back.tried), (true, Tried::RanBefore));
    running.settled(0).await;
    assert_eq!(running.outcomes(), (4, 7));
    // And so it is where nothing was halted.
    let done = running.swap("healed.wasm").await;
    assert_eq!((done.lifted, done.halted, done.partitions), (false, None, 1));
    log.append(0, &[Put(POISON)]);
    running.settled(0).await;
    running.assert_goes_on();
    assert_eq!((running.outcomes(), running.letters.count(), running.stored()), ((5, 7), 7, vec![1, 2, 3, 4, POISON]));
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_still_drains_when_the_halt_is_lifted_follows() {
    let running = Running::start("max_failures_in_a_row = 1", MemoryIdentities::default()).await;
    let log = &running.log;
    for number in [0, 1] {
        log.assign(number).await;
    }
    running.one.hold();
    log.append(1, &[Put(1)]);
    wait_for("it is being written", || running.one.attempts().len() == 1).await;
    log.append(1, &[Put(2)]);
    log.append(0, &[Put(POISON)]);
    running.halted().await;
    assert!(running.swap("healed.wasm").await.lifted);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.reads(), [0, 0, 1]);
    running.one.release();
    running.settled(0).await;
    running.settled(1).await;
    assert_eq!((running.outcomes(), running.stored()), ((3, 0), vec![1, 2, POISON]));
    assert_eq!(log.reads(), [0, 0, 1, 1]);
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

/// What was prepared by the module before may halt the route when the next one runs already.
#[tokio::test(start_paused = true)]
async fn a_halt_by_a_module_that_no_longer_runs_does_not_last() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    log.assign(0).await;
    running.one.hold();
    log.append(0, &[Put(1)]);
    wait_for("it is being written", || running.one.attempts().len() == 1).await;
    log.append(0, &[Put(2), Put(POISON), Put(POISON), Put(POISON), Put(POISON)]);
    wait_for("the next is prepared", || running.metrics.prepared_batches.get() == 1).await;
    assert!(!running.swap("healed.wasm").await.lifted);
    log.append(0, &[Put(3)]);
    running.one.release();
    running.settled(0).await;
    running.assert_goes_on();
    assert_eq!((running.stored(), running.letters.count()), (vec![1, 2, 3, POISON], 0));
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_can_t_be_started_is_the_module_s_fault() {
    let running = Running::with("unstartable.wasm", "", MemoryIdentities::default()).await;
    let log = &running.log;
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    let message = running.halted().await;
    assert!(message.contains("unreachable") && message.contains("another module"), "{message}");
    assert!(running.swap("healed.wasm").await.lifted);
    running.settled(0).await;
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn another_module_lifts_no_other_halt() {
    let other_cluster = MemoryIdentities::default();
    let identity = TopicIdentity { cluster_id: "another".into(), topic_id: UNKNOWN_ID.into(), partitions: 1, generation: 1 };
    other_cluster.store("shop.t", &Entry::Identity(identity)).await.expect("in memory");
    let cases: [(MemoryIdentities, &[Row], &str); 2] =
        [(other_cluster, &[Put(1)], "streamsync"), (MemoryIdentities::default(), &[Incomplete(1)], "binlog_row_image")];
    for (identities, rows, expected) in cases {
        let running = Running::start("", identities).await;
        let log = &running.log;
        log.append(0, rows);
        log.assign(0).await;
        let message = running.halted().await;
        assert!(message.contains(expected) && !message.contains("another module"), "{message}");
        let done = running.swap("healed.wasm").await;
        assert_eq!((done.lifted, done.halted.as_deref(), done.partitions), (false, Some(&*message), 0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((running.halted().await, running.log.committed(0).unwrap_or_default()), (message, 0));
        assert!(running.stored().is_empty());
        let ended = running.stop().await.expect_err("the route is halted").to_string();
        assert_eq!(ended, "stopped with halted routes: rows");
    }
}
