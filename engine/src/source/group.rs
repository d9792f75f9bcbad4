//! The consumer group's side: partitions come and go. A callback of librdkafka waits here, with a deadline, for whoever reads them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
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
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::client::REQUEST_TIMEOUT;
use super::fault::{Meaning, meaning_later};
use super::kafka::{CommittedPartition, LagStatistics, Reply, SourceEvent, StartAt};
use super::reader::Slot;
use super::{Error, TopicPartition};
use crate::config::Settings;

pub(crate) type GroupConsumer = BaseConsumer<GroupContext>;
type KafkaSlot = Slot<PartitionQueue<GroupContext>>;
/// `None`: the partition is no longer this worker's.
type ReadAnswer = Result<Option<Arc<KafkaSlot>>, Error>;

/// Between two looks at a full event queue.
const PAUSE: Duration = Duration::from_millis(10);

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
    /// Where reading is to begin, until the polling thread looks.
    reads: Mutex<VecDeque<(StartAt, oneshot::Sender<ReadAnswer>)>>,
    pub(super) stopping: AtomicBool,
    /// Whether a broker has ever taken this client.
    pub(super) was_connected: AtomicBool,
    /// Whether the group's coordinator was not to be reached when librdkafka last told.
    pub(super) coordinator_away: AtomicBool,
    /// Partitions came and the worker did not hear of them in time: leave the group and join again.
    pub(super) rejoin: AtomicBool,
    started: Instant,
    last_poll_ms: AtomicU64,
    /// How long the callback waits for room in the event queue. Half of `max.poll.interval.ms`, so that the member is not thrown out while it waits.
    assign_timeout: Duration,
    /// How long it waits for lanes to settle and commit.
    pub(super) drain_timeout: Duration,
}

impl Membership {
    pub(super) fn new(events: mpsc::Sender<SourceEvent>, settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            consumer: OnceLock::new(),
            owned: Mutex::default(),
            slots: Mutex::default(),
            events: Mutex::new(Some(events)),
            reads: Mutex::default(),
            stopping: AtomicBool::new(false),
            was_connected: AtomicBool::new(false),
            coordinator_away: AtomicBool::new(false),
            rejoin: AtomicBool::new(false),
            started: Instant::now(),
            last_poll_ms: AtomicU64::new(0),
            assign_timeout: settings.kafka.max_poll_interval / 2,
            drain_timeout: settings.drain_limit(),
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
            std::thread::sleep(PAUSE);
        }
    }

    /// What the group has committed, and what the log holds. Blocks for a few request time-outs at most.
    pub(super) fn look(&self, source: &TopicPartition) -> Result<Option<CommittedPartition>, Error> {
        let Some(consumer) = self.consumer().filter(|_| self.owns(source)) else { return Ok(None) };
        let away = |error: KafkaError| unanswered(source, &error);
        let mut asked = TopicPartitionList::with_capacity(1);
        asked.add_partition(&source.topic, source.partition);
        let answered = consumer.committed_offsets(asked, REQUEST_TIMEOUT).map_err(away)?;
        let elem = answered.find_partition(&source.topic, source.partition);
        if let Some(elem) = &elem {
            elem.error().map_err(away)?;
        }
        let committed = match elem.map(|elem| elem.offset()) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        };
        let (low, high) = consumer.fetch_watermarks(&source.topic, source.partition, REQUEST_TIMEOUT).map_err(away)?;
        Ok(Some(CommittedPartition { source: source.clone(), committed, low, high }))
    }

    /// Leaves a wish for the polling thread, which alone assigns.
    pub(super) fn ask_to_read(&self, start: StartAt) -> oneshot::Receiver<ReadAnswer> {
        let (answer, answered) = oneshot::channel();
        // After the thread's end nobody would answer: dropped, the sender says so.
        if locked(&self.events).is_some() {
            locked(&self.reads).push_back((start, answer));
        }
        answered
    }

    /// Whether somebody waits for a partition to be read.
    pub(super) fn has_wishes(&self) -> bool {
        !locked(&self.reads).is_empty()
    }

    /// Fulfils one wish. A partition that is read already is taken out first: librdkafka then drops what it had fetched of it.
    pub(super) fn serve_read(&self, consumer: &Arc<GroupConsumer>) {
        let wish = locked(&self.reads).pop_front();
        if let Some((start, answer)) = wish.filter(|(_, answer)| !answer.is_closed()) {
            // Nobody waits any more: the partition went meanwhile, and is not read.
            answer.send(self.begin(consumer, &start)).ok();
        }
    }

    /// Ends all readers and tells that all partitions go, which stay this member's until the group has taken them. Returns where it is answered
    /// when all is settled and committed; `None` where there is nothing to wait for.
    pub(super) fn give_up_all(&self, deadline: Instant) -> Option<std_mpsc::Receiver<()>> {
        let partitions: Vec<TopicPartition> = locked(&self.owned).iter().cloned().collect();
        if partitions.is_empty() {
            return None;
        }
        locked(&self.slots).values().for_each(|slot| slot.close());
        let (done, answer) = Reply::channel();
        self.send(SourceEvent::Revoked { partitions, lost: false, done }, deadline).ok().map(|()| answer)
    }

    fn begin(&self, consumer: &Arc<GroupConsumer>, start: &StartAt) -> ReadAnswer {
        let StartAt { source, offset } = start;
        if !self.owns(source) || self.stopping.load(Ordering::Acquire) {
            return Ok(None);
        }
        let setup = |what: &str, error: KafkaError| Error::Setup {
            message: format!("{source} {what}: {error}; restart the worker, and report this with its log"),
        };
        let read_before = locked(&self.slots).remove(source);
        if let Some(slot) = read_before {
            slot.close();
            let mut one = TopicPartitionList::with_capacity(1);
            one.add_partition(&source.topic, source.partition);
            consumer.incremental_unassign(&one).map_err(|error| setup("can't be read anew", error))?;
        }
        // The queue is split off before anything is fetched, so that no record ever lands on the main queue.
        let queue = consumer.split_partition_queue(&source.topic, source.partition);
        let queue = queue.ok_or_else(|| Error::Away { message: format!("{source} has no queue yet") })?;
        let slot = Slot::of_kafka(source.clone(), queue);
        let mut one = TopicPartitionList::with_capacity(1);
        one.add_partition_offset(&source.topic, source.partition, Offset::Offset(*offset))
            .map_err(|error| setup("has no such offset", error))?;
        if let Err(error) = consumer.incremental_assign(&one) {
            slot.close();
            return Err(setup("can't be assigned", error));
        }
        locked(&self.slots).insert(source.clone(), Arc::clone(&slot));
        Ok(Some(slot))
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
        locked(&self.reads).clear();
    }
}

