//! What every sink must do alike. A store takes part by implementing [`Store`]; `sinks.rs` runs [`all`] against each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use proptest::prelude::*;
use streamsync::config::TargetSettings;
use streamsync::fence::{Fence, Generation};
use streamsync::plan::{Bytes, FencedWrite, SinkWrites};
use streamsync::sink::{Error, Held, MarkOutcome, Replaces, Sink, TopicIdentity, Watermark, WriteOutcome};
use streamsync::source::TopicPartition;

/// The suite's document, in every store: a row of two columns beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Any text.
    pub text: String,
    /// Any number.
    pub number: i64,
}

#[allow(dead_code, reason = "only a store whose documents hold their version reads it")]
/// Everything that a store's encoding of a write may need.
pub struct Version {
    pub fence: Fence,
    pub partition: i32,
    pub module: Arc<str>,
    pub content: u64,
}

/// What a key holds beside its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub fence: Fence,
    /// Whether the last write was a delete.
    pub deleted: bool,
}

/// One store under test: its sink, how writes are encoded for it, and how to look behind the sink.
pub trait Store: Send + Sync {
    /// The sink under test.
    fn sink(&self) -> &dyn Sink;
    /// A target of its own: empty, and not used by another test. `name` is short, of lower-case letters.
    fn target(&self, name: &str) -> Arc<TargetSettings>;
    /// The key of the row whose one primary-key column is the text `key`, as `plan` has it for this store.
    fn key(&self, target: &TargetSettings, key: &str) -> Vec<u8>;
    /// The document as `plan` has it for this store.
    fn document(&self, target: &TargetSettings, key: &str, document: &Document, version: &Version) -> Vec<u8>;
    /// The document at a key, read as any other client of the store would; `None` where there is none.
    fn read<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Document>>;
    /// The version at a key, of the document or of the tombstone.
    fn stored<'a>(&'a self, target: &'a TargetSettings, key: &'a str) -> BoxFuture<'a, Option<Stored>>;
    /// Leaves a document with no version, as another program would.
    fn plant<'a>(&'a self, target: &'a TargetSettings, key: &'a str, document: &'a Document) -> BoxFuture<'a, ()>;
}

/// One write, before it is encoded.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: String,
    pub fence: Fence,
    /// `None`: a delete.
    pub document: Option<Document>,
}

pub fn fence(generation: u16, offset: i64) -> Fence {
    Fence::new(Generation::new(generation).expect("a generation"), offset).expect("an offset")
}

pub fn put(key: &str, fence: Fence, text: &str) -> Write {
    Write { key: key.into(), fence, document: Some(Document { text: text.into(), number: fence.offset() }) }
}

pub fn delete(key: &str, fence: Fence) -> Write {
    Write { key: key.into(), fence, document: None }
}

/// The writes of a batch as `plan` would hand them to the sink.
pub fn encode(store: &dyn Store, target: &Arc<TargetSettings>, partition: i32, writes: &[Write]) -> SinkWrites {
    let module: Arc<str> = "00c0ffee00c0ffee".into();
    let mut planned = SinkWrites { partition, module: module.clone(), targets: vec![target.clone()], ..SinkWrites::default() };
    for (record, write) in writes.iter().enumerate() {
        let key = append(&mut planned.bytes, &store.key(target, &write.key));
        let content = write.document.as_ref().map_or(0, content);
        let version = Version { fence: write.fence, partition, module: module.clone(), content };
        let document = write.document.as_ref().map(|document| store.document(target, &write.key, document, &version));
        let document = document.map(|document| append(&mut planned.bytes, &document));
        planned.writes.push(FencedWrite { target: 0, record: record as u32, fence: write.fence, key, document, ttl_seconds: 0, content });
    }
    planned
}

fn append(bytes: &mut Vec<u8>, piece: &[u8]) -> Bytes {
    let start = bytes.len();
    bytes.extend_from_slice(piece);
    Bytes { start, len: piece.len() }
}

