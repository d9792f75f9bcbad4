//! A second module: compared beside the way, or deciding a share of the keys on it.

use std::time::Duration;

use streamsync::lane::{End, Halt};
use streamsync::rollout::{Change, Refusal, Tried};

use crate::assert_every_record_has_one_outcome;
use crate::rolling::{REJECT, Rolling, wait_for};
use crate::world::{POISON, Row, Row::Delete, Row::Put, guest_component_with};

fn second(module: &str, canary_percent: u32) -> Change {
    Change::Shadow { module: module.to_owned(), sha256: None, canary_percent }
}

fn puts(ids: std::ops::Range<i64>) -> Vec<Row> {
    ids.map(Put).collect()
}

/// equal, different, failed, skipped.
fn compared(rolling: &Rolling) -> [u64; 4] {
    ["equal", "different", "failed", "skipped"].map(|result| rolling.counted("streamsync_shadow_events_total", result))
}

#[tokio::test(start_paused = true)]
async fn a_shadow_is_compared_and_writes_nothing() {
    for (module, expected, names) in [
        ("same.wasm", [4, 0, 0, 0], vec![]),
        ("other.wasm", [0, 4, 0, 0], vec!["t.id", "t.no"]),
        ("trapping.wasm", [1, 0, 3, 0], vec!["the second failed: trapped"]),
        ("unstorable.wasm", [1, 0, 3, 0], vec!["the second failed: not-finite"]),
    ] {
        let mut rolling = Rolling::new();
        rolling.requests.change("rows", second(module, 0)).await.expect("fit");
        rolling.world.read(&puts(0..4)).await;
        wait_for("compared", || compared(&rolling).iter().sum::<u64>() == 4).await;
        assert_eq!(compared(&rolling), expected, "{module}");
        let shown = rolling.requests.show("rows").await.expect("a second module");
        let differences: Vec<_> = shown.comparison.differences.iter().map(|(_, found)| found).collect();
        assert_eq!(differences.len() as u64, expected[1] + expected[2]);
        assert!(differences.iter().all(|found| found.names == names && found.key == found.offset.to_string()), "{differences:?}");
        rolling.world.until("written", |w| w.last_commit() == Some(4)).await;
        assert_eq!(rolling.by_other(), [false; 4], "{module}");
        assert_eq!(rolling.world.letters.kept.count(), 0);
        assert_every_record_has_one_outcome(&rolling.world, [4, 0, 0, 0, 0]);
        rolling.requests.change("rows", Change::Unshadow).await.expect("taken away");
        assert!(matches!(rolling.requests.show("rows").await, Err(Refusal::NoSecond { .. })));
        rolling.finish().await;
    }
}

/// After a rollback the first one's file holds what was rolled back from.
#[tokio::test(start_paused = true)]
async fn a_second_module_never_brings_the_first_one_s_file() {
    let mut rolling = Rolling::new();
    std::fs::copy(rolling.file("other.wasm"), rolling.file("guest.wasm")).expect("copied");
    wait_for("it runs", || rolling.swaps("swapped") == 1).await;
    rolling.requests.change("rows", Change::Rollback).await.expect("one ran before");
    for canary_percent in [0, 1] {
        rolling.requests.change("rows", second("guest.wasm", canary_percent)).await.expect("fit");
    }
    rolling.requests.change("rows", second("guest.wasm", 0)).await.expect("fit");
    rolling.world.read(&puts(0..4)).await;
    wait_for("compared", || compared(&rolling).iter().sum::<u64>() == 4).await;
    assert_eq!(compared(&rolling), [0, 4, 0, 0]);
    rolling.world.until("written", |w| w.last_commit() == Some(4)).await;
    assert_eq!((rolling.by_other(), rolling.swaps("swapped")), (vec![false; 4], 1));
    rolling.finish().await;
}