/// Why a question about a partition has no answer. What a code says of positions, or of the membership, counts for nothing here: the
/// rebalance takes away what is another's.
fn unanswered(source: &TopicPartition, error: &KafkaError) -> Error {
    match error.rdkafka_error_code().map_or(Meaning::Away, meaning_later) {
        Meaning::Setup(remedy) => Error::Setup { message: format!("{source}: {error}; {remedy}") },
        Meaning::Away | Meaning::OffsetLost | Meaning::Lost | Meaning::TooLarge => Error::Away { message: format!("{source}: {error}") },
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

    /// Partitions come. Nothing of them is read before the worker says from where.
    fn take(&self, given: &TopicPartitionList) {
        let partitions = sources_of(given);
        self.membership.was_connected.store(true, Ordering::Release);
        if self.membership.stopping.load(Ordering::Acquire) {
            return;
        }
        locked(&self.membership.owned).extend(partitions.iter().cloned());
        let deadline = Instant::now() + self.membership.assign_timeout;
        if self.membership.send(SourceEvent::Assigned { partitions }, deadline).is_err() {
            tracing::error!(
                "the worker did not hear of its partitions within half of max.poll.interval.ms; leaving the group and joining again"
            );
            self.membership.rejoin.store(true, Ordering::Release);
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
            if answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) == Err(std_mpsc::RecvTimeoutError::Timeout) {
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
            self.take(partitions);
            let none = TopicPartitionList::new();
            let result = if cooperative { consumer.incremental_assign(&none) } else { consumer.assign(&none) };
            tracing::info!(partitions = partitions.count(), "partitions came");
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
        let lag = LagStatistics::of(&statistics, |source| self.membership.owns(source));
        if lag.connected {
            self.membership.was_connected.store(true, Ordering::Release);
        }
        let is_up = statistics.cgrp.as_ref().is_some_and(|group| group.state == "up");
        self.membership.coordinator_away.store(!is_up, Ordering::Release);
        let event = SourceEvent::Statistics(lag);
        // The next one comes in a few seconds: a full queue may drop this one.
        self.membership.send(event, Instant::now()).ok();
    }

    /// The polling thread and the readers get the same error as a result, and settle it there.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "librdkafka");
    }
}

fn sources_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|elem| TopicPartition::new(elem.topic(), elem.partition())).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
