//! What is done to many keys: the sweep, which repeats the deletes that tombstones stand for, and the clearing of a collection.

use std::collections::BTreeMap;

use futures_util::StreamExt;

use super::bson_bytes::{Elements, Value};
use super::command::{Terms, find};
use super::fault::Fault;
use super::version::{Stored, Verdict};
use super::write::{KeyWrite, judged};
use super::{Batch, Batches, MongoDbSink, TOMBSTONES};
use crate::fence::{Fence, Generation};
use crate::sink::WriteOutcome;

/// After each page the sweep waits this many times as long as the page took: so it takes at most a fifth of one connection's time.
pub(super) const REST_PER_WORK: u32 = 4;

/// The server's own time for reading a whole collection once, all pages together.
const WHOLE_SWEEP: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// A tombstone, or a mark, as the sweep reads it; its values keep their type byte before them.
pub(super) struct Tombstone {
    pub(super) key: Vec<u8>,
    pub(super) fence: i64,
    pub(super) partition: i32,
}

impl Tombstone {
    /// The delete that it stands for.
    fn delete(&self, collection: &str) -> Option<KeyWrite<'_>> {
        Some(KeyWrite::new(collection, Value::from_tagged(&self.key)?, Fence::from_stored(self.fence)?, self.partition, None))
    }
}

/// A collection that is read from its beginning to its end.
struct Whole {
    what: String,
    batches: Batches,
}

/// Some tombstones, the next ones in `_id` order.
#[derive(Default)]
pub(super) struct Page {
    pub(super) by_collection: BTreeMap<String, Vec<Tombstone>>,
    pub(super) read: usize,
    /// `_id` of the last one.
    pub(super) last: Option<Vec<u8>>,
}

