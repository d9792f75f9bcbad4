//! The consumer group's side: partitions come and go. A callback of librdkafka waits here, with a deadline, for whoever reads them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::client::REQUEST_TIMEOUT;
use super::kafka::{CommittedPartition, LagStatistics, Reply, SourceEvent, StartAt};
use super::reader::Slot;
use super::{Error, TopicPartition};

pub(crate) type GroupConsumer = BaseConsumer<GroupContext>;
type KafkaSlot = Slot<PartitionQueue<GroupContext>>;

/// Between two attempts at what the broker did not answer, and between two looks at a full event queue.
const PAUSE: Duration = Duration::from_millis(100);

/// The state that the polling thread, the callback, readers and commits share.
pub(crate) struct Membership {
    /// Weak: only the polling thread keeps the consumer alive, so that it ends there.
    pub(super) consumer: OnceLock<Weak<GroupConsumer>>,
    /// Partitions that the group has given this worker, until their revocation is answered.
    owned: Mutex<HashSet<TopicPartition>>,
    /// Those of them which are read.
    slots: Mutex<HashMap<TopicPartition, Arc<KafkaSlot>>>,
    /// `None` when the thread has ended: then the receiver sees the channel closed.
    events: Mutex<Option<mpsc::Sender<SourceEvent>>>,
    pub(super) stopping: AtomicBool,
    /// Partitions came and could not be resolved in time: leave the group and join again.
    pub(super) rejoin: AtomicBool,
    started: Instant,
    last_poll_ms: AtomicU64,
    /// How long the callback waits for offsets. Half of `max.poll.interval.ms`, so that the member is not thrown out while it waits.
    assign_timeout: Duration,
    /// How long it waits for lanes to settle and commit.
    pub(super) drain_timeout: Duration,
}

impl Membership {
    pub(super) fn new(events: mpsc::Sender<SourceEvent>, max_poll_interval: Duration, drain_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            consumer: OnceLock::new(),
            owned: Mutex::default(),
            slots: Mutex::default(),
            events: Mutex::new(Some(events)),
            stopping: AtomicBool::new(false),
            rejoin: AtomicBool::new(false),
            started: Instant::now(),
            last_poll_ms: AtomicU64::new(0),
            assign_timeout: max_poll_interval / 2,
            drain_timeout: drain_timeout.min(max_poll_interval / 2),
        })
    }

    pub(crate) fn consumer(&self) -> Option<Arc<GroupConsumer>> {
        self.consumer.get()?.upgrade()
    }

    pub(crate) fn owns(&self, source: &TopicPartition) -> bool {
        locked(&self.owned).contains(source)
    }

    pub(super) fn owns_nothing(&self) -> bool {
        locked(&self.owned).is_empty()
    }

    pub(super) fn slot(&self, source: &TopicPartition) -> Option<Arc<KafkaSlot>> {
        locked(&self.slots).get(source).cloned()
    }

    pub(super) fn polled(&self) {
        self.last_poll_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Release);
    }

    pub(super) fn last_poll_age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_poll_ms.load(Ordering::Acquire)))
    }

    /// Hands over an event, waiting for room until `deadline`; gives it back where the receiver will not see it.
    pub(super) fn send(&self, mut event: SourceEvent, deadline: Instant) -> Result<(), SourceEvent> {
        let Some(events) = locked(&self.events).clone() else { return Err(event) };
        loop {
            event = match events.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) if Instant::now() < deadline => back,
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => return Err(back),
            };
            std::thread::sleep(PAUSE / 10);
        }
    }

    /// Ends every reader.
    pub(super) fn close_readers(&self) {
        for (_, slot) in locked(&self.slots).drain() {
            slot.close();
        }
    }

    /// Everything that is left, when the thread ends.
    pub(super) fn end(&self) {
        self.close_readers();
        locked(&self.owned).clear();
        locked(&self.events).take();
    }
}

/// librdkafka's callbacks.
pub(crate) struct GroupContext {
    membership: Arc<Membership>,
}

impl GroupContext {
    pub(super) fn new(membership: Arc<Membership>) -> Self {
        Self { membership }
    }

    /// Partitions come. Their queues are split off before anything is fetched, so that no record ever lands on the main queue.
    fn resolve(&self, consumer: &GroupConsumer, given: &TopicPartitionList) -> TopicPartitionList {
        let mut assigned = TopicPartitionList::new();
        let sources = sources_of(given);
        if sources.is_empty() || self.membership.stopping.load(Ordering::Acquire) {
            return assigned;
        }
        let deadline = Instant::now() + self.membership.assign_timeout;
        locked(&self.membership.owned).extend(sources.iter().cloned());
        let Some(starts) = self.starts(consumer, &sources, deadline) else {
            // Without offsets nothing may be read; leaving and joining again brings the partitions back to someone.
            self.membership.rejoin.store(true, Ordering::Release);
            self.close(&sources);
            return assigned;
        };
        for StartAt { source, offset } in starts {
            let known = self.membership.slot(&source).is_some();
            if !known || assigned.add_partition_offset(&source.topic, source.partition, Offset::Offset(offset)).is_err() {
                tracing::error!(partition = %source, offset, "no such partition or offset in this assignment; it is not read");
            }
        }
        // A partition without an answer is halted: it stays with this worker, unread.
        let halted: Vec<_> = sources.into_iter().filter(|s| assigned.find_partition(&s.topic, s.partition).is_none()).collect();
        self.close(&halted);
        assigned
    }

