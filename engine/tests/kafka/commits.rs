//! Positions of several partitions, committed at once.

use std::time::Duration;

use futures_util::FutureExt as _;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamsync::commit::Error;
use streamsync::source::{Source as _, TopicPartition};

use crate::{Member, kafka};

/// The first goes alone, and those that come meanwhile together. Where the broker refuses that request, it is asked for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_positions_has_its_own_answer() {
    let kafka = kafka();
    kafka.produce(0, 0..20).await;
    kafka.produce(1, 0..20).await;
    let settings = kafka.settings();
    let mut member = Member::join(&settings);
    member.assigned().await;
    if let Some(mock) = &kafka.mock {
        // However busy the machine, what comes after a first commit comes while that is under way.
        mock.broker_round_trip_time(1, Duration::from_millis(200)).expect("there is one broker");
    }
    let commits = member.source.commits();
    let (first, second) = (kafka.source(0), kafka.source(1));
    let foreign = TopicPartition::new(kafka.topic.as_str(), 7);
    for round in 0..3 {
        if let Some(mock) = kafka.mock.as_ref().filter(|_| round == 1) {
            let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE];
            mock.request_errors(RDKafkaApiKey::OffsetCommit, &errors);
        }
        let from = 5 * round;
        let (alone, a, b, lost) = tokio::join!(
            commits.commit(&first, from + 1),
            commits.commit(&first, from + 2),
            commits.commit(&second, from + 3),
            commits.commit(&foreign, 1)
        );
        assert!(alone.is_ok() && a.is_ok() && b.is_ok(), "round {round}: {alone:?} {a:?} {b:?}");
        assert!(matches!(&lost, Err(Error::Lost { source_partition }) if *source_partition == foreign), "{lost:?}");
        let stored = [member.source.look(&first).await, member.source.look(&second).await];
        assert_eq!(stored.map(|look| look.unwrap().unwrap().committed), [Some(from + 2), Some(from + 3)]);
    }
    // A lane that has ended waits for it no more, and the next one of its partition is behind it.
    let mut first_alone = std::pin::pin!(commits.commit(&first, 18));
    let mut given_up = Box::pin(commits.commit(&second, 19));
    assert!((&mut first_alone).now_or_never().is_none() && (&mut given_up).now_or_never().is_none());
    drop(given_up);
    first_alone.await.unwrap();
    commits.commit(&first, 17).await.unwrap();
    member.leave().await;
    let mut member = Member::join(&settings);
    let committed: Vec<_> = member.assigned().await.iter().map(|partition| partition.committed).collect();
    assert_eq!(committed, [Some(17), Some(13)]);
    member.leave().await;
}
