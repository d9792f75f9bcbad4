//! Where a partition starts: asks everyone who knows something of it, lets [`identity::resolve`] decide, and records what it decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::OnTruncate;
use crate::disposition::{self, Disposition};
use crate::identity::{self, Identities, Known, Start};
use crate::lane::{Backoff, Shared};
use crate::sink::{self, TopicIdentity, Watermark};
use crate::source::CommittedPartition;
use crate::source::cluster::{TopicFacts, Topics};

/// How long a partition waits for a store or a broker that is away before the group gets it back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a partition does not start.
pub(super) enum Held {
    /// Only an operator can go on: the text names the place and the remedy.
    Halted(String),
    /// A store or a broker is away for longer than the group should wait: nobody's fault but the moment's.
    Away(String),
}

impl Held {
    fn by(disposition: Disposition, error: &impl std::fmt::Display) -> Self {
        match disposition {
            Disposition::Retry => Self::Away(error.to_string()),
            Disposition::DeadLetter | Disposition::Halt => Self::Halted(error.to_string()),
        }
    }
}

/// Decides where partitions start.
pub(super) struct Starts {
    shared: Arc<Shared>,
    identities: Arc<dyn Identities>,
    topic_facts: Arc<dyn Topics>,
    /// What was found of topics so far in this process.
    topics: HashMap<String, Topic>,
}

/// A topic as Kafka has it, and every identity of it that is stored anywhere.
struct Topic {
    facts: TopicFacts,
    stored: Vec<TopicIdentity>,
}

impl Starts {
    pub(super) fn new(shared: Arc<Shared>, identities: Arc<dyn Identities>, topic_facts: Arc<dyn Topics>) -> Self {
        Self { shared, identities, topic_facts, topics: HashMap::new() }
    }

    /// Asks everyone, for a bounded time.
    pub(super) async fn resolve(&mut self, partition: &CommittedPartition) -> Result<Start, Held> {
        let deadline = Instant::now() + PATIENCE.min(self.shared.settings.kafka.max_poll_interval / 4);
        let name = partition.source.topic.to_string();
        let route = self.shared.settings.routes.iter().find(|r| r.topic == name).map(Arc::clone);
        let sinks = route.as_ref().map(|r| r.sinks()).unwrap_or_default();
        let mut topic = match self.topics.remove(&name) {
            Some(topic) => topic,
            None => self.topic(&name, &sinks, deadline).await?,
        };
        if let Some(route) = &route
            && route.on_truncate == OnTruncate::Clear
            && topic.facts.partitions != 1
        {
            let partitions = topic.facts.partitions;
            return Err(Held::Halted(format!(
                "on_truncate = \"clear\" needs a topic of one partition, {name} has {partitions}: set on_truncate = \"halt\" on the route"
            )));
        }
        let watermarks = self.watermarks(partition, &sinks, deadline).await?;
        let known = Known {
            partition,
            stored: &topic.stored,
            current: &topic.facts,
            watermarks: &watermarks,
            accept_truncated_log: self.shared.settings.kafka.accept_truncated_log,
            now_ms: self.shared.machine.now_ms(),
            group: &self.shared.settings.kafka.group,
            control_topic: &self.shared.settings.kafka.control_topic,
        };
        let start = identity::resolve(&known).map_err(|halt| Held::Halted(halt.to_string()))?;
        if topic.stored.len() != sinks.len() + 1 || topic.stored.iter().any(|stored| *stored != start.identity) {
            self.store_identity(&name, &sinks, &start.identity, deadline).await?;
            topic.stored = vec![start.identity.clone(); sinks.len() + 1];
        }
        self.topics.insert(name, topic);
        if start.record_beginning {
            // Committed at once, so that this partition is never taken for a new one again.
            if let Err(error) = self.shared.commits.commit(&partition.source, start.offset).await {
                tracing::warn!(error = %error, "the beginning was not committed; the first settled batch commits");
            }
        }
        tracing::info!(
            topic = %partition.source.topic,
            partition = partition.source.partition,
            offset = start.offset,
            committed = partition.committed,
            generation = start.generation.number(),
            "partition starts"
        );
        Ok(start)
    }

