//! What librdkafka's statistics say of a partition at whose end a reader waits.

use std::time::Duration;

use streamsync::source::{Idle, SourceEvent};

use crate::{Kafka, Member, kafka, read};

/// The next statistics' word of partition 0.
async fn told(kafka: &Kafka, member: &mut Member) -> Option<Idle> {
    loop {
        let event = tokio::time::timeout(crate::PATIENCE, member.events.recv()).await.expect("an event in time").expect("a member");
        if let SourceEvent::Statistics(statistics) = event {
            return statistics.partitions.iter().find(|partition| partition.source == kafka.source(0)).and_then(|partition| partition.idle);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_idle_when_its_reader_was_given_all() {
    let kafka = kafka();
    kafka.produce(0, 0..3).await;
    let mut member = Member::join(&kafka.settings());
    member.assigned().await;
    let mut reader = member.read(kafka.source(0), 1).await;
    // What waits in the queue was not given to anyone.
    assert_eq!(told(&kafka, &mut member).await, None);
    assert_eq!(told(&kafka, &mut member).await, None);
    assert_eq!(read(&mut reader, 2).await, [1, 2]);
    let idle = loop {
        if let Some(idle) = told(&kafka, &mut member).await {
            break idle;
        }
    };
    assert_eq!((idle.read, idle.end), (3, 3));
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("in range");
    assert!((now_ms - 60_000..=now_ms).contains(&idle.at_ms), "{idle:?} at {now_ms}");
    // A broker that is gone says nothing of its log, however long it stays as it was.
    let Some(mock) = &kafka.mock else { return };
    mock.broker_down(1).expect("down");
    let silent = async { while told(&kafka, &mut member).await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(30), silent).await.expect("silence is noticed");
    mock.broker_up(1).expect("up");
    member.leave().await;
}
