//! The consumer group's member: one thread polls librdkafka's main queue for what is no record: partitions that come and go, errors,
//! statistics. Records come through [`super::Reader`]s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::{Broker, Partition, Statistics};
use tokio::sync::mpsc;

use super::fault::{Meaning, meaning, meaning_later};
use super::group::{GroupConsumer, GroupContext, Membership};
use super::{Error, PartitionReader, Source, TopicPartition, client, native};
use crate::commit::{Commits, KafkaCommits};
use crate::config::Settings;

const POLL: Duration = Duration::from_millis(100);

/// The same while something is waited for.
const SHORT_POLL: Duration = Duration::from_millis(10);

/// The same error is told once in this time.
const QUIET: Duration = Duration::from_secs(10);

/// `fetch.wait.max.ms` is half a second unless the configuration passes another one.
const BROKER_SILENCE: Duration = Duration::from_secs(5);

/// What the group's member tells. The channel closes when the member has left the group and its thread has ended.
#[derive(Debug)]
pub enum SourceEvent {
    /// Partitions come. Nothing is read of them before [`Source::read`] says from where: one that has to wait for a store, or is halted,
    /// holds up no other, and stays this worker's.
    Assigned {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// Partitions go; their readers have ended. Until the answer, at most `drain_timeout`, their offsets may still be committed.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Someone else may have them already: nothing may be committed any more.
        lost: bool,
        /// Answered when all is settled and committed.
        done: Reply<()>,
    },
    /// [`Error::Away`] mends itself; anything else needs the operator.
    Fault(Error),
    /// Every few seconds.
    Statistics(LagStatistics),
}

/// A partition that was given to this worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedPartition {
    /// Which.
    pub source: TopicPartition,
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// First offset of the log.
    pub low: i64,
    /// The offset behind the log's last record.
    pub high: i64,
}

/// Where a partition is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartAt {
    /// Which.
    pub source: TopicPartition,
    /// The first offset that is read.
    pub offset: i64,
}

/// How far behind the member is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagStatistics {
    /// Whether a broker has answered a moment ago.
    pub connected: bool,
    /// Whether the group knows this worker as a member, with or without partitions.
    pub joined: bool,
    /// The partitions that this worker has.
    pub partitions: Vec<PartitionLag>,
}

/// How far behind a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// Which.
    pub source: TopicPartition,
    /// The offset behind the log's last record, once something was fetched.
    pub high: Option<i64>,
    /// The group's committed offset, once one was committed by this worker.
    pub committed: Option<i64>,
    /// Records between the two.
    pub lag: Option<i64>,
    /// Set where nothing is left to read.
    pub idle: Option<Idle>,
}

/// A partition of which all was handed to its reader, as far as its broker said at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// The offset behind the last record that the reader was given; negative before the first.
    pub read: i64,
    /// Where the next record will stand: behind `read` there may be a transaction's markers, which are no records.
    pub end: i64,
    /// When that was so, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl LagStatistics {
    pub(super) fn of(statistics: &Statistics, owned: impl Fn(&TopicPartition) -> bool) -> Self {
        let offset = |offset: i64| (offset >= 0).then_some(offset);
        let mut partitions = Vec::new();
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values() {
                let source = TopicPartition::new(topic.topic.as_str(), partition.partition);
                if owned(&source) {
                    let (high, committed) = (offset(partition.hi_offset), offset(partition.committed_offset));
                    let lag = high.zip(committed).map(|(high, committed)| (high - committed).max(0));
                    let idle = idle(statistics, partition);
                    partitions.push(PartitionLag { source, high, committed, lag, idle });
                }
            }
        }
        partitions.sort_by(|a, b| a.source.cmp(&b.source));
        let joined = statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.join_state == "steady");
        Self { connected: statistics.brokers.values().any(answers), joined, partitions }
    }
}

/// A broker at whose log's end the consumer waits answers each half second, the group's coordinator each three: one that is silent for longer
/// says nothing of the log.
fn answers(broker: &Broker) -> bool {
    broker.state == "UP" && u128::try_from(broker.rxidle).is_ok_and(|idle| idle < BROKER_SILENCE.as_micros())
}

