//! A worker: the `streamsync` program as its users run it, a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use crate::deadline::until;
use crate::metrics::Metrics;

/// A running process; killed when it goes.
pub struct Worker {
    child: Child,
    http: String,
    log: PathBuf,
    client: reqwest::Client,
}

/// Variables that a worker's process gets.
pub type Environment = [(String, String)];

/// A worker that was stopped answers nothing: nobody waits for it.
const HTTP_LIMIT: std::time::Duration = std::time::Duration::from_secs(3);

impl Worker {
    /// Starts `streamsync run` and waits until it serves HTTP.
    ///
    /// # Errors
    /// It stops, or does not answer; the error holds the end of its log.
    pub async fn start(config: &Path, http_port: u16, log: &Path, environment: &Environment) -> Result<Self> {
        Self::start_program(&program()?, config, http_port, log, environment).await
    }

    /// The same with another build of the program.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn start_program(program: &Path, config: &Path, http_port: u16, log: &Path, environment: &Environment) -> Result<Self> {
        let out = std::fs::File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        let mut command = streamsync(program, environment);
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let child = command.spawn().context("start streamsync")?;
        let client = crate::web::builder().timeout(HTTP_LIMIT).build()?;
        let mut worker = Self { child, http: format!("http://127.0.0.1:{http_port}"), log: log.to_owned(), client };
        let live = format!("{}/live", worker.http);
        until("the worker's /live", async || {
            if let Some(status) = worker.child.try_wait()? {
                // No use to wait any longer; the outer check turns it into the error.
                return Ok(Some(status));
            }
            worker.client.get(&live).send().await?.error_for_status()?;
            Ok(None)
        })
        .await
        .and_then(|stopped| stopped.map_or(Ok(()), |status| bail!("the worker stopped at once: {status}")))
        .with_context(|| worker.log_end())?;
        Ok(worker)
    }

    /// Its process id; `None` once it has stopped.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL: no chance to settle anything.
    ///
    /// # Errors
    /// It had stopped before.
    pub async fn kill(mut self) -> Result<()> {
        self.assert_alive()?;
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, and waits until it has drained and stopped.
    ///
    /// # Errors
    /// It does not stop in time, or not with success.
    pub async fn stop(mut self) -> Result<()> {
        self.assert_alive()?;
        self.signal("TERM").await?;
        let status = tokio::time::timeout(crate::deadline::PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("the worker does not stop\n{}", self.log_end()))??;
        anyhow::ensure!(status.success(), "the worker stopped with {status}\n{}", self.log_end());
        Ok(())
    }

    /// The same where a route has halted: the worker says so by its exit status.
    ///
    /// # Errors
    /// It does not stop in time, or with success.
    pub async fn stop_halted(mut self) -> Result<()> {
        self.assert_alive()?;
        self.signal("TERM").await?;
        let status = tokio::time::timeout(crate::deadline::PATIENCE, self.child.wait()).await.context("the worker does not stop")??;
        anyhow::ensure!(status.code() == Some(1), "a worker with a halted route stopped with {status}\n{}", self.log_end());
        Ok(())
    }

    /// Sends a signal by its name without SIG.
    ///
    /// # Errors
    /// There is no such process any more.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().context("it stopped before")?;
        let sent = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().await?;
        anyhow::ensure!(sent.success(), "SIG{name} could not be sent");
        Ok(())
    }

    /// Fails where the process has stopped.
    ///
    /// # Errors
    /// Its exit status and the end of its log.
    pub fn assert_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the worker stopped by itself: {status}\n{}", self.log_end());
        }
        Ok(())
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn metrics(&self) -> Result<Metrics> {
        let text = self.client.get(format!("{}/metrics", self.http)).send().await?.error_for_status()?.text().await?;
        Metrics::parse(&text)
    }

    /// Whether `/ready` says yes.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn is_ready(&self) -> Result<bool> {
        Ok(self.client.get(format!("{}/ready", self.http)).send().await?.status().is_success())
    }

    fn log_end(&self) -> String {
        log_end(&self.log)
    }
}

/// Runs one command of the program to its end: whether it succeeded, and what it said.
///
/// # Errors
/// It does not start, or does not end in time.
pub async fn attempt(config: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let (success, printed, complained) = output(config, arguments).await?;
    Ok((success, format!("{printed}{complained}")))
}

/// The same, with what it printed to stdout alone.
///
/// # Errors
/// It does not start, or does not end in time.
pub async fn printed(config: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let (success, printed, _) = output(config, arguments).await?;
    Ok((success, printed))
}

async fn output(config: &Path, arguments: &[&str]) -> Result<(bool, String, String)> {
    let mut command = streamsync(&program()?, &[]);
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(crate::deadline::PATIENCE, command.output()).await.context("the command does not end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

/// Where the program is that is tested.
///
/// # Errors
/// Nobody told.
pub fn program() -> Result<PathBuf> {
    let program = std::env::var_os("STREAMSYNC_TEST_BINARY").context("STREAMSYNC_TEST_BINARY is not set: start by `cargo xtask test`")?;
    Ok(PathBuf::from(program))
}

/// A program with these variables and none of the tests' own: it takes those that begin with STREAMSYNC_ for settings.
fn streamsync(program: &Path, environment: &Environment) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STREAMSYNC_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// The last lines of a worker's log.
#[must_use]
pub fn log_end(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{} ends with:\n{}", log.display(), lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n"))
}