    async fn topic(&self, name: &str, sinks: &[usize], deadline: Instant) -> Result<Topic, Held> {
        let facts = self.facts(name, deadline).await?;
        let mut stored = Vec::with_capacity(sinks.len() + 1);
        let topics = [name.to_owned()];
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        loop {
            match self.identities.load(&topics).await {
                Ok(mut found) => break stored.extend(found.remove(name)),
                Err(error) if disposition::of_identity(&error) == Disposition::Retry && Instant::now() < deadline => {
                    tracing::warn!(error = %error, "waiting for the control topic");
                    backoff.wait().await;
                }
                Err(error) => return Err(Held::by(disposition::of_identity(&error), &error)),
            }
        }
        for index in sinks {
            let Some(sink) = self.shared.sinks.get(*index) else { continue };
            let found = patiently(&self.shared, deadline, || sink.identity(name)).await?;
            stored.extend(found);
        }
        Ok(Topic { facts, stored })
    }

    async fn facts(&self, name: &str, deadline: Instant) -> Result<TopicFacts, Held> {
        let mut backoff = Backoff::new(&self.shared.settings.retry);
        loop {
            let (facts, topic) = (Arc::clone(&self.topic_facts), name.to_owned());
            match self.shared.machine.away(move || facts.facts(&topic)).await {
                Some(Ok(facts)) => return Ok(facts),
                Some(Err(error)) if disposition::of_source(&error) == Disposition::Retry && Instant::now() < deadline => {
                    tracing::warn!(error = %error, "waiting for the facts of a topic");
                    backoff.wait().await;
                }
                Some(Err(error)) => return Err(Held::by(disposition::of_source(&error), &error)),
                None => return Err(Held::Halted(format!("asking Kafka for topic {name} failed by a defect in the engine"))),
            }
        }
    }

    async fn watermarks(
        &self,
        partition: &CommittedPartition,
        sinks: &[usize],
        deadline: Instant,
    ) -> Result<Vec<(String, Option<Watermark>)>, Held> {
        let mut watermarks = Vec::with_capacity(sinks.len());
        let group = &self.shared.settings.kafka.group;
        for index in sinks {
            let Some(sink) = self.shared.sinks.get(*index) else { continue };
            let watermark = patiently(&self.shared, deadline, || sink.watermark(group, &partition.source)).await?;
            watermarks.push((sink.name().to_owned(), watermark));
        }
        Ok(watermarks)
    }

    /// Stored in the control topic and mirrored in each sink before anything of the generation is written.
    async fn store_identity(&self, name: &str, sinks: &[usize], identity: &TopicIdentity, deadline: Instant) -> Result<(), Held> {
        self.identities.store(name, identity).await.map_err(|error| Held::by(disposition::of_identity(&error), &error))?;
        for index in sinks {
            let Some(sink) = self.shared.sinks.get(*index) else { continue };
            patiently(&self.shared, deadline, || sink.store_identity(name, identity)).await?;
        }
        Ok(())
    }
}

/// Repeats what a store that is away did not do, until the deadline.
async fn patiently<T, F>(shared: &Shared, deadline: Instant, mut ask: impl FnMut() -> F) -> Result<T, Held>
where
    F: Future<Output = Result<T, sink::Error>>,
{
    let mut backoff = Backoff::new(&shared.settings.retry);
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if disposition::of_sink(&error) == Disposition::Retry && Instant::now() < deadline => {
                tracing::warn!(error = %error, "waiting for a sink before a partition starts");
                backoff.wait().await;
            }
            Err(error) => return Err(Held::by(disposition::of_sink(&error), &error)),
        }
    }
}