fn idle(statistics: &Statistics, partition: &Partition) -> Option<Idle> {
    let broker = statistics.brokers.values().find(|broker| broker.nodeid == partition.broker)?;
    let reads_all = partition.fetch_state == "active"
        && partition.fetchq_cnt == 0
        && partition.ls_offset >= 0
        && partition.next_offset >= partition.ls_offset;
    let at_ms = statistics.time.saturating_mul(1000);
    (answers(broker) && reads_all).then_some(Idle { read: partition.app_offset, end: partition.next_offset, at_ms })
}

/// An answer that a callback waits for. Dropped: there is none.
#[derive(Debug)]
pub struct Reply<T>(std_mpsc::SyncSender<T>);

impl<T> Reply<T> {
    /// A reply and where it arrives.
    pub fn channel() -> (Self, std_mpsc::Receiver<T>) {
        let (sender, receiver) = std_mpsc::sync_channel(1);
        (Self(sender), receiver)
    }

    /// Answers. Whether the one who asked was still waiting makes no difference here.
    pub fn send(self, answer: T) {
        self.0.try_send(answer).ok();
    }
}

/// The worker's membership in the consumer group.
pub struct KafkaSource {
    membership: Arc<Membership>,
}

impl KafkaSource {
    /// Joins the group for the topics of all routes and those passed over. Events must be received until the channel closes.
    pub fn start(settings: &Settings, events: mpsc::Sender<SourceEvent>) -> Result<Arc<Self>, Error> {
        let membership = Membership::new(events, settings);
        let setup = |error: KafkaError| Error::Setup { message: format!("{error}; check [kafka] in the configuration") };
        let context = GroupContext::new(Arc::clone(&membership));
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&client::consumer(settings), context).map_err(setup)?);
        membership.consumer.get_or_init(|| Arc::downgrade(&consumer));
        let topics: Vec<String> =
            settings.routes.iter().map(|route| route.topic.clone()).chain(settings.passed_over_topics.iter().cloned()).collect();
        subscribe(&consumer, &topics).map_err(setup)?;
        let member = Member { consumer, membership: Arc::clone(&membership), topics, last_fault: None };
        let thread = std::thread::Builder::new().name("source".to_owned());
        thread
            .spawn(move || member.run())
            .map_err(|error| Error::Setup { message: format!("no thread for the Kafka consumer: {error}") })?;
        Ok(Arc::new(Self { membership }))
    }
}

