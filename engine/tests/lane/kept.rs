//! What a kill costs: at most one batch was written and not kept by the group and every watermark.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use streamsync::lane::{End, Order};
use streamsync::sink::Sink as _;

use crate::world::{Row::Put, World};

/// Batches of at most four records, and no commit that comes by itself after the first.
fn world() -> World {
    World::altered(|settings| {
        settings.batch.max_records = 4;
        settings.kafka.commit_interval = Duration::from_secs(1_000_000);
    })
}

/// Writes two batches, whose commit fails, and reads a third, which waits for it.
async fn waiting_world() -> World {
    let mut world = world();
    world.commits.away.store(u64::MAX, Ordering::SeqCst);
    for ids in [[0, 1], [2, 3], [4, 5]] {
        world.read(&ids.map(Put)).await;
    }
    world.until("two are written", |w| w.one.attempts().len() == 2 && w.two.attempts().len() == 2).await;
    world
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_batch_is_written_beyond_the_commit() {
    let mut world = waiting_world().await;
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(world.one.attempts(), [[0, 1], [2, 3]]);
    assert_eq!((world.last_commit(), world.metrics.prepared_batches.get()), (None, 1));
    world.commits.away.store(0, Ordering::SeqCst);
    world.until("the third is written", |w| w.one.attempts().len() == 3).await;
    assert_eq!(world.committed(), [4]);
    // Nobody waits for a commit of what still has room.
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(world.committed(), [4]);
    // What is larger than all the room there is waits for everything before it.
    world.read(&[6, 7, 8, 9, 10].map(Put)).await;
    world.until("the fourth is written", |w| w.one.attempts().len() == 4).await;
    assert_eq!(world.committed(), [4, 6]);
    world.read(&[Put(11)]).await;
    world.until("the fifth is written", |w| w.one.attempts().len() == 5).await;
    assert_eq!(world.committed(), [4, 6, 11]);
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.committed(), [4, 6, 11, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_its_watermark_is_not_kept() {
    let mut world = world();
    world.two.answers_lost.store(u64::MAX, Ordering::SeqCst);
    world.read(&[0, 1, 2, 3].map(Put)).await;
    world.read(&[Put(4)]).await;
    world.until("committed", |w| w.last_commit() == Some(4)).await;
    world.pass(Duration::from_secs(600)).await;
    assert_eq!((world.one.attempts().len(), world.committed()), (1, vec![4]));
    world.two.answers_lost.store(0, Ordering::SeqCst);
    world.until("the second is written", |w| w.one.attempts().len() == 2).await;
    let watermark = world.two.store.watermark("streamsync", &world.source).await.expect("in memory").expect("stored");
    assert_eq!((watermark.next_offset, world.committed()), (4, vec![4]));
    // The end waits for no watermark: it costs a replay.
    world.two.answers_lost.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(world.finish().await, End::Stopped);
    assert_eq!(world.committed(), [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_for_a_commit_ends_all_the_same() {
    for why in ["drain", "abandon", "lost", "behind"] {
        let mut world = waiting_world().await;
        match why {
            "drain" => world.order(Order::Drain),
            "abandon" => world.order(Order::Abandon),
            "lost" => world.commits.lost.store(true, Ordering::SeqCst),
            _ => world.two.store.flush(),
        }
        let end = world.end().await;
        assert_eq!(matches!(end, End::Behind { sink: 1, .. }), why == "behind", "{why}: {end:?}");
        assert_eq!(end == End::Stopped, why != "behind", "{why}: {end:?}");
        assert_eq!((world.one.attempts().len(), world.last_commit()), (2, None), "{why}");
        assert_eq!(world.metrics.prepared_batches.get(), 0, "{why}");
        assert_eq!(Arc::strong_count(&world.commits), 1, "{why}: nothing of the lane is left");
    }
}
