//! What an operator does to a route while no worker reads it: begin a topic's next generation, and with it a rebuild of the stores.
//!
//! The control topic's identity is written last of what it keeps: a command that is interrupted before has begun nothing, and is given
//! again. The sinks' copies and the group's offsets follow; workers do without either.

use std::sync::Arc;

use crate::config::{RouteSettings, Settings};
use crate::fence::Generation;
use crate::identity::{self, Beginning, Entry, Identities, KafkaIdentities, Rebuild, TopicRecord};
use crate::sink::{self, Sink, TopicIdentity, Watermark};
use crate::source::cluster::{Cluster, TopicFacts};
use crate::source::outside::{GroupMember, Outside};
use crate::source::{self, CommittedPartition, Lookup};

/// Where a new generation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefillFrom {
    /// At the log's beginning.
    Beginning {
        /// The operator vouches that the log has every row, although its beginning is gone.
        accept_truncated_log: bool,
    },
    /// At the log's end: a snapshot that is taken afterwards brings every row.
    Snapshot,
}

/// What a rebuild does once the stores are refilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The operator vouches that the table is empty, so that nothing is to be left.
    pub accept_empty: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The configuration has no such route.
    #[error("there is no route {name}; the configuration has {}", known.join(", "))]
    UnknownRoute {
        /// As it was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It would do harm, or makes no sense as things are.
    #[error("{0}")]
    Refused(String),
    /// Kafka can't be asked.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The control topic can't be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A sink can't be asked.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// A panic, which none of the engine's own code should make.
    #[error("a defect in the engine stopped it while it asked Kafka; report this with the log")]
    Defect,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The new generation.
    pub generation: Generation,
    /// The first offset of each partition.
    pub begins: Vec<i64>,
    /// Where the refill of each partition ends, where that is known.
    pub ends: Option<Vec<i64>>,
    /// What could not be done and need not be; each tells what follows.
    pub notes: Vec<String>,
}

/// Everything that is known of a route's topic.
#[derive(Clone, Debug)]
pub struct Known {
    /// The route.
    pub route: Arc<RouteSettings>,
    /// The topic as Kafka has it.
    pub facts: TopicFacts,
    /// What the control topic has of it.
    pub record: TopicRecord,
    /// The group's offsets, and what the log holds.
    pub partitions: Vec<CommittedPartition>,
    /// Of each sink that the route writes to.
    pub sinks: Vec<KnownSink>,
}

/// What a sink has of a topic.
#[derive(Clone, Debug)]
pub struct KnownSink {
    /// Its name.
    pub name: String,
    /// Its copy of the topic's identity.
    pub identity: Option<TopicIdentity>,
    /// Its watermark of each partition.
    pub watermarks: Vec<Option<Watermark>>,
}

/// Carries out an operator's commands.
pub struct Operator {
    settings: Arc<Settings>,
    identities: Arc<dyn Identities>,
    sinks: Vec<Arc<dyn Sink>>,
}

impl Operator {
    /// Nothing connects before the first command.
    ///
    /// # Errors
    /// A configuration that no client can use.
    pub fn new(settings: Arc<Settings>) -> Result<Self, OperateError> {
        let (identities, sinks) = (Arc::new(KafkaIdentities::new(&settings)?), sink::build(&settings)?);
        Ok(Self { settings, identities, sinks })
    }

    /// The route of a name.
    ///
    /// # Errors
    /// [`OperateError::UnknownRoute`].
    pub fn route(&self, name: &str) -> Result<Arc<RouteSettings>, OperateError> {
        let found = self.settings.routes.iter().find(|route| route.name == name);
        found.map(Arc::clone).ok_or_else(|| OperateError::UnknownRoute {
            name: name.to_owned(),
            known: self.settings.routes.iter().map(|route| route.name.clone()).collect(),
        })
    }

    /// Asks everyone.
    ///
    /// # Errors
    /// Whoever does not answer.
    pub async fn known(&self, route: &Arc<RouteSettings>) -> Result<Known, OperateError> {
        let topics = [route.topic.clone()];
        let record = self.identities.load(&topics).await?.remove(&route.topic).unwrap_or_default();
        let (settings, topic) = (Arc::clone(&self.settings), route.topic.clone());
        let asked = blocking(move || {
            let facts = Cluster::new(&settings)?.facts(&topic)?;
            let partitions = Outside::new(&settings)?.partitions(&topic, facts.partitions)?;
            Ok((facts, partitions))
        });
        let (facts, partitions) = asked.await?;
        let mut sinks = Vec::new();
        for sink in route.sinks().into_iter().filter_map(|index| self.sinks.get(index)) {
            let mut watermarks = Vec::with_capacity(partitions.len());
            for partition in &partitions {
                watermarks.push(sink.watermark(&self.settings.kafka.group, &partition.source).await?);
            }
            sinks.push(KnownSink { name: sink.name().to_owned(), identity: sink.identity(&route.topic).await?, watermarks });
        }
        Ok(Known { route: Arc::clone(route), facts, record, partitions, sinks })
    }

