//! Looks at both stores for as long as a scenario lasts: the version of a key never goes back.
//!
//! Reads the stored formats by itself (docs/decisions/0003-redis-format.md, 0006-stored-version.md), past the workers and their proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use tokio::task::JoinSet;

use crate::store::Kind;

const INTERVAL: Duration = Duration::from_millis(150);
/// Faults that are kept for the report; one is enough to fail.
const KEPT: usize = 10;

/// Where to look.
pub struct Stores {
    /// With the database's number.
    pub redis: redis::Client,
    /// The case's database.
    pub mongodb: mongodb::Database,
    /// Prefixes and collections.
    pub tables: Vec<&'static str>,
    /// How long a deleted document may show in MongoDB when a write of a worker that was thought dead comes late.
    pub resurrection: Duration,
}

/// What has been seen so far.
#[derive(Default)]
struct Seen {
    redis: History,
    mongodb: History,
    samples: u64,
    faults: Vec<String>,
}

/// The greatest version of each key, and of the keys that were deleted, since when they are there again.
#[derive(Default)]
struct History {
    greatest: BTreeMap<String, i64>,
    present: BTreeSet<String>,
    resurrected: BTreeMap<String, Instant>,
    /// Looks that began before the last fault don't count: what they read may be older than it.
    epoch: u64,
    /// The store is losing data right now.
    muted: bool,
}

/// Looks until it goes.
pub struct Versions {
    seen: Arc<Mutex<Seen>>,
    _looking: JoinSet<()>,
}

impl Versions {
    /// Begins to look.
    #[must_use]
    pub fn watch(stores: Stores) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut looking = JoinSet::new();
        let stores = Arc::new(stores);
        for kind in [Kind::Redis, Kind::MongoDb] {
            looking.spawn(look(Arc::clone(&stores), kind, Arc::clone(&seen)));
        }
        Self { seen, _looking: looking }
    }

    /// A store is about to lose data on purpose: what it holds is no promise until [`Versions::again`].
    pub fn forget(&self, kind: Kind) {
        self.restart(kind, true);
    }

    /// It has lost it: from here on versions must not go back.
    pub fn again(&self, kind: Kind) {
        self.restart(kind, false);
    }

    fn restart(&self, kind: Kind, muted: bool) {
        let mut seen = locked(&self.seen);
        let history = seen.history(kind);
        *history = History { epoch: history.epoch + 1, muted, ..History::default() };
    }

    /// How often the stores were looked at.
    ///
    /// # Errors
    /// A version went back; the error lists where.
    pub fn verdict(&self) -> Result<u64> {
        let seen = locked(&self.seen);
        ensure!(seen.faults.is_empty(), "versions went back:\n{}", seen.faults.join("\n"));
        Ok(seen.samples)
    }

    /// Whether a key's version in one store is above that in the other and stays so: the state between the two sinks. Deletes and keys that
    /// are new may not show it.
    pub async fn is_ahead(&self, ahead: Kind) -> bool {
        // The stores are looked at one after the other: only what stays is a difference.
        let first = self.ahead(ahead);
        tokio::time::sleep(INTERVAL * 6).await;
        self.ahead(ahead).into_iter().any(|key| first.contains(&key))
    }

    /// Keys with the version that the other store lacks.
    fn ahead(&self, ahead: Kind) -> BTreeSet<(String, i64)> {
        let seen = locked(&self.seen);
        let (ahead, late) = if ahead == Kind::Redis { (&seen.redis, &seen.mongodb) } else { (&seen.mongodb, &seen.redis) };
        // Deleted keys have no version in MongoDB's documents: only those that both have can be compared.
        let both = ahead.greatest.iter().filter_map(|(key, version)| Some((key, *version, *late.greatest.get(key)?)));
        both.filter(|(_, version, late)| late < version).map(|(key, version, _)| (key.clone(), version)).collect()
    }
}

impl Seen {
    fn history(&mut self, kind: Kind) -> &mut History {
        match kind {
            Kind::Redis => &mut self.redis,
            Kind::MongoDb => &mut self.mongodb,
        }
    }
}

