//! A log that has lost something before it was read: what its topic's retention has taken, or a compacted log's null records.

use futures_util::FutureExt as _;
use streamsync::fence::Generation;
use streamsync::identity::{self, MemoryIdentities};
use streamsync::machine::Machine;
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{Replaces, Sink as _, Watermark};
use streamsync::source::cluster::Topics as _;
use streamsync::source::{Idle, LagStatistics, PartitionLag, SourceEvent};

use crate::group::{Log, Running, partition};
use crate::rolling::wait_for;
use crate::worker::OneTopic;
use crate::world::Row::Put;
use crate::world::{FaultySink, locked};

/// Five rows are settled everywhere, and the log has lost the first three of their records.
async fn settled(accept_truncated_log: bool) -> Running {
    let alter = |settings: &mut streamsync::config::Settings| settings.kafka.accept_truncated_log = accept_truncated_log;
    let running = Running::altered("guest.wasm", "", MemoryIdentities::default(), alter).await;
    for id in 1..=5 {
        running.log.append(0, &[Put(id)]);
    }
    running.log.assign(0).await;
    running.settled(0).await;
    assert_eq!(running.stored(), [1, 2, 3, 4, 5]);
    running.log.forget_before(3);
    running
}

/// The route has halted with these words; nothing was read again, and the group's offset is where it was.
async fn check_halted(running: Running, words: &[&str]) {
    let halted = running.halted().await;
    for words in words {
        assert!(halted.contains(words), "{words:?} is missing in: {halted}");
    }
    assert_eq!((running.log.reads(), running.log.committed(0)), (vec![0], Some(5)));
    running.stop().await.expect_err("halted");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_everything_halts_its_route_where_the_log_lost_it_too() {
    let running = settled(false).await;
    running.one.store.flush();
    let remedy = "`streamsync rebuild --route rows --after-snapshot`";
    let lost = "the log begins at offset 3: what stood before is gone";
    check_halted(running, &["shop.t/0: sink one", lost, "kafka.accept_truncated_log = true", remedy]).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_accepted_as_complete_fills_an_empty_store_from_where_it_begins() {
    let running = settled(true).await;
    running.one.store.flush();
    wait_for("it is filled with what the log has", || running.stored() == [4, 5]).await;
    wait_for("the partition is at work", || running.health.reasons().is_empty()).await;
    assert_eq!((running.log.reads(), running.metrics.sink("one").rewinds.get()), (vec![0, 0], 1));
    running.assert_goes_on();
    running.log.append(0, &[Put(6)]);
    running.settled(0).await;
    assert_eq!(running.stored(), [4, 5, 6]);
    running.stop().await.expect("in order");
}

/// That a log is complete says nothing of a store that was in the midst of it.
#[tokio::test(start_paused = true)]
async fn a_store_that_was_put_back_to_before_the_log_halts_its_route_in_any_case() {
    for accept_truncated_log in [false, true] {
        let running = settled(accept_truncated_log).await;
        let earlier = Watermark { generation: Generation::FIRST, next_offset: 1, written_at_ms: 0, complete_until_ms: 0 };
        let source = partition(0);
        let put_back = running.one.store.store_watermark(
            &running.settings.kafka.group,
            &source,
            MemorySink::LINEAGE,
            Replaces::NotBehind(None),
            earlier,
        );
        put_back.now_or_never().expect("in memory").expect("stored");
        let lost = "the watermark of sink one is 1, but the log begins at 3: records 1 to 2 are gone unread";
        check_halted(running, &[lost, "--after-snapshot`", "--snapshot-complete`"]).await;
    }
}

/// A worker that has read nothing yet of a compacted topic, which keeps no null record longer than the cleaner needs to come by.
async fn reading_a_compacted_log() -> Running {
    let running = Running::start("", MemoryIdentities::default()).await;
    *locked(&running.log.tombstones_kept_ms) = Some(0);
    running.log.assign(0).await;
    wait_for("it is read", || running.log.reads() == [0] && running.log.committed(0) == Some(0)).await;
    running
}

fn now_ms() -> i64 {
    Machine::REAL.now_ms()
}

/// Its end is where a reader stood at that moment.
async fn ends(log: &Log, end: i64, at_ms: i64) {
    let idle = Some(Idle { read: end, end, at_ms });
    let lag = PartitionLag { source: partition(0), high: None, committed: None, lag: None, idle };
    for _ in 0..2 {
        log.tell(SourceEvent::Statistics(LagStatistics { connected: true, joined: true, partitions: vec![lag.clone()] })).await;
    }
}

/// However often a lane begins and writes its watermark: what counts is what was read.
#[tokio::test(start_paused = true)]
async fn a_watermark_says_up_to_when_deletions_are_known_and_not_when_it_was_written() {
    let hour_ago_ms = now_ms() - 3_600_000;
    let earlier = Watermark { generation: Generation::FIRST, next_offset: 1, written_at_ms: hour_ago_ms, complete_until_ms: hour_ago_ms };
    let (one, source) = (FaultySink::new("one"), partition(0));
    let identity = identity::of_topic(&OneTopic.facts("shop.t").expect("facts"), Generation::FIRST);
    one.store.store_identity("shop.t", &identity).await.expect("in memory");
    one.store.store_watermark("streamsync", &source, MemorySink::LINEAGE, Replaces::NotBehind(None), earlier).await.expect("in memory");
    let running = Running::beside("guest.wasm", "", MemoryIdentities::default(), |_| {}, one).await;
    *locked(&running.log.tombstones_kept_ms) = Some(24 * 3_600_000);
    running.log.append(0, &[Put(1), Put(2)]);
    let told = async || {
        let found = running.one.store.watermark("streamsync", &source).await.expect("in memory").expect("there is one");
        (found.next_offset, found.complete_until_ms, found.written_at_ms > hour_ago_ms)
    };
    running.one.hold();
    running.log.assign(0).await;
    wait_for("it is read", || running.log.reads() == [0]).await;
    assert_eq!(told().await, (0, hour_ago_ms, true), "its lane has begun, and read nothing");
    running.one.release();
    running.settled(0).await;
    assert_eq!(told().await, (2, hour_ago_ms, true), "nobody says when the records were written");
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

/// What was deleted in between is not in the log any more, and in no store's watermark.
#[tokio::test(start_paused = true)]
async fn a_compacted_log_that_is_read_too_late_halts_its_route_also_when_it_begins_again() {
    let running = reading_a_compacted_log().await;
    std::thread::sleep(std::time::Duration::from_millis(2));
    running.log.append(0, &[Put(1)]);
    let halted = running.halted().await;
    for words in ["is 0 hours behind", "deletions may be missing", "`streamsync rebuild --route rows --after-snapshot`"] {
        assert!(halted.contains(words), "{words:?} is missing in: {halted}");
    }
    assert_eq!((running.stored(), running.log.reads(), running.log.committed(0)), (Vec::new(), vec![0], Some(0)));
    running.stop().await.expect_err("halted");
}

/// The store may have been emptied meanwhile, and filled again from a log that tells of the row's deletion no more.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_store_longer_than_a_log_tells_of_deletions_is_read_again() {
    let running = Running::start("", MemoryIdentities::default()).await;
    *locked(&running.log.tombstones_kept_ms) = Some(3_600_000);
    running.one.hold();
    running.log.append(0, &[Put(1)]);
    running.log.assign(0).await;
    let waited = async |minutes: u64| {
        tokio::time::sleep(std::time::Duration::from_secs(minutes * 60)).await;
        running.log.reads().len()
    };
    assert_eq!(waited(59).await, 1);
    assert_eq!(waited(2).await, 2);
    running.one.release();
    running.settled(0).await;
    assert_eq!(running.stored(), [1]);
    running.assert_goes_on();
    running.stop().await.expect("in order");
}

/// However long nothing came.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stood_at_the_end_of_a_compacted_log_goes_on() {
    let running = reading_a_compacted_log().await;
    // An hour from now: the batch is read before.
    let at_ms = now_ms() + 3_600_000;
    ends(&running.log, 0, at_ms).await;
    running.log.append(0, &[Put(1)]);
    running.settled(0).await;
    assert_eq!(running.stored(), [1]);
    let watermark = running.one.store.watermark(&running.settings.kafka.group, &partition(0)).await.expect("in memory");
    assert_eq!(watermark.map(|watermark| (watermark.next_offset, watermark.complete_until_ms)), Some((1, at_ms)));
    running.assert_goes_on();
    running.stop().await.expect("in order");
}
