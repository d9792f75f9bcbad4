//! One assigned partition's records, in batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fault::{Meaning, meaning};
use super::group::GroupContext;
use super::{BatchLimits, BatchSize, Error, PartitionReader, RecordBatch, TopicPartition, native};

/// Where an assigned partition's fetched records wait: librdkafka's queue, or a simulation's.
pub trait Queue: Send {
    /// A record that waits.
    type Fetched<'a>: Fetched
    where
        Self: 'a;

    /// The next record, or why there is none; `None` where nothing more is fetched. Never waits.
    fn poll(&self, source: &TopicPartition) -> Option<Result<Self::Fetched<'_>, Error>>;
}

/// One record as it was fetched.
pub trait Fetched {
    /// Offset in the partition.
    fn offset(&self) -> i64;

    /// Of key and value.
    fn payload_bytes(&self) -> usize;

    /// Appends it to a batch. `None` where no batch can hold it.
    fn push(&self, batch: &mut RecordBatch) -> Option<()>;
}

/// One assignment of one partition: its queue, until the partition goes.
pub struct Slot<Q> {
    source: TopicPartition,
    queue: Mutex<Option<Q>>,
    filled: Arc<Notify>,
    taken: AtomicBool,
    /// Why the partition must not be read on, whatever the queue holds.
    broken: Mutex<Option<String>>,
}

impl Slot<PartitionQueue<GroupContext>> {
    /// The queue must have been split from the consumer's main queue before the partition was assigned.
    pub(super) fn of_kafka(source: TopicPartition, mut queue: PartitionQueue<GroupContext>) -> Arc<Self> {
        let filled = Arc::new(Notify::new());
        let wake = Arc::clone(&filled);
        queue.set_nonempty_callback(move || wake.notify_one());
        Self::new(source, queue, filled)
    }
}

impl<Q: Queue> Slot<Q> {
    /// `filled` is notified when the queue is no longer empty.
    pub fn new(source: TopicPartition, queue: Q, filled: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { source, queue: Mutex::new(Some(queue)), filled, taken: AtomicBool::new(false), broken: Mutex::new(None) })
    }

    /// Ends the assignment: the reader finds nothing more. The queue goes on this thread, so that it never outlives the consumer.
    pub fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.filled.notify_one();
    }

    /// Makes the reader fail.
    pub fn fail(&self, message: String) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.filled.notify_one();
    }

    /// The one reader of this assignment; `None` the second time.
    pub fn reader(self: &Arc<Self>) -> Option<Reader<Q>> {
        let first = !self.taken.swap(true, Ordering::AcqRel);
        first.then(|| Reader {
            batch: RecordBatch::new(self.source.clone()),
            next: RecordBatch::new(self.source.clone()),
            last: BatchSize::default(),
            closes_at: None,
            waited: false,
            error: None,
            slot: Arc::clone(self),
        })
    }
}

/// Reads one assignment of a partition. Records of an earlier assignment never come: their reader is closed, and librdkafka drops what it
/// had fetched.
pub struct Reader<Q> {
    slot: Arc<Slot<Q>>,
    batch: RecordBatch,
    /// A record that did not fit into `batch` any more; the first of the next.
    next: RecordBatch,
    /// Of the last batch: a busy partition's next one is much like it, and need not grow step by step.
    last: BatchSize,
    /// When `batch` has waited long enough for more.
    closes_at: Option<Instant>,
    /// Whether the partition was idle before the batch's first record.
    waited: bool,
    /// Met behind the records of `batch`.
    error: Option<Error>,
}

enum Filled {
    /// The batch has reached a limit, or an error stands behind it.
    Full,
    /// Nothing more is fetched.
    Empty,
    /// The assignment has ended.
    Closed,
}

impl<Q: Queue> PartitionReader for Reader<Q> {
    fn next_batch(&mut self, limits: BatchLimits) -> BoxFuture<'_, Result<Option<RecordBatch>, Error>> {
        Box::pin(self.read(limits))
    }
}

