//! What all scenarios share: stores that they may kill, and a wire to every system for each of their workers.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use integration_tests::deadline::until;
use integration_tests::proxy::Proxy;
use integration_tests::stack::Stack;
use integration_tests::store::{Kind, Store};

/// The systems, and the wires.
pub(crate) struct Ground {
    pub(crate) stack: Arc<Stack>,
    pub(crate) redis: Store,
    pub(crate) mongodb: Store,
    /// One set a worker.
    pub(crate) wires: Vec<Wires>,
}

/// How one worker reaches the systems.
pub(crate) struct Wires {
    pub(crate) kafka: Proxy,
    pub(crate) redis: Proxy,
    pub(crate) mongodb: Proxy,
}

impl Wires {
    pub(crate) fn heal(&self) {
        for wire in [&self.kafka, &self.redis, &self.mongodb] {
            wire.heal();
        }
    }
}

impl Ground {
    pub(crate) async fn prepare(stack: &Arc<Stack>) -> Result<Self> {
        let (redis, mongodb) = tokio::try_join!(stack.own_redis("redis-chaos"), stack.own_mongodb("mongodb-chaos"))?;
        let mut wires = Vec::new();
        for listener in &stack.behind_proxies {
            wires.push(Wires {
                kafka: Proxy::start(listener.advertised, listener.port).await?,
                redis: Proxy::start(0, redis.port).await?,
                mongodb: Proxy::start(0, mongodb.port).await?,
            });
        }
        Ok(Self { stack: Arc::clone(stack), redis, mongodb, wires })
    }

    pub(crate) fn store(&mut self, kind: Kind) -> &mut Store {
        match kind {
            Kind::Redis => &mut self.redis,
            Kind::MongoDb => &mut self.mongodb,
        }
    }

    /// Mends what a scenario that failed has left broken.
    pub(crate) async fn mend(&mut self) -> Result<()> {
        self.wires.iter().for_each(Wires::heal);
        let broker = self.stack.broker()?;
        // It fails where nothing is paused, which is as it should be.
        broker.unpause().await.ok();
        for container in [broker, self.stack.connect_worker()?] {
            if !container.is_running().await? {
                container.start().await?;
            }
        }
        for kind in [Kind::Redis, Kind::MongoDb] {
            let stack = Arc::clone(&self.stack);
            let store = self.store(kind);
            if !store.container.is_running().await.unwrap_or(false) && store.start().await.is_err() {
                stack.replace(store, None).await?;
            }
        }
        self.wait_for_broker().await?;
        self.stack.wait_for_connect().await
    }

    /// Waits until the broker answers.
    pub(crate) async fn wait_for_broker(&self) -> Result<()> {
        let topics = integration_tests::topics::Topics::new(&self.stack.kafka);
        until("the broker", async || topics.answer().context("the broker does not answer")).await
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        self.redis.remove().await?;
        self.mongodb.remove().await
    }
}
