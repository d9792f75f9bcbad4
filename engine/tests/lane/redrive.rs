//! A record that was given up, put through the stages once more.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use streamsync::dead_letter::{LetterId, StoredLetter};
use streamsync::engine::Redriver;
use streamsync::fence::{Fence, Generation};
use streamsync::lane::Verdict;
use streamsync::metrics::Metrics;
use streamsync::plan::{Bytes, FencedWrite, SinkWrites};
use streamsync::sink::{Held, Sink, TopicIdentity, WriteOutcome};
use streamsync::source::cluster::{CleanupPolicy, TopicFacts, Topics};
use streamsync::source::{self, RecordBatch, TopicPartition};

use crate::worker::OneTopic;
use crate::world::{FaultySink, POISON, Row, batch, prepared};

struct Bench {
    one: Arc<FaultySink>,
    two: Arc<FaultySink>,
    redriver: Redriver,
}

const DAY_MS: i64 = 86_400_000;

impl Bench {
    fn new() -> Self {
        Self::with("halt", OneTopic)
    }

    fn with(on_truncate: &'static str, topics: impl Topics + 'static) -> Self {
        let (settings, module) = prepared(on_truncate);
        let (one, two) = (FaultySink::new("one"), FaultySink::new("two"));
        let sinks = vec![Arc::clone(&one) as Arc<dyn Sink>, Arc::clone(&two) as Arc<dyn Sink>];
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        Self { one, two, redriver: Redriver::with(settings, sinks, vec![module], metrics, Arc::new(topics)) }
    }

    /// Redrives the record of a row at an offset, which is `age_ms` old.
    async fn redrive(&mut self, offset: i64, row: Row, age_ms: i64, apply: bool, accept_unproven: bool) -> Result<Verdict, String> {
        let mut record = batch(&source(), offset, &[row]);
        let now_ms = UNIX_EPOCH.elapsed().expect("a clock behind 1970").as_millis() as i64;
        record.records[0].timestamp_ms = Some(now_ms - age_ms);
        self.redriver.redrive(&letter(offset, &record), record, apply, accept_unproven).await
    }

    fn document(&self, id: i64) -> Option<String> {
        self.one.store.document("t", format!("t:{id}").as_bytes()).map(|json| String::from_utf8(json).expect("text"))
    }

    /// What both stores get of a row: a document in store one, and a delete in store two, as the guest has it.
    async fn write(&self, offset: i64, id: i64) {
        for (sink, target, document) in [(&self.one, 0, true), (&self.two, 1, false)] {
            let mut writes = key_writes(target, offset, id);
            if document {
                let text = b"{}";
                writes.writes[0].document = Some(Bytes { start: writes.bytes.len(), len: text.len() });
                writes.bytes.extend_from_slice(text);
            }
            let results = sink.store.write(&writes).await;
            assert!(matches!(results.as_slice(), [Ok(WriteOutcome::Applied)]), "{results:?}");
        }
    }

    async fn held(&self, id: i64) -> Held {
        self.one.store.held(&key_writes(0, 0, id)).await.expect("in memory")[0]
    }

    async fn mark(&self, offset: i64, id: i64) {
        let marked = self.one.store.mark(&key_writes(0, offset, id)).await;
        assert!(matches!(marked.as_slice(), [Ok(WriteOutcome::Applied)]), "{marked:?}");
    }
}

fn source() -> TopicPartition {
    TopicPartition::new("shop.t", 0)
}

fn key_writes(target: usize, offset: i64, id: i64) -> SinkWrites {
    let (settings, _) = prepared("halt");
    let target = Arc::clone(settings.routes[0].targets.iter().find(|t| t.sink == target).expect("a target of the sink"));
    let key = format!("{}:{id}", target.place.name()).into_bytes();
    let (fence, bytes) = (fence(offset), Bytes { start: 0, len: key.len() });
    let write = FencedWrite { target: 0, record: 0, fence, key: bytes, document: None, ttl_seconds: 0, content: 0 };
    SinkWrites { targets: vec![target], writes: vec![write], bytes: key, ..SinkWrites::default() }
}

fn fence(offset: i64) -> Fence {
    Fence::new(Generation::FIRST, offset).expect("a fence")
}