impl<Q: Queue> Reader<Q> {
    /// All state is in `self` whenever this waits: a dropped future loses nothing.
    async fn read(&mut self, limits: BatchLimits) -> Result<Option<RecordBatch>, Error> {
        loop {
            match self.fill(limits) {
                Filled::Closed => return Ok(None),
                Filled::Full if self.batch.records.is_empty() => return self.error.take().map_or(Ok(None), Err),
                Filled::Full => return Ok(Some(self.take())),
                Filled::Empty => {}
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
        self.last = self.batch.size();
        let next = std::mem::replace(&mut self.next, RecordBatch::new(self.slot.source.clone()));
        std::mem::replace(&mut self.batch, next)
    }

    /// Moves what librdkafka has fetched into the batch, without waiting.
    fn fill(&mut self, limits: BatchLimits) -> Filled {
        let queue = self.slot.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &*queue else { return Filled::Closed };
        if let Some(message) = self.slot.broken.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            self.error = Some(Error::Setup { message });
        }
        loop {
            let full = self.batch.records.len() >= limits.max_records.max(1) || self.batch.bytes.len() >= limits.max_bytes;
            if full || self.error.is_some() || !self.next.records.is_empty() {
                return Filled::Full;
            }
            match queue.poll(&self.slot.source) {
                None => return Filled::Empty,
                Some(Err(error)) => self.error = Some(error),
                Some(Ok(message)) => {
                    // Only now, and not after a wait: an idle partition keeps no room.
                    if self.batch.records.is_empty() && !self.waited {
                        self.batch.reserve(&self.last);
                    }
                    let fits = self.batch.records.is_empty() || self.batch.bytes.len() + message.payload_bytes() <= limits.max_bytes;
                    let into = if fits { &mut self.batch } else { &mut self.next };
                    if message.push(into).is_none() {
                        let message =
                            format!("{}: the record at offset {} is larger than a batch can be", self.slot.source, message.offset());
                        self.error = Some(Error::Setup { message });
                    }
                }
            }
        }
    }
}

impl Queue for PartitionQueue<GroupContext> {
    type Fetched<'a> = BorrowedMessage<'a>;

    fn poll(&self, source: &TopicPartition) -> Option<Result<BorrowedMessage<'_>, Error>> {
        loop {
            match self.poll(Duration::ZERO)? {
                Ok(message) => return Some(Ok(message)),
                Err(error) => {
                    if let Some(fault) = fault_of(source, &error) {
                        return Some(Err(fault));
                    }
                }
            }
        }
    }
}

impl Fetched for BorrowedMessage<'_> {
    fn offset(&self) -> i64 {
        Message::offset(self)
    }

    fn payload_bytes(&self) -> usize {
        self.payload_len() + self.key_len()
    }

    fn push(&self, batch: &mut RecordBatch) -> Option<()> {
        let (offset, timestamp) = (Message::offset(self), self.timestamp().to_millis());
        let Some(headers) = self.headers() else {
            return batch.push(offset, timestamp, self.key(), self.payload(), []);
        };
        let headers: Vec<_> = native::headers(headers).collect();
        batch.push(offset, timestamp, self.key(), self.payload(), headers.iter().map(|(name, value)| (&**name, *value)))
    }
}

/// What an error on a partition's queue means. `None`: nothing. The fuzzer asks for it too.
pub fn fault_of(source: &TopicPartition, error: &KafkaError) -> Option<Error> {
    if let KafkaError::PartitionEOF(_) = error {
        return None;
    }
    Some(match error.rdkafka_error_code().map_or(Meaning::Away, meaning) {
        Meaning::OffsetLost => Error::OffsetLost {
            source_partition: source.clone(),
            message: "the next offset is no longer in the log (retention, or records deleted by hand, went past it); nothing was skipped. \
                      Restart the worker for the offsets that are missing and what can be done"
                .to_owned(),
        },
        Meaning::TooLarge => Error::Setup { message: format!("{source}: {error}; raise receive.message.max.bytes in [kafka.properties]") },
        Meaning::Setup(remedy) => Error::Setup { message: format!("{source}: {error}; {remedy}") },
        // A partition that is another's by now is taken away by the rebalance.
        Meaning::Away | Meaning::Lost => Error::Away { message: format!("{source}: {error}") },
    })
}
