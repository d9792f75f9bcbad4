//! A log whose beginning its topic's retention has taken, and a store that needs what stood there.

use futures_util::FutureExt as _;
use streamsync::fence::Generation;
use streamsync::identity::MemoryIdentities;
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{Replaces, Sink as _, Watermark};

use crate::group::{Running, partition};
use crate::rolling::wait_for;
use crate::world::Row::Put;

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
        let earlier = Watermark { generation: Generation::FIRST, next_offset: 1, written_at_ms: 0 };
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
