//! The consumer group: a coordinator that gives partitions to members and takes them back, and the member in each worker's process.
//!
//! The coordinator throws out whom it has not heard of for a session. A member that was thrown out learns of it when it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use streamsync::commit::{self, Commits};
use streamsync::source::{
    CommittedPartition, Error, Fetched, Idle, LagStatistics, PartitionLag, PartitionReader, Queue, RecordBatch, Reply, Slot, Source,
    SourceEvent, StartAt, TopicPartition,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::kafka::Record;
use crate::process::Process;
use crate::setting::DRAIN_TIMEOUT;
use crate::world::{World, locked};

const SESSION: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(500);
/// librdkafka's statistics.
const STATISTICS: Duration = Duration::from_secs(5);

/// What the coordinator wants of a member.
enum Order {
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>, oneshot::Sender<()>),
    /// It was thrown out while it was silent.
    Lost,
}

struct Enlisted {
    orders: mpsc::Sender<Order>,
    process: Arc<Process>,
}

/// The coordinator's memory.
#[derive(Default)]
pub struct Group {
    members: BTreeMap<u64, Enlisted>,
    owners: BTreeMap<TopicPartition, u64>,
    next_member: u64,
}

impl Group {
    pub fn owner(&self, source: &TopicPartition) -> Option<u64> {
        self.owners.get(source).copied()
    }

    fn remove(&mut self, member: u64) -> Option<Enlisted> {
        self.owners.retain(|_, owner| *owner != member);
        self.members.remove(&member)
    }
}

impl World {
    /// The coordinator. Ends with the history.
    pub async fn coordinate(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.expel();
            self.balance().await;
        }
    }

    fn expel(&self) {
        let mut group = locked(&self.group);
        let silent: Vec<u64> = group.members.iter().filter(|(_, member)| member.process.silence() >= SESSION).map(|(id, _)| *id).collect();
        for id in silent {
            if let Some(member) = group.remove(id) {
                // A dead member hears nothing.
                member.orders.try_send(Order::Lost).ok();
            }
        }
    }

    /// Cooperatively: only what must move is taken away, and given on when it is free.
    async fn balance(&self) {
        let sources = locked(&self.kafka).sources();
        let moves = self.moves(&sources);
        for (member, orders, sources) in moves {
            let (done, freed) = oneshot::channel();
            if orders.send(Order::Revoke(sources.clone(), done)).await.is_ok() && tokio::time::timeout(SESSION, freed).await.is_ok() {
                locked(&self.group).owners.retain(|source, owner| *owner != member || !sources.contains(source));
            } else if let Some(member) = locked(&self.group).remove(member) {
                member.orders.try_send(Order::Lost).ok();
            }
        }
        let mut given: BTreeMap<u64, Vec<TopicPartition>> = BTreeMap::new();
        {
            let mut group = locked(&self.group);
            for source in sources {
                if group.owners.contains_key(&source) {
                    continue;
                }
                let load = |group: &Group, id: u64| group.owners.values().filter(|owner| **owner == id).count();
                let least = group.members.iter().filter(|(_, m)| m.process.silence() == Duration::ZERO).map(|(id, _)| *id);
                if let Some(member) = least.min_by_key(|id| load(&group, *id)) {
                    group.owners.insert(source.clone(), member);
                    given.entry(member).or_default().push(source);
                }
            }
        }
        for (member, sources) in given {
            let orders = locked(&self.group).members.get(&member).map(|member| member.orders.clone());
            if let Some(orders) = orders {
                orders.try_send(Order::Assign(sources)).ok();
            }
        }
    }

    /// What members hold beyond their share.
    fn moves(&self, sources: &[TopicPartition]) -> Vec<(u64, mpsc::Sender<Order>, Vec<TopicPartition>)> {
        let group = locked(&self.group);
        let heard: Vec<u64> = group.members.iter().filter(|(_, m)| m.process.silence() == Duration::ZERO).map(|(id, _)| *id).collect();
        let share = sources.len().div_ceil(heard.len().max(1));
        let beyond = |id: &u64| {
            let held: Vec<_> =
                group.owners.iter().filter(|(_, owner)| *owner == id).map(|(source, _)| source.clone()).skip(share).collect();
            let orders = group.members.get(id)?.orders.clone();
            (!held.is_empty()).then_some((*id, orders, held))
        };
        heard.iter().filter_map(beyond).collect()
    }

    /// A member comes, or comes again.
    fn join(&self, member: &Member, orders: mpsc::Sender<Order>) {
        let mut group = locked(&self.group);
        group.next_member += 1;
        let id = group.next_member;
        member.id.store(id, Ordering::Relaxed);
        group.members.insert(id, Enlisted { orders, process: Arc::clone(&member.process) });
    }

    fn leave(&self, member: &Member) {
        locked(&self.group).remove(member.id.load(Ordering::Relaxed));
    }
}

type SimulatedSlot = Arc<Slot<LogQueue>>;

