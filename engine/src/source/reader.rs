//! One assigned partition's records, in batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::group::GroupContext;
use super::{BatchLimits, Error, PartitionReader, RecordBatch, TopicPartition, native};

/// One assignment of one partition: librdkafka's queue for it, until the partition goes.
pub(super) struct Slot {
    source: TopicPartition,
    queue: Mutex<Option<PartitionQueue<GroupContext>>>,
    filled: Arc<Notify>,
    taken: AtomicBool,
    /// Why the partition must not be read on, whatever the queue holds.
    broken: Mutex<Option<String>>,
}

impl Slot {
    /// The queue must have been split from the consumer's main queue before the partition was assigned.
    pub(super) fn new(source: TopicPartition, mut queue: PartitionQueue<GroupContext>) -> Arc<Self> {
        let filled = Arc::new(Notify::new());
        let wake = Arc::clone(&filled);
        queue.set_nonempty_callback(move || wake.notify_one());
        Arc::new(Self { source, queue: Mutex::new(Some(queue)), filled, taken: AtomicBool::new(false), broken: Mutex::new(None) })
    }

    /// Ends the assignment: the reader finds nothing more. The queue goes on this thread, so that it never outlives the consumer.
    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.filled.notify_one();
    }

    /// Makes the reader fail.
    pub(super) fn fail(&self, message: String) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.filled.notify_one();
    }

    /// The one reader of this assignment; `None` the second time.
    pub(super) fn reader(self: &Arc<Self>) -> Option<KafkaReader> {
        let first = !self.taken.swap(true, Ordering::AcqRel);
        first.then(|| KafkaReader {
            batch: RecordBatch::new(self.source.clone()),
            next: RecordBatch::new(self.source.clone()),
            closes_at: None,
            waited: false,
            error: None,
            slot: Arc::clone(self),
        })
    }
}

/// Reads one assignment of a partition. Records of an earlier assignment never come: their reader is closed, and librdkafka drops what it
/// had fetched.
pub struct KafkaReader {
    slot: Arc<Slot>,
    batch: RecordBatch,
    /// A record that did not fit into `batch` any more; the first of the next.
    next: RecordBatch,
    /// When `batch` has waited long enough for more.
    closes_at: Option<Instant>,
    /// Whether the partition was idle before the batch's first record.
    waited: bool,
    /// Met behind the records of `batch`.
    error: Option<Error>,
}

enum Queue {
    /// The batch has reached a limit, or an error stands behind it.
    Full,
    /// Nothing more is fetched.
    Empty,
    /// The assignment has ended.
    Closed,
}

impl PartitionReader for KafkaReader {
    fn next_batch(&mut self, limits: BatchLimits) -> BoxFuture<'_, Result<Option<RecordBatch>, Error>> {
        Box::pin(self.read(limits))
    }
}

impl KafkaReader {
    /// All state is in `self` whenever this waits: a dropped future loses nothing.
    async fn read(&mut self, limits: BatchLimits) -> Result<Option<RecordBatch>, Error> {
        loop {
            match self.fill(limits) {
                Queue::Closed => return Ok(None),
                Queue::Full if self.batch.records.is_empty() => return self.error.take().map_or(Ok(None), Err),
                Queue::Full => return Ok(Some(self.take())),
                Queue::Empty => {}
            }
            if self.batch.records.is_empty() {
                self.waited = true;
                self.slot.filled.notified().await;
                continue;
            }
            // An idle partition's record is written at once; a busy one's batch waits for more.
            let closes_at = *self.closes_at.get_or_insert_with(|| Instant::now() + limits.linger);
            if self.waited || limits.linger == Duration::ZERO || Instant::now() >= closes_at {
                return Ok(Some(self.take()));
            }
            // Either end of the wait leads back to the queue, which then decides.
            drop(tokio::time::timeout_at(closes_at, self.slot.filled.notified()).await);
        }
    }

    fn take(&mut self) -> RecordBatch {
        self.closes_at = None;
        self.waited = false;
        let next = std::mem::replace(&mut self.next, RecordBatch::new(self.slot.source.clone()));
        std::mem::replace(&mut self.batch, next)
    }

    /// Moves what librdkafka has fetched into the batch, without waiting.
    fn fill(&mut self, limits: BatchLimits) -> Queue {
        let queue = self.slot.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &*queue else { return Queue::Closed };
        if let Some(message) = self.slot.broken.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            self.error = Some(Error::Setup { message });
        }
        loop {
            let full = self.batch.records.len() >= limits.max_records.max(1) || self.batch.bytes.len() >= limits.max_bytes;
            if full || self.error.is_some() || !self.next.records.is_empty() {
                return Queue::Full;
            }
            match queue.poll(Duration::ZERO) {
                None => return Queue::Empty,
                Some(Err(error)) => self.error = fault_of(&self.slot.source, &error),
                Some(Ok(message)) => {
                    let fits = self.batch.records.is_empty() || self.batch.bytes.len() + payload_bytes(&message) <= limits.max_bytes;
                    let into = if fits { &mut self.batch } else { &mut self.next };
                    if push(into, &message).is_none() {
                        let message =
                            format!("{}: the record at offset {} is larger than a batch can be", self.slot.source, message.offset());
                        self.error = Some(Error::Setup { message });
                    }
                }
            }
        }
    }
}

fn payload_bytes(message: &BorrowedMessage<'_>) -> usize {
    message.payload_len() + message.key_len()
}

fn push(batch: &mut RecordBatch, message: &BorrowedMessage<'_>) -> Option<()> {
    let (offset, timestamp) = (message.offset(), message.timestamp().to_millis());
    let Some(headers) = message.headers() else {
        return batch.push(offset, timestamp, message.key(), message.payload(), std::iter::empty());
    };
    let headers: Vec<_> = (0..headers.count()).filter_map(|index| native::header(headers, index)).collect();
    batch.push(offset, timestamp, message.key(), message.payload(), headers.iter().map(|(name, value)| (&**name, *value)))
}

/// What an error on a partition's queue means. `None`: nothing.
fn fault_of(source: &TopicPartition, error: &KafkaError) -> Option<Error> {
    let code = match error {
        KafkaError::PartitionEOF(_) => return None,
        _ => error.rdkafka_error_code(),
    };
    Some(match code {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::NoOffset) => Error::OffsetLost {
            source_partition: source.clone(),
            message: "the next offset is no longer in the log (retention, or records deleted by hand, went past it); nothing was skipped. \
                      Restart the worker for the offsets that are missing and what can be done"
                .to_owned(),
        },
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            Error::Setup { message: format!("{source}: {error}; permit READ on the topic") }
        }
        _ => Error::Away { message: format!("{source}: {error}") },
    })
}
