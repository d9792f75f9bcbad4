//! Kafka and the stores alone: what the benchmark stands on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use testcontainers::core::IntoContainerPort as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};

use crate::stack::{Listeners, Starter, free_port, kafka_environment, launch, read_images, read_label, stand_in};
use crate::store::{Kind, Place, Store};

/// The server at its fastest is the hardest to keep up with: it keeps nothing on disk.
const VOLATILE_REDIS: &[&str] = &["redis-server", "--save", "", "--appendonly", "no"];

/// For a Redis that is here to answer.
const LOOK: Duration = Duration::from_secs(15);

/// Kafka, Redis and MongoDB.
pub struct Stores {
    /// As a client on this machine reaches it.
    pub kafka: String,
    /// Keeps nothing on disk.
    pub redis: Store,
    /// A server alone.
    pub mongodb: Store,
    /// The product in MongoDB's place, where it is not MongoDB.
    pub mongodb_stand_in: Option<String>,
    /// Whether Docker's port proxy stands before Redis and Kafka, and copies every byte once more on the cores that are measured.
    pub behind_proxy: bool,
    broker: ContainerAsync<GenericImage>,
}

impl Stores {
    /// Starts them beside each other, Redis and Kafka on this machine's own loopback where the Docker engine shares it.
    ///
    /// # Errors
    /// An image is missing, or a system does not answer.
    pub async fn start() -> Result<Self> {
        let (images, label) = (read_images()?, read_label()?);
        let network = format!("streamsync-bench-{}", std::process::id());
        let starter = Starter { images: &images, network: &network, label: &label };
        let mongodb = starter.store(Place::new(Kind::MongoDb, "mongodb", &[])?, None);
        let on_loopback = redis_on_loopback(&starter).await.ok();
        let behind_proxy = on_loopback.is_none();
        let port = free_port()?;
        let broker = if behind_proxy {
            let listeners = Listeners::behind_ports(&starter.host("kafka"), port, &[]);
            kafka_environment(starter.request("kafka")?, &listeners).with_mapped_port(port, 19092.tcp())
        } else {
            kafka_environment(starter.request("kafka")?.with_network("host"), &Listeners::on_loopback(port, free_port()?))
        };
        let redis = async {
            match on_loopback {
                Some(redis) => Ok(redis),
                None => starter.store(Place::new(Kind::Redis, "redis", VOLATILE_REDIS)?, None).await,
            }
        };
        let (broker, redis, mongodb) = tokio::try_join!(launch(broker), redis, mongodb)?;
        let mongodb_stand_in = stand_in(&images).map(str::to_owned);
        Ok(Self { kafka: format!("127.0.0.1:{port}"), redis, mongodb, mongodb_stand_in, behind_proxy, broker })
    }

    /// Removes the containers.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn remove(self) -> Result<()> {
        for container in [self.broker, self.redis.container, self.mongodb.container] {
            container.rm().await?;
        }
        Ok(())
    }
}

/// An engine on another machine, or one without root's rights, has another loopback: nobody answers here then.
async fn redis_on_loopback(starter: &Starter<'_>) -> Result<Store> {
    let place = Place::new(Kind::Redis, "redis-on-loopback", VOLATILE_REDIS)?;
    let port = place.port.to_string();
    let arguments = place.arguments.iter().copied().chain(["--bind", "127.0.0.1", "--port", &port]);
    let request = starter.named("redis", &place.name)?.with_network("host").with_cmd(arguments);
    let store = Store { port: place.port, place, container: launch(request).await? };
    tokio::time::timeout(LOOK, store.wait()).await.context("nobody answers")??;
    Ok(store)
}
