//! Watermarks, identities, and who the servers are: what the sink remembers of its sources, and how it knows that it may have forgotten.

use futures_util::future::try_join_all;
use redis::{Cmd, Pipeline, Value};

use super::RedisSink;
use super::servers::{Link, Open, Topology};
use crate::fence::Generation;
use crate::sink::{Error, MarkOutcome, Replaces, TopicIdentity, Watermark};
use crate::source::TopicPartition;

impl RedisSink {
    /// `run_id` is another one after a restart, `master_replid` after a failover: a replica that becomes the primary takes a new one, and a
    /// primary that was made a replica for a while comes back with one. It may change without any loss; that costs a replay.
    pub(super) async fn ask_lineage(&self) -> Result<u64, Error> {
        let topology = self.servers.topology().await?;
        Ok(self.meet(&topology).await?.0)
    }

    /// The lineage, and for each shard the connection that it was asked on.
    async fn meet<'a>(&self, topology: &'a Topology) -> Result<(u64, Vec<Open<'a>>), Error> {
        let met = try_join_all(topology.shards.iter().map(|link| self.identity_of(link))).await?;
        let (shards, identities) = met.into_iter().unzip();
        Ok((self.lineage.seen(identities), shards))
    }

    async fn identity_of<'a>(&self, link: &'a Link) -> Result<(Open<'a>, String), Error> {
        let at = self.servers.at(&link.address);
        let away = |error| {
            self.servers.forget_topology();
            at.command(&error)
        };
        let mut open = link.open().await.map_err(away)?;
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("INFO").arg("server");
        pipeline.cmd("INFO").arg("replication");
        let answers = open.run(&mut pipeline).await.map_err(away)?;
        let mut info = String::new();
        for answer in answers {
            let part = answer.extract_error().and_then(|answer| Ok(redis::from_redis_value::<String>(answer)?));
            info.push_str(&part.map_err(|error| self.servers.fault(link, &error))?);
        }
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim);
        if field("role") == "slave" {
            // Its name may lead to the new primary by the next connection.
            link.disconnect().await;
            self.servers.forget_topology();
            return Err(at.away("it is a replica now: a failover is under way"));
        }
        let identity = format!("{} {}", field("run_id"), field("master_replid"));
        Ok((open, identity))
    }

    pub(super) async fn read_watermark(&self, group: &str, source: &TopicPartition) -> Result<Option<Watermark>, Error> {
        let topology = self.servers.topology().await?;
        let mut smallest: Option<Watermark> = None;
        for tag in &topology.tags {
            let Some(watermark) = self.stored_watermark(&watermark_key(*tag, group, source)).await? else { return Ok(None) };
            if smallest.as_ref().is_none_or(|smallest| watermark.is_behind(smallest)) {
                smallest = Some(watermark);
            }
        }
        Ok(smallest)
    }

    async fn stored_watermark(&self, key: &str) -> Result<Option<Watermark>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(key);
        self.as_watermark(key, &self.at_key(key, command).await?)
    }

    fn as_watermark(&self, key: &str, answer: &Value) -> Result<Option<Watermark>, Error> {
        let Value::BulkString(text) = answer else { return Ok(None) };
        parse_watermark(text).map(Some).ok_or_else(|| self.no_watermark(key))
    }

    fn no_watermark(&self, key: &str) -> Error {
        let message = format!("the key {key} holds something that is no watermark; remove it if another program wrote it");
        Error::Setup { sink: self.name.clone(), message }
    }

    /// On every shard, over the connection on which it has said who it is: another one may lead to its successor. Where one refuses, those
    /// before it have the watermark already: they hold what it stands for.
    pub(super) async fn write_watermark(
        &self,
        group: &str,
        source: &TopicPartition,
        lineage: u64,
        replaces: Replaces,
        watermark: Watermark,
    ) -> Result<MarkOutcome, Error> {
        let topology = self.servers.topology().await?;
        let (met, mut shards) = self.meet(&topology).await?;
        if met != lineage {
            return Ok(MarkOutcome::OtherServers);
        }
        let text = watermark_text(watermark);
        for (tag, shard) in topology.tags.iter().zip(&mut shards) {
            let key = watermark_key(*tag, group, source);
            let mut replaced = vec![text.clone()];
            match replaces {
                Replaces::NotBehind(_) => {
                    let mut command = Cmd::new();
                    command.arg("GET").arg(&key);
                    let answer = self.ask(shard, command).await?;
                    let found = self.as_watermark(&key, &answer)?;
                    if !replaces.permits(found, watermark) {
                        return Ok(MarkOutcome::Found(found));
                    }
                    // As it stands there: earlier engines wrote less.
                    let stored = if let Value::BulkString(stored) = &answer { String::from_utf8_lossy(stored) } else { "".into() };
                    replaced.push(stored.into_owned());
                }
                Replaces::Own(known, tried) => replaced.extend([Some(known), tried].into_iter().flatten().map(watermark_text)),
            }
            let answer = self.ask(shard, self.scripts.store_watermark(&key, &text, &replaced)).await?;
            if !matches!(answer, Value::Int(_)) {
                return Ok(MarkOutcome::Found(self.as_watermark(&key, &answer)?));
            }
        }
        Ok(MarkOutcome::Stored)
    }

    /// Where the shard sends it elsewhere, its servers are asked for anew before the next try.
    async fn ask(&self, shard: &mut Open<'_>, command: Cmd) -> Result<Value, Error> {
        shard.one(command).await.map_err(|error| {
            self.servers.forget_topology();
            self.servers.at(&shard.link.address).command(&error)
        })
    }

    pub(super) async fn read_identity(&self, topic: &str) -> Result<Option<TopicIdentity>, Error> {
        let key = identity_key(topic);
        let mut command = Cmd::new();
        command.arg("GET").arg(&key);
        let Value::BulkString(json) = self.at_key(&key, command).await? else { return Ok(None) };
        serde_json::from_slice(&json).map(Some).map_err(|error| Error::Setup {
            sink: self.name.clone(),
            message: format!("the key {key} holds no topic identity ({error}); remove it if another program wrote it"),
        })
    }

    pub(super) async fn write_identity(&self, topic: &str, identity: &TopicIdentity) -> Result<(), Error> {
        let key = identity_key(topic);
        let json = serde_json::to_vec(identity).map_err(|error| Error::Setup {
            sink: self.name.clone(),
            message: format!("the identity of {topic} can't be written: {error}"),
        })?;
        self.at_key(&key, self.scripts.store_identity(&key, &json, identity.generation)).await?;
        Ok(())
    }
}

fn watermark_text(watermark: Watermark) -> String {
    let Watermark { generation, next_offset, written_at_ms, complete_until_ms } = watermark;
    format!("{} {next_offset} {written_at_ms} {complete_until_ms}", generation.number())
}

fn watermark_key(tag: u32, group: &str, source: &TopicPartition) -> String {
    format!("_sync:watermark:{{{tag}}}:{group}/{}/{}", source.topic, source.partition)
}

fn parse_watermark(text: &[u8]) -> Option<Watermark> {
    let mut parts = std::str::from_utf8(text).ok()?.split(' ');
    let generation = Generation::new(parts.next()?.parse().ok()?)?;
    let mut number = || parts.next()?.parse().ok();
    let (next_offset, written_at_ms) = (number()?, number()?);
    // Earlier engines wrote three numbers, and took the time for both.
    Some(Watermark { generation, next_offset, written_at_ms, complete_until_ms: number().unwrap_or(written_at_ms) })
}

fn identity_key(topic: &str) -> String {
    format!("_sync:identity:{topic}")
}
