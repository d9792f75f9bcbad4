//! Holds a worker's process at a place in its code: the other side of the engine's `failpoint.rs`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::deadline::until;

/// The folder of one worker.
#[derive(Clone)]
pub struct Failpoints(PathBuf);

/// A process that is held. It goes on when this is let go, and stays held for as long as it lives otherwise.
pub struct Held(PathBuf);

impl Failpoints {
    /// An empty folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Nothing is armed and nothing held: for the next process in the worker's place.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn clear(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.0)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// What the worker's process must be told.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Whoever passes the point next will be held.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn arm(&self, point: &str) -> Result<()> {
        let file = self.0.join(format!("{point}.armed"));
        std::fs::write(&file, "").with_context(|| format!("write {}", file.display()))
    }

    /// Arms a point and waits until the worker is held there.
    ///
    /// # Errors
    /// The worker does not pass it in time: nothing happens, or it is a build without failpoints.
    pub async fn hold(&self, point: &str) -> Result<Held> {
        self.arm(point)?;
        self.reached(point).await
    }

    /// Waits until the worker is held at an armed point.
    ///
    /// # Errors
    /// The worker does not pass it in time.
    pub async fn reached(&self, point: &str) -> Result<Held> {
        let file = self.0.join(format!("{point}.reached"));
        until(&format!("failpoint {point}"), async || {
            ensure!(file.exists(), "the worker has not passed it");
            Ok(())
        })
        .await?;
        Ok(Held(file))
    }
}

impl Held {
    /// The worker goes on.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn let_go(self) -> Result<()> {
        std::fs::remove_file(&self.0).with_context(|| format!("remove {}", self.0.display()))
    }
}
