//! Whether the servers are fit: a primary that evicts nothing, has what the targets need, and lets the scripts run.

use std::sync::atomic::Ordering;

use redis::{Cmd, Value};

use super::RedisSink;
use super::script::Act;
use super::servers::Link;
use super::sweep::deletes;
use crate::config::{Place, RedisForm};
use crate::fence::{Fence, Generation};
use crate::sink::Error;

/// Scripts write after they have read since this version; earlier ones replicate a script's text.
const OLDEST_MAJOR: u32 = 6;

impl RedisSink {
    pub(super) async fn check_servers(&self) -> Result<(), Error> {
        self.servers.forget_topology();
        let topology = self.servers.topology().await?;
        for link in &topology.shards {
            self.check_server(link).await?;
        }
        self.probe().await?;
        self.was_fit.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn check_server(&self, link: &Link) -> Result<(), Error> {
        let at = self.servers.at(&link.address);
        let mut command = Cmd::new();
        command.arg("INFO");
        let answer = link.one(command).await.and_then(|info| Ok(redis::from_redis_value::<String>(info)?));
        let info = answer.map_err(|error| at.command(&error))?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        if field("loading").is_some_and(|loading| loading != "0") {
            return Err(at.away("it is loading its data"));
        }
        let version = field("redis_version").unwrap_or_default();
        if version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < OLDEST_MAJOR) {
            return Err(at.setup(&format!("it is version {version}"), "version 6 is the oldest that streamsync writes to"));
        }
        if field("role").is_some_and(|role| role != "master") {
            if self.was_fit.load(Ordering::Relaxed) {
                return Err(at.away("it is a replica now: a failover is under way"));
            }
            return Err(at.setup("it is a replica", "give the sink the address of the primary"));
        }
        let is_cluster = field("cluster_enabled") == Some("1");
        if is_cluster && !self.servers.is_cluster() {
            return Err(at.setup("it is a node of a cluster", "set cluster = true for the sink"));
        }
        match self.eviction_policy(link, field("maxmemory_policy")).await {
            Some(policy) if policy != "noeviction" => {
                let message =
                    format!("it evicts keys when its memory is full (maxmemory-policy {policy}), and so loses documents and versions");
                return Err(at.setup(&message, "set maxmemory-policy noeviction"));
            }
            Some(_) => {}
            None => tracing::warn!(
                sink = self.name,
                server = link.address,
                "the server does not tell its maxmemory-policy; it must be noeviction"
            ),
        }
        if self.targets.iter().any(|target| matches!(target.place, Place::Redis { form: RedisForm::Json, .. })) {
            self.check_json(link).await?;
        }
        Ok(())
    }

    /// INFO has it on Redis; servers that leave it out there may have it in their configuration, if they let it be read.
    async fn eviction_policy(&self, link: &Link, from_info: Option<&str>) -> Option<String> {
        if let Some(policy) = from_info {
            return Some(policy.to_owned());
        }
        let mut command = Cmd::new();
        command.arg("CONFIG").arg("GET").arg("maxmemory-policy");
        let answer = link.one(command).await.ok()?;
        redis::from_redis_value::<Vec<String>>(answer).ok()?.into_iter().nth(1)
    }

    async fn check_json(&self, link: &Link) -> Result<(), Error> {
        let at = self.servers.at(&link.address);
        let mut command = Cmd::new();
        command.arg("COMMAND").arg("INFO").arg("JSON.SET");
        let answer = link.one(command).await.map_err(|error| at.command(&error))?;
        let known = matches!(&answer, Value::Array(commands) if commands.iter().any(|command| *command != Value::Nil));
        if known { Ok(()) } else { Err(at.setup("it has no JSON.SET", "load Redis' JSON module, or choose form = \"string\"")) }
    }

    /// Runs the delete script at a key of each target which no row can have: `%` is always followed by digits in a row's key. It
    /// leaves no document, and a version that expires like a tombstone.
    async fn probe(&self) -> Result<(), Error> {
        let Some(fence) = Fence::new(Generation::FIRST, 0) else { return Ok(()) };
        for target in &self.targets {
            let Place::Redis { prefix, .. } = &target.place else { continue };
            let key = format!("{prefix}:%probe").into_bytes();
            for result in self.write_all(Act::Write, &deletes(target, std::iter::once(&key), fence, 0)).await {
                result?;
            }
        }
        Ok(())
    }
}
