//! What a single server can't show: every shard of a cluster is asked what it remembers and who it is, and each one's word counts.

use streamsync::fence::Generation;
use streamsync::sink::MarkOutcome::{Found, Stored};
use streamsync::sink::Replaces::{NotBehind, Own};
use streamsync::sink::{MarkOutcome, Replaces, Sink, Watermark};
use streamsync::source::TopicPartition;

use crate::redis_store::{Primary, Redis};
use crate::suite::{Store as _, unique};

const GROUP: &str = "group";

/// One shard after the other is put back, emptied, and given another identity, each time alone.
pub async fn each_counts(store: &Redis) {
    let primaries = Primary::all(store).await;
    assert!(primaries.len() >= 3, "a cluster of {} primaries does not show enough", primaries.len());
    let partition = Partition { sink: store.sink(), source: TopicPartition { topic: unique("shards").into(), partition: 0 } };
    assert_eq!(partition.store(NotBehind(None), 5).await, Stored);
    for primary in &primaries {
        partition.a_shard_put_back_and_emptied(primary).await;
    }
    let mut known = store.sink().lineage().await.expect("an answer");
    for primary in &primaries {
        // As after a failover.
        let _: redis::Value = primary.ask(&["DEBUG", "CHANGE-REPL-ID"]).await;
        for again in ["", ", asked again"] {
            let lineage = store.sink().lineage().await.expect("an answer");
            assert_eq!(lineage, known + 1, "{} alone is another server{again}", primary.address);
        }
        known += 1;
    }
}

/// A partition and the sink that remembers it.
struct Partition<'a> {
    sink: &'a dyn Sink,
    source: TopicPartition,
}

impl Partition<'_> {
    /// All shards begin at 5, and end there.
    async fn a_shard_put_back_and_emptied(&self, primary: &Primary) {
        let (here, key) = (&primary.address, self.key(primary).await);
        let earlier: String = primary.ask(&["GET", &key]).await;
        assert_eq!(self.store(Own(at(5), None), 7).await, Stored);
        assert_eq!(self.found().await, Some(at(7)));

        let _: redis::Value = primary.ask(&["SET", &key, &earlier]).await;
        assert_eq!(self.found().await, Some(at(5)), "{here} alone was put back to an earlier state");
        assert_eq!(self.store(Own(at(7), None), 9).await, Found(Some(at(5))), "{here} alone was put back to an earlier state");

        let _: redis::Value = primary.ask(&["FLUSHALL"]).await;
        assert_eq!(self.found().await, None, "{here} alone was emptied");
        // The shards that were asked before it may have what was tried above.
        assert_eq!(self.store(Own(at(7), Some(at(9))), 9).await, Found(None), "{here} alone was emptied");

        assert_eq!(self.store(NotBehind(None), 5).await, Stored);
        assert_eq!(self.found().await, Some(at(5)));
    }

    /// The one key of a shard that has the watermark.
    async fn key(&self, primary: &Primary) -> String {
        let keys: Vec<String> = primary.ask(&["KEYS", &format!("*{}*", self.source.topic)]).await;
        assert_eq!(keys.len(), 1, "each shard has the watermark, once: {} has {keys:?}", primary.address);
        keys[0].clone()
    }

    async fn store(&self, replaces: Replaces, next_offset: i64) -> MarkOutcome {
        let lineage = self.sink.lineage().await.expect("an answer");
        self.sink.store_watermark(GROUP, &self.source, lineage, replaces, at(next_offset)).await.expect("an answer")
    }

    async fn found(&self) -> Option<Watermark> {
        self.sink.watermark(GROUP, &self.source).await.expect("an answer")
    }
}

fn at(next_offset: i64) -> Watermark {
    Watermark { generation: Generation::FIRST, next_offset, written_at_ms: 1_700_000_000_123, complete_until_ms: 1_700_000_000_123 }
}