/// A worker's membership: what `KafkaSource` is in production.
pub struct Member {
    world: Arc<World>,
    process: Arc<Process>,
    id: AtomicU64,
    owned: Mutex<BTreeSet<TopicPartition>>,
    slots: Mutex<BTreeMap<TopicPartition, (SimulatedSlot, Place)>>,
    stopping: AtomicBool,
    stop: Notify,
}

/// Where an assignment reads; shared with its queue.
#[derive(Clone, Debug)]
struct Place {
    next_offset: Arc<Mutex<i64>>,
    is_current: Arc<AtomicBool>,
    filled: Arc<Notify>,
}

impl Member {
    pub fn start(world: &Arc<World>, process: &Arc<Process>, events: mpsc::Sender<SourceEvent>) -> Arc<Self> {
        let member = Arc::new(Self {
            world: Arc::clone(world),
            process: Arc::clone(process),
            id: AtomicU64::new(0),
            owned: Mutex::default(),
            slots: Mutex::default(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        });
        let running = Arc::clone(&member);
        let process = Arc::clone(process);
        world.spawn(async move {
            tokio::select! { biased; () = process.dead() => {} () = running.run(events) => {} }
        });
        member
    }

    async fn run(&self, events: mpsc::Sender<SourceEvent>) {
        let (sender, mut orders) = mpsc::channel(16);
        self.world.join(self, sender.clone());
        let mut next_statistics = Instant::now() + STATISTICS;
        loop {
            let order = tokio::select! {
                biased;
                () = self.stop.notified() => None,
                order = orders.recv() => order,
                () = tokio::time::sleep_until(next_statistics) => {
                    next_statistics += STATISTICS;
                    let statistics = SourceEvent::Statistics(self.statistics());
                    // One that is paused here tells later what was so before.
                    self.process.running().await;
                    events.try_send(statistics).ok();
                    continue;
                }
            };
            self.process.running().await;
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            self.process.begin_callback();
            match order {
                Some(Order::Assign(partitions)) => {
                    self.world.tell(|| format!("member {} gets {partitions:?}", self.id.load(Ordering::Relaxed)));
                    locked(&self.owned).extend(partitions.iter().cloned());
                    // Whoever should hear of it may be gone.
                    events.send(SourceEvent::Assigned { partitions }).await.ok();
                }
                Some(Order::Revoke(sources, done)) => {
                    self.release(sources, false, &events).await;
                    done.send(()).ok();
                }
                Some(Order::Lost) => {
                    self.world.tell(|| format!("member {} was thrown out", self.id.load(Ordering::Relaxed)));
                    self.release(self.all(), true, &events).await;
                    self.world.join(self, sender.clone());
                }
                None => {}
            }
            self.process.end_callback();
        }
        self.release(self.all(), false, &events).await;
        self.world.leave(self);
    }

    /// Of each partition that is read: whether its reader was given all that the log has.
    fn statistics(&self) -> LagStatistics {
        let at_ms = self.world.now_ms();
        let kafka = locked(&self.world.kafka);
        let of_slot = |(source, (_, place)): (&TopicPartition, &(SimulatedSlot, Place))| {
            let read = *locked(&place.next_offset);
            let idle = kafka.next_record(source, read).is_none().then(|| Idle { read, end: kafka.high(source), at_ms });
            PartitionLag { source: source.clone(), high: None, committed: None, lag: None, idle }
        };
        LagStatistics { connected: true, joined: true, partitions: locked(&self.slots).iter().map(of_slot).collect() }
    }

    fn all(&self) -> Vec<TopicPartition> {
        locked(&self.owned).iter().cloned().collect()
    }

    /// Reads a partition from an offset on; an earlier reader of it ends.
    fn begin(&self, start: &StartAt) -> Option<Box<dyn PartitionReader>> {
        let StartAt { source, offset } = start;
        if !locked(&self.owned).contains(source) || self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        self.close(source);
        let place =
            Place { next_offset: Arc::new(Mutex::new(*offset)), is_current: Arc::new(AtomicBool::new(true)), filled: Arc::default() };
        let queue = LogQueue { world: Arc::clone(&self.world), process: Arc::clone(&self.process), place: place.clone() };
        let slot = Slot::new(source.clone(), queue, Arc::clone(&place.filled));
        let reader = slot.reader()?;
        if let Some(partition) = locked(&self.world.kafka).partition(source) {
            partition.grown.push(Arc::clone(&place.filled));
        }
        locked(&self.slots).insert(source.clone(), (slot, place));
        Some(Box::new(reader))
    }

    fn close(&self, source: &TopicPartition) {
        let slot = locked(&self.slots).remove(source);
        if let Some((slot, place)) = slot {
            place.is_current.store(false, Ordering::Relaxed);
            slot.close();
        }
    }

    /// `None`: no answer in time; `Some(None)`: whoever should answer is gone.
    async fn answer<T>(&self, answer: std::sync::mpsc::Receiver<T>, patience: Duration) -> Option<Option<T>> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(Some(answer)),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Some(None),
                Err(std::sync::mpsc::TryRecvError::Empty) if Instant::now() >= deadline => return None,
                Err(std::sync::mpsc::TryRecvError::Empty) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    async fn release(&self, sources: Vec<TopicPartition>, lost: bool, events: &mpsc::Sender<SourceEvent>) {
        for source in &sources {
            self.close(source);
        }
        if lost {
            locked(&self.owned).retain(|source| !sources.contains(source));
        }
        let (done, answer) = Reply::channel();
        if !sources.is_empty() && events.send(SourceEvent::Revoked { partitions: sources.clone(), lost, done }).await.is_ok() {
            self.answer(answer, DRAIN_TIMEOUT).await;
        }
        locked(&self.owned).retain(|source| !sources.contains(source));
    }
}

/// The engine's side of a membership.
pub struct Membership(pub Arc<Member>);

impl Source for Membership {
    fn look<'a>(&'a self, source: &'a TopicPartition) -> BoxFuture<'a, Result<Option<CommittedPartition>, Error>> {
        async move {
            self.0.process.running().await;
            let storm = self.0.world.broker_storm();
            if locked(&self.0.world.dice).permille(storm) {
                return Err(Error::Away { message: "no coordinator".to_owned() });
            }
            if !locked(&self.0.owned).contains(source) {
                return Ok(None);
            }
            let kafka = locked(&self.0.world.kafka);
            let committed = kafka.committed.get(source).copied();
            Ok(Some(CommittedPartition { source: source.clone(), committed, low: 0, high: kafka.high(source) }))
        }
        .boxed()
    }

