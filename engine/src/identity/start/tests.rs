#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::source::cluster::CleanupPolicy;

const NOW: i64 = 1_000_000_000_000;
const DAY: i64 = 86_400_000;
const COMPACT: CleanupPolicy = CleanupPolicy { compact: true, delete: false };
const BOTH: CleanupPolicy = CleanupPolicy { compact: true, delete: true };

#[derive(Clone)]
struct Case {
    committed: Option<i64>,
    low: i64,
    high: i64,
    stored: Vec<TopicIdentity>,
    policy: CleanupPolicy,
    watermarks: Vec<Option<(u16, i64, i64)>>,
    accept: bool,
    cluster_id: &'static str,
    topic_id: &'static str,
    partitions: i32,
    begins_at: Option<i64>,
}

/// A partition that was read before, by two sinks, up to offset 500.
fn known() -> Case {
    Case {
        committed: Some(500),
        low: 0,
        high: 1000,
        stored: vec![identity(1)],
        policy: CleanupPolicy::DELETE,
        watermarks: vec![Some((1, 500, NOW)), Some((1, 500, NOW))],
        accept: false,
        cluster_id: "c1",
        topic_id: "t1",
        partitions: 4,
        begins_at: None,
    }
}

/// A partition that nobody has seen.
fn new() -> Case {
    Case { committed: None, stored: Vec::new(), watermarks: vec![None, None], ..known() }
}

fn identity(generation: u16) -> TopicIdentity {
    TopicIdentity { cluster_id: "c1".into(), topic_id: "t1".into(), partitions: 4, generation }
}

fn facts(case: &Case) -> TopicFacts {
    TopicFacts {
        cluster_id: case.cluster_id.into(),
        topic_id: case.topic_id.into(),
        partitions: case.partitions,
        cleanup_policy: case.policy,
        delete_retention_ms: Some(DAY),
    }
}

fn run(case: &Case) -> Result<Start, Halt> {
    let partition =
        CommittedPartition { source: TopicPartition::new("shop.orders", 2), committed: case.committed, low: case.low, high: case.high };
    let current = facts(case);
    let watermark = |(generation, next_offset, complete_until_ms)| Watermark {
        generation: Generation::new(generation).unwrap(),
        next_offset,
        written_at_ms: NOW,
        complete_until_ms,
    };
    let watermarks: Vec<_> =
        case.watermarks.iter().zip(["redis", "mongodb"]).map(|(w, sink)| (sink.to_owned(), w.map(watermark))).collect();
    resolve(&Known {
        partition: &partition,
        stored: &case.stored,
        current: &current,
        watermarks: &watermarks,
        accept_truncated_log: case.accept,
        now_ms: NOW,
        group: "sync",
        begins_at: case.begins_at,
        route: "orders",
    })
}

/// Checks generation, offset, and whether the beginning is committed at once.
fn starts(case: Case, expected: (u16, i64, bool)) {
    let start = run(&case).expect("starts");
    assert_eq!((start.generation.number(), start.offset, start.record_beginning), expected);
    assert_eq!(start.identity.generation, expected.0);
}

fn halts(case: Case, reason: Reason, mentions: &[&str]) {
    let halt = run(&case).expect_err("halts");
    assert_eq!(halt.reason, reason, "{halt}");
    for text in mentions {
        assert!(halt.to_string().contains(text), "{text:?} is missing in: {halt}");
    }
}

#[test]
fn a_new_partition_starts_at_its_beginning() {
    starts(new(), (1, 0, true));
    starts(Case { high: 0, ..new() }, (1, 0, true));
    starts(Case { low: 7, policy: COMPACT, ..new() }, (1, 7, true));
    starts(Case { low: 7, accept: true, ..new() }, (1, 7, true));
    starts(Case { watermarks: Vec::new(), ..new() }, (1, 0, true));
    halts(Case { low: 7, ..new() }, Reason::LogTruncated, &["shop.orders/2", "offset 7", "accept_truncated_log"]);
    halts(Case { low: 7, policy: BOTH, ..new() }, Reason::LogTruncated, &["offset 7"]);
}