    /// Begins the next generation of a route's topic as it is now; `rebuild`: the sinks are swept when it has refilled them, which ends a rebuild.
    ///
    /// # Errors
    /// [`OperateError::Refused`] while a worker reads the topic, where the log lacks its beginning, or where a sweep would leave nothing
    /// without being told that this is meant; and whoever does not answer.
    pub async fn begin(&self, route: &str, from: RefillFrom, rebuild: Option<Sweep>) -> Result<Begun, OperateError> {
        let route = self.route(route)?;
        self.refuse_members(&route).await?;
        let known = self.known(&route).await?;
        let generation = next_generation(&known, rebuild.is_some())?;
        let ends = self.ends(&known).await?;
        let split = split(&known);
        let begins = match from {
            RefillFrom::Snapshot => ends.clone(),
            RefillFrom::Beginning { accept_truncated_log } => {
                if let Some(split) = &split {
                    return Err(refused_split(&known, split));
                }
                refuse_truncated(&known, accept_truncated_log || self.settings.kafka.accept_truncated_log)?;
                let begins: Vec<i64> = known.partitions.iter().map(|partition| partition.low).collect();
                if rebuild.is_some_and(|sweep| !sweep.accept_empty) {
                    refuse_empty(&route, &begins, &ends)?;
                }
                begins
            }
        };
        let ends = (from != RefillFrom::Snapshot).then_some(ends);
        let begun_at_ms = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let beginning = Beginning { generation: generation.number(), offsets: begins.clone(), begun_at_ms, log_is_split: split.is_some() };
        self.identities.store(&route.topic, &Entry::Beginning(beginning)).await?;
        if rebuild.is_some() {
            let rebuild = Rebuild { generation: generation.number(), ends: ends.clone(), swept_at_ms: None };
            self.identities.store(&route.topic, &Entry::Rebuild(rebuild)).await?;
        }
        let identity = identity::of_topic(&known.facts, generation);
        self.identities.store(&route.topic, &Entry::Identity(identity.clone())).await?;
        let notes = self.follow(&route, &identity, &begins).await?;
        Ok(Begun { generation, begins, ends: ends.filter(|_| rebuild.is_some()), notes })
    }

    /// The snapshot of a rebuild is in the log: the refill ends where the log does now. Workers may run. Returns the ends.
    ///
    /// # Errors
    /// [`OperateError::Refused`] where no rebuild waits for that, or no record has come since it began and `accept_empty` does not say that this
    /// is meant.
    pub async fn snapshot_complete(&self, route: &str, accept_empty: bool) -> Result<Vec<i64>, OperateError> {
        let route = self.route(route)?;
        let known = self.known(&route).await?;
        let name = &route.name;
        let Some(open) = known.record.open_rebuild() else {
            return Err(OperateError::Refused(format!(
                "route {name} has no rebuild under way; `streamsync rebuild --route {name} --after-snapshot` begins one"
            )));
        };
        if let Some(ends) = &open.ends {
            return Err(OperateError::Refused(format!("the end of route {name}'s rebuild is known already: offsets {ends:?}")));
        }
        let ends = self.ends(&known).await?;
        if let Some(beginning) = known.record.beginnings.get(&open.generation).filter(|_| !accept_empty) {
            refuse_empty(&route, &beginning.offsets, &ends)?;
        }
        let rebuild = Rebuild { ends: Some(ends.clone()), ..open.clone() };
        self.identities.store(&route.topic, &Entry::Rebuild(rebuild)).await?;
        Ok(ends)
    }

    async fn members(&self, route: &RouteSettings) -> Result<Vec<GroupMember>, OperateError> {
        let settings = Arc::clone(&self.settings);
        let members = blocking(move || Outside::new(&settings)?.members()).await?;
        Ok(members.into_iter().filter(|member| member.reads(&route.topic)).collect())
    }

    /// A worker decides about generations when a partition comes to it. One that runs on would stay in the generation before.
    async fn refuse_members(&self, route: &RouteSettings) -> Result<(), OperateError> {
        let members = self.members(route).await?;
        if members.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = members.into_iter().map(|member| member.name).collect();
        Err(OperateError::Refused(format!(
            "group {} reads topic {} with {}: {}. Stop them, and start them again afterwards; a worker that was killed counts for up to 45 seconds",
            self.settings.kafka.group,
            route.topic,
            if names.len() == 1 { "a worker".to_owned() } else { format!("{} workers", names.len()) },
            names.join(", ")
        )))
    }

