//! Looks at both stores for as long as a scenario lasts: the version of a key never goes back, and always has the form that it must have.
//!
//! Reads the stored formats by itself (`fence.rs`), past the workers and their proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use tokio::task::JoinSet;

use crate::away::is_away;
use crate::deadline::until;
use crate::fence::{Companion, companion_key, in_mongodb, in_redis, offset, told};
use crate::store::Kind;

const INTERVAL: Duration = Duration::from_millis(150);
const KINDS: [Kind; 2] = [Kind::Redis, Kind::MongoDb];
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
    /// Looks at either store that found a key.
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
    /// Looks that were answered.
    looks: u64,
    /// Those of them that found a key: only they can show anything.
    samples: u64,
}

/// Looks until it goes.
pub struct Versions {
    stores: Arc<Stores>,
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
        for kind in KINDS {
            looking.spawn(look(Arc::clone(&stores), kind, Arc::clone(&seen)));
        }
        Self { stores, seen, _looking: looking }
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

    /// Waits until each store was looked at once more, all of it after now.
    ///
    /// # Errors
    /// A store does not answer, or is forgotten.
    pub async fn look_again(&self) -> Result<()> {
        for kind in KINDS {
            let before = locked(&self.seen).history(kind).looks;
            until(&format!("another look at {kind:?}"), async || {
                let looks = locked(&self.seen).history(kind).looks.saturating_sub(before);
                // The first one may have begun before.
                ensure!(looks >= 2, "{looks} looks were answered");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// How many looks at the stores found a key, after a last one at what they hold in the end.
    ///
    /// # Errors
    /// A version went back or has another form, which the error lists; or a store was never looked at while it held a key, since it last
    /// lost data.
    pub async fn verdict(&self) -> Result<u64> {
        self.look_again().await?;
        let mut seen = locked(&self.seen);
        ensure!(seen.faults.is_empty(), "versions are not as they must be:\n{}", seen.faults.join("\n"));
        for kind in KINDS {
            let History { looks, samples, .. } = *seen.history(kind);
            ensure!(samples > 0, "{kind:?} was looked at {looks} times, and held no key: nothing is known of its versions");
        }
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

    /// For each partition of a table the offset behind the last record that Redis has of it, as its versions say: of rows and of deleted rows.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn written(&self, table: &str) -> Result<BTreeMap<u32, i64>> {
        let mut written = BTreeMap::<u32, i64>::new();
        for Companion { fence, partition, .. } in redis_companions(&self.stores.redis, table).await?.into_values() {
            let next = written.entry(partition).or_default();
            *next = (offset(fence) + 1).max(*next);
        }
        Ok(written)
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

    /// Adds what came of a look that began in `epoch`.
    fn add(&mut self, kind: Kind, epoch: u64, found: Result<BTreeMap<String, i64>>, resurrection: Duration, now: Instant) {
        let history = self.history(kind);
        if history.epoch != epoch || history.muted {
            return;
        }
        let (faults, is_sample) = match found {
            Ok(versions) => {
                let allowed = if kind == Kind::MongoDb { resurrection } else { Duration::ZERO };
                (history.compare(&versions, allowed, now), !versions.is_empty())
            }
            // A store that is away is a scenario's own doing.
            Err(error) if is_away(&error) => return,
            Err(error) => (vec![format!("{error:#}")], false),
        };
        history.looks += 1;
        history.samples += u64::from(is_sample);
        self.samples += u64::from(is_sample);
        let room = KEPT.saturating_sub(self.faults.len());
        self.faults.extend(faults.into_iter().take(room).map(|fault| format!("{kind:?}: {fault}")));
    }
}

async fn look(stores: Arc<Stores>, kind: Kind, seen: Arc<Mutex<Seen>>) {
    loop {
        let epoch = locked(&seen).history(kind).epoch;
        let found = match kind {
            Kind::Redis => redis_versions(&stores).await,
            Kind::MongoDb => mongodb_versions(&stores).await,
        };
        locked(&seen).add(kind, epoch, found, stores.resurrection, Instant::now());
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

/// Those of deleted rows too: their versions are kept.
async fn redis_versions(stores: &Stores) -> Result<BTreeMap<String, i64>> {
    let mut versions = BTreeMap::new();
    for table in &stores.tables {
        let companions = redis_companions(&stores.redis, table).await?;
        versions.extend(companions.into_iter().map(|(document, companion)| (document, companion.fence)));
    }
    Ok(versions)
}

/// What lies beside each document of a table, by the document's key.
async fn redis_companions(redis: &redis::Client, table: &str) -> Result<BTreeMap<String, Companion>> {
    let mut connection = redis.get_multiplexed_async_connection().await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg(companion_key(&format!("{table}:*"))).query_async(&mut connection).await?;
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    // As bytes: what is no text must not be taken for an answer that was cut off.
    let texts: Vec<Option<Vec<u8>>> = redis::cmd("MGET").arg(&keys).query_async(&mut connection).await?;
    let held = keys.iter().zip(texts).filter_map(|(key, text)| Some((key, text?)));
    held.map(|(key, text)| {
        let document = key.trim_start_matches("_sync:{").trim_end_matches('}').to_owned();
        Ok((document, in_redis(&text).with_context(|| key.clone())?))
    })
    .collect()
}

/// The documents alone.
async fn mongodb_versions(stores: &Stores) -> Result<BTreeMap<String, i64>> {
    let mut versions = BTreeMap::new();
    for table in &stores.tables {
        let collection = stores.mongodb.collection::<Document>(table);
        let found: Vec<Document> = collection.find(doc! {}).projection(doc! { "_sync": 1 }).await?.try_collect().await?;
        for document in found {
            let id = match document.get("_id") {
                Some(Bson::Int32(id)) => id.to_string(),
                Some(Bson::Int64(id)) => id.to_string(),
                other => format!("{other:?}"),
            };
            let key = format!("{table}:{id}");
            let fence = in_mongodb(&document).with_context(|| key.clone())?;
            versions.insert(key, fence);
        }
    }
    Ok(versions)
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use anyhow::{Result, anyhow};

    use super::{History, Seen};
    use crate::store::Kind;

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

    #[test]
    fn only_a_look_that_found_a_key_is_a_sample() {
        let mut seen = Seen::default();
        let one = || Ok(BTreeMap::from([("orders:1".to_owned(), 1)]));
        let refused = || Err(redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)).into());
        // What was found, and how many looks, samples and faults there are then.
        let mut check = |epoch, found: Result<BTreeMap<String, i64>>, expected: (u64, u64, usize)| {
            seen.add(Kind::Redis, epoch, found, Duration::ZERO, Instant::now());
            assert_eq!((seen.redis.looks, seen.redis.samples, seen.faults.len()), expected);
        };
        check(0, Ok(BTreeMap::new()), (1, 0, 0));
        check(0, refused(), (1, 0, 0));
        check(0, one(), (2, 1, 0));
        check(1, one(), (2, 1, 0));
        check(0, Err(anyhow!("\"hello\" is no version")), (3, 1, 1));
        assert_eq!((seen.mongodb.looks, seen.samples), (0, 1));
        assert_eq!(seen.faults, ["Redis: \"hello\" is no version"]);
    }
}
