//! What an earlier engine has left in a store.

use streamsync::fence::Generation;
use streamsync::sink::{MarkOutcome, Replaces, Watermark};
use streamsync::source::TopicPartition;

use crate::suite::Store;

/// The watermark 7 of time 5 that an earlier engine has left there, which knew of one time only.
pub async fn watermark_is_taken_over(store: &dyn Store, source: &TopicPartition) {
    let sink = store.sink();
    let earlier = Watermark { generation: Generation::FIRST, next_offset: 7, written_at_ms: 5, complete_until_ms: 5 };
    assert_eq!(sink.watermark("group", source).await.expect("an answer"), Some(earlier));
    let lineage = sink.lineage().await.expect("an answer");
    let begins = Watermark { complete_until_ms: 4, ..earlier };
    let goes_on = Watermark { next_offset: 9, written_at_ms: 6, ..begins };
    for (replaces, new) in [(Replaces::NotBehind(Some(earlier)), begins), (Replaces::Own(begins, None), goes_on)] {
        let outcome = sink.store_watermark("group", source, lineage, replaces, new).await.expect("an answer");
        assert_eq!(outcome, MarkOutcome::Stored);
        assert_eq!(sink.watermark("group", source).await.expect("an answer"), Some(new));
    }
}