    async fn ends(&self, known: &Known) -> Result<Vec<i64>, OperateError> {
        let (settings, partitions) = (Arc::clone(&self.settings), known.partitions.clone());
        let ends = blocking(move || {
            let lookup = Lookup::new(&settings)?;
            partitions.iter().map(|partition| lookup.end_of_records(partition)).collect()
        });
        ends.await
    }

    /// What a worker would make good by itself: the sinks' copies of the identity, and the group's offsets.
    async fn follow(&self, route: &RouteSettings, identity: &TopicIdentity, begins: &[i64]) -> Result<Vec<String>, OperateError> {
        let mut notes = Vec::new();
        for sink in route.sinks().into_iter().filter_map(|index| self.sinks.get(index)) {
            if let Err(error) = sink.store_identity(&route.topic, identity).await {
                notes.push(format!("{error}; its copy of the topic's identity follows when a worker starts"));
            }
        }
        let (settings, topic, offsets) = (Arc::clone(&self.settings), route.topic.clone(), begins.to_vec());
        match blocking(move || Outside::new(&settings)?.commit(&topic, &offsets)).await {
            Ok(true) => {}
            Ok(false) => notes
                .push("the group has members of other topics: its offsets stay, and count for nothing in the new generation".to_owned()),
            Err(error) => notes.push(format!("the group's offsets stay, and count for nothing in the new generation: {error}")),
        }
        for member in self.members(route).await? {
            notes.push(format!("{} joined the group meanwhile: start it again, or it stays in the generation before", member.name));
        }
        Ok(notes)
    }
}

async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> Result<T, source::Error> + Send + 'static) -> Result<T, OperateError> {
    tokio::task::spawn_blocking(ask).await.map_err(|_| OperateError::Defect)?.map_err(OperateError::Source)
}

/// The one behind every generation of which anything is left anywhere. What is swept is what generations before have left, so that a rebuild
/// is never the first.
fn next_generation(known: &Known, rebuild: bool) -> Result<Generation, OperateError> {
    let identities = known.sinks.iter().map(|sink| &sink.identity).chain([&known.record.identity]).flatten();
    let watermarks = known.sinks.iter().flat_map(|sink| &sink.watermarks).flatten();
    let committed = known.partitions.iter().any(|partition| partition.committed.is_some());
    let latest = identities
        .map(|identity| identity.generation)
        .chain(watermarks.map(|watermark| watermark.generation.number()))
        .chain((committed || rebuild).then_some(Generation::FIRST.number()))
        // One whose command was interrupted has records, which are not another one's.
        .chain(known.record.beginnings.keys().copied())
        .max();
    let next = latest.map_or(Some(Generation::FIRST), |latest| Generation::new(latest.max(1)).and_then(Generation::next));
    next.ok_or_else(|| {
        OperateError::Refused("all generations are used: begin with empty stores, another control topic and another group".to_owned())
    })
}

/// Says why the log has versions of one key in two partitions: read in one generation, none of them is the newer one. That goes for the topic's whole
/// life.
fn split(known: &Known) -> Option<String> {
    let identities = known.sinks.iter().map(|sink| &sink.identity).chain([&known.record.identity]).flatten();
    let latest = identities.max_by_key(|identity| identity.generation)?;
    let was_split = known.record.beginnings.get(&latest.generation).is_some_and(|begun| begun.log_is_split);
    let once = || "its partitions have grown once".to_owned();
    identity::grown(latest, &known.facts).or_else(|| (was_split && identity::changed(latest, &known.facts).is_none()).then(once))
}

fn refused_split(known: &Known, split: &str) -> OperateError {
    let RouteSettings { name, topic, .. } = &*known.route;
    OperateError::Refused(format!(
        "topic {topic}: {split}, so that its log can't refill the stores. If a new snapshot can be taken: `streamsync rebuild --route {name} \
         --after-snapshot`, and --snapshot-complete when it is there"
    ))
}

fn refuse_truncated(known: &Known, accept: bool) -> Result<(), OperateError> {
    let truncated = known.partitions.iter().find(|partition| partition.low > 0);
    let Some(partition) = truncated.filter(|_| !accept && known.facts.cleanup_policy.delete) else { return Ok(()) };
    let name = &known.route.name;
    Err(OperateError::Refused(format!(
        "the log of {} begins at offset {}: rows of which it has no record would be lost. If a new snapshot can be taken: `streamsync rebuild \
         --route {name} --after-snapshot`; if the log has every row all the same, add --accept-truncated-log",
        partition.source, partition.low
    )))
}