#[test]
fn a_known_partition_resumes_at_the_smallest_position() {
    starts(known(), (1, 500, false));
    starts(Case { watermarks: vec![Some((1, 400, NOW)), Some((1, 600, NOW))], ..known() }, (1, 400, false));
    starts(Case { committed: Some(300), ..known() }, (1, 300, false));
    starts(Case { committed: None, ..known() }, (1, 500, true));
    starts(Case { watermarks: Vec::new(), ..known() }, (1, 500, false));
    starts(Case { committed: Some(1000), watermarks: Vec::new(), ..known() }, (1, 1000, false));
}

#[test]
fn a_sink_without_watermark_is_filled_from_the_beginning() {
    let emptied = || vec![None, Some((1, 500, NOW))];
    starts(Case { watermarks: emptied(), ..known() }, (1, 0, false));
    starts(Case { watermarks: emptied(), low: 50, accept: true, ..known() }, (1, 50, false));
    starts(Case { watermarks: emptied(), low: 50, policy: COMPACT, ..known() }, (1, 50, false));
    halts(Case { watermarks: emptied(), low: 50, ..known() }, Reason::LogTruncated, &["redis", "offset 50"]);
    // Another worker stored the topic's identity before this partition was ever read.
    starts(Case { committed: None, watermarks: vec![None, None], ..known() }, (1, 0, true));
}

#[test]
fn the_highest_generation_wins_and_earlier_progress_does_not_count() {
    let third = || vec![identity(1), identity(3), identity(2)];
    let watermarks = || vec![Some((3, 20, NOW)), Some((3, 30, NOW))];
    starts(Case { stored: third(), watermarks: watermarks(), ..known() }, (3, 20, false));
    starts(Case { stored: third(), committed: None, ..known() }, (3, 0, true));
    halts(
        Case { watermarks: watermarks(), ..known() },
        Reason::IdentityLost,
        &["generation 3", "streamsync generation next --route orders"],
    );
}

#[test]
fn a_gap_halts() {
    halts(
        Case { low: 501, ..known() },
        Reason::OffsetLost,
        &["500", "begins at 501", "snapshot", "`streamsync rebuild --route orders --after-snapshot`", "--snapshot-complete`"],
    );
    halts(Case { low: 501, accept: true, ..known() }, Reason::OffsetLost, &["500 to 500"]);
    halts(
        Case { low: 450, watermarks: vec![Some((1, 400, NOW)), Some((1, 500, NOW))], ..known() },
        Reason::OffsetLost,
        &["redis", "400 to 449"],
    );
    halts(Case { high: 499, ..known() }, Reason::BeyondEnd, &["ends at 499"]);
}

#[test]
fn a_generation_that_was_begun_by_command_is_complete_from_its_beginning_on() {
    let second = |begins_at, low| Case {
        stored: vec![identity(1), identity(2)],
        begins_at: Some(begins_at),
        low,
        // What was committed in the generation before is no progress of this one.
        committed: Some(900),
        ..known()
    };
    starts(second(40, 0), (2, 40, false));
    starts(second(40, 40), (2, 40, false));
    halts(second(40, 41), Reason::LogTruncated, &["begins at offset 40", "the log begins at offset 41", "--after-snapshot"]);
    starts(Case { watermarks: vec![Some((2, 60, NOW)), None], ..second(40, 0) }, (2, 40, false));
    starts(Case { watermarks: vec![Some((2, 60, NOW)), Some((2, 70, NOW))], ..second(40, 50) }, (2, 60, false));
    starts(Case { committed: None, watermarks: vec![None, None], ..second(1000, 3) }, (2, 1000, true));
    // The group's offset could not be set: it lies before the generation, and even before the log.
    let early = |watermarks, low| Case { committed: Some(100), watermarks, ..second(600, low) };
    starts(early(vec![None, None], 500), (2, 600, false));
    starts(early(vec![None, None], 0), (2, 600, false));
    starts(early(vec![Some((2, 700, NOW)), Some((2, 650, NOW))], 500), (2, 600, false));
}