/// In real time: the second guest hangs for longer on one batch than the first needs for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_delays_nothing() {
    const BATCHES: i64 = 60;
    let mut rolling = Rolling::with("call_timeout = \"50ms\"");
    let hanging = guest_component_with(&[
        ("ON_POISON", "(loop $l (br $l))"),
        ("(i64.const 666)", "(i64.const 0)"),
        ("i64.eq (i64.load", "i64.ge_s (i64.load"),
    ]);
    std::fs::write(rolling.file("hanging.wasm"), hanging).expect("written");
    rolling.requests.change("rows", second("hanging.wasm", 0)).await.expect("fit");
    for batch in 0..BATCHES {
        rolling.world.read(&puts(batch * 30..(batch + 1) * 30)).await;
    }
    let written = rolling.world.until("written", |w| w.last_commit() == Some(BATCHES * 30));
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("not one second a batch");
    let [equal, different, _, skipped] = compared(&rolling);
    assert!(skipped > 0 && equal == 0 && different == 0, "{:?}", compared(&rolling));
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_decides_its_share_of_the_keys() {
    let mut rolling = Rolling::new();
    rolling.requests.change("rows", second("other.wasm", 30)).await.expect("fit");
    rolling.world.read(&puts(0..200)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(200)).await;
    let by_canary = rolling.by_other();
    let share = by_canary.iter().filter(|other| **other).count();
    assert!((30..=90).contains(&share), "{share} of 200");
    assert_eq!(compared(&rolling), [0, share as u64, 0, 0]);
    assert_every_record_has_one_outcome(&rolling.world, [200, 0, 0, 0, 0]);
    // The same keys again, whatever batch they come in.
    for first in [150, 0, 100, 50] {
        rolling.world.read(&puts(first..first + 50)).await;
    }
    rolling.world.until("written", |w| w.last_commit() == Some(400)).await;
    assert_eq!(rolling.by_other(), by_canary);

    let promoted = rolling.requests.change("rows", Change::Promote).await.expect("a second module");
    assert!(matches!(rolling.requests.change("rows", Change::Promote).await, Err(Refusal::NoSecond { .. })));
    rolling.world.read(&puts(0..200)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(600)).await;
    assert_eq!(rolling.by_other(), [true; 200]);
    let back = rolling.requests.change("rows", Change::Rollback).await.expect("one ran before");
    assert_eq!(back.digest, promoted.before);
    rolling.world.read(&puts(0..200)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(800)).await;
    assert_eq!(rolling.by_other(), by_canary);
    assert_eq!((rolling.swaps("promoted"), rolling.swaps("rolled_back")), (1, 1));
    rolling.finish().await;
}

