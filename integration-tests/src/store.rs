//! A store in a container that cases may stop, kill, empty and restore.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testcontainers::{ContainerAsync, GenericImage};
use tokio::process::Command;

use crate::checker::redis_connection;
use crate::deadline::until;
use crate::stack::free_port;

/// Which product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis.
    Redis,
    /// MongoDB, or what stands for it.
    MongoDb,
}

/// What stays of a store when another one takes its place.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which product.
    pub kind: Kind,
    /// The container's name among those of the suite.
    pub name: String,
    /// On the loopback.
    pub port: u16,
    /// What the server is started with; empty: what its image says.
    pub arguments: &'static [&'static str],
}

/// A running store, on a port that stays when it is stopped and started, and when another one takes its place.
pub struct Store {
    /// On the loopback.
    pub port: u16,
    /// What it is.
    pub place: Place,
    /// The container.
    pub container: ContainerAsync<GenericImage>,
}

impl Place {
    /// On a free port.
    ///
    /// # Errors
    /// There is none.
    pub fn new(kind: Kind, name: &str, arguments: &'static [&'static str]) -> Result<Self> {
        Ok(Self { kind, name: name.to_owned(), port: free_port()?, arguments })
    }
}

impl Kind {
    /// The image's role, and the port that the server has inside.
    #[must_use]
    pub const fn role(self) -> (&'static str, u16) {
        match self {
            Self::Redis => ("redis", 6379),
            Self::MongoDb => ("mongodb", 27017),
        }
    }

    /// The folder with all that the server keeps.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Redis => "/data",
            Self::MongoDb => "/data/db",
        }
    }
}

impl Store {
    /// Stops the server; its port refuses connections from then on.
    ///
    /// # Errors
    /// The container can't be stopped.
    pub async fn stop(&self) -> Result<()> {
        Ok(self.container.stop_with_timeout(Some(10)).await?)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The container does not run.
    pub async fn kill(&self) -> Result<()> {
        kill(&self.container).await
    }

    /// Removes the container with all that it held.
    ///
    /// # Errors
    /// There is none.
    pub async fn remove(&self) -> Result<()> {
        docker(&["rm", "-f", "-v", self.container.id()]).await
    }

    /// Starts it again, with its data, and waits until it answers.
    ///
    /// # Errors
    /// The container can't be started, or the server does not answer.
    pub async fn start(&self) -> Result<()> {
        self.container.start().await?;
        self.wait().await
    }

    /// Stops the server, copies all that it keeps into a folder that is made, and starts it again.
    ///
    /// # Errors
    /// The container can't be stopped, copied from, or started.
    pub async fn back_up(&self, into: &Path) -> Result<()> {
        self.stop().await?;
        std::fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
        let from = format!("{}:{}/.", self.container.id(), self.place.kind.folder());
        docker(&["cp", "-q", &from, &into.to_string_lossy()]).await?;
        self.start().await
    }

    /// Deletes everything through the server, as a hand that slipped would.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn flush(&self) -> Result<()> {
        match self.place.kind {
            Kind::Redis => {
                let mut connection = redis_connection(&self.redis()?).await?;
                Ok(redis::cmd("FLUSHALL").exec_async(&mut connection).await?)
            }
            Kind::MongoDb => {
                let client = self.mongodb().await?;
                for name in client.list_database_names().await? {
                    if !["admin", "config", "local"].contains(&name.as_str()) {
                        client.database(&name).drop().await?;
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) async fn wait(&self) -> Result<()> {
        match self.place.kind {
            Kind::Redis => {
                let client = self.redis()?;
                until("Redis", async || {
                    let mut connection = redis_connection(&client).await?;
                    Ok(redis::cmd("PING").exec_async(&mut connection).await?)
                })
                .await
            }
            Kind::MongoDb => {
                let client = self.mongodb().await?;
                until("MongoDB", async || {
                    client.database("admin").run_command(bson::doc! { "ping": 1 }).await?;
                    Ok(())
                })
                .await
            }
        }
    }

    fn redis(&self) -> Result<redis::Client> {
        Ok(redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?)
    }

    async fn mongodb(&self) -> Result<mongodb::Client> {
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true&serverSelectionTimeoutMS=1000", self.port);
        Ok(mongodb::Client::with_uri_str(uri).await?)
    }
}

/// SIGKILL for a container's process.
///
/// # Errors
/// It does not run.
pub async fn kill(container: &ContainerAsync<GenericImage>) -> Result<()> {
    docker(&["kill", container.id()]).await
}

async fn docker(arguments: &[&str]) -> Result<()> {
    let output = Command::new("docker").args(arguments).output().await.context("start docker")?;
    ensure!(output.status.success(), "docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
