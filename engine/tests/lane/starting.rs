//! What a worker tells of its stores and of partitions that are not at work yet, and what follows where they never are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use streamsync::fence::Generation;
use streamsync::identity::{Beginning, Entry, FirstSeen, Identities as _, MemoryIdentities, Rebuild, Seen};
use streamsync::lane::Mark;
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{Replaces, Sink as _, TopicIdentity, Watermark};
use streamsync::source::cluster::UNKNOWN_ID;
use streamsync::source::{self, Idle, LagStatistics, PartitionLag, Reply, SourceEvent};
use streamsync::transform::{Guest, SetupError};

use crate::group::{Running, partition};
use crate::rolling::wait_for;
use crate::world::Row::{Put, Read};
use crate::world::{FaultySink, locked};

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

/// A store that is away when a worker begins keeps it from no group: whoever needs the store waits, and looks whether it is fit.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_the_start_delays_those_who_need_it() {
    let away = FaultySink::new("one");
    away.checks_away.store(true, Ordering::SeqCst);
    let running = Running::beside("guest.wasm", "", MemoryIdentities::default(), |_| {}, away).await;
    running.log.append(0, &[Put(1)]);
    running.log.append(1, &[Put(2)]);
    running.log.assign(0).await;
    running.log.assign(1).await;
    until_away(&running).await;
    assert_eq!(running.stored(), Vec::<i64>::new());
    running.one.checks_away.store(false, Ordering::SeqCst);
    running.settled(0).await;
    running.settled(1).await;
    assert_eq!((running.stored(), one(&running)), (vec![1, 2], (Vec::new(), 1)));
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
    *locked(&running.one.watermarks_away) = |_| true;
    log.assign(1).await;
    until_away(&running).await;
    log.revoke(1).await;
    wait_for("the worker is ready", || one(&running) == (Vec::new(), 1)).await;
    *locked(&running.one.watermarks_away) = |_| false;

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
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(one(&running).1, 0);
    }
    running.one.mend();
    running.settled(0).await;
    assert_eq!(one(&running), (Vec::new(), 1));
    running.stop().await.expect("in order");
}

/// Two partitions came together, and the first has asked for both when nothing was known of the topic. Then another worker had the second.
#[tokio::test(start_paused = true)]
async fn what_another_worker_has_stored_meanwhile_halts_nothing() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    *locked(&running.one.watermarks_away) = |partition| partition == 1;
    log.append(0, &[Put(1)]);
    log.append(1, &[Put(2), Put(3)]);
    log.tell(SourceEvent::Assigned { partitions: vec![partition(0), partition(1)] }).await;
    running.settled(0).await;
    let theirs = Watermark { generation: Generation::FIRST, next_offset: 1, written_at_ms: 0, complete_until_ms: 0 };
    let group = &running.settings.kafka.group;
    running.one.store_watermark(group, &partition(1), MemorySink::LINEAGE, Replaces::NotBehind(None), theirs).await.expect("in memory");
    *locked(&running.one.watermarks_away) = |_| false;
    let halted = &running.metrics.route("rows").halted;
    wait_for("the second is settled, or halts", || halted.get() == 1 || log.committed(1) == Some(2)).await;
    running.assert_goes_on();
    assert_eq!(running.stored(), [1, 2, 3]);
    running.stop().await.expect("in order");
}

/// Of the worker that has the partition by now, for which an earlier watermark would be a loss.
#[tokio::test]
async fn a_worker_that_was_stopped_while_it_began_puts_no_watermark_back() {
    let (sink, source) = (MemorySink::new("one"), partition(0));
    let at = |next_offset| Watermark { generation: Generation::FIRST, next_offset, written_at_ms: 5, complete_until_ms: 5 };
    let take_over = async |read, begin| Mark::take_over((0, &sink), "group", &source, 0, read, begin).await.expect("in memory");
    take_over(None, at(0)).await.expect("nothing was there");
    let left = sink.watermark("group", &source).await.expect("in memory");
    assert_eq!(left, Some(Watermark { written_at_ms: 6, ..at(0) }), "a late creation would leave another one");
    // An answer was lost, and the question is asked again.
    take_over(None, at(0)).await.expect("it is there already");
    take_over(left, at(50)).await.expect("a worker that began later");
    for read in [None, Some(at(0))] {
        let behind = take_over(read, at(0)).await.expect_err("it was replaced");
        assert_eq!(behind.0, "another worker has written its watermark of this partition, 50");
    }
    assert_eq!(sink.watermark("group", &source).await.expect("in memory"), Some(at(50)));
}