impl MongoDbSink {
    /// One round over all tombstones: each delete again, so that an insert which a worker thought dead sent late, after its
    /// check, is gone after one round at most. Tombstones go by themselves, by the TTL index.
    pub(super) async fn sweep_tombstones(&self) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let began = tokio::time::Instant::now();
            let page = self.page(TOMBSTONES, after.as_deref()).await?;
            for (collection, tombstones) in &page.by_collection {
                self.repeat_deletes(collection, tombstones).await?;
            }
            if page.read < self.page_size() {
                return Ok(());
            }
            after = page.last;
            tokio::time::sleep(began.elapsed() * REST_PER_WORK).await;
        }
    }

    pub(super) fn page_size(&self) -> usize {
        self.settings.sweep_page.max(1)
    }

    /// Some of the tombstones or of the marks, which have the same form.
    pub(super) async fn page(&self, place: &str, after: Option<&[u8]>) -> Result<Page, Fault> {
        let limit = i32::try_from(self.page_size()).unwrap_or(i32::MAX);
        let command = find(
            place,
            self.terms(),
            &["c", "k", "v", "p"],
            self.page_size(),
            |out| {
                if let Some(after) = after.and_then(Value::from_tagged) {
                    out.begin("_id");
                    out.value("$gt", after);
                    out.end();
                }
            },
            |out| {
                out.begin("sort");
                out.i32("_id", 1);
                out.end();
                out.i32("limit", limit);
            },
        );
        let mut page = Page::default();
        self.query(&self.what("find", place), command, |document| {
            page.read += 1;
            let elements = Elements::of(document);
            page.last = elements.clone().find("_id").map(tagged);
            let number = |field| elements.clone().find(field).and_then(Value::as_i64);
            let (collection, key) = (elements.clone().find("c").and_then(Value::as_text), elements.clone().find("k").map(tagged));
            if let (Some(collection), Some(key), Some(fence), Some(partition)) = (collection, key, number("v"), number("p")) {
                let tombstone = Tombstone { key, fence, partition: i32::try_from(partition).unwrap_or_default() };
                page.by_collection.entry(collection.to_owned()).or_default().push(tombstone);
            }
        })
        .await?;
        Ok(page)
    }

    /// What stands where something newer was deleted goes as in any delete, the tombstone before the document: the store may have been put
    /// back to a copy older than the tombstone since the tombstone was read, and a late insert must still meet one.
    async fn repeat_deletes(&self, collection: &str, tombstones: &[Tombstone]) -> Result<(), Fault> {
        let mut deletes: Vec<KeyWrite<'_>> = tombstones.iter().filter_map(|tombstone| tombstone.delete(collection)).collect();
        let standing = self.standing(collection, &deletes.iter().collect::<Vec<_>>()).await?;
        // What another partition has written is not this tombstone's.
        let is_older = |delete: &KeyWrite<'_>| {
            standing.get(&delete.key).is_some_and(|stored| matches!(judged(delete, stored.as_ref()), Verdict::Older(_)))
        };
        deletes.retain(is_older);
        for chunk in deletes.chunks(self.settings.max_bulk.max(1)) {
            for outcome in self.write_chunk(collection, chunk, "").await {
                outcome?;
            }
        }
        Ok(())
    }

    /// Deletes every document below `fence`, page by page, each with its tombstone. A failure may be followed by another try: what is
    /// gone stays gone.
    pub(super) async fn clear_collection(&self, collection: &str, fence: Fence, partition: i32) -> Result<(), Fault> {
        let mut whole = self.whole(collection).await?;
        while let Some(batch) = self.next(&mut whole).await? {
            let older = older_than(fence, &batch, &whole.what)?;
            let deletes: Vec<KeyWrite<'_>> = older.map(|(id, _)| KeyWrite::new(collection, id, fence, partition, None)).collect();
            // A server may send more than a page.
            for chunk in deletes.chunks(self.whole_page()) {
                for outcome in self.write_chunk(collection, chunk, "").await {
                    outcome?;
                }
            }
        }
        self.clear_marks(collection, fence).await
    }

    /// Deletes what no write of `generation` or a later one has touched.
    pub(super) async fn sweep_collection(&self, collection: &str, generation: Generation) -> Result<u64, Fault> {
        let (Some(first), Some(tombstone)) = (Fence::new(generation, 0), Fence::last_before(generation)) else { return Ok(0) };
        let mut whole = self.whole(collection).await?;
        let mut swept = 0;
        loop {
            let began = tokio::time::Instant::now();
            let Some(batch) = self.next(&mut whole).await? else {
                self.clear_marks(collection, tombstone).await?;
                return Ok(swept);
            };
            let ghosts: Vec<(Value<'_>, Option<i32>)> = older_than(first, &batch, &whole.what)?.collect();
            // A server may send more than a page.
            for chunk in ghosts.chunks(self.whole_page()) {
                let deletes = self.ghost_deletes(collection, chunk, tombstone).await?;
                // A row of the generation that was dead-lettered is still a row: its document is old, not gone.
                let marks = self.marks(&deletes.iter().collect::<Vec<_>>()).await?;
                let marked = |delete: &KeyWrite<'_>| marks.get(&delete.key).is_some_and(|mark| mark.fence >= first.number());
                let deletes: Vec<KeyWrite<'_>> = deletes.into_iter().filter(|delete| !marked(delete)).collect();
                for outcome in self.write_chunk(collection, &deletes, "").await {
                    swept += u64::from(outcome? == WriteOutcome::Applied);
                }
            }
            tokio::time::sleep(began.elapsed() * REST_PER_WORK).await;
        }
    }

    /// A tombstone has the partition of its document, so that within the earlier generation the two can be compared. A document that
    /// another program has written has none, and takes that of the tombstone which may be there already.
    async fn ghost_deletes<'a>(
        &self,
        collection: &str,
        ghosts: &[(Value<'a>, Option<i32>)],
        tombstone: Fence,
    ) -> Result<Vec<KeyWrite<'a>>, Fault> {
        let delete = |&(id, partition): &(Value<'a>, Option<i32>)| KeyWrite::new(collection, id, tombstone, partition.unwrap_or(0), None);
        let mut deletes: Vec<KeyWrite<'a>> = ghosts.iter().map(delete).collect();
        let foreign = deletes.iter().zip(ghosts).filter(|(_, (_, partition))| partition.is_none()).map(|(delete, _)| delete);
        let stored = self.tombstones(&foreign.collect::<Vec<_>>()).await?;
        for delete in &mut deletes {
            if let Some(partition) = stored.get(&delete.key).and_then(|stored| stored.partition) {
                delete.incoming.partition = partition;
            }
        }
        Ok(deletes)
    }

    /// The whole collection is read once, in pages: a filter on the version, which no index has, would let one page take as long as the
    /// collection is large.
    async fn whole(&self, collection: &str) -> Result<Whole, Fault> {
        let what = self.what("find", collection);
        let driver_fault = |error| Fault::of_driver(&what, &error);
        let terms = Terms { timeout: WHOLE_SWEEP, ..self.terms() };
        let command = find(collection, terms, &["_sync.v", "_sync.p"], self.whole_page(), |_| (), |_| ()).map_err(driver_fault)?;
        let server = self.server().await?;
        let first = async { server.find(command).await.map_err(driver_fault) };
        let batches = self.within_limit(&what, first).await?;
        Ok(Whole { what, batches })
    }

    async fn next(&self, whole: &mut Whole) -> Result<Option<Batch>, Fault> {
        let Whole { what, batches } = whole;
        self.within_limit(what, async { batches.next().await.transpose().map_err(|error| Fault::of_driver(what, &error)) }).await
    }

    fn whole_page(&self) -> usize {
        self.settings.max_bulk.clamp(1, 1000)
    }
}

/// Key and partition of each document of a page whose version is below `fence`, or that has none.
fn older_than<'a>(fence: Fence, page: &'a Batch, what: &str) -> Result<impl Iterator<Item = (Value<'a>, Option<i32>)> + use<'a>, Fault> {
    let array = page.documents().map_err(|error| Fault::of_driver(what, &error))?;
    Ok(Elements::of(array).filter_map(move |(_, document)| {
        let stored = Stored::of_document(document.bytes);
        let is_older = stored.is_none_or(|stored| stored.fence < fence.number());
        Some((document.elements().find("_id").filter(|_| is_older)?, stored.and_then(|stored| stored.partition)))
    }))
}

/// A value with its type byte before it.
pub(super) fn tagged(value: Value<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.bytes.len() + 1);
    bytes.push(value.kind);
    bytes.extend_from_slice(value.bytes);
    bytes
}
