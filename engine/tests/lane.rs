//! What a lane promises, with every IO replaced: one outcome a record, no offset past an unsettled one, an end whenever one is ordered.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, unreachable_pub, reason = "a test fails by panicking")]

#[path = "fixtures/component.rs"]
mod component;
#[path = "lane/group.rs"]
mod group;
#[path = "lane/kept.rs"]
mod kept;
#[path = "lane/lifting.rs"]
mod lifting;
#[path = "lane/neighbour.rs"]
#[expect(clippy::print_stdout, reason = "figures are printed")]
mod neighbour;
#[path = "lane/redrive.rs"]
mod redrive;
#[path = "lane/retention.rs"]
mod retention;
#[path = "lane/rolling.rs"]
mod rolling;
#[path = "lane/routes.rs"]
mod routes;
#[path = "lane/shadow.rs"]
mod shadow;
#[path = "lane/starting.rs"]
mod starting;
#[path = "lane/swap.rs"]
mod swap;
#[path = "lane/worker.rs"]
mod worker;
#[path = "lane/world.rs"]
mod world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use streamsync::lane::{End, Order};
use streamsync::sink::{self, Watermark};

use streamsync::fence::{Fence, Generation};
use streamsync::identity::{Identities as _, Seen};
use streamsync::sink::memory::MemorySink;
use streamsync::sink::{Held, Sink as _};
use world::Row::{Broken, Delete, Incomplete, Put, Read, Truncate};
use world::{POISON, World, locked};

const SECOND: Duration = Duration::from_secs(1);

fn halted(end: End) -> String {
    match end {
        End::Halted(halt) => halt.message,
        other @ (End::Stopped | End::Behind { .. } | End::OffsetLost(_) | End::TombstonesExpired) => {
            panic!("the lane should have halted, and ended with {other:?}")
        }
    }
}