/// Its watermarks would be too old one day for a compacted log, and a transaction's marker at the end would count as lag for ever.
#[tokio::test(start_paused = true)]
async fn a_partition_without_news_keeps_its_watermarks_young() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let (log, source) = (&running.log, partition(0));
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    running.settled(0).await;
    let group = &running.settings.kafka.group;
    let stored = async || running.one.watermark(group, &source).await.expect("in memory").expect("there is one");
    let first = stored().await;
    let say = async |read, end, at_ms| {
        let partition =
            PartitionLag { source: source.clone(), high: None, committed: None, lag: None, idle: Some(Idle { read, end, at_ms }) };
        log.tell(SourceEvent::Statistics(LagStatistics { connected: true, joined: true, partitions: vec![partition] })).await;
        tokio::time::sleep(running.settings.loss_check_interval * 3).await;
        let Watermark { next_offset, written_at_ms, .. } = stored().await;
        (next_offset, written_at_ms - first.written_at_ms)
    };
    let at = |seconds: i64| first.written_at_ms + seconds * 1000;
    assert_eq!(say(1, 1, at(100)).await, (1, 0), "one look is not enough");
    assert_eq!(say(1, 1, at(110)).await, (1, 100_000), "as of the first look that found it so");
    assert_eq!(say(1, 1, at(120)).await, (1, 100_000), "not again at once");
    assert_eq!(say(2, 2, at(300)).await, (1, 100_000), "something is on its way");
    assert_eq!(say(2, 2, at(400)).await, (1, 100_000), "and is not settled yet");
    assert_eq!(say(1, 3, at(410)).await, (1, 100_000), "another look");
    assert_eq!(say(1, 3, at(420)).await, (3, 410_000), "behind the markers");
    assert_eq!(log.committed(0), Some(3));
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

/// Kafka's client says nothing of it, and may go on in the new topic, where the old one's offsets mean other records.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_created_again_is_noticed_while_it_is_read() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    *locked(&log.topic_id) = "first".to_owned();
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    running.settled(0).await;
    tokio::time::sleep(running.settings.loss_check_interval * 40).await;
    running.assert_goes_on();
    *locked(&log.topic_id) = "second".to_owned();
    let halted = running.halted().await;
    assert!(halted.contains("its id was first and is now second") && halted.contains("streamsync rebuild --route rows"), "{halted}");
    assert_eq!(log.reads(), [0], "nothing of the new one is read");
    running.stop().await.expect_err("halted");
}

/// What comes after a cut has the offsets of what was lost, and with them its versions.
#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_off_behind_a_reader_is_not_read_on() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let log = &running.log;
    log.append(0, &[Put(1), Put(2)]);
    log.assign(0).await;
    running.settled(0).await;
    log.cut.store(true, Ordering::Relaxed);
    // Others have taken the lost records' place, so that the position is in the log again.
    log.append(0, &[Put(3)]);
    let halted = running.halted().await;
    assert!(halted.contains("goes on with other records, from offset 2 on") && halted.contains("--after-snapshot"), "{halted}");
    assert_eq!(running.stored(), [1, 2]);
    running.stop().await.expect_err("halted");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_away_is_told_of() {
    let running = Running::start("", MemoryIdentities::default()).await;
    let (log, kafka_up) = (&running.log, &running.metrics.kafka_up);
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    running.settled(0).await;
    let say = async |connected, joined, up| {
        log.tell(SourceEvent::Statistics(LagStatistics { connected, joined, partitions: Vec::new() })).await;
        wait_for("it is heard", || kafka_up.get() == up).await;
    };
    say(true, true, 1).await;
    say(false, true, 0).await;
    running.assert_goes_on();
    say(true, true, 1).await;
    say(true, false, 0).await;
    running.stop().await.expect("in order");
}

/// A worker that says at once what is not at work.
async fn impatient(module: &str, transform: &str, identities: MemoryIdentities) -> Running {
    let alter = |settings: &mut streamsync::config::Settings| {
        settings.http.stalled_after = Duration::ZERO;
        settings.transforms.max_instances = 1;
    };
    Running::altered(module, transform, identities, alter).await
}