/// Stands for XXH3: equal documents alone have equal numbers here.
fn content(document: &Document) -> u64 {
    let text = document.text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    text ^ (document.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// One target of a store, with the verbs of the tests.
struct Bench<'a> {
    store: &'a dyn Store,
    target: Arc<TargetSettings>,
}

impl<'a> Bench<'a> {
    fn new(store: &'a dyn Store, name: &str) -> Self {
        Self { store, target: store.target(name) }
    }

    async fn send(&self, partition: i32, writes: &[Write]) -> Vec<Result<WriteOutcome, Error>> {
        let planned = encode(self.store, &self.target, partition, writes);
        let results = self.store.sink().write(&planned).await;
        assert_eq!(results.len(), writes.len(), "one result for each write");
        results
    }

    /// Sends the writes from partition 0, and checks what became of each.
    async fn expect(&self, writes: &[Write], outcomes: &[WriteOutcome]) {
        let results = self.send(0, writes).await;
        let results: Vec<_> = results.into_iter().map(|result| result.expect("a write that the store takes")).collect();
        assert_eq!(results, outcomes, "{writes:?}");
    }

    /// Marks keys from partition 0, and checks what became of each.
    async fn mark(&self, marks: &[(&str, Fence)], outcomes: &[WriteOutcome]) {
        let results = self.send_marks(0, marks).await.into_iter().map(|result| result.expect("a mark that the store takes"));
        assert_eq!(results.collect::<Vec<_>>(), outcomes, "{marks:?}");
    }

    async fn send_marks(&self, partition: i32, marks: &[(&str, Fence)]) -> Vec<Result<WriteOutcome, Error>> {
        let marks: Vec<_> = marks.iter().map(|(key, fence)| delete(key, *fence)).collect();
        let results = self.store.sink().mark(&encode(self.store, &self.target, partition, &marks)).await;
        assert_eq!(results.len(), marks.len(), "one result for each mark");
        results
    }

    /// Checks what the sink itself says of a key.
    async fn held(&self, key: &str, version: Option<Fence>, deleted: bool, mark: Option<Fence>) {
        let keys = encode(self.store, &self.target, 0, &[delete("other", fence(1, 1)), delete(key, fence(1, 1))]);
        let held = self.store.sink().held(&keys).await.expect("an answer");
        assert_eq!(held[1..], [Held { fence: version, deleted, mark }], "{key}");
    }

    /// Checks what the key holds now: the text of its document, and its version.
    async fn holds(&self, key: &str, text: Option<&str>, version: Option<(Fence, bool)>) {
        let document = self.store.read(&self.target, key).await;
        assert_eq!(document.as_ref().map(|document| document.text.as_str()), text, "the document at {key}");
        let stored = self.store.stored(&self.target, key).await;
        assert_eq!(stored, version.map(|(fence, deleted)| Stored { fence, deleted }), "the version at {key}");
    }
}

/// All cases. Each has a target of its own.
pub async fn all(store: &dyn Store) {
    store.sink().check().await.expect("a store that is fit");
    newer_wins(store).await;
    equal_fences(store).await;
    deletes(store).await;
    adoption(store).await;
    partitions(store).await;
    mixed_batch(store).await;
    keys_and_sizes(store).await;
    clearing(store).await;
    sweeping(store).await;
    marks(store).await;
    cleared_marks(store).await;
    watermarks(store).await;
    identities(store).await;
    store.sink().sweep().await.expect("a round of the sweep");
}

async fn newer_wins(store: &dyn Store) {
    let bench = Bench::new(store, "newer");
    bench.holds("a", None, None).await;
    bench.expect(&[put("a", fence(1, 10), "ten")], &[WriteOutcome::Applied]).await;
    bench.holds("a", Some("ten"), Some((fence(1, 10), false))).await;
    bench.expect(&[put("a", fence(1, 9), "nine")], &[WriteOutcome::Stale]).await;
    bench.holds("a", Some("ten"), Some((fence(1, 10), false))).await;
    bench.expect(&[put("a", fence(1, 11), "eleven")], &[WriteOutcome::Applied]).await;
    bench.holds("a", Some("eleven"), Some((fence(1, 11), false))).await;
    // Neighbours that a double can't tell apart, and numbers that text of different widths would order wrongly.
    bench.expect(&[put("b", fence(1, 9), "nine")], &[WriteOutcome::Applied]).await;
    bench.expect(&[put("b", fence(1, 10), "ten")], &[WriteOutcome::Applied]).await;
    bench.expect(&[put("c", fence(0x7fff, 1 << 47), "even")], &[WriteOutcome::Applied]).await;
    bench.expect(&[put("c", fence(0x7fff, (1 << 47) + 1), "odd")], &[WriteOutcome::Applied]).await;
    bench.expect(&[put("c", fence(0x7fff, 1 << 47), "even")], &[WriteOutcome::Stale]).await;
    bench.holds("c", Some("odd"), Some((fence(0x7fff, (1 << 47) + 1), false))).await;
    // A later generation wins with any offset, and an earlier one loses with any.
    bench.expect(&[put("a", fence(2, 0), "again")], &[WriteOutcome::Applied]).await;
    bench.expect(&[put("a", fence(1, 1_000_000), "zombie")], &[WriteOutcome::Stale]).await;
    bench.holds("a", Some("again"), Some((fence(2, 0), false))).await;
}

async fn equal_fences(store: &dyn Store) {
    let bench = Bench::new(store, "equal");
    bench.expect(&[put("a", fence(1, 5), "five")], &[WriteOutcome::Applied]).await;
    bench.expect(&[put("a", fence(1, 5), "five")], &[WriteOutcome::Duplicate]).await;
    bench.expect(&[put("a", fence(1, 5), "other")], &[WriteOutcome::Conflict]).await;
    bench.expect(&[delete("a", fence(1, 5))], &[WriteOutcome::Conflict]).await;
    bench.holds("a", Some("five"), Some((fence(1, 5), false))).await;
    bench.expect(&[delete("a", fence(1, 6))], &[WriteOutcome::Applied]).await;
    bench.expect(&[delete("a", fence(1, 6))], &[WriteOutcome::Duplicate]).await;
    bench.expect(&[put("a", fence(1, 6), "six")], &[WriteOutcome::Conflict]).await;
    bench.holds("a", None, Some((fence(1, 6), true))).await;
}

async fn deletes(store: &dyn Store) {
    let bench = Bench::new(store, "deletes");
    bench.expect(&[put("a", fence(1, 1), "one")], &[WriteOutcome::Applied]).await;
    bench.expect(&[delete("a", fence(1, 3))], &[WriteOutcome::Applied]).await;
    bench.holds("a", None, Some((fence(1, 3), true))).await;
    bench.expect(&[put("a", fence(1, 2), "late")], &[WriteOutcome::Stale]).await;
    bench.expect(&[delete("a", fence(1, 2))], &[WriteOutcome::Stale]).await;
    bench.holds("a", None, Some((fence(1, 3), true))).await;
    bench.expect(&[put("a", fence(1, 4), "back")], &[WriteOutcome::Applied]).await;
    bench.holds("a", Some("back"), Some((fence(1, 4), false))).await;
    bench.expect(&[delete("a", fence(1, 3))], &[WriteOutcome::Stale]).await;
    bench.holds("a", Some("back"), Some((fence(1, 4), false))).await;
    // A key that never was leaves a tombstone too.
    bench.expect(&[delete("never", fence(1, 7))], &[WriteOutcome::Applied]).await;
    bench.holds("never", None, Some((fence(1, 7), true))).await;
    bench.expect(&[put("never", fence(1, 6), "late")], &[WriteOutcome::Stale]).await;
    bench.holds("never", None, Some((fence(1, 7), true))).await;
}

async fn adoption(store: &dyn Store) {
    let bench = Bench::new(store, "adoption");
    let before = Document { text: "before".into(), number: -1 };
    store.plant(&bench.target, "a", &before).await;
    bench.holds("a", Some("before"), None).await;
    bench.expect(&[put("a", fence(1, 0), "adopted")], &[WriteOutcome::Applied]).await;
    bench.holds("a", Some("adopted"), Some((fence(1, 0), false))).await;
    store.plant(&bench.target, "b", &before).await;
    bench.expect(&[delete("b", fence(1, 1))], &[WriteOutcome::Applied]).await;
    bench.holds("b", None, Some((fence(1, 1), true))).await;
}

async fn partitions(store: &dyn Store) {
    let bench = Bench::new(store, "partitions");
    let refused = |results: Vec<Result<WriteOutcome, Error>>| match results.as_slice() {
        [Err(Error::OtherPartition { stored, incoming, .. })] => (*stored, *incoming),
        other => panic!("another partition's write was not refused: {other:?}"),
    };
    bench.expect(&[put("a", fence(2, 100), "zero")], &[WriteOutcome::Applied]).await;
    assert_eq!(refused(bench.send(12, &[put("a", fence(2, 200), "newer")]).await), (0, 12));
    assert_eq!(refused(bench.send(1, &[put("a", fence(2, 100), "equal")]).await), (0, 1));
    assert_eq!(refused(bench.send(1, &[put("a", fence(2, 50), "older")]).await), (0, 1));
    assert_eq!(refused(bench.send(1, &[delete("a", fence(2, 300))]).await), (0, 1));
    bench.holds("a", Some("zero"), Some((fence(2, 100), false))).await;
    let stale = bench.send(1, &[put("a", fence(1, 900), "earlier generation")]).await;
    assert!(matches!(stale.as_slice(), [Ok(WriteOutcome::Stale)]), "{stale:?}");
    let next = bench.send(1, &[put("a", fence(3, 0), "next generation")]).await;
    assert!(matches!(next.as_slice(), [Ok(WriteOutcome::Applied)]), "{next:?}");
    bench.holds("a", Some("next generation"), Some((fence(3, 0), false))).await;
    // A tombstone's partition counts as a document's does.
    bench.expect(&[delete("b", fence(1, 1))], &[WriteOutcome::Applied]).await;
    assert_eq!(refused(bench.send(10, &[put("b", fence(1, 2), "newer")]).await), (0, 10));
    // 1 and 12, 1 and 10 are different partitions, though one's digits begin the other's.
    let first = bench.send(12, &[put("c", fence(1, 1), "twelve")]).await;
    assert!(matches!(first.as_slice(), [Ok(WriteOutcome::Applied)]), "{first:?}");
    assert_eq!(refused(bench.send(1, &[put("c", fence(1, 2), "one")]).await), (12, 1));
    assert_eq!(refused(bench.send(123, &[put("c", fence(1, 2), "more")]).await), (12, 123));
}

async fn mixed_batch(store: &dyn Store) {
    let bench = Bench::new(store, "mixed");
    // Every key gets a history of its own first, then one batch that meets them all.
    let keys: Vec<String> = (0..1_003).map(|number| format!("key-{number}")).collect();
    let first: Vec<_> = keys.iter().map(|key| put(key, fence(1, 50), "first")).collect();
    bench.expect(&first, &vec![WriteOutcome::Applied; keys.len()]).await;
    let kinds = [
        (|key: &str| put(key, fence(1, 60), "newer"), WriteOutcome::Applied),
        (|key: &str| put(key, fence(1, 40), "older"), WriteOutcome::Stale),
        (|key: &str| put(key, fence(1, 50), "first"), WriteOutcome::Duplicate),
        (|key: &str| put(key, fence(1, 50), "changed"), WriteOutcome::Conflict),
        (|key: &str| delete(key, fence(1, 70)), WriteOutcome::Applied),
        (|key: &str| delete(key, fence(1, 30)), WriteOutcome::Stale),
    ] as [(fn(&str) -> Write, WriteOutcome); 6];
    let (second, outcomes): (Vec<_>, Vec<_>) =
        keys.iter().zip(kinds.iter().cycle()).map(|(key, (write, outcome))| (write(key), *outcome)).unzip();
    bench.expect(&second, &outcomes).await;
    for (key, (write, outcome)) in keys.iter().zip(kinds.iter().cycle()).take(12) {
        match (write(key).document, outcome) {
            (None, WriteOutcome::Applied) => bench.holds(key, None, Some((fence(1, 70), true))).await,
            (Some(_), WriteOutcome::Applied) => bench.holds(key, Some("newer"), Some((fence(1, 60), false))).await,
            _ => bench.holds(key, Some("first"), Some((fence(1, 50), false))).await,
        }
    }
    bench.expect(&[], &[]).await;
}

async fn keys_and_sizes(store: &dyn Store) {
    let bench = Bench::new(store, "keys");
    let keys = ["1", "a:b", "a%3Ab", "{a}", "}{", "*?[x]\\", "naïve", "日本語", "😀", " ", "\"'\n\t\u{1}", "%", "null"];
    let writes: Vec<_> = keys.iter().map(|key| put(key, fence(1, 1), key)).collect();
    bench.expect(&writes, &vec![WriteOutcome::Applied; keys.len()]).await;
    for key in keys {
        bench.holds(key, Some(key), Some((fence(1, 1), false))).await;
    }
    let large = "0123456789abcdef".repeat(256 * 1024);
    bench.expect(&[put("large", fence(1, 2), &large)], &[WriteOutcome::Applied]).await;
    bench.holds("large", Some(&large), Some((fence(1, 2), false))).await;
    bench.expect(&[put("large", fence(1, 3), "")], &[WriteOutcome::Applied]).await;
    bench.holds("large", Some(""), Some((fence(1, 3), false))).await;
}

async fn clearing(store: &dyn Store) {
    let (bench, other) = (Bench::new(store, "cleared"), Bench::new(store, "kept"));
    let keys: Vec<String> = (0..257).map(|number| format!("key-{number}")).collect();
    let writes: Vec<_> = keys.iter().map(|key| put(key, fence(1, 10), "before")).collect();
    bench.expect(&writes, &vec![WriteOutcome::Applied; keys.len()]).await;
    other.expect(&writes, &vec![WriteOutcome::Applied; keys.len()]).await;
    store.plant(&bench.target, "planted", &Document { text: "planted".into(), number: 0 }).await;
    bench.expect(&[put("newer", fence(1, 30), "newer")], &[WriteOutcome::Applied]).await;
    for _ in 0..2 {
        store.sink().clear(&bench.target, fence(1, 20), 0).await.expect("a clear");
        for key in &keys {
            bench.holds(key, None, Some((fence(1, 20), true))).await;
            other.holds(key, Some("before"), Some((fence(1, 10), false))).await;
        }
        bench.holds("planted", None, Some((fence(1, 20), true))).await;
        bench.holds("newer", Some("newer"), Some((fence(1, 30), false))).await;
    }
    bench.expect(&[put("key-0", fence(1, 15), "late")], &[WriteOutcome::Stale]).await;
    bench.expect(&[put("key-0", fence(1, 21), "after")], &[WriteOutcome::Applied]).await;
}

async fn sweeping(store: &dyn Store) {
    let (bench, other) = (Bench::new(store, "swept"), Bench::new(store, "unswept"));
    let generation = |number| Generation::new(number).expect("a generation");
    let last_of_first = Fence::last_before(generation(2)).expect("there is one");
    let keys: Vec<String> = (0..357).map(|number| format!("key-{number}")).collect();
    for partition in [0, 7] {
        let of_partition = keys.iter().enumerate().filter(|(number, _)| (number % 2 == 0) == (partition == 0));
        let writes: Vec<_> = of_partition.map(|(_, key)| put(key, fence(1, 10), "before")).collect();
        for result in bench.send(partition, &writes).await {
            result.expect("a write that the store takes");
        }
    }
    other.expect(&[put("key-0", fence(1, 10), "before")], &[WriteOutcome::Applied]).await;
    // Another program knows nothing of partitions, nor that a row was deleted.
    bench.send(7, &[delete("deleted", fence(1, 11))]).await.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
    for key in ["planted", "deleted"] {
        store.plant(&bench.target, key, &Document { text: "planted".into(), number: 0 }).await;
    }
    // The topic was created again with other partitions: its rows come from anywhere.
    let rows: Vec<_> = keys.iter().take(100).map(|key| put(key, fence(2, 3), "again")).collect();
    bench.send(3, &rows).await.into_iter().for_each(|result| assert_eq!(result.expect("taken"), WriteOutcome::Applied));
    bench.expect(&[delete("gone", fence(2, 4))], &[WriteOutcome::Applied]).await;

    let sink = store.sink();
    assert_eq!(sink.sweep_generation(&bench.target, generation(1)).await.expect("nothing was before the first"), 0);
    bench.holds("key-300", Some("before"), Some((fence(1, 10), false))).await;
    let swept = sink.sweep_generation(&bench.target, generation(2)).await.expect("a sweep");
    assert_eq!(swept, 357 - 100 + 2);
    assert_eq!(sink.sweep_generation(&bench.target, generation(2)).await.expect("a second sweep"), 0);
    for (number, key) in keys.iter().enumerate().step_by(17) {
        match number < 100 {
            true => bench.holds(key, Some("again"), Some((fence(2, 3), false))).await,
            false => bench.holds(key, None, Some((last_of_first, true))).await,
        }
    }
    for key in ["planted", "deleted"] {
        bench.holds(key, None, Some((last_of_first, true))).await;
    }
    bench.holds("gone", None, Some((fence(2, 4), true))).await;
    other.holds("key-0", Some("before"), Some((fence(1, 10), false))).await;
    // A zombie of the generation before brings nothing back, and a row of this one may come from any partition.
    bench
        .send(1, &[put("key-301", fence(2, 9), "new")])
        .await
        .into_iter()
        .for_each(|result| assert_eq!(result.expect("taken"), WriteOutcome::Applied));
    bench.expect(&[put("key-300", fence(1, 99), "late")], &[WriteOutcome::Stale]).await;
}

async fn marks(store: &dyn Store) {
    use WriteOutcome::{Applied, Duplicate, Stale};
    let bench = Bench::new(store, "marks");
    let at = |offset| fence(1, offset);
    // A key that holds nothing yet.
    bench.held("new", None, false, None).await;
    bench.mark(&[("new", at(5))], &[Applied]).await;
    bench.held("new", None, false, Some(at(5))).await;
    bench.holds("new", None, None).await;
    bench.mark(&[("new", at(5)), ("old", at(1))], &[Duplicate, Applied]).await;
    bench.mark(&[("new", at(4))], &[Duplicate]).await;
    bench.mark(&[("new", at(7))], &[Applied]).await;
    bench.held("new", None, false, Some(at(7))).await;
    // An older write leaves the mark, the redriven record itself clears it.
    bench.expect(&[put("new", at(3), "three")], &[Applied]).await;
    bench.held("new", Some(at(3)), false, Some(at(7))).await;
    bench.expect(&[put("new", at(3), "three")], &[Duplicate]).await;
    bench.expect(&[put("new", at(2), "two")], &[Stale]).await;
    bench.held("new", Some(at(3)), false, Some(at(7))).await;
    bench.expect(&[put("new", at(7), "seven")], &[Applied]).await;
    bench.held("new", Some(at(7)), false, None).await;
    bench.holds("new", Some("seven"), Some((at(7), false))).await;
    // What the key holds is as new, or newer.
    bench.mark(&[("new", at(7))], &[Stale]).await;
    bench.mark(&[("new", at(6))], &[Stale]).await;
    bench.held("new", Some(at(7)), false, None).await;
    // A newer write of another row image heals it; so does a delete, and a tombstone is marked as a document is.
    bench.mark(&[("new", at(8))], &[Applied]).await;
    bench.expect(&[put("new", at(9), "nine")], &[Applied]).await;
    bench.held("new", Some(at(9)), false, None).await;
    bench.mark(&[("new", at(10))], &[Applied]).await;
    bench.holds("new", Some("nine"), Some((at(9), false))).await;
    bench.expect(&[delete("new", at(11))], &[Applied]).await;
    bench.held("new", Some(at(11)), true, None).await;
    bench.mark(&[("new", at(12))], &[Applied]).await;
    bench.held("new", Some(at(11)), true, Some(at(12))).await;
    bench.expect(&[put("new", at(12), "twelve")], &[Applied]).await;
    bench.held("new", Some(at(12)), false, None).await;
    // The next generation is newer than any mark of this one, and no key is marked from another partition.
    bench.mark(&[("new", at(1 << 40))], &[Applied]).await;
    let other = bench.send_marks(1, &[("new", at(1 << 41))]).await;
    assert!(matches!(other.as_slice(), [Err(Error::OtherPartition { stored: 0, incoming: 1, .. })]), "{other:?}");
    bench.expect(&[put("new", fence(2, 0), "next")], &[Applied]).await;
    bench.held("new", Some(fence(2, 0)), false, None).await;
    bench.mark(&[("new", at(1 << 42))], &[Stale]).await;
    // A round of the sweep takes no mark that counts.
    store.sink().sweep().await.expect("a round of the sweep");
    bench.held("old", None, false, Some(at(1))).await;
    bench.mark(&[], &[]).await;
}

async fn cleared_marks(store: &dyn Store) {
    let (bench, other) = (Bench::new(store, "unmarked"), Bench::new(store, "marked"));
    let at = |offset| fence(1, offset);
    for bench in [&bench, &other] {
        bench.expect(&[put("stored", at(1), "one")], &[WriteOutcome::Applied]).await;
        bench.mark(&[("stored", at(5)), ("never", at(6)), ("later", at(30))], &[WriteOutcome::Applied; 3]).await;
    }
    store.sink().clear(&bench.target, at(20), 0).await.expect("a clear");
    for key in ["stored", "never"] {
        let keys = encode(store, &bench.target, 0, &[delete(key, at(1))]);
        let held = store.sink().held(&keys).await.expect("an answer");
        assert_eq!(held[0].mark, None, "the row of {key} went with its table");
        bench.expect(&[put(key, at(21), "after")], &[WriteOutcome::Applied]).await;
    }
    let keys = encode(store, &bench.target, 0, &[delete("later", at(1))]);
    assert_eq!(store.sink().held(&keys).await.expect("an answer")[0].mark, Some(at(30)), "a newer record's mark stays");
    other.held("stored", Some(at(1)), false, Some(at(5))).await;
    other.held("never", None, false, Some(at(6))).await;
}

async fn watermarks(store: &dyn Store) {
    let sink = store.sink();
    let partition = |partition| TopicPartition { topic: unique("watermark-topic").into(), partition };
    let (first, second) = (partition(0), partition(1));
    let at = |next_offset, written_at_ms| Watermark {
        generation: Generation::FIRST,
        next_offset,
        written_at_ms,
        complete_until_ms: written_at_ms + 1,
    };
    let watermark = |next_offset| at(next_offset, 1_700_000_000_123);
    let anything = Replaces::NotBehind(None);
    assert_eq!(sink.watermark("group", &first).await.expect("an answer"), None);
    let lineage = sink.lineage().await.expect("an answer");
    assert_eq!(sink.store_watermark("group", &first, lineage, anything, watermark(7)).await.expect("an answer"), MarkOutcome::Stored);
    assert_eq!(sink.watermark("group", &first).await.expect("an answer"), Some(watermark(7)));
    assert_eq!(sink.watermark("group", &second).await.expect("an answer"), None);
    assert_eq!(sink.watermark("other-group", &first).await.expect("an answer"), None);
    let later = Generation::FIRST.next().expect("there is one");
    let next_generation = |next_offset| Watermark { generation: later, ..watermark(next_offset) };
    use MarkOutcome::{Found, OtherServers, Stored};
    use Replaces::{NotBehind, Own};
    for (replaces, new, expected) in [
        // A lane goes on from exactly what it stored; the same offset of another lane or another time is another watermark.
        (Own(watermark(7), None), watermark(9), Stored),
        (Own(watermark(7), None), watermark(12), Found(Some(watermark(9)))),
        (Own(at(9, 5), None), watermark(12), Found(Some(watermark(9)))),
        (Own(watermark(7), Some(watermark(9))), watermark(9), Stored),
        (Own(watermark(7), Some(watermark(9))), watermark(12), Stored),
        // Sent again because its answer was lost.
        (Own(watermark(9), None), watermark(12), Stored),
        (Own(watermark(12), None), watermark(i64::MAX), Stored),
        // A lane begins behind it, in front of it, or where the sink turns out to be behind.
        (NotBehind(Some(watermark(40))), watermark(3), Stored),
        (NotBehind(Some(watermark(4))), watermark(4), Found(Some(watermark(3)))),
        (NotBehind(Some(next_generation(0))), watermark(4), Found(Some(watermark(3)))),
        (NotBehind(Some(at(3, 9))), next_generation(0), Stored),
        (NotBehind(Some(watermark(50))), next_generation(1), Stored),
        (NotBehind(None), next_generation(0), Stored),
        // A worker that was stopped in the generation before, and knows nothing of this one.
        (NotBehind(None), watermark(1), Found(Some(next_generation(0)))),
    ] {
        let outcome = sink.store_watermark("group", &first, lineage, replaces, new).await.expect("an answer");
        assert_eq!(outcome, expected, "{replaces:?} by {new:?}");
        let found = sink.watermark("group", &first).await.expect("an answer");
        assert_eq!(found, Some(if expected == Stored { new } else { found.expect("there is one") }), "{replaces:?} by {new:?}");
    }
    // Where nothing stands, only a lane that begins, and read nothing, writes one.
    for replaces in [Own(watermark(7), None), Own(watermark(7), Some(watermark(9))), NotBehind(Some(watermark(7)))] {
        let outcome = sink.store_watermark("group", &second, lineage, replaces, watermark(9)).await.expect("an answer");
        assert_eq!(outcome, Found(None), "{replaces:?}");
    }
    // Whoever has asked other servers than those that are there now writes nothing.
    let outcome = sink.store_watermark("group", &second, lineage + 1, anything, watermark(9)).await.expect("an answer");
    assert_eq!(outcome, OtherServers);
    assert_eq!(sink.watermark("group", &second).await.expect("an answer"), None);
    assert_eq!(sink.lineage().await.expect("an answer"), lineage, "the same servers");
}

async fn identities(store: &dyn Store) {
    let sink = store.sink();
    let topic = unique("identity.topic");
    let identity = |generation: u16, topic_id: &str| TopicIdentity {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".into(),
        topic_id: topic_id.into(),
        partitions: 12,
        generation,
    };
    assert_eq!(sink.identity(&topic).await.expect("an answer"), None);
    for (stored, expected) in [
        (identity(2, "second"), identity(2, "second")),
        (identity(1, "first"), identity(2, "second")),
        (identity(2, "second again"), identity(2, "second again")),
        (identity(10, "tenth"), identity(10, "tenth")),
        (identity(9, "ninth"), identity(10, "tenth")),
    ] {
        sink.store_identity(&topic, &stored).await.expect("stored, or passed over");
        assert_eq!(sink.identity(&topic).await.expect("an answer"), Some(expected));
    }
}

/// A name that no other test, and no earlier run on the same server, uses.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since_epoch = std::time::UNIX_EPOCH.elapsed().expect("a clock behind 1970").as_millis();
    format!("{name}-{since_epoch:x}-{:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// For each offset the key that it writes, and the document or a delete; what is sent again, and before; the size of a batch.
type History = (Vec<(u8, Option<u8>)>, Vec<prop::sample::Index>, usize);

fn histories() -> impl Strategy<Value = History> {
    (
        prop::collection::vec((0u8..6, prop::option::weighted(0.7, any::<u8>())), 1..40),
        prop::collection::vec(any::<prop::sample::Index>(), 0..120),
        1usize..20,
    )
}

/// Random histories, each record sent at least once, in any order and any number of times, in batches of any size: the store ends
/// with the last write of each key.
pub fn any_order_ends_alike(runtime: &tokio::runtime::Runtime, store: &dyn Store, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((history, resent, batch) in histories())| {
        let bench = Bench::new(store, "history");
        let writes: Vec<Write> = history.iter().enumerate().map(|(offset, (key, document))| {
            let (key, fence) = (format!("key-{key}"), fence(1, offset as i64));
            match document {
                Some(text) => put(&key, fence, &text.to_string()),
                None => delete(&key, fence),
            }
        }).collect();
        // First what was re-sent early or late, by sampling; then all, from a rotated start, so that each is sent at least once.
        let start = resent.first().map_or(0, |index| index.index(writes.len()));
        let sampled = resent.iter().map(|index| index.get(&writes));
        let sent: Vec<&Write> = sampled.chain(writes.iter().cycle().skip(start).take(writes.len())).collect();
        let mut last = BTreeMap::new();
        for write in &writes {
            last.insert(write.key.clone(), write.clone());
        }
        runtime.block_on(async {
            for batch in sent.chunks(batch) {
                // As `plan` does: at most one write for each key in a batch, the one with the greatest fence.
                let mut coalesced: BTreeMap<&str, &Write> = BTreeMap::new();
                for &write in batch {
                    let kept = coalesced.entry(&write.key).or_insert(write);
                    if kept.fence < write.fence {
                        *kept = write;
                    }
                }
                let batch: Vec<Write> = coalesced.into_values().cloned().collect();
                for result in bench.send(0, &batch).await {
                    let outcome = result.expect("a write that the store takes");
                    assert_ne!(outcome, WriteOutcome::Conflict, "a history has one content for each fence");
                }
            }
            for (key, write) in &last {
                let text = write.document.as_ref().map(|document| document.text.as_str());
                bench.holds(key, text, Some((write.fence, write.document.is_none()))).await;
            }
        });
    });
}