/// What the second module fails on is the first one's, a document that can't be stored among it; a reject is its right.
#[tokio::test(start_paused = true)]
async fn a_canary_s_failures_are_decided_by_the_first() {
    let mut rolling = Rolling::new();
    rolling.requests.change("rows", second("unstorable.wasm", 100)).await.expect("fit");
    rolling.world.read(&puts(0..5)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(5)).await;
    assert_eq!((rolling.by_other(), compared(&rolling)), (vec![false; 5], [1, 0, 4, 0]));
    assert_eq!(rolling.world.letters.kept.count(), 0);
    rolling.finish().await;

    let mut rolling = Rolling::new();
    rolling.requests.change("rows", second("trapping.wasm", 100)).await.expect("fit");
    rolling.world.read(&puts(0..5)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(5)).await;
    assert_eq!((rolling.by_other(), compared(&rolling)), (vec![false; 5], [1, 0, 4, 0]));
    assert_eq!(rolling.world.letters.kept.count(), 0);
    let rejecting = guest_component_with(&[("ON_POISON", REJECT)]);
    std::fs::write(rolling.file("rejecting.wasm"), rejecting).expect("written");
    let done = rolling.requests.change("rows", second("rejecting.wasm", 100)).await.expect("fit");
    rolling.world.read(&[Put(POISON), Put(7)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(7)).await;
    let letters = rolling.world.letters.kept.letters();
    let letters: Vec<_> = letters.iter().map(|kept| (kept.offset, kept.letter.code.as_str(), kept.letter.module != done.digest)).collect();
    assert_eq!(letters, [(5, "bad-amount-", true)]);
    assert_every_record_has_one_outcome(&rolling.world, [6, 0, 0, 0, 1]);
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_configured_shadow_comes_with_the_worker_and_follows_its_file() {
    let mut rolling = Rolling::with("shadow = { module = \"same.wasm\" }");
    let mut before = None;
    while before.is_none() {
        before = rolling.requests.show("rows").await.ok();
    }
    rolling.world.read(&puts(0..3)).await;
    wait_for("compared", || compared(&rolling) == [3, 0, 0, 0]).await;
    std::fs::copy(rolling.file("other.wasm"), rolling.file("same.wasm")).expect("copied");
    let digest = before.map(|shown| shown.digest);
    while rolling.requests.show("rows").await.ok().map(|shown| shown.digest) == digest {
        rolling.world.pass(Duration::from_millis(500)).await;
    }
    rolling.world.read(&puts(3..5)).await;
    wait_for("compared", || compared(&rolling) == [3, 2, 0, 0]).await;
    let shown = rolling.requests.show("rows").await.expect("a second module");
    assert_eq!((shown.comparison.equal, shown.comparison.different), (0, 2));
    rolling.finish().await;
}

/// What a canary answers says nothing for the module that has the other keys.
#[tokio::test(start_paused = true)]
async fn a_healthy_canary_does_not_hide_a_first_module_that_only_fails() {
    let mut rolling = Rolling::with("max_failures_in_a_row = 3");
    rolling.swap("trapping.wasm").await.expect("there is nothing to try it on");
    rolling.requests.change("rows", second("healed.wasm", 50)).await.expect("fit");
    rolling.world.read(&puts(1..100)).await;
    let End::Halted(Halt { message, module: Some(2) }) = rolling.world.end().await else { panic!("the lane should have halted") };
    assert!(message.contains("the transform failed on all of the last"), "{message}");
    assert_eq!(rolling.world.letters.kept.count(), 0);
}

/// A canary of all keys leaves none to the first module: its own answers show that not everything fails.
#[tokio::test(start_paused = true)]
async fn a_canary_of_all_keys_is_not_halted_for_what_both_fail_on() {
    let mut rolling = Rolling::with("max_failures_in_a_row = 3");
    rolling.swap("trapping.wasm").await.expect("there is nothing to try it on");
    rolling.requests.change("rows", second("other.wasm", 100)).await.expect("fit");
    for batch in 0..5 {
        rolling.world.read(&[Put(POISON), Put(1)]).await;
        rolling.world.until("settled", |w| w.last_commit() == Some((batch + 1) * 2)).await;
        // Where the letters' own limit would halt it.
        rolling.world.pass(Duration::from_secs(60)).await;
    }
    assert_eq!((rolling.by_other(), rolling.world.letters.kept.count()), (vec![true], 5));
    rolling.world.read(&[Put(POISON), Put(POISON), Put(POISON)]).await;
    let End::Halted(Halt { message, module: Some(2) }) = rolling.world.end().await else { panic!("the lane should have halted") };
    assert!(message.contains("the transform failed on all of the last 3 events"), "{message}");
}

/// A second module that failed, or was shown nothing, is tried like any other.
/// Deletes are carried out without the guest: that both say nothing of them says nothing of it.
#[tokio::test(start_paused = true)]
async fn what_the_second_was_not_shown_is_no_proof() {
    let mut rolling = Rolling::new();
    rolling.world.read(&puts(0..4)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(4)).await;
    rolling.requests.change("rows", second("trapping.wasm", 0)).await.expect("it starts");
    rolling.world.read(&[Delete(1), Delete(2)]).await;
    wait_for("compared", || compared(&rolling).iter().sum::<u64>() == 2).await;
    let refusal = rolling.requests.change("rows", Change::Promote).await.expect_err("it was tried").to_string();
    assert!(refusal.contains("that the one before handled"), "{refusal}");
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn promoting_needs_a_proof() {
    let mut rolling = Rolling::new();
    rolling.world.read(&puts(0..4)).await;
    rolling.world.until("written", |w| w.last_commit() == Some(4)).await;
    for (module, tried) in [("trapping.wasm", "4 recent events and failed on 3"), ("unstorable.wasm", "8 recent events and failed on 6")] {
        rolling.requests.change("rows", second(module, 0)).await.expect("it starts");
        let refusal = rolling.requests.change("rows", Change::Promote).await.expect_err("nothing was compared").to_string();
        assert!(refusal.contains(&format!("was tried on {tried} that the one before handled")), "{refusal}");
        let before = compared(&rolling).iter().sum::<u64>();
        rolling.world.read(&puts(0..4)).await;
        wait_for("compared", || compared(&rolling).iter().sum::<u64>() == before + 4).await;
        let refusal = rolling.requests.change("rows", Change::Promote).await.expect_err("it failed").to_string();
        assert!(refusal.contains("that the one before handled"), "{refusal}");
    }
    assert_eq!((rolling.swaps("promoted"), rolling.swaps("refused")), (0, 4));
    rolling.requests.change("rows", second("other.wasm", 0)).await.expect("fit");
    let done = rolling.requests.change("rows", Change::Promote).await.expect("it is fit");
    assert!(matches!(done.tried, Tried::Events(12)), "{:?}", done.tried);
    rolling.requests.change("rows", second("same.wasm", 0)).await.expect("fit");
    let before = compared(&rolling).iter().sum::<u64>();
    rolling.world.read(&puts(4..6)).await;
    wait_for("compared", || compared(&rolling).iter().sum::<u64>() == before + 2).await;
    let done = rolling.requests.change("rows", Change::Promote).await.expect("it was compared");
    assert_eq!(done.tried, Tried::RanBeside);
    rolling.finish().await;
}

/// What was compared with one first module says nothing of another.
#[tokio::test(start_paused = true)]
async fn another_first_module_begins_a_comparison_anew() {
    let mut rolling = Rolling::new();
    rolling.requests.change("rows", second("other.wasm", 0)).await.expect("fit");
    rolling.world.read(&puts(0..4)).await;
    wait_for("compared", || compared(&rolling) == [0, 4, 0, 0]).await;
    rolling.swap("healed.wasm").await.expect("fit");
    let shown = rolling.requests.show("rows").await.expect("a second module").comparison;
    assert_eq!((shown.equal, shown.different, shown.failed, shown.differences.len()), (0, 0, 0, 0));
    rolling.world.read(&puts(4..6)).await;
    wait_for("compared", || compared(&rolling) == [2, 4, 0, 0]).await;
    let shown = rolling.requests.show("rows").await.expect("a second module").comparison;
    assert_eq!((shown.equal, shown.different, shown.failed, shown.differences.len()), (2, 0, 0, 0));
    rolling.finish().await;
}