async fn until_told(running: &Running, words: &str) {
    wait_for(words, || running.health.reasons().iter().any(|reason| reason.contains(words))).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_can_t_start_is_told_of() {
    let running = impatient("guest.wasm", "", MemoryIdentities::default()).await;
    let log = &running.log;
    *locked(&log.look) = Some(|| source::Error::Away { message: "no coordinator".to_owned() });
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    until_told(&running, "partition 0 of shop.t is not at work for 0 s: it waits for Kafka: Kafka is away: no coordinator").await;
    *locked(&log.look) = None;
    running.settled(0).await;
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_partition_from_starting_for_good_halts_its_route() {
    let cases: [(crate::group::Unanswered, &str); 2] = [
        (|| source::Error::Setup { message: "permit READ on the consumer group".to_owned() }, "permit READ on the consumer group"),
        (|| panic!("on purpose"), "shop.t/0: a defect in the engine kept the partition from starting"),
    ];
    for (look, expected) in cases {
        let running = Running::start("", MemoryIdentities::default()).await;
        *locked(&running.log.look) = Some(look);
        running.log.assign(0).await;
        let message = running.halted().await;
        assert!(message.contains(expected), "{message}");
        assert_eq!(running.metrics.partitions_assigned.get(), 0);
        running.stop().await.expect_err("the route is halted");
    }
}

/// One name for two servers: each round costs a connection of Kafka's and finds the other server.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_another_each_time_is_asked_less_and_less_often() {
    let running = impatient("guest.wasm", "", MemoryIdentities::default()).await;
    let log = &running.log;
    running.one.flaps.store(true, Ordering::SeqCst);
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    until_told(&running, "partition 0 of shop.t is not at work for 0 s: it began again and has kept nothing since: sink one").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let reads = log.reads().len();
    assert!((3..=30).contains(&reads), "{reads} rounds in a minute");
    running.one.flaps.store(false, Ordering::SeqCst);
    running.settled(0).await;
    wait_for("the worker is ready", || running.health.reasons().is_empty()).await;
    // The next loss is the first of its kind, and does not wait as long as the last round did.
    let reads = log.reads().len();
    running.one.store.flush();
    tokio::time::sleep(running.settings.loss_check_interval + 2 * running.settings.retry.initial).await;
    assert_eq!(log.reads().len(), reads + 1);
    running.settled(0).await;
    running.stop().await.expect("in order");
}

#[tokio::test(start_paused = true)]
async fn a_partition_waits_for_a_place_for_its_guest() {
    let running = impatient("guest.wasm", "", MemoryIdentities::default()).await;
    let log = &running.log;
    let make = || Guest::new(Arc::clone(&running.module), Arc::clone(&running.settings.routes[0]), &running.settings.sinks);
    let (mut others, mut error) = (Vec::new(), None);
    while error.is_none() {
        match make() {
            Ok(guest) => others.push(guest),
            Err(full) => error = Some(full),
        }
    }
    assert!(error.as_ref().is_some_and(SetupError::is_passing), "{error:?}");
    log.append(0, &[Put(1)]);
    log.assign(0).await;
    until_told(&running, "it waits for a place for its guest").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.metrics.route("rows").halted.get(), 0);
    drop(others);
    running.settled(0).await;
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

/// The worker's own loop waits for no guest: it serves a rebalance meanwhile. In real time, which is the guest's.
#[tokio::test]
async fn a_guest_that_takes_long_to_start_holds_nobody_up() {
    let running = Running::with("endless.wasm", "call_timeout = \"3s\"", MemoryIdentities::default()).await;
    let log = &running.log;
    log.assign(0).await;
    wait_for("the partition is read", || log.reads() == [0]).await;
    let (done, answer) = Reply::channel();
    log.tell(SourceEvent::Revoked { partitions: vec![partition(0)], lost: false, done }).await;
    wait_for("it is let go", || answer.try_recv().is_ok()).await;
    assert_eq!((running.metrics.route("rows").halted.get(), running.metrics.partitions_assigned.get()), (0, 0));
    running.stop().await.expect("in order");
}

/// A sweep may take hours, in which another worker notes what makes the route unproven again.
#[tokio::test(start_paused = true)]
async fn what_is_noted_during_a_sweep_leaves_the_route_unproven() {
    let identities = MemoryIdentities::default();
    let identity = TopicIdentity { cluster_id: "mock".into(), topic_id: UNKNOWN_ID.into(), partitions: 1, generation: 2 };
    for entry in [
        Entry::Beginning(Beginning { generation: 2, offsets: vec![0], begun_at_ms: 1, log_is_split: false }),
        Entry::Rebuild(Rebuild { generation: 2, ends: Some(vec![2]), swept_at_ms: None }),
        Entry::Identity(identity),
    ] {
        identities.store("shop.t", &entry).await.expect("in memory");
    }
    let running = Running::start("", identities).await;
    let log = &running.log;
    running.one.store.plant("t", b"t:99", b"{}".to_vec());
    log.append(0, &[Read(1), Read(2)]);
    log.assign(0).await;
    running.settled(0).await;
    running.one.hold();
    // By then it sweeps.
    tokio::time::sleep(running.settings.loss_check_interval * 3).await;
    let second = Entry::Seen(0, Seen::SecondSnapshot, FirstSeen { generation: 2, offset: 7 });
    running.identities.store("shop.t", &second).await.expect("in memory");
    assert_eq!(running.stored(), [1, 2, 99]);
    running.one.release();
    wait_for("it has swept", || running.stored() == [1, 2]).await;
    tokio::time::sleep(running.settings.loss_check_interval * 10).await;
    assert_eq!((running.metrics.route("rows").unproven.get(), running.health.unproven_routes()), (1, vec!["rows".to_owned()]));
    running.stop().await.expect("in order");
}