    /// `None`: no answer in time.
    fn starts(&self, consumer: &GroupConsumer, sources: &[TopicPartition], deadline: Instant) -> Option<Vec<StartAt>> {
        let partitions = loop {
            match committed(consumer, sources) {
                Ok(partitions) => break partitions,
                Err(error) => tracing::warn!(error = %error, "offsets of new partitions can't be read; trying again"),
            }
            if Instant::now() >= deadline || self.membership.stopping.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(PAUSE);
        };
        self.split(sources);
        let (reply, answer) = Reply::channel();
        if self.membership.send(SourceEvent::Assigned { partitions, reply }, deadline).is_err() {
            return None;
        }
        match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(starts) => starts,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Some(Vec::new()),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                tracing::error!("where to start was not decided within half of max.poll.interval.ms; leaving the group and joining again");
                None
            }
        }
    }

    fn split(&self, sources: &[TopicPartition]) {
        let Some(consumer) = self.membership.consumer() else { return };
        for source in sources {
            if let Some(queue) = consumer.split_partition_queue(&source.topic, source.partition) {
                let slot = Slot::of_kafka(source.clone(), queue);
                if let Some(earlier) = locked(&self.membership.slots).insert(source.clone(), slot) {
                    earlier.close();
                }
            }
        }
    }

    fn close(&self, sources: &[TopicPartition]) {
        for source in sources {
            let slot = locked(&self.membership.slots).remove(source);
            if let Some(slot) = slot {
                slot.close();
            }
        }
    }

    /// Partitions go. Returns those that librdkafka reads and must stop reading.
    fn release(&self, consumer: &GroupConsumer, taken: &TopicPartitionList) -> TopicPartitionList {
        let sources = sources_of(taken);
        let lost = consumer.assignment_lost();
        let mut read = TopicPartitionList::new();
        for source in &sources {
            if self.membership.slot(source).is_some() {
                read.add_partition(&source.topic, source.partition);
            }
        }
        self.close(&sources);
        if lost {
            locked(&self.membership.owned).retain(|s| !sources.contains(s));
        }
        let deadline = Instant::now() + self.membership.drain_timeout;
        let (done, answer) = Reply::channel();
        if !sources.is_empty() && self.membership.send(SourceEvent::Revoked { partitions: sources.clone(), lost, done }, deadline).is_ok() {
            // A dropped reply means that nobody settles anything any more: the same as done.
            if answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!("partitions go before their last batch was settled; whoever reads them next repeats it");
            }
        }
        locked(&self.membership.owned).retain(|s| !sources.contains(s));
        read
    }

    fn report(&self, what: &str, result: KafkaResult<()>) {
        if let Err(error) = result {
            let message = format!("{what}: {error}; restart the worker, and report this with its log");
            if let Err(SourceEvent::Fault(fault)) =
                self.membership.send(SourceEvent::Fault(Error::Setup { message }), Instant::now() + REQUEST_TIMEOUT)
            {
                tracing::error!(error = %fault, "Kafka");
            }
        }
    }
}

impl ConsumerContext for GroupContext {
    /// Calls assign or unassign exactly once, whatever happens on the way: librdkafka waits for it.
    fn rebalance(&self, consumer: &GroupConsumer, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let assigned = self.resolve(consumer, partitions);
            let result = if cooperative { consumer.incremental_assign(&assigned) } else { consumer.assign(&assigned) };
            tracing::info!(given = partitions.count(), assigned = assigned.count(), "partitions came");
            if result.is_err() {
                self.close(&sources_of(&assigned));
            }
            self.report("partitions can't be assigned", result);
        } else {
            let read = self.release(consumer, partitions);
            tracing::info!(partitions = partitions.count(), "partitions went");
            self.report(
                "partitions can't be released",
                if cooperative { consumer.incremental_unassign(&read) } else { consumer.unassign() },
            );
        }
    }
}

impl ClientContext for GroupContext {
    fn stats(&self, statistics: Statistics) {
        let event = SourceEvent::Statistics(LagStatistics::of(&statistics, |source| self.membership.owns(source)));
        // The next one comes in a few seconds: a full queue may drop this one.
        self.membership.send(event, Instant::now()).ok();
    }

    /// The polling thread and the readers get the same error as a result, and settle it there.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "librdkafka");
    }
}

/// What the group has committed, and what the log holds.
fn committed(consumer: &GroupConsumer, sources: &[TopicPartition]) -> KafkaResult<Vec<CommittedPartition>> {
    let mut asked = TopicPartitionList::with_capacity(sources.len());
    for source in sources {
        asked.add_partition(&source.topic, source.partition);
    }
    let answered = consumer.committed_offsets(asked, REQUEST_TIMEOUT)?;
    let mut partitions = Vec::with_capacity(sources.len());
    for source in sources {
        let elem = answered.find_partition(&source.topic, source.partition);
        if let Some(elem) = &elem {
            elem.error()?;
        }
        let committed = match elem.map(|elem| elem.offset()) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        };
        let (low, high) = consumer.fetch_watermarks(&source.topic, source.partition, REQUEST_TIMEOUT)?;
        partitions.push(CommittedPartition { source: source.clone(), committed, low, high });
    }
    Ok(partitions)
}

fn sources_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|elem| TopicPartition::new(elem.topic(), elem.partition())).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