impl Source for KafkaSource {
    fn look<'a>(&'a self, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<CommittedPartition>, Error>> {
        let (membership, source) = (Arc::clone(&self.membership), source.clone());
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || membership.look(&source));
            looked.await.unwrap_or_else(|error| Err(Error::Away { message: format!("the question's thread ended: {error}") }))
        })
    }

    fn read(&self, start: StartAt) -> BoxFuture<'_, Result<Option<Box<dyn PartitionReader>>, Error>> {
        let answer = self.membership.ask_to_read(start);
        Box::pin(async move {
            // Dropped unanswered: the thread has ended, and the membership with it.
            let Ok(slot) = answer.await else { return Ok(None) };
            Ok(slot?.and_then(|slot| slot.reader()).map(|reader| Box::new(reader) as Box<dyn PartitionReader>))
        })
    }

    fn commits(&self) -> Arc<dyn Commits> {
        Arc::new(KafkaCommits::new(Arc::clone(&self.membership)))
    }

    fn last_poll_age(&self) -> Duration {
        self.membership.last_poll_age()
    }

    fn stop(&self) {
        self.membership.stopping.store(true, Ordering::Release);
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The polling thread's own.
struct Member {
    consumer: Arc<GroupConsumer>,
    membership: Arc<Membership>,
    topics: Vec<String>,
    last_fault: Option<(Option<RDKafkaErrorCode>, Instant)>,
}

impl Member {
    fn run(mut self) {
        while !self.membership.stopping.load(Ordering::Acquire) {
            self.poll(if self.membership.has_wishes() { Duration::ZERO } else { POLL });
            // On this thread, and one after a poll: a partition that goes by now was hardly given up unheard.
            self.membership.serve_read(&self.consumer);
            if self.membership.rejoin.swap(false, Ordering::AcqRel) {
                self.leave();
                if let Err(error) = subscribe(&self.consumer, &self.topics) {
                    self.tell(Error::Setup { message: format!("the group can't be joined again: {error}; restart the worker") });
                }
            }
        }
        self.leave();
        let Self { consumer, membership, .. } = self;
        // The readers' queues hold the consumer too: they go first, so that its last reference, and its close, are here.
        membership.close_readers();
        drop(consumer);
        membership.end();
    }

    fn poll(&mut self, wait: Duration) {
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(wait) {
            None => {}
            Some(Ok(message)) => self.stray(&message),
            Some(Err(error)) => self.fault(&error),
        }
        self.membership.polled();
    }

    /// Leaves the group, and waits until the coordinator was asked to let this member go. librdkafka does not ask any more once its close has
    /// begun, and the group then waits for the session's end.
    fn leave(&mut self) {
        self.drain();
        // Without a coordinator librdkafka leaves by itself, and nobody hears of it.
        let away =
            |member: &Self| member.membership.coordinator_away.load(Ordering::Acquire) && !native::has_left(member.consumer.client());
        self.poll_until(Instant::now() + client::REQUEST_TIMEOUT, |member| !away(member));
        // What is assigned is revoked by the same callback as in a rebalance; nothing is left to wait for there.
        self.consumer.unsubscribe();
        let gone = |member: &Self| member.membership.owns_nothing() && native::has_left(member.consumer.client());
        self.poll_until(Instant::now() + client::REQUEST_TIMEOUT, gone);
    }

    /// Settles and commits while the group still hears from this member: one that has unsubscribed sends no heartbeats, and during a rebalance
    /// librdkafka puts the unsubscription off.
    fn drain(&mut self) {
        let deadline = Instant::now() + self.membership.drain_timeout;
        let Some(answer) = self.membership.give_up_all(deadline) else { return };
        // A dropped reply means that nobody settles anything any more: the same as done.
        self.poll_until(deadline, |_| answer.try_recv() != Err(std_mpsc::TryRecvError::Empty));
    }

    fn poll_until(&mut self, deadline: Instant, holds: impl Fn(&Self) -> bool) {
        while !holds(self) && Instant::now() < deadline {
            self.poll(SHORT_POLL);
        }
    }

    /// Every partition's queue is split off before it is assigned: a record here is a fault of this program, and must not be lost silently.
    fn stray(&self, message: &BorrowedMessage<'_>) {
        let source = TopicPartition::new(message.topic(), message.partition());
        let text = format!(
            "{source}: the record at offset {} came outside of the partition's queue; restart the worker, and report this",
            message.offset()
        );
        if let Some(slot) = self.membership.slot(&source) {
            slot.fail(text.clone());
        }
        self.tell(Error::Setup { message: text });
    }

    fn fault(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let repeated = self.last_fault.is_some_and(|(last, at)| last == code && at.elapsed() < QUIET);
        if matches!(error, KafkaError::PartitionEOF(_)) || (repeated && !fatal) {
            return;
        }
        self.last_fault = Some((code, Instant::now()));
        self.tell(classify(error, code, fatal, self.membership.was_connected.load(Ordering::Acquire)));
    }

    fn tell(&self, fault: Error) {
        // What mends itself may go untold where the receiver is behind; what does not waits for room.
        let patience = if matches!(fault, Error::Away { .. }) { Duration::ZERO } else { client::REQUEST_TIMEOUT };
        if let Err(SourceEvent::Fault(fault)) = self.membership.send(SourceEvent::Fault(fault), Instant::now() + patience) {
            tracing::warn!(error = %fault, "Kafka");
        }
    }
}

fn subscribe(consumer: &GroupConsumer, topics: &[String]) -> Result<(), KafkaError> {
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())
}

fn classify(error: &KafkaError, code: Option<RDKafkaErrorCode>, fatal: bool, was_connected: bool) -> Error {
    if let Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) = code {
        return Error::Away {
            message: format!("{error}: a topic of a route does not exist yet; it appears with the first change of its table"),
        };
    }
    let meaning = if was_connected { meaning_later } else { meaning };
    let remedy = match code.map_or(Meaning::Away, meaning) {
        Meaning::Setup(remedy) => remedy,
        Meaning::Away | Meaning::OffsetLost | Meaning::Lost | Meaning::TooLarge if fatal => "restart the worker",
        Meaning::Away | Meaning::OffsetLost | Meaning::Lost | Meaning::TooLarge => return Error::Away { message: error.to_string() },
    };
    Error::Setup { message: format!("{error}; {remedy}") }
}