async fn look(stores: Arc<Stores>, kind: Kind, seen: Arc<Mutex<Seen>>) {
    loop {
        let epoch = locked(&seen).history(kind).epoch;
        let found = match kind {
            Kind::Redis => redis_versions(&stores).await,
            Kind::MongoDb => mongodb_versions(&stores).await,
        };
        // A store that is away is a scenario's own doing.
        if let Ok(versions) = found {
            let mut seen = locked(&seen);
            let history = seen.history(kind);
            if history.epoch == epoch && !history.muted {
                seen.samples += 1;
                let allowed = if kind == Kind::MongoDb { stores.resurrection } else { Duration::ZERO };
                let faults = seen.history(kind).compare(&versions, allowed, Instant::now());
                let room = KEPT.saturating_sub(seen.faults.len());
                seen.faults.extend(faults.into_iter().take(room).map(|fault| format!("{kind:?}: {fault}")));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl History {
    /// Adds a look, and returns what it must not have shown.
    fn compare(&mut self, versions: &BTreeMap<String, i64>, resurrection: Duration, now: Instant) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, version) in versions {
            let before = self.greatest.get(key).copied().unwrap_or_default();
            if *version >= before {
                self.greatest.insert(key.clone(), *version);
                self.resurrected.remove(key);
            } else if self.present.contains(key) && !self.resurrected.contains_key(key) {
                faults.push(format!("{key} went from {} back to {}", told(before), told(*version)));
            } else {
                // It was deleted in between, and a write from before that is there now.
                let since = self.resurrected.entry(key.clone()).or_insert(now);
                let shown = now.duration_since(*since);
                if resurrection.is_zero() || shown > resurrection {
                    faults.push(format!("{key} is back at {} after {}, for {shown:?}", told(*version), told(before)));
                }
            }
        }
        self.resurrected.retain(|key, _| versions.contains_key(key));
        self.present = versions.keys().cloned().collect();
        faults
    }
}

/// 1:42 for generation 1, offset 42.
fn told(version: i64) -> String {
    format!("{}:{}", version >> 48, version & ((1 << 48) - 1))
}

/// The companion keys, of deleted rows too: their versions are kept.
async fn redis_versions(stores: &Stores) -> Result<BTreeMap<String, i64>> {
    let mut connection = stores.redis.get_multiplexed_async_connection().await?;
    let mut versions = BTreeMap::new();
    for table in &stores.tables {
        let keys: Vec<String> = redis::cmd("KEYS").arg(format!("_sync:{{{table}:*")).query_async(&mut connection).await?;
        if keys.is_empty() {
            continue;
        }
        let texts: Vec<Option<String>> = redis::cmd("MGET").arg(&keys).query_async(&mut connection).await?;
        for (key, text) in keys.iter().zip(texts) {
            let Some(text) = text else { continue };
            let document = key.trim_start_matches("_sync:{").trim_end_matches('}').to_owned();
            let fence = text.get(..19).with_context(|| format!("{key} holds no version"))?;
            versions.insert(document, fence.parse()?);
        }
    }
    Ok(versions)
}

/// The documents alone.
async fn mongodb_versions(stores: &Stores) -> Result<BTreeMap<String, i64>> {
    let mut versions = BTreeMap::new();
    for table in &stores.tables {
        let collection = stores.mongodb.collection::<Document>(table);
        let found: Vec<Document> = collection.find(doc! {}).projection(doc! { "_sync.v": 1 }).await?.try_collect().await?;
        for document in found {
            let version = document.get_document("_sync")?.get_i64("v")?;
            let id = match document.get("_id") {
                Some(Bson::Int32(id)) => id.to_string(),
                Some(Bson::Int64(id)) => id.to_string(),
                other => format!("{other:?}"),
            };
            versions.insert(format!("{table}:{id}"), version);
        }
    }
    Ok(versions)
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::History;

    /// One key's version at each look, a second apart, and at which looks a fault is seen.
    #[track_caller]
    fn check(resurrection: Duration, looks: &[Option<i64>], expected: &[usize]) {
        let (mut history, start) = (History::default(), Instant::now());
        let mut seen = Vec::new();
        for (second, version) in looks.iter().enumerate() {
            let versions = version.iter().map(|version| ("orders:1".to_owned(), *version)).collect();
            let now = start + Duration::from_secs(second as u64);
            if !history.compare(&versions, resurrection, now).is_empty() {
                seen.push(second);
            }
        }
        assert_eq!(seen, expected, "{looks:?}");
    }

    #[test]
    fn a_version_that_goes_back_is_seen() {
        check(Duration::ZERO, &[Some(1), Some(1), Some(3), None, Some(4)], &[]);
        check(Duration::ZERO, &[Some(3), Some(2)], &[1]);
        check(Duration::ZERO, &[Some(3), None, Some(2)], &[2]);
        // In MongoDB, a deleted row may show for a sweep's interval, and no longer.
        check(Duration::from_secs(2), &[Some(3), None, Some(2), Some(2), None, Some(4)], &[]);
        check(Duration::from_secs(2), &[Some(3), None, Some(2), Some(2), Some(2), Some(2)], &[5]);
        check(Duration::from_secs(2), &[Some(3), Some(2)], &[1]);
    }
}
