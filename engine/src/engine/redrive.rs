//! What a redrive needs of a worker: the modules and the stores, without a place in the group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Error, load_modules};
use crate::commit::MemoryCommits;
use crate::config::Settings;
use crate::dead_letter::StoredLetter;
use crate::fence::Generation;
use crate::http::Health;
use crate::identity::MemoryIdentities;
use crate::lane::{Deletions, LastLetter, Meter, Prepare, Redrive, Shared, Verdict};
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::sink::{self, Sink};
use crate::source::cluster::{KafkaTopics, Topics};
use crate::source::{RecordBatch, TopicPartition};
use crate::transform::{Guest, Module};

/// A sink that is away is no reason to wait for ever: an operator does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Redrives letters, one after the other.
pub struct Redriver {
    shared: Arc<Shared>,
    letters: Arc<LastLetter>,
    modules: Vec<Arc<Module>>,
    topics: Arc<dyn Topics>,
    /// How long each topic's log is sure to tell of a deletion; `None`: as long as there is the log.
    deletions_kept: HashMap<String, Option<Duration>>,
    /// The stages of the last letter's partition.
    stages: Option<(TopicPartition, Generation, Redrive)>,
}

impl Redriver {
    /// The real parts, as the configuration has them; every sink is checked.
    pub async fn build(settings: Arc<Settings>, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let modules = load_modules(Arc::clone(&settings)).await?;
        let sinks = sink::build(&settings)?;
        for sink in &sinks {
            sink.check().await?;
        }
        let topics = Arc::new(KafkaTopics::new(&settings));
        Ok(Self::with(settings, sinks, modules, metrics, topics))
    }

    /// With parts that the caller made; the modules in the order of the routes.
    pub fn with(
        settings: Arc<Settings>,
        sinks: Vec<Arc<dyn Sink>>,
        modules: Vec<Arc<Module>>,
        metrics: Arc<Metrics>,
        topics: Arc<dyn Topics>,
    ) -> Self {
        let letters = Arc::new(LastLetter::default());
        let shared = Arc::new(Shared {
            sink_metrics: sinks.iter().map(|sink| metrics.sink(sink.name())).collect(),
            health: Health::new(settings.http.stalled_after),
            settings,
            sinks,
            dead_letters: Arc::clone(&letters) as Arc<_>,
            // A redrive commits nothing, and belongs to no group that could take its partitions away.
            commits: Arc::new(MemoryCommits::default()),
            identities: Arc::new(MemoryIdentities::default()),
            poll_age: Arc::new(|| Duration::ZERO),
            metrics,
            machine: Machine::REAL,
        });
        Self { shared, letters, modules, topics, deletions_kept: HashMap::new(), stages: None }
    }

    /// SHA-256 of a route's module, in hexadecimal.
    pub fn module(&self, route: &str) -> Option<&str> {
        let index = self.shared.settings.routes.iter().position(|known| known.name == route)?;
        self.modules.get(index).map(|module| &*module.digest)
    }

    /// Redrives the record of a letter; without `apply` it only tells what would happen. The error says why there is no verdict.
    pub async fn redrive(
        &mut self,
        letter: &StoredLetter,
        record: RecordBatch,
        apply: bool,
        accept_unproven: bool,
    ) -> Result<Verdict, String> {
        let Some(fence) = letter.fence else { return Err("the letter tells no fence: another version of streamsync wrote it".to_owned()) };
        let generation = fence.generation();
        if self.current_generation(letter).await?.is_some_and(|current| generation < current) {
            return Ok(Verdict::EarlierGeneration);
        }
        if self.stages.as_ref().is_none_or(|(source, of, _)| *source != letter.source || *of != generation) {
            let kept = self.deletions_kept(&letter.source.topic).await;
            self.stages = Some((letter.source.clone(), generation, self.stages_of(letter, generation, kept)?));
        }
        let Some((_, _, stages)) = &mut self.stages else { return Err("the stages are gone; report this".to_owned()) };
        match tokio::time::timeout(PATIENCE, stages.record(record, apply, accept_unproven)).await {
            Ok(verdict) => verdict,
            Err(_) => {
                // What was under way is harmless, by its fence; the stages are not used again.
                self.stages = None;
                Err(format!("a sink did not answer within {} s; the log says which", PATIENCE.as_secs()))
            }
        }
    }

    fn stages_of(&self, letter: &StoredLetter, generation: Generation, deletions_kept: Option<Duration>) -> Result<Redrive, String> {
        let routes = &self.shared.settings.routes;
        let index = routes.iter().position(|route| *route.topic == *letter.source.topic);
        let (Some(route), Some(module)) = (index.and_then(|index| routes.get(index)), index.and_then(|index| self.modules.get(index)))
        else {
            return Err(format!("no route reads the topic {}", letter.source.topic));
        };
        let guest = Guest::new(Arc::clone(module), Arc::clone(route), &self.shared.settings.sinks).map_err(|error| error.to_string())?;
        let prepare = Prepare::route(Arc::clone(route), guest, &module.digest, generation);
        let health = self.shared.health.lane_started(&route.name, &letter.source);
        let meter = Meter::new(&self.shared.metrics, health, &route.name, &letter.source, Deletions::default());
        let redrive = Redrive::new(Arc::clone(&self.shared), Arc::clone(&self.letters), letter.source.clone(), generation, prepare, meter);
        Ok(redrive.while_deletions_are_kept(deletions_kept))
    }

    /// Where Kafka does not tell, nothing is sure.
    async fn deletions_kept(&mut self, topic: &str) -> Option<Duration> {
        if let Some(kept) = self.deletions_kept.get(topic) {
            return *kept;
        }
        let (topics, name) = (Arc::clone(&self.topics), topic.to_owned());
        let kept = match self.shared.machine.away(move || topics.facts(&name)).await {
            Some(Ok(facts)) if facts.delete_retention_ms.is_some() => {
                facts.tombstones_kept_ms().map(|kept_ms| Duration::from_millis(u64::try_from(kept_ms).unwrap_or_default()))
            }
            Some(Ok(_)) => Some(Duration::ZERO),
            Some(Err(error)) => {
                tracing::warn!(topic, error = %error, "how long the topic's log tells of deletions is not known");
                Some(Duration::ZERO)
            }
            None => Some(Duration::ZERO),
        };
        self.deletions_kept.insert(topic.to_owned(), kept);
        kept
    }

    /// The highest generation that a sink of the route has; `None` where none has any. Asked for each letter: a rebuild may begin while many are
    /// redriven.
    async fn current_generation(&self, letter: &StoredLetter) -> Result<Option<Generation>, String> {
        let topic = &*letter.source.topic;
        let route = self.shared.settings.routes.iter().find(|route| *route.topic == *topic);
        let mut highest = None;
        for index in route.map(|route| route.sinks()).unwrap_or_default() {
            let Some(sink) = self.shared.sinks.get(index) else { continue };
            let identity = sink.identity(topic).await.map_err(|error| error.to_string())?;
            highest = highest.max(identity.and_then(|identity| Generation::new(identity.generation)));
        }
        Ok(highest)
    }
}