fn letter(offset: i64, record: &RecordBatch) -> StoredLetter {
    StoredLetter {
        id: LetterId { partition: 0, offset: 3 },
        at_ms: 0,
        route: "rows".to_owned(),
        stage: "one".to_owned(),
        code: "wrong-type".to_owned(),
        message: String::new(),
        module: String::new(),
        source: record.source.clone(),
        offset,
        timestamp_ms: record.records[0].timestamp_ms,
        fence: Some(fence(offset)),
        omitted_bytes: None,
        key: record.key(0).map(<[u8]>::to_vec),
        closed: None,
    }
}

#[tokio::test]
async fn a_record_is_written_with_its_own_version_and_clears_its_mark() {
    let mut bench = Bench::new();
    bench.write(3, 7).await;
    bench.mark(5, 7).await;
    // First only told: nothing changes.
    assert_eq!(bench.redrive(5, Row::Put(7), DAY_MS, false, false).await, Ok(Verdict::Applied));
    assert_eq!(bench.document(7).as_deref(), Some("{}"));
    assert_eq!(bench.held(7).await.mark, Some(fence(5)));
    assert_eq!(bench.redrive(5, Row::Put(7), DAY_MS, true, false).await, Ok(Verdict::Applied));
    assert_eq!(bench.held(7).await, Held { fence: Some(fence(5)), deleted: false, mark: None });
    assert!(bench.document(7).is_some_and(|json| json.contains('7')));
    // A second time, as after a note that was not written.
    assert_eq!(bench.redrive(5, Row::Put(7), DAY_MS, true, false).await, Ok(Verdict::Stale));
}