#[test]
fn another_identity_halts() {
    halts(
        Case { topic_id: "t2", ..known() },
        Reason::IdentityChanged,
        &["t1", "t2", "`streamsync rebuild --route orders`", "`streamsync generation next --route orders`"],
    );
    halts(
        Case { cluster_id: "c2", ..known() },
        Reason::IdentityChanged,
        &[
            "the topic was on cluster c1 and is now on cluster c2",
            "stop the group's workers",
            "`streamsync rebuild --route orders`",
            "`streamsync generation next --route orders`",
        ],
    );
    // Every topic of another cluster has another id: what is told is the cluster.
    halts(Case { cluster_id: "c2", topic_id: "t2", ..known() }, Reason::IdentityChanged, &["now on cluster c2"]);
    halts(Case { partitions: 6, ..known() }, Reason::IdentityChanged, &["4 partitions", "now has 6", "--after-snapshot`"]);
    // Its log has a key in two partitions: read from the beginning, it halts again.
    let halt = run(&Case { partitions: 6, ..known() }).expect_err("it halts");
    assert!(!halt.remedy.contains("generation next") && !halt.remedy.contains("--route orders`, which reads"), "{halt}");
    halts(Case { stored: Vec::new(), ..known() }, Reason::IdentityLost, &["committed offset 500"]);
    halts(Case { stored: Vec::new(), committed: None, ..known() }, Reason::IdentityLost, &["watermark 500", "streamsync rebuild"]);
    halts(Case { stored: vec![identity(0)], ..known() }, Reason::IdentityLost, &["generation 0"]);
}

#[test]
fn a_topic_of_which_nothing_is_stored_never_halts() {
    let starts = |committed, low, offset, record_beginning| {
        let partition = CommittedPartition { source: TopicPartition::new("heartbeats", 0), committed, low, high: 1000 };
        let start = pass_over(&partition, &[], &facts(&known()));
        assert_eq!((start.offset, start.record_beginning), (offset, record_beginning));
        assert_eq!(start.identity, identity(1));
    };
    starts(None, 0, 0, true);
    starts(Some(500), 0, 500, false);
    // Its log is cut after a week, and its worker was away for two; or it is another topic by now.
    starts(None, 700, 700, true);
    starts(Some(500), 700, 700, true);
    starts(Some(5000), 700, 700, true);
    // It had a route, whose stores may have it still.
    let partition = CommittedPartition { source: TopicPartition::new("heartbeats", 0), committed: None, low: 0, high: 9 };
    for topic_id in ["t1", "t2"] {
        let start = pass_over(&partition, &[identity(1), identity(3)], &facts(&Case { topic_id, ..known() }));
        assert_eq!(start.identity, identity(3));
    }
}

#[test]
fn an_id_that_is_not_told_is_not_compared_and_not_forgotten() {
    for case in [Case { topic_id: UNKNOWN_ID, ..known() }, Case { cluster_id: UNKNOWN_ID, ..known() }] {
        assert_eq!(run(&case).unwrap().identity, identity(1));
    }
    let unknown = || UNKNOWN_ID.to_owned();
    for stored in [TopicIdentity { topic_id: unknown(), ..identity(1) }, TopicIdentity { cluster_id: unknown(), ..identity(1) }] {
        assert_eq!(run(&Case { stored: vec![stored], ..known() }).unwrap().identity, identity(1));
    }
}

#[test]
fn an_old_watermark_on_a_compacted_topic_halts() {
    let old = |offset| vec![Some((1, offset, NOW - 2 * DAY)), Some((1, 1000, NOW))];
    halts(Case { watermarks: old(500), policy: COMPACT, ..known() }, Reason::TombstonesExpired, &["redis", "48 hours", "24 hours"]);
    starts(Case { watermarks: old(500), ..known() }, (1, 500, false));
    // Nothing came after it.
    starts(Case { watermarks: old(1000), committed: Some(1000), policy: COMPACT, ..known() }, (1, 1000, false));
}

#[test]
fn a_start_knows_of_deletions_what_the_sink_that_is_behind_knows() {
    let until = |case: Case| run(&case).expect("starts").complete_until_ms;
    let (earlier, later) = (NOW - 7_000, NOW - 5_000);
    assert_eq!(until(Case { watermarks: vec![Some((1, 400, later)), Some((1, 600, earlier))], ..known() }), earlier);
    // One that has all of the log lacks none now, and one that begins anew has no row.
    assert_eq!(until(Case { watermarks: vec![Some((1, 400, later)), Some((1, 1000, earlier))], ..known() }), later);
    assert_eq!(until(Case { watermarks: vec![Some((1, 1000, later)), None], ..known() }), NOW);
    // A clock that was fast.
    assert_eq!(until(Case { watermarks: vec![Some((1, 400, NOW + 1)), None], ..known() }), NOW);
}
