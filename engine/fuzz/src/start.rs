//! Where a partition starts: never behind what is not settled everywhere, never outside of the log.

use streamsync::fence::Generation;
use streamsync::identity::{Known, resolve};
use streamsync::sink::{TopicIdentity, Watermark};
use streamsync::source::cluster::{CleanupPolicy, TopicFacts, UNKNOWN_ID};
use streamsync::source::{CommittedPartition, TopicPartition};

use crate::input::Input;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let offset = |input: &mut Input<'_>| i64::from(input.byte());
    let (low, length) = (offset(&mut input), offset(&mut input));
    let partition = CommittedPartition {
        source: TopicPartition::new("t", 0),
        committed: input.flag().then(|| offset(&mut input)),
        low,
        high: low + length,
    };
    let identity = |input: &mut Input<'_>| TopicIdentity {
        cluster_id: id(input),
        topic_id: id(input),
        partitions: 1 + i32::from(input.byte() & 1),
        generation: u16::from(input.byte() & 7),
    };
    let stored: Vec<TopicIdentity> = (0..input.below(4)).map(|_| identity(&mut input)).collect();
    let current = TopicFacts {
        cluster_id: id(&mut input),
        topic_id: id(&mut input),
        partitions: 1 + i32::from(input.byte() & 1),
        cleanup_policy: CleanupPolicy { compact: input.flag(), delete: input.flag() },
        delete_retention_ms: input.flag().then(|| i64::from(input.byte())),
    };
    let watermark = |input: &mut Input<'_>| {
        let generation = Generation::new(u16::from(input.byte() & 7))?;
        let (next_offset, written_at_ms) = (offset(input), i64::from(input.byte()));
        Some(Watermark { generation, next_offset, written_at_ms, complete_until_ms: written_at_ms })
    };
    let watermarks: Vec<(String, Option<Watermark>)> =
        (0..input.below(4)).map(|sink| (format!("s{sink}"), watermark(&mut input))).collect();
    let known = Known {
        partition: &partition,
        stored: &stored,
        current: &current,
        watermarks: &watermarks,
        accept_truncated_log: input.flag(),
        now_ms: i64::from(input.byte()),
        group: "g",
        begins_at: None,
        route: "r",
    };
    match resolve(&known) {
        Ok(start) => {
            assert!((partition.low..=partition.high).contains(&start.offset), "{start:?} is outside of the log: {known:?}");
            assert!(partition.committed.is_none_or(|committed| start.offset <= committed), "{start:?} passes the commit: {known:?}");
            for (_, watermark) in &watermarks {
                let safe = match watermark {
                    Some(watermark) if watermark.generation == start.generation => watermark.next_offset.max(partition.low),
                    // A sink that knows nothing of this generation needs all that there is.
                    _ => partition.low,
                };
                assert!(start.offset <= safe, "{start:?} passes a sink's watermark: {known:?}");
            }
            let highest = stored.iter().map(|identity| identity.generation).max();
            assert!(highest.is_none_or(|highest| start.generation.number() >= highest), "{start:?} goes back a generation: {known:?}");
        }
        Err(halt) => assert!(!halt.what.is_empty() && !halt.remedy.is_empty(), "{halt:?}"),
    }
}

fn id(input: &mut Input<'_>) -> String {
    match input.byte() & 3 {
        0 => UNKNOWN_ID.to_owned(),
        n => format!("id{n}"),
    }
}