    fn read(&self, start: StartAt) -> BoxFuture<'_, Result<Option<Box<dyn PartitionReader>>, Error>> {
        async move {
            self.0.process.running().await;
            let (world, id) = (&self.0.world, self.0.id.load(Ordering::Relaxed));
            world.tell(|| format!("{} is read from {}", start.source, start.offset));
            // Who no longer owns it reads what it likes, and writes nothing that stays.
            if locked(&world.group).owner(&start.source) == Some(id)
                && let Err(costly) = locked(&world.kafka).begins(&start.source, start.offset, world.max_records)
            {
                world.violated(costly);
            }
            Ok(self.0.begin(&start))
        }
        .boxed()
    }

    fn commits(&self) -> Arc<dyn Commits> {
        Arc::new(GroupCommits(Arc::clone(&self.0)))
    }

    fn last_poll_age(&self) -> Duration {
        self.0.process.last_poll_age()
    }

    fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.stop.notify_one();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop();
    }
}

struct GroupCommits(Arc<Member>);

impl Commits for GroupCommits {
    fn commit<'a>(&'a self, source: &'a TopicPartition, next_offset: i64) -> BoxFuture<'a, Result<(), commit::Error>> {
        async move {
            let member = &self.0;
            let lost = || commit::Error::Lost { source_partition: source.clone() };
            let away = || commit::Error::Away { source_partition: source.clone(), message: "no coordinator".to_owned() };
            member.process.running().await;
            if !locked(&member.owned).contains(source) {
                return Err(lost());
            }
            let (before, after) = {
                let mut dice = locked(&member.world.dice);
                let storm = member.world.broker_storm();
                (dice.permille(storm), dice.permille(storm))
            };
            if before {
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Err(away());
            }
            // The broker knows whose the partition is.
            if locked(&member.world.group).owner(source) != Some(member.id.load(Ordering::Relaxed)) {
                member.world.tell(|| format!("{source}: a commit is refused"));
                return Err(lost());
            }
            member.world.take_commit(source, next_offset);
            if after { Err(away()) } else { Ok(()) }
        }
        .boxed()
    }
}

/// What librdkafka has fetched of a partition: here the log itself.
pub struct LogQueue {
    world: Arc<World>,
    process: Arc<Process>,
    place: Place,
}

pub struct Message(Record);

impl Queue for LogQueue {
    type Fetched<'a> = Message;

    fn poll(&self, source: &TopicPartition) -> Option<Result<Message, Error>> {
        if !self.process.is_running() {
            return None;
        }
        let mut next_offset = locked(&self.place.next_offset);
        let record = locked(&self.world.kafka).next_record(source, *next_offset)?;
        if !self.place.is_current.load(Ordering::Relaxed) {
            self.world.violated(format!("{source}: record {} was read in an assignment that had ended", record.offset));
        }
        *next_offset = record.offset + 1;
        Some(Ok(Message(record)))
    }
}

impl Fetched for Message {
    fn offset(&self) -> i64 {
        self.0.offset
    }

    fn payload_bytes(&self) -> usize {
        self.0.key_bytes.as_ref().map_or(0, Vec::len) + self.0.value.as_ref().map_or(0, Vec::len)
    }

    fn push(&self, batch: &mut RecordBatch) -> Option<()> {
        batch.push(self.0.offset, Some(self.0.written_at_ms), self.0.key_bytes.as_deref(), self.0.value.as_deref(), [])
    }
}
