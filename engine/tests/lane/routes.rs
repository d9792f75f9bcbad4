//! A worker with two routes, and stores that not both of them write to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use streamsync::config::{Settings, TargetSettings};
use streamsync::identity::MemoryIdentities;
use streamsync::source::{SourceEvent, TopicPartition};

use crate::group::{Running, partition};
use crate::rolling::wait_for;
use crate::world::FaultySink;
use crate::world::Row::Put;

/// A second route, with a topic of its own, which writes to store two alone.
fn add_route(settings: &mut Settings) {
    let mut other = (*settings.routes[0]).clone();
    (other.name, other.topic) = ("others".to_owned(), "shop.u".to_owned());
    for target in &mut other.targets {
        *target = Arc::new(TargetSettings { sink: 1, ..(**target).clone() });
    }
    settings.routes.push(Arc::new(other));
}

/// Neither partitions that come with the ones that wait, nor those that come later, nor what is read afterwards.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_no_route_that_does_not_write_to_it() {
    let away = FaultySink::new("one");
    away.checks_away.store(true, Ordering::SeqCst);
    let running = Running::beside("guest.wasm", "", MemoryIdentities::default(), add_route, away).await;
    let log = &running.log;
    let [first, second] = [0, 1].map(|number| TopicPartition::new("shop.u", number));
    log.append(0, &[Put(1)]);
    log.append_to(&first, &[Put(2)]);
    log.append_to(&second, &[Put(3)]);
    let settled = async |source: &TopicPartition| {
        wait_for("the other route's partition is settled", || log.committed_of(source) == Some(log.high(source))).await;
    };
    log.tell(SourceEvent::Assigned { partitions: vec![partition(0), first.clone()] }).await;
    settled(&first).await;
    log.tell(SourceEvent::Assigned { partitions: vec![second.clone()] }).await;
    settled(&second).await;
    log.append_to(&first, &[Put(4)]);
    settled(&first).await;

    let reasons = running.health.reasons();
    assert!(reasons.iter().all(|reason| reason.starts_with("sink one is away")) && !reasons.is_empty(), "{reasons:?}");
    assert_eq!((log.committed(0), running.stored(), running.metrics.partitions_assigned.get()), (None, Vec::new(), 3));
    running.one.checks_away.store(false, Ordering::SeqCst);
    running.settled(0).await;
    assert_eq!(running.stored(), [1], "the other route writes nothing to it");
    running.assert_goes_on();
    running.stop().await.expect("in order");
}