/// Invariant 1, for lanes that ended in order.
fn assert_every_record_has_one_outcome(world: &World, outcomes: [u64; 5]) {
    let (consumed, counted) = world.counts();
    assert_eq!(counted, outcomes, "applied, superseded, stale, filtered, dead-lettered");
    assert_eq!(consumed, counted.iter().sum::<u64>());
    assert_eq!(world.metrics.prepared_batches.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn commits_wait_for_both_sinks() {
    let mut world = World::new();
    world.two.hold();
    world.read(&[Put(1), Put(2)]).await;
    world.until("store one has it", |w| w.documents().len() == 2).await;
    world.pass(60 * SECOND).await;
    assert_eq!(world.last_commit(), None);
    world.two.release();
    world.until("committed", |w| w.last_commit() == Some(2)).await;
    let watermark = world.two.store.watermark("streamsync", &world.source).await.expect("in memory").expect("stored");
    assert_eq!((watermark.next_offset, watermark.generation), (2, Generation::FIRST));
    assert_eq!(world.finish().await, End::Stopped);
    assert_every_record_has_one_outcome(&world, [2, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_gets_only_what_failed_again() {
    let mut world = World::new();
    let sink = std::sync::Arc::clone(&world.one);
    world.one.fail(move |write| (write.fence.offset() != 1).then(|| sink.away()));
    world.read(&[Put(1), Put(2), Put(3)]).await;
    world.read(&[Put(4)]).await;
    world.until("ten attempts", |w| w.one.attempts().len() >= 10).await;
    assert_eq!(world.last_commit(), None);
    assert_eq!(world.metrics.sink("one").up.get(), 0);
    world.one.mend();
    world.until("committed", |w| w.last_commit() == Some(4)).await;
    let attempts = world.one.attempts();
    assert_eq!(attempts[0], [0, 1, 2]);
    let (last, again) = attempts[1..].split_last().expect("attempts");
    assert!(again.iter().all(|offsets| *offsets == [0, 2]), "{attempts:?}");
    assert_eq!(*last, [3]);
    assert_eq!(world.two.attempts(), [vec![0, 1, 2], vec![3]]);
    assert_eq!(world.metrics.sink("one").up.get(), 1);
    assert_eq!(world.finish().await, End::Stopped);
    assert!(world.committed().is_sorted());
    assert_every_record_has_one_outcome(&world, [4, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_dead_lettered_and_the_rest_goes_on() {
    let mut world = World::new();
    let sink = std::sync::Arc::clone(&world.one);
    world.one.fail(move |write| (write.fence.offset() == 1).then(|| sink.refused()));
    world.read(&[Put(1), Put(2), Broken, Put(POISON), Put(1)]).await;
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.documents(), ["t:1"]);
    let letters = world.letters.kept.letters();
    let letters: Vec<_> = letters.iter().map(|kept| (kept.offset, &*kept.letter.stage, &*kept.letter.code)).collect();
    assert_eq!(letters, [(1, "one", "wrong-type"), (2, "decode", "bad-json"), (3, "transform", "trapped")]);
    assert_eq!(world.last_commit(), Some(5));
    assert_every_record_has_one_outcome(&world, [1, 1, 0, 0, 3]);
}

#[tokio::test(start_paused = true)]
async fn letters_are_kept_before_anything_is_committed() {
    let mut world = World::new();
    world.letters.away.store(5, Ordering::SeqCst);
    world.read(&[Broken, Put(1)]).await;
    world.until("four attempts", |w| w.letters.away.load(Ordering::SeqCst) == 1).await;
    assert_eq!(world.last_commit(), None);
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!((world.letters.kept.count(), world.last_commit()), (1, Some(2)));
    assert_every_record_has_one_outcome(&world, [1, 0, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn too_many_letters_halt() {
    let mut world = World::new();
    world.read(&[Broken, Put(1), Broken, Broken]).await;
    world.until("committed", |w| w.last_commit() == Some(4)).await;
    world.read(&[Put(2), Broken]).await;
    let message = halted(world.end().await);
    assert!(message.starts_with("shop.t partition 0 offset 5: more than 3 records a minute"), "{message}");
    assert!(message.contains("dead_letters.max_per_minute"), "{message}");
    assert_eq!(world.committed(), [4]);
    assert_eq!(world.letters.kept.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_would_falsify_a_row_halts() {
    let mut world = World::new();
    world.read(&[Put(1)]).await;
    world.read(&[Put(2), Incomplete(3)]).await;
    let message = halted(world.end().await);
    assert!(message.starts_with("shop.t partition 0 offset 2: ") && message.contains("name"), "{message}");
    assert_eq!(world.committed(), [1]);
    assert_eq!(world.documents(), ["t:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_s_verdict_halts_even_while_the_other_sink_is_away() {
    let other = |sink: String| sink::Error::OtherPartition { sink, place: "t".to_owned(), stored: 1, incoming: 0 };
    let setup = |sink: String| sink::Error::Setup { sink, message: "NOPERM: permit EVALSHA".to_owned() };
    type Verdict = fn(String) -> sink::Error;
    let verdicts: [(&str, Verdict); 2] = [("partition 1", other), ("permit EVALSHA", setup)];
    for (words, verdict) in verdicts {
        let mut world = World::new();
        let away = std::sync::Arc::clone(&world.two);
        world.two.fail(move |_| Some(away.away()));
        world.one.fail(move |_| Some(verdict("one".to_owned())));
        world.read(&[Put(1)]).await;
        let message = halted(world.end().await);
        assert!(message.contains(words), "{message}");
        assert_eq!(world.last_commit(), None);
        assert_eq!(world.metrics.prepared_batches.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncate_halts_unless_told_otherwise() {
    let mut world = World::new();
    world.read(&[Put(1), Truncate, Put(2)]).await;
    let message = halted(world.end().await);
    assert!(message.starts_with("shop.t partition 0 offset 1: the table was truncated"), "{message}");
    assert!(message.contains(r#"on_truncate = "clear""#), "{message}");
    assert_eq!(world.last_commit(), None);
}

#[tokio::test(start_paused = true)]
async fn a_truncate_clears_on_request_what_was_there_before() {
    let mut world = World::with("clear", true);
    world.read(&[Put(1), Put(2)]).await;
    world.read(&[Put(3), Truncate, Put(2), Put(4), Truncate, Put(5), Put(1)]).await;
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.documents(), ["t:1", "t:5"]);
    assert_eq!(world.last_commit(), Some(9));
    assert_every_record_has_one_outcome(&world, [8, 1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_settles_and_commits_the_batch_that_is_being_written() {
    let mut world = World::new();
    world.one.hold();
    for id in 0..4 {
        world.read(&[Put(id)]).await;
    }
    world.until("the first batch is being written", |w| w.one.attempts().len() == 1).await;
    world.until("others are prepared", |w| w.metrics.prepared_batches.get() == 2).await;
    world.order(Order::Drain);
    world.pass(SECOND).await;
    world.one.release();
    assert_eq!(world.end().await, End::Stopped);
    assert_eq!(world.committed(), [1]);
    assert_eq!(world.documents(), ["t:0"]);
    assert_every_record_has_one_outcome(&world, [1, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_partition_is_let_go_at_once() {
    let mut world = World::new();
    world.read(&[Put(1)]).await;
    world.until("committed", |w| w.last_commit() == Some(1)).await;
    world.one.hold();
    world.read(&[Put(2)]).await;
    world.read(&[Put(3)]).await;
    world.until("the next is being written", |w| w.one.attempts().len() == 2).await;
    let start = tokio::time::Instant::now();
    world.order(Order::Drain);
    world.order(Order::Abandon);
    world.order(Order::Drain);
    assert_eq!(world.end().await, End::Stopped);
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    world.one.release();
    world.pass(60 * SECOND).await;
    assert_eq!(world.committed(), [1]);
    assert_eq!(world.documents(), ["t:1"]);
    assert_eq!(world.metrics.prepared_batches.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_lane_ends_whatever_it_waits_for() {
    for wait in ["sink", "letters", "poll", "commit"] {
        let mut world = World::new();
        match wait {
            "sink" => {
                let sink = std::sync::Arc::clone(&world.one);
                world.one.fail(move |_| Some(sink.away()));
            }
            "letters" => world.letters.away.store(u64::MAX, Ordering::SeqCst),
            "poll" => world.poll_age.store(301, Ordering::SeqCst),
            _ => world.commits.away.store(u64::MAX, Ordering::SeqCst),
        }
        world.read(&[Broken, Put(1)]).await;
        world.pass(20 * SECOND).await;
        let start = tokio::time::Instant::now();
        world.order(Order::Abandon);
        assert_eq!(world.end().await, End::Stopped, "{wait}");
        assert!(start.elapsed() < SECOND, "{wait}: {:?}", start.elapsed());
        assert_eq!(world.last_commit(), None, "{wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn commits_that_fail_are_repeated_at_a_bounded_rate() {
    let mut world = World::new();
    world.commits.away.store(3, Ordering::SeqCst);
    world.read(&[Put(1)]).await;
    world.until("committed", |w| w.last_commit() == Some(1)).await;
    assert_eq!(world.commits.attempts.load(Ordering::SeqCst), 4);
    // The coordinator is away for good: the lane still ends, within the drain's time, without knocking all the while.
    world.commits.away.store(u64::MAX, Ordering::SeqCst);
    world.read(&[Put(2)]).await;
    let start = tokio::time::Instant::now();
    assert_eq!(world.finish().await, End::Stopped);
    assert!(start.elapsed() <= 45 * SECOND, "{:?}", start.elapsed());
    assert!(world.commits.attempts.load(Ordering::SeqCst) < 100, "{}", world.commits.attempts.load(Ordering::SeqCst));
    assert_eq!(world.committed(), [1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_by_a_worker_that_has_not_polled() {
    let mut world = World::new();
    world.poll_age.store(301, Ordering::SeqCst);
    world.read(&[Put(1)]).await;
    world.pass(60 * SECOND).await;
    assert!(world.one.attempts().is_empty() && world.two.attempts().is_empty());
    world.poll_age.store(0, Ordering::SeqCst);
    world.until("committed", |w| w.last_commit() == Some(1)).await;
    // The same between two attempts at a sink that is away.
    let sink = std::sync::Arc::clone(&world.one);
    world.one.fail(move |_| Some(sink.away()));
    world.read(&[Put(2)]).await;
    world.until("attempts", |w| w.one.attempts().len() > 3).await;
    world.poll_age.store(301, Ordering::SeqCst);
    world.pass(20 * SECOND).await;
    let attempts = world.one.attempts().len();
    world.pass(60 * SECOND).await;
    assert_eq!(world.one.attempts().len(), attempts);
    world.one.mend();
    world.poll_age.store(0, Ordering::SeqCst);
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.last_commit(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn topics_that_are_passed_over_are_counted_and_committed() {
    let mut world = World::with("halt", false);
    world.read(&[Put(1), Broken, Truncate]).await;
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.last_commit(), Some(3));
    let route = world.metrics.route("shop.t");
    assert_eq!((route.consumed.get(), route.filtered.get()), (3, 3));
    assert!(world.one.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_write_of_a_key_wins_and_a_replay_changes_nothing() {
    let mut world = World::new();
    let rows = || [Put(1), Put(2), Delete(1), Put(3), Put(2), Delete(9)];
    world.read(&rows()).await;
    world.until("committed", |w| w.last_commit() == Some(6)).await;
    let mut sent = world.one.attempts();
    sent.iter_mut().for_each(|offsets| offsets.sort_unstable());
    assert_eq!(sent, [[2, 3, 4, 5]]);
    assert_eq!(world.documents(), ["t:2", "t:3"]);
    let stored = world.one.store.snapshot();
    world.rewind(0);
    world.read(&rows()).await;
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.one.store.snapshot(), stored);
    assert_every_record_has_one_outcome(&world, [4, 4, 4, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_halt_still_commits_what_was_settled_before() {
    let mut world = World::new();
    for id in 0..5 {
        world.read(&[Put(id)]).await;
    }
    world.read(&[Incomplete(9)]).await;
    world.read(&[Put(7)]).await;
    halted(world.end().await);
    assert_eq!(world.last_commit(), Some(5));
    let watermark = world.one.store.watermark("streamsync", &world.source).await.expect("in memory");
    assert!(matches!(watermark, Some(Watermark { next_offset: 5, .. })), "{watermark:?}");
    assert!(locked(&world.one.attempts).iter().flatten().all(|offset| *offset < 5));
}

fn behind(end: End) -> (usize, String) {
    match end {
        End::Behind { sink, what } => (sink, what),
        other @ (End::Stopped | End::OffsetLost(_) | End::TombstonesExpired | End::Halted(_)) => {
            panic!("no sink was found behind: the lane ended with {other:?}")
        }
    }
}

/// Each of these loses what was acknowledged after the last watermark, or more.
#[tokio::test(start_paused = true)]
async fn a_sink_that_lost_data_ends_the_lane_before_a_watermark_or_a_commit_hides_it() {
    type Loss = fn(&World);
    let losses: [(&str, Loss); 3] = [
        ("is gone", |world| world.two.store.flush()),
        ("another one took its place", |world| world.two.lineage.store(1, Ordering::SeqCst)),
        ("went back from 1 to 0", |world| {
            let (generation, source) = (Generation::FIRST, &world.source);
            let earlier = Watermark { generation, next_offset: 0, written_at_ms: 0, complete_until_ms: 0 };
            let stored =
                world.two.store.store_watermark("streamsync", source, MemorySink::LINEAGE, sink::Replaces::NotBehind(None), earlier);
            futures_util::FutureExt::now_or_never(stored).expect("in memory").expect("stored");
        }),
    ];
    for (expected, lose) in losses {
        for idle in [false, true] {
            let mut world = World::new();
            world.read(&[Put(1)]).await;
            world.until("committed", |w| w.last_commit() == Some(1)).await;
            lose(&world);
            if !idle {
                world.read(&[Put(2)]).await;
            }
            let lost_at = tokio::time::Instant::now();
            let (sink, what) = behind(world.end().await);
            assert!(sink == 1 && what.contains(expected), "{expected}, idle {idle}: {what}");
            assert!(lost_at.elapsed() <= 6 * SECOND, "{:?}", lost_at.elapsed());
            assert_eq!(world.committed(), [1], "{expected}, idle {idle}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_for_a_sink_ends_as_soon_as_the_other_one_is_found_behind() {
    let mut world = World::new();
    let away = std::sync::Arc::clone(&world.one);
    world.one.fail(move |_| Some(away.away()));
    world.read(&[Put(1)]).await;
    world.until("attempts", |w| w.one.attempts().len() > 3).await;
    world.two.store.flush();
    let (sink, _) = behind(world.end().await);
    assert_eq!((sink, world.last_commit(), world.metrics.prepared_batches.get()), (1, None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_watermark_of_which_nobody_knows_whether_it_was_stored_is_no_loss() {
    let mut world = World::new();
    world.two.answers_lost.store(2, Ordering::SeqCst);
    for id in 1..=4 {
        world.read(&[Put(id)]).await;
        world.until("committed", |w| w.last_commit() == Some(id)).await;
    }
    world.pass(20 * SECOND).await;
    let watermark = world.two.store.watermark("streamsync", &world.source).await.expect("in memory").expect("stored");
    assert_eq!(watermark.next_offset, 4);
    assert_eq!(world.finish().await, End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_second_snapshot_is_noted_before_it_is_committed() {
    let mut world = World::new();
    world.read(&[Read(1), Read(2), Put(3), Delete(2)]).await;
    world.until("committed", |w| w.last_commit() == Some(4)).await;
    assert_eq!(world.metrics.route("rows").unproven.get(), 0);
    world.read(&[Read(1), Read(3)]).await;
    world.until("committed", |w| w.last_commit() == Some(6)).await;
    assert_eq!(world.metrics.route("rows").unproven.get(), 1);
    assert_eq!(world.health.unproven_routes(), ["rows"]);
    let record = world.identities.load(&["shop.t".to_owned()]).await.expect("in memory").remove("shop.t").expect("noted");
    let seen: Vec<_> = record.seen[&0].iter().map(|(seen, first)| (*seen, first.offset)).collect();
    assert_eq!(seen, [(Seen::Snapshot, 0), (Seen::Change, 2), (Seen::SecondSnapshot, 4)]);
    assert!(record.unproven().expect("unproven").contains("from offset 4 on"));
    assert_eq!(world.finish().await, End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn keys_of_dead_letters_are_marked_until_a_newer_write() {
    let at = |offset| Fence::new(Generation::FIRST, offset);
    let held = |fence, mark| Held { fence, deleted: false, mark };
    let mut world = World::new();
    let sink = std::sync::Arc::clone(&world.one);
    world.one.fail(move |write| (write.fence.offset() == 1).then(|| sink.refused()));
    // The store refuses the second, the key of the third is not known, and the guest fails on the last.
    world.read(&[Put(1), Put(2), Broken, Put(POISON)]).await;
    world.until("committed", |w| w.last_commit() == Some(4)).await;
    assert_eq!(world.held(POISON).await, held(None, at(3)));
    assert_eq!(world.held(2).await, held(None, at(1)));
    assert_eq!(world.held(1).await, held(at(0), None));
    assert_eq!(world.metrics.route("rows").keys_marked.get(), 3, "two in store one, the poisoned row's in store two");
    // A later image of the row heals it.
    world.one.mend();
    world.read(&[Put(2), Delete(POISON)]).await;
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.held(2).await, held(at(4), None));
    assert_eq!(world.held(POISON).await, Held { fence: at(5), deleted: true, mark: None });
    assert_every_record_has_one_outcome(&world, [3, 0, 0, 0, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_marked_after_its_letter_and_before_the_commit() {
    let mut world = World::new();
    let (sink, mut left) = (std::sync::Arc::clone(&world.one), 3);
    *locked(&world.one.mark_fault) = Some(Box::new(move |_| {
        left -= 1;
        (left >= 0).then(|| sink.away())
    }));
    world.letters.away.store(2, Ordering::SeqCst);
    world.read(&[Put(POISON)]).await;
    world.until("marked once", |w| !locked(&w.one.marks).is_empty()).await;
    assert_eq!((world.letters.kept.count(), world.last_commit()), (1, None));
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(*locked(&world.one.marks), [[0], [0], [0], [0]]);
    assert_eq!(world.last_commit(), Some(1));
    // A replay marks nothing twice.
    assert_eq!(world.metrics.route("rows").keys_marked.get(), 1);
}