#[tokio::test]
async fn a_record_that_was_overtaken_changes_nothing() {
    let mut bench = Bench::new();
    bench.write(9, 7).await;
    for apply in [false, true] {
        assert_eq!(bench.redrive(5, Row::Put(7), DAY_MS, apply, false).await, Ok(Verdict::Stale));
        assert_eq!(bench.redrive(6, Row::Delete(7), DAY_MS, apply, false).await, Ok(Verdict::Stale));
    }
    assert_eq!(bench.document(7).as_deref(), Some("{}"));
    assert_eq!(bench.held(7).await.fence, Some(fence(9)));
    assert!(bench.one.attempts().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_row_that_may_be_gone_does_not_come_back() {
    // Old, and the key holds nothing: a delete's tombstone may have expired.
    let mut bench = Bench::new();
    assert_eq!(bench.redrive(5, Row::Put(7), 30 * DAY_MS, true, false).await, Ok(Verdict::Unproven));
    assert_eq!(bench.document(7), None);
    // The operator knows that MySQL has the row.
    assert_eq!(bench.redrive(5, Row::Put(7), 30 * DAY_MS, true, true).await, Ok(Verdict::Applied));
    assert!(bench.document(7).is_some());
    // Its own mark proves that nothing came after it; another record's mark proves nothing.
    let mut bench = Bench::new();
    bench.mark(4, 8).await;
    assert_eq!(bench.redrive(5, Row::Put(8), 30 * DAY_MS, true, false).await, Ok(Verdict::Unproven));
    bench.mark(5, 8).await;
    assert_eq!(bench.redrive(5, Row::Put(8), 30 * DAY_MS, true, false).await, Ok(Verdict::Applied));
    // What it would delete where nothing is needs no proof: the other store has a newer version.
    let mut bench = Bench::new();
    bench.write(9, 7).await;
    bench.two.store.flush();
    assert_eq!(bench.redrive(5, Row::Put(7), 30 * DAY_MS, true, false).await, Ok(Verdict::Stale));
    // Younger than tombstones are kept.
    assert_eq!(bench.redrive(6, Row::Put(9), DAY_MS, true, false).await, Ok(Verdict::Applied));
    assert_eq!(bench.held(9).await.fence, Some(fence(6)));
}

/// Its log drops a deleted row, and a while later that it was deleted.
struct Compacted;

impl Topics for Compacted {
    fn facts(&self, topic: &str) -> Result<TopicFacts, source::Error> {
        let cleanup_policy = CleanupPolicy { compact: true, delete: false };
        Ok(TopicFacts { cleanup_policy, delete_retention_ms: Some(DAY_MS / 2), ..OneTopic.facts(topic)? })
    }
}

#[tokio::test]
async fn a_store_that_was_filled_again_from_a_compacted_log_may_not_know_of_a_deletion() {
    let mut bench = Bench::with("halt", Compacted);
    assert_eq!(bench.redrive(5, Row::Put(7), DAY_MS, true, false).await, Ok(Verdict::Unproven));
    assert_eq!(bench.document(7), None);
    assert_eq!(bench.redrive(6, Row::Put(8), DAY_MS / 4, true, false).await, Ok(Verdict::Applied));
    bench.mark(7, 9).await;
    assert_eq!(bench.redrive(7, Row::Put(9), DAY_MS, true, false).await, Ok(Verdict::Applied));
}

#[tokio::test]
async fn where_truncates_clear_youth_proves_nothing() {
    // The truncate that may have come since left nothing at a key that had nothing.
    let mut bench = Bench::with("clear", OneTopic);
    assert_eq!(bench.redrive(5, Row::Put(7), DAY_MS, true, false).await, Ok(Verdict::Unproven));
    assert_eq!(bench.document(7), None);
    bench.mark(6, 8).await;
    assert_eq!(bench.redrive(6, Row::Put(8), DAY_MS, true, false).await, Ok(Verdict::Applied));
}

#[tokio::test]
async fn what_fails_again_gets_no_second_letter_and_keeps_its_mark() {
    let mut bench = Bench::new();
    bench.mark(5, POISON).await;
    let verdict = bench.redrive(5, Row::Put(POISON), DAY_MS, true, false).await.expect("a verdict");
    assert!(matches!(&verdict, Verdict::Faulty { stage, code, .. } if stage == "transform" && code == "trapped"), "{verdict:?}");
    assert_eq!(bench.held(POISON).await.mark, Some(fence(5)));
    let sink = Arc::clone(&bench.one);
    bench.one.fail(move |_| Some(sink.refused()));
    let verdict = bench.redrive(6, Row::Put(7), DAY_MS, true, false).await.expect("a verdict");
    assert!(matches!(&verdict, Verdict::Faulty { stage, code, .. } if stage == "one" && code == "wrong-type"), "{verdict:?}");
    assert_eq!(bench.held(7).await.mark, Some(fence(6)));
    bench.one.mend();
    assert_eq!(bench.redrive(6, Row::Put(7), DAY_MS, true, false).await, Ok(Verdict::Applied));
    assert_eq!(bench.held(7).await, Held { fence: Some(fence(6)), deleted: false, mark: None });
}

#[tokio::test]
async fn a_letter_of_an_earlier_life_of_the_topic_writes_nothing() {
    let mut bench = Bench::new();
    let identity = TopicIdentity { cluster_id: "c".to_owned(), topic_id: "t".to_owned(), partitions: 1, generation: 2 };
    bench.two.store.store_identity("shop.t", &identity).await.expect("in memory");
    assert_eq!(bench.redrive(5, Row::Put(7), 0, true, true).await, Ok(Verdict::EarlierGeneration));
    assert_eq!(bench.document(7), None);
}

#[tokio::test]
async fn what_has_no_verdict_says_why() {
    let mut bench = Bench::new();
    let record = batch(&source(), 5, &[Row::Put(7)]);
    let unknown = StoredLetter { fence: None, ..letter(5, &record) };
    assert!(bench.redriver.redrive(&unknown, record.clone(), true, false).await.is_err_and(|why| why.contains("no fence")));
    let elsewhere = StoredLetter { source: TopicPartition::new("other", 0), ..letter(5, &record) };
    assert!(bench.redriver.redrive(&elsewhere, record, true, false).await.is_err_and(|why| why.contains("no route reads the topic other")));
    let truncate = bench.redrive(5, Row::Truncate, 0, true, false).await;
    assert!(truncate.is_err_and(|why| why.contains("a truncate")));
    assert_eq!(bench.redrive(5, Row::Broken, 0, true, false).await.map(|verdict| matches!(verdict, Verdict::Faulty { .. })), Ok(true));
}
