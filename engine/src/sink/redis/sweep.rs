//! What is done to every key of a target: clearing it after a truncate, and sweeping what a rebuild has not written again.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::script::Act;
use super::servers::{Link, Topology};
use super::{RedisSink, version};
use crate::config::{Place, TargetSettings};
use crate::fence::{Fence, Generation};
use crate::plan::{Bytes, FencedWrite, SinkWrites};
use crate::sink::Error;

/// After each page the sweep waits this many times as long as the page took: so it takes at most a fifth of one connection's time.
const REST_PER_WORK: u32 = 4;

impl RedisSink {
    pub(super) async fn clear_target(&self, target: &TargetSettings, fence: Fence, partition: i32) -> Result<(), Error> {
        let Place::Redis { prefix, .. } = &target.place else { return Ok(()) };
        let target = Arc::new(target.clone());
        let topology = self.servers.topology().await?;
        for link in &topology.shards {
            // A key may have a mark and no document: its row was never stored, and now it is gone.
            for around in [("", ""), ("_sync:{", "}")] {
                let mut cursor = Some(0);
                while let Some(at) = cursor {
                    let (next, keys) = self.page(link, prefix, around, at).await?;
                    for result in self.write_all(Act::Write, &deletes(&target, keys.iter(), fence, partition)).await {
                        result?;
                    }
                    cursor = next;
                }
            }
        }
        self.slots_stayed(&topology).await
    }

    /// Every document of the target that `generation` has not written. Whoever asks for it looks before and after who the servers are.
    pub(super) async fn sweep_target(&self, target: &TargetSettings, generation: Generation) -> Result<u64, Error> {
        let Place::Redis { prefix, .. } = &target.place else { return Ok(0) };
        let (Some(fence), Some(tombstone)) = (Fence::new(generation, 0), Fence::last_before(generation)) else { return Ok(0) };
        let topology = self.servers.topology().await?;
        let mut swept = 0;
        for link in &topology.shards {
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                let began = tokio::time::Instant::now();
                let (next, keys) = self.page(link, prefix, ("", ""), at).await?;
                let ghosts = self.older_than(link, &keys, fence).await?;
                swept += self.remove(link, &ghosts, fence, tombstone).await?;
                cursor = next;
                if cursor.is_some() {
                    tokio::time::sleep(began.elapsed() * REST_PER_WORK).await;
                }
            }
        }
        self.slots_stayed(&topology).await?;
        Ok(swept)
    }

    /// Away where a slot may have moved past a scan of the shards, which is to begin again: from one that was still to be scanned to one that
    /// was done. Asks anew, since it may be that no command was redirected.
    async fn slots_stayed(&self, scanned: &Topology) -> Result<(), Error> {
        if !self.servers.is_cluster() {
            return Ok(());
        }
        self.servers.forget_topology();
        let topology = self.servers.topology().await?;
        let mut moved = !topology.is_like(scanned);
        for link in &topology.shards {
            moved |= link.moves_slots().await.map_err(|error| self.servers.fault(link, &error))?;
        }
        if moved { Err(self.servers.at("cluster").away("slots moved while all keys were looked at, which begins again")) } else { Ok(()) }
    }

    /// Some document keys of the prefix, cut out of the server's keys between two texts; and where to go on.
    async fn page(
        &self,
        link: &Link,
        prefix: &str,
        (before, behind): (&str, &str),
        cursor: u64,
    ) -> Result<(Option<u64>, Vec<Vec<u8>>), Error> {
        let mut command = Cmd::new();
        command.arg("SCAN").arg(cursor).arg("MATCH").arg(glob(&format!("{before}{prefix}"))).arg("COUNT").arg(self.max_pipeline);
        let answer = link.one(command).await.and_then(|answer| Ok(redis::from_redis_value::<(u64, Vec<Vec<u8>>)>(answer)?));
        let (next, keys) = answer.map_err(|error| self.servers.fault(link, &error))?;
        let keys = keys.iter().filter_map(|key| key.strip_prefix(before.as_bytes())?.strip_suffix(behind.as_bytes()));
        let keys = keys.filter(|key| !self.is_of_longer_prefix(prefix, key)).map(<[u8]>::to_vec).collect();
        Ok(((next != 0).then_some(next), keys))
    }

    /// Those of the keys whose version is older; the script looks again.
    async fn older_than(&self, link: &Link, keys: &[Vec<u8>], fence: Fence) -> Result<Vec<Vec<u8>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(keys.len());
        let mut companion = Vec::new();
        for key in keys {
            version::write_key(&mut companion, key);
            pipeline.cmd("GETRANGE").arg(&companion).arg(0).arg(18);
        }
        let answers = self.answers(link, &mut pipeline).await?;
        let fence = fence.to_string();
        let is_older = |answer: &Value| !matches!(answer, Value::BulkString(stored) if stored.as_slice() >= fence.as_bytes());
        Ok(keys.iter().zip(&answers).filter(|(_, answer)| is_older(answer)).map(|(key, _)| key.clone()).collect())
    }

    async fn remove(&self, link: &Link, keys: &[Vec<u8>], fence: Fence, tombstone: Fence) -> Result<u64, Error> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut pipeline = Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.add_command(self.scripts.sweep(key, fence, tombstone, self.tombstone_seconds));
        }
        let answers = self.answers(link, &mut pipeline).await?;
        Ok(answers.iter().filter(|answer| **answer == Value::Int(1)).count() as u64)
    }

    /// One value for each command; the first error that the server answered is the error of all.
    async fn answers(&self, link: &Link, pipeline: &mut Pipeline) -> Result<Vec<Value>, Error> {
        let answers = link.run(pipeline).await.and_then(|answers| answers.into_iter().map(Value::extract_error).collect());
        answers.map_err(|error| self.servers.fault(link, &error))
    }

    /// Whether a key that begins with `prefix:` belongs to a target whose own prefix goes on, as `orders:open` after `orders` does.
    fn is_of_longer_prefix(&self, prefix: &str, key: &[u8]) -> bool {
        self.targets.iter().any(|target| match &target.place {
            Place::Redis { prefix: other, .. } => {
                other.len() > prefix.len() && key.strip_prefix(other.as_bytes()).is_some_and(|rest| rest.starts_with(b":"))
            }
            Place::MongoDb { .. } => false,
        })
    }
}

/// One delete for each key.
pub(super) fn deletes<'k>(
    target: &Arc<TargetSettings>,
    keys: impl Iterator<Item = &'k Vec<u8>>,
    fence: Fence,
    partition: i32,
) -> SinkWrites {
    // No guest takes part in a truncate.
    let mut writes = SinkWrites { partition, module: "0000000000000000".into(), targets: vec![target.clone()], ..SinkWrites::default() };
    for key in keys {
        let key_bytes = Bytes { start: writes.bytes.len(), len: key.len() };
        writes.bytes.extend_from_slice(key);
        writes.writes.push(FencedWrite { target: 0, record: 0, fence, key: key_bytes, document: None, ttl_seconds: 0, content: 0 });
    }
    writes
}

/// All keys of a prefix, as SCAN's MATCH has it.
fn glob(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 2);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push_str(":*");
    pattern
}
