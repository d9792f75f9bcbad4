//! Another module while records flow: nothing lost, nothing twice, and a bad one changes nothing.

use std::sync::Arc;
use std::time::Duration;

use streamsync::config::Settings;
use streamsync::lane::{End, Halt};
use streamsync::rollout::{Change, Tried};

use crate::assert_every_record_has_one_outcome;
use crate::rolling::{Rolling, other_guest, rejecting_guest, wait_for};
use crate::world::{CONFIGURATION, POISON, Row::Delete, Row::Put, guest_component};

#[tokio::test(start_paused = true)]
async fn every_record_is_written_once_while_modules_change() {
    const BATCHES: usize = 63;
    const ROWS: usize = 5;
    let mut rolling = Rolling::new();
    let mut swapped_at = Vec::new();
    for number in 0..BATCHES {
        let rows: Vec<_> = (0..ROWS).map(|row| Put((number * ROWS + row) as i64)).collect();
        // Some wait in the queues while the module changes, some are being written.
        if number % 7 == 3 {
            rolling.world.one.hold();
        }
        rolling.world.read(&rows).await;
        if number % 10 == 5 {
            let other = swapped_at.len() % 2 == 0;
            let done = rolling.swap(if other { "other.wasm" } else { "guest.wasm" }).await.expect("fit");
            assert_eq!((done.partitions, done.version.as_str()), (1, if other { "1.2.4" } else { "1.2.3" }));
            swapped_at.push(number);
        }
        if number % 7 == 6 {
            rolling.world.one.release();
        }
    }
    rolling.world.until("all are written", |w| w.last_commit() == Some((BATCHES * ROWS) as i64)).await;
    let by_other = rolling.by_other();
    assert_eq!(by_other.len(), BATCHES * ROWS);
    // A batch has one module, and the modules came in their order.
    assert!(by_other.chunks(ROWS).all(|batch| batch.iter().all(|other| *other == batch[0])));
    let changes = by_other.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 2 && changes <= swapped_at.len(), "{changes} changes, {} swaps", swapped_at.len());
    assert!(by_other[by_other.len() - 1] == (swapped_at.len() % 2 == 1));
    let written: Vec<i64> = rolling.world.one.attempts().concat();
    assert_eq!(written, (0..(BATCHES * ROWS) as i64).collect::<Vec<_>>());
    assert_eq!(rolling.swaps("swapped"), swapped_at.len() as u64);
    assert_every_record_has_one_outcome(&rolling.world, [(BATCHES * ROWS) as u64, 0, 0, 0, 0]);
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_partition_takes_over_at_once_and_back() {
    let mut rolling = Rolling::new();
    let done = rolling.swap("other.wasm").await.expect("fit");
    assert_eq!((done.partitions, done.late, done.tried), (1, 0, Tried::Events(0)));
    assert!(done.digest != done.before);
    rolling.world.read(&[Put(0)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(1)).await;
    let back = rolling.requests.change("rows", Change::Rollback).await.expect("one ran before");
    assert_eq!((&back.digest, &back.before), (&done.before, &done.digest));
    rolling.world.read(&[Put(1)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(2)).await;
    assert_eq!(rolling.by_other(), [true, false]);
    let forth = rolling.requests.change("rows", Change::Rollback).await.expect("and forth");
    assert_eq!(forth.digest, done.digest);
    assert_eq!((rolling.swaps("swapped"), rolling.swaps("rolled_back")), (1, 2));
    let info: Vec<_> =
        rolling.world.metrics.render().lines().filter(|l| l.starts_with("streamsync_module_info{")).map(str::to_owned).collect();
    assert_eq!(info, [format!(r#"streamsync_module_info{{digest="{}",route="rows"}} 1"#, done.digest)]);
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_unfit_module_changes_nothing_and_says_why() {
    let mut rolling = Rolling::new();
    let none = rolling.requests.change("rows", Change::Rollback).await.expect_err("nothing ran before").to_string();
    assert!(none.contains("nothing to go back to"), "{none}");
    rolling.world.read(&[Put(1), Put(POISON), Put(2)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(3)).await;
    let cases = [
        ("gone.wasm", "No such file"),
        ("broken.wasm", "make a component of it"),
        (
            "trapping.wasm",
            "was tried on 3 recent events and failed on 2 that the one before handled, first at shop.t/0 offset 0: the transform trapped",
        ),
        ("", "module is empty"),
    ];
    for (module, expected) in cases {
        let refusal = rolling.swap(module).await.expect_err("unfit").to_string();
        assert!(refusal.contains(expected), "{module}: {refusal}");
    }
    let other_digest = Change::Swap { module: "other.wasm".to_owned(), sha256: Some("00".repeat(32)) };
    let refusal = rolling.requests.change("rows", other_digest).await.expect_err("another digest").to_string();
    assert!(refusal.contains(&"00".repeat(32)), "{refusal}");
    let refusal = rolling.requests.change("row", Change::Rollback).await.expect_err("no such route").to_string();
    assert_eq!(refusal, "there is no route row: the routes are rows");
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (4, 0));
    // Failing where the one before failed too is no reason.
    let done = rolling.swap("other.wasm").await.expect("fit");
    assert_eq!(done.tried, Tried::Events(3));
    rolling.world.read(&[Put(3)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(4)).await;
    assert_eq!(rolling.by_other(), [false, false, true]);
    rolling.finish().await;
}

/// A deleted row that no guest is shown says nothing for it.
#[tokio::test(start_paused = true)]
async fn a_module_that_rejects_every_row_is_refused() {
    let mut rolling = Rolling::new();
    rolling.world.read(&[Put(1), Put(2), Delete(1)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(3)).await;
    std::fs::write(rolling.file("rejecting.wasm"), rejecting_guest()).expect("written");
    let refusal = rolling.swap("rejecting.wasm").await.expect_err("unfit").to_string();
    assert!(refusal.contains("rejected all of 2 recent events, the one before did not"), "{refusal}");
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_taken_over() {
    let mut rolling = Rolling::new();
    rolling.world.read(&[Put(1)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(1)).await;
    std::fs::copy(rolling.file("broken.wasm"), rolling.file("guest.wasm")).expect("copied");
    wait_for("it is refused", || rolling.swaps("refused") == 1).await;
    std::fs::copy(rolling.file("other.wasm"), rolling.file("guest.wasm")).expect("copied");
    wait_for("it runs", || rolling.swaps("swapped") == 1).await;
    rolling.world.read(&[Put(2)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(2)).await;
    assert_eq!(rolling.by_other(), [false, true]);
    // A rollback stays, although the file holds what was rolled back from.
    rolling.requests.change("rows", Change::Rollback).await.expect("one ran before");
    rolling.world.pass(Duration::from_secs(60)).await;
    assert_eq!((rolling.swaps("swapped"), rolling.swaps("refused")), (1, 1));
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_pin_changes_with_the_configuration_alone() {
    let digest = |component: &[u8]| {
        use sha2::Digest as _;
        sha2::Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mut rolling = Rolling::with(&format!("sha256 = \"{}\"", digest(guest_component())));
    let refusal = rolling.swap("other.wasm").await.expect_err("pinned").to_string();
    assert!(refusal.contains("send SIGHUP"), "{refusal}");
    std::fs::copy(rolling.file("other.wasm"), rolling.file("guest.wasm")).expect("copied");
    wait_for("it is refused", || rolling.swaps("refused") == 1).await;
    let pinned = |to: &str, brokers: &str| {
        let text = CONFIGURATION.replace("ON_TRUNCATE", "halt").replace("127.0.0.1:1", brokers);
        let text = text.replace("module =", &format!("sha256 = \"{to}\"\nmodule ="));
        Arc::new(Settings::parse(&text, rolling.directory.path()).expect("valid"))
    };
    rolling.requests.reload(pinned(&digest(guest_component()), "127.0.0.1:1")).await.expect("taken over");
    // The file is known, and the section is what it was.
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (1, 0));
    // What can't be taken over is said, and no reason not to take over the rest.
    rolling.requests.reload(pinned(&digest(&other_guest()), "127.0.0.1:2")).await.expect("taken over");
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (1, 1));
    rolling.requests.reload(pinned(&digest(&other_guest()), "127.0.0.1:2")).await.expect("taken over");
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (1, 1));
    let refusal = rolling.requests.change("rows", Change::Rollback).await.expect_err("pinned").to_string();
    assert!(refusal.contains("send SIGHUP"), "{refusal}");
    rolling.world.read(&[Put(2)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(1)).await;
    assert_eq!(rolling.by_other(), [true]);
    rolling.finish().await;
}

/// A section may come before the module that it means.
#[tokio::test(start_paused = true)]
async fn a_section_that_was_refused_is_tried_again() {
    let mut rolling = Rolling::new();
    let named = |module: &str| {
        let text = CONFIGURATION.replace("ON_TRUNCATE", "halt").replace("guest.wasm", module);
        Arc::new(Settings::parse(&text, rolling.directory.path()).expect("valid"))
    };
    for name in ["late.wasm", "later.wasm"] {
        std::fs::copy(rolling.file("broken.wasm"), rolling.file(name)).expect("copied");
    }
    rolling.requests.reload(named("late.wasm")).await.expect("heard");
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (1, 0));
    rolling.requests.reload(named("late.wasm")).await.expect("heard");
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (2, 0));
    std::fs::copy(rolling.file("other.wasm"), rolling.file("late.wasm")).expect("copied");
    wait_for("its file has come", || rolling.swaps("swapped") == 1).await;
    // Whoever changes the route over HTTP meanwhile has the last word.
    rolling.requests.reload(named("later.wasm")).await.expect("heard");
    rolling.swap("guest.wasm").await.expect("fit");
    rolling.requests.reload(named("later.wasm")).await.expect("heard");
    assert_eq!((rolling.swaps("refused"), rolling.swaps("swapped")), (3, 2));
    rolling.world.read(&[Put(1)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(1)).await;
    assert_eq!(rolling.by_other(), [false]);
    rolling.finish().await;
}

#[tokio::test(start_paused = true)]
async fn other_settings_of_a_module_are_no_step_to_go_back() {
    let rolling = Rolling::new();
    let other = rolling.swap("other.wasm").await.expect("fit");
    let text = CONFIGURATION.replace("ON_TRUNCATE", "halt").replace("guest.wasm", "other.wasm");
    let text = text.replace("module =", "max_failures_in_a_row = 500\nmodule =");
    let settings = Arc::new(Settings::parse(&text, rolling.directory.path()).expect("valid"));
    rolling.requests.reload(settings).await.expect("taken over");
    let back = rolling.requests.change("rows", Change::Rollback).await.expect("one ran before");
    assert_eq!((back.digest, back.before), (other.before, other.digest));
    rolling.finish().await;
}

/// A guest's letters name the module that made them, also when another one runs by the time they are sent.
#[tokio::test(start_paused = true)]
async fn a_letter_names_the_module_that_failed() {
    let mut rolling = Rolling::new();
    rolling.world.one.hold();
    rolling.world.read(&[Put(1)]).await;
    rolling.world.read(&[Put(POISON)]).await;
    rolling.world.until("prepared", |w| w.metrics.prepared_batches.get() == 1).await;
    let done = rolling.swap("other.wasm").await.expect("fit");
    rolling.world.read(&[Put(POISON)]).await;
    rolling.world.one.release();
    rolling.world.until("settled", |w| w.last_commit() == Some(3)).await;
    let modules: Vec<_> = rolling.world.letters.kept.letters().into_iter().map(|kept| kept.letter.module).collect();
    assert_eq!(modules, [done.before, done.digest]);
    rolling.finish().await;
}

/// Whole tables must not go to the dead-letter topic because of one bad module.
#[tokio::test(start_paused = true)]
async fn a_guest_that_only_fails_halts_its_route() {
    let mut rolling = Rolling::with("max_failures_in_a_row = 3");
    rolling.world.read(&[Put(POISON)]).await;
    rolling.world.read(&[Put(POISON), Put(1)]).await;
    rolling.world.read(&[Put(POISON)]).await;
    rolling.world.until("three letters", |w| w.last_commit() == Some(4)).await;
    rolling.world.read(&[Put(POISON), Put(POISON), Put(POISON)]).await;
    let End::Halted(Halt { message, module: Some(0) }) = rolling.world.end().await else { panic!("the lane should have halted") };
    assert!(
        message.starts_with(
            "shop.t/0 offset 6: the transform failed on all of the last 4 events of this partition, on this one with trapped ("
        ),
        "{message}"
    );
    assert!(message.contains("max_failures_in_a_row") && !message.contains("unreachable"), "the words are for the log: {message}");
    assert_eq!((rolling.world.letters.kept.count(), rolling.world.last_commit()), (3, Some(4)));
}

/// Rows that are deleted, or change, leave no document of the module before behind.
#[tokio::test(start_paused = true)]
async fn a_target_that_a_module_leaves_out_is_named_and_loses_its_rows() {
    let mut rolling = Rolling::new();
    let narrow = || Change::Shadow { module: "narrow.wasm".to_owned(), sha256: None, canary_percent: 0 };
    rolling.world.read(&[Put(7), Put(8)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(2)).await;
    let shadow = rolling.requests.change("rows", narrow()).await.expect("fit");
    let promoted = rolling.requests.change("rows", Change::Promote).await.expect("fit");
    let back = rolling.requests.change("rows", Change::Rollback).await.expect("one ran before");
    let swapped = rolling.swap("narrow.wasm").await.expect("fit");
    assert_eq!([shadow, promoted, back, swapped].map(|done| done.left_out.join(" ")), ["m", "m", "", "m"]);
    assert_eq!(rolling.swap("healed.wasm").await.expect("fit").left_out, [""; 0]);
    assert_eq!(rolling.swap("narrow.wasm").await.expect("fit").left_out, ["m"]);
    rolling.world.read(&[Delete(7), Put(8)]).await;
    rolling.world.until("written", |w| w.last_commit() == Some(4)).await;
    assert_eq!(rolling.world.two.attempts().concat(), [0, 1, 2, 3]);
    rolling.finish().await;
}