/// A sweep after a refill of nothing removes every document that there is.
fn refuse_empty(route: &RouteSettings, begins: &[i64], ends: &[i64]) -> Result<(), OperateError> {
    if begins.iter().zip(ends).any(|(begin, end)| begin < end) {
        return Ok(());
    }
    let RouteSettings { name, topic, .. } = route;
    Err(OperateError::Refused(format!(
        "topic {topic} has no record with which the stores could be refilled: the rebuild would remove every document of route {name}. If a \
         snapshot is to come into it: `streamsync rebuild --route {name} --after-snapshot`, and --snapshot-complete when it is there; if the \
         table is empty, add --accept-empty"
    )))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::tests::one_route;
    use crate::source::TopicPartition;
    use crate::source::cluster::CleanupPolicy;

    fn known(identity: Option<u16>, mirrored: Option<u16>, watermark: Option<u16>, committed: Option<i64>, low: i64) -> Known {
        let (_directory, settings) = one_route(b"", "");
        let identity_of = |generation| TopicIdentity { cluster_id: "c".into(), topic_id: "t".into(), partitions: 1, generation };
        let mark = |generation| Watermark {
            generation: Generation::new(generation).expect("in range"),
            next_offset: 5,
            written_at_ms: 0,
            complete_until_ms: 0,
        };
        Known {
            route: Arc::clone(settings.routes.first().expect("one")),
            facts: TopicFacts {
                cluster_id: "c".into(),
                topic_id: "t".into(),
                partitions: 1,
                cleanup_policy: CleanupPolicy::DELETE,
                delete_retention_ms: None,
            },
            record: TopicRecord { identity: identity.map(identity_of), ..TopicRecord::default() },
            partitions: vec![CommittedPartition { source: TopicPartition::new("shop.t", 0), committed, low, high: 9 }],
            sinks: vec![KnownSink { name: "one".into(), identity: mirrored.map(identity_of), watermarks: vec![watermark.map(mark)] }],
        }
    }

    #[test]
    fn the_next_generation_is_behind_all_that_left_a_trace() {
        let check = |known: Known, expected: u16| assert_eq!(next_generation(&known, false).expect("there is one").number(), expected);
        check(known(None, None, None, None, 0), 1);
        check(known(None, None, None, Some(3), 0), 2);
        check(known(Some(1), None, None, None, 0), 2);
        check(known(Some(1), Some(4), Some(2), Some(3), 0), 5);
        check(known(None, None, Some(7), None, 0), 8);
        check(known(Some(0), None, None, None, 0), 2);
        assert!(next_generation(&known(Some(0x7fff), None, None, None, 0), false).is_err());
        // The stores may hold what another program has left.
        assert_eq!(next_generation(&known(None, None, None, None, 0), true).expect("there is one").number(), 2);
        assert_eq!(next_generation(&known(Some(4), None, None, None, 0), true).expect("there is one").number(), 5);
    }

    #[test]
    fn a_rebuild_from_nothing_is_refused() {
        let route = known(None, None, None, None, 0).route;
        assert!(refuse_empty(&route, &[0, 3], &[0, 4]).is_ok());
        for (begins, ends) in [(&[0, 0], &[0, 0]), (&[7, 3], &[7, 3]), (&[7, 3], &[6, 3])] {
            let refused = refuse_empty(&route, begins, ends).expect_err("refused").to_string();
            assert!(refused.contains("topic shop.t has no record") && refused.contains("--accept-empty"), "{refused}");
        }
    }

    #[test]
    fn a_log_whose_keys_changed_their_partition_is_not_read_again() {
        let of = |stored: u16, partitions: i32, topic_id: &str, log_is_split: bool| {
            let mut known = known(Some(stored), Some(1), None, None, 0);
            known.facts = TopicFacts { partitions, topic_id: topic_id.into(), ..known.facts };
            known.record.take(Entry::Beginning(Beginning { generation: 2, offsets: vec![0], begun_at_ms: 0, log_is_split }));
            split(&known).map(|split| refused_split(&known, &split).to_string()).unwrap_or_default()
        };
        assert_eq!(split(&known(None, None, None, None, 0)), None);
        let refused = of(2, 4, "t", false);
        assert!(refused.contains("had 1 partitions and now has 4") && refused.contains("--after-snapshot"), "{refused}");
        // A generation that came from a snapshot mends nothing of what stood before it.
        assert!(of(2, 1, "t", true).contains("have grown once"));
        assert_eq!(of(2, 1, "t", false), "");
        for is_split in [false, true] {
            assert_eq!(of(2, 4, "another one", is_split), "", "its log has nothing of the one before");
        }
    }

    #[test]
    fn a_log_without_its_beginning_is_refused_unless_accepted() {
        assert!(refuse_truncated(&known(None, None, None, None, 0), false).is_ok());
        assert!(refuse_truncated(&known(None, None, None, None, 4), true).is_ok());
        let refused = refuse_truncated(&known(None, None, None, None, 4), false).expect_err("refused").to_string();
        assert!(refused.contains("shop.t/0 begins at offset 4") && refused.contains("--after-snapshot"), "{refused}");
    }
}
