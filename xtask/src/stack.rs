//! `up` and `down`: the real systems in containers that stay, with seeded rows, the connector and the engine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::connect;
use crate::docker::{CONTAINERS, NETWORKS, VOLUMES, docker, engine, remove, version};
use crate::images::{Images, copy_folder};
use crate::progress::{cache_dir, capture, cargo, plain, programs, root, run, say, target_dir};
use crate::seed;

const CONNECT_ADDRESS: &str = "127.0.0.1:18083";
const ROLES: [&str; 5] = ["mysql", "kafka", "connect", "redis", "mongodb"];
const STEP_LIMIT: Duration = Duration::from_secs(180);
/// What Compose gives to all that belongs to the project of deploy/compose.yaml.
const PROJECT: &str = "com.docker.compose.project=streamsync";
/// The addresses of the shipped configuration, and deploy/compose.yaml's ports for this machine.
const ADDRESSES: [(&str, &str); 3] =
    [("localhost:9092", "127.0.0.1:19092"), ("localhost:6379", "127.0.0.1:16379"), ("localhost:27017", "127.0.0.1:17017")];

/// Starts the stack, or brings it up to date.
pub(crate) fn up(customers: u32, orders: u32) -> Result<()> {
    engine()?;
    let guests = crate::build_guests()?;
    run("building streamsync", cargo().args(["build", "--workspace", "--bin", "streamsync"]))?;
    let images = Images::read()?;
    let provided = images.provide(&ROLES)?;
    let context = streamsync_context(&guests)?;
    let mut environment: Vec<(String, String)> =
        provided.iter().map(|(role, image)| (format!("{}_IMAGE", role.to_uppercase()), image.image.clone())).collect();
    environment.push(("STREAMSYNC_IMAGE".into(), images.build_streamsync(&context)?));
    let prometheus = images.official("prometheus");
    if let Some(image) = &prometheus {
        environment.push(("PROMETHEUS_IMAGE".into(), image.clone()));
    } else {
        say("Prometheus is left out: its image can't be pulled, and no package registry has it. /metrics is served all the same");
    }
    let compose = Compose::find(&provided.values().find(|image| image.built).map(|image| image.image.clone()))?;
    write_environment(&environment)?;

    say("starting MySQL, Kafka, Kafka Connect, Redis and MongoDB");
    capture("docker compose up", compose.command().args(["up", "-d"]).args(ROLES), STEP_LIMIT)?;
    wait_for_mysql(&compose)?;
    fill(&compose, customers, orders)?;
    register()?;
    say("starting streamsync");
    let mut started = vec!["up", "-d", "streamsync"];
    if prometheus.is_some() {
        started = vec!["--profile", "prometheus", "up", "-d", "streamsync", "prometheus"];
    }
    capture("docker compose up streamsync", compose.command().args(started), STEP_LIMIT)?;
    let stand_in = provided.get("mongodb").and_then(|image| image.stand_in.clone());
    wait_for_row(&compose)?;
    let config = write_config(&guests)?;
    show(&compose, &config, stand_in.as_deref(), prometheus.is_some());
    Ok(())
}

/// What `up` and `test` begin with.
pub(crate) fn images() -> Result<()> {
    engine()?;
    for (role, image) in Images::read()?.provide(&ROLES)? {
        let stand_in = image.stand_in.map(|product| format!(", a stand-in: {product}")).unwrap_or_default();
        say(format_args!("{role}: {}{}{stand_in}", image.image, if image.built { ", built here" } else { "" }));
    }
    Ok(())
}

/// Removes the stack's containers and volumes, whichever checkout started it: by Compose's label, so that neither its files nor Compose
/// itself need be here. Its data go with it, so nothing has to end in good order.
pub(crate) fn down() -> Result<()> {
    if version().is_none() {
        bail!("no Docker engine answers (`docker version`), so nothing can be removed: start the one that has the stack, and run again");
    }
    let mut found = false;
    for kind in [&CONTAINERS, &NETWORKS, &VOLUMES] {
        found |= remove(kind, PROJECT)?;
    }
    say(if found { "the stack and its data are gone" } else { "nothing to stop: there is no stack" });
    Ok(())
}

/// `docker compose`, or the stand-alone program of the same name.
struct Compose {
    program: PathBuf,
    plugin: bool,
}

impl Compose {
    /// `image`: a built one, from whose Debian the program is taken where this machine has none.
    fn find(image: &Option<String>) -> Result<Self> {
        if capture("docker compose version", docker().args(["compose", "version"]), Duration::from_secs(30)).is_ok() {
            return Ok(Self { program: "docker".into(), plugin: true });
        }
        let program = cache_dir()?.join("docker-compose");
        if capture("docker-compose version", Command::new(&program).arg("version"), Duration::from_secs(30)).is_ok() {
            return Ok(Self { program, plugin: false });
        }
        let Some(image) = image else {
            bail!("`docker compose` (version 2) is missing: install Docker's compose plug-in and run again");
        };
        say("fetching docker compose out of Debian's package");
        let out = tempfile::tempdir_in(cache_dir()?)?;
        let mut fetch = docker();
        fetch.args(["run", "--rm", "--entrypoint", "/bin/sh", "-v", &format!("{}:/out", out.path().display()), image, "-ec"]);
        fetch.arg(
            "cd /tmp && apt-get -o Acquire::Check-Valid-Until=false update -qq && apt-get download -qq docker-compose \
             && dpkg-deb -x docker-compose_*.deb x && cp x/usr/libexec/docker/cli-plugins/docker-compose /out/",
        );
        capture("fetch docker compose", &mut fetch, STEP_LIMIT)
            .context("`docker compose` (version 2) is missing and could not be fetched: install Docker's compose plug-in and run again")?;
        std::fs::rename(out.path().join("docker-compose"), &program).with_context(|| format!("keep {}", program.display()))?;
        Ok(Self { program, plugin: false })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.plugin {
            command.arg("compose");
        }
        command.arg("--env-file").arg(environment_file()).arg("-f").arg(root().join("deploy/compose.yaml"));
        command
    }
}

fn environment_file() -> PathBuf {
    target_dir().join("compose.env")
}

fn write_environment(variables: &[(String, String)]) -> Result<()> {
    let text: String = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    std::fs::write(environment_file(), text).with_context(|| format!("write {}", environment_file().display()))
}

/// The folder that the engine's image is built from.
fn streamsync_context(guests: &Path) -> Result<PathBuf> {
    let context = target_dir().join("images/streamsync");
    copy_folder(&root().join("deploy/images/streamsync"), &context)?;
    copy_folder(guests, &context.join("transforms"))?;
    for (from, name) in [(programs("debug").join("streamsync"), "streamsync"), (root().join("deploy/streamsync.toml"), "streamsync.toml")] {
        std::fs::copy(&from, context.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    strip(&context.join("streamsync"));
    Ok(context)
}

/// The shipped configuration for commands on this machine, with its modules beside it.
fn write_config(guests: &Path) -> Result<PathBuf> {
    let folder = target_dir().join("up");
    copy_folder(guests, &folder.join("transforms"))?;
    let shipped = root().join("deploy/streamsync.toml");
    let text = std::fs::read_to_string(&shipped).with_context(|| format!("read {}", shipped.display()))?;
    let file = folder.join("streamsync.toml");
    std::fs::write(&file, for_this_machine(text)).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

fn for_this_machine(shipped: String) -> String {
    ADDRESSES.iter().fold(shipped, |text, (from, to)| text.replace(from, to))
}

/// The image gets no debug information, where binutils are there to remove it.
fn strip(binary: &Path) {
    if let Err(error) = capture("strip", Command::new("strip").arg("--strip-debug").arg(binary), STEP_LIMIT) {
        say(format_args!("the engine's image keeps its debug information: {error:#}"));
    }
}

fn mysql(compose: &Compose) -> Command {
    let mut command = compose.command();
    command.args(["exec", "-T", "-e", "MYSQL_PWD=streamsync", "mysql", "mysql", "--protocol=TCP", "-h127.0.0.1", "-uroot"]);
    command.arg("--default-character-set=utf8mb4");
    command
}

fn wait_for_mysql(compose: &Compose) -> Result<()> {
    wait("MySQL", || {
        // The schema's files have run when the last one's user is there; until then only a socket is open.
        capture("mysql", mysql(compose).args(["-Nse", "SELECT user FROM mysql.user WHERE user = 'debezium'"]), STEP_LIMIT)
            .is_ok_and(|user| user.trim() == "debezium")
    })
}

fn fill(compose: &Compose, customers: u32, orders: u32) -> Result<()> {
    let file = target_dir().join("seed.sql");
    std::fs::write(&file, seed::sql(customers, orders))?;
    let input = std::fs::File::open(&file)?;
    let status = mysql(compose).stdin(Stdio::from(input)).status().context("start mysql")?;
    if !status.success() {
        bail!("the seed rows of {} were refused; MySQL's message stands above", file.display());
    }
    say(format_args!("MySQL has {customers} customers and {orders} orders"));
    Ok(())
}

fn register() -> Result<()> {
    let file = root().join("deploy/connect/ecommerce.json");
    let config = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    connect::register(CONNECT_ADDRESS, "ecommerce", &config, STEP_LIMIT)?;
    connect::wait_running(CONNECT_ADDRESS, "ecommerce", STEP_LIMIT)?;
    say("connector `ecommerce` runs");
    Ok(())
}

/// The first customer has arrived in Redis: all of the way works.
fn wait_for_row(compose: &Compose) -> Result<()> {
    let seen = wait("the first customer in Redis", || {
        capture("redis-cli", compose.command().args(["exec", "-T", "redis", "redis-cli", "GET", "customers:1"]), STEP_LIMIT)
            .is_ok_and(|document| document.starts_with('{'))
    });
    if seen.is_err() {
        let log =
            capture("docker compose logs", compose.command().args(["logs", "--no-log-prefix", "--tail", "10", "streamsync"]), STEP_LIMIT)?;
        plain(log);
    }
    seen.context("rows do not arrive; the engine's last messages stand above")
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    let mut told = Instant::now();
    while Instant::now() < deadline {
        if ready() {
            return Ok(());
        }
        if told.elapsed() > Duration::from_secs(10) {
            say(format_args!("waiting for {what}"));
            told = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    bail!("{what}: not there after {} s", STEP_LIMIT.as_secs())
}

fn show(compose: &Compose, config: &Path, stand_in: Option<&str>, prometheus: bool) {
    let container = |service: &str| {
        let id = capture("docker compose ps", compose.command().args(["ps", "-q", service]), STEP_LIMIT).unwrap_or_default();
        let name = capture("docker inspect", docker().args(["inspect", "--format", "{{.Name}}", id.trim()]), STEP_LIMIT);
        name.map_or_else(|_| format!("streamsync-{service}-1"), |name| name.trim().trim_start_matches('/').to_owned())
    };
    let (mysql, redis, mongodb, worker) = (container("mysql"), container("redis"), container("mongodb"), container("streamsync"));
    say("the stack is up; `cargo xtask down` removes it. Metrics: http://127.0.0.1:9464/metrics");
    if prometheus {
        say("Prometheus: http://127.0.0.1:19090");
    }
    if let Some(product) = stand_in {
        say(format_args!("MongoDB's place is taken by a stand-in, {product}"));
    }
    plain("\nTo try:");
    plain(format_args!(
        "docker exec -e MYSQL_PWD=streamsync {mysql} mysql --protocol=TCP -h127.0.0.1 -uroot ecommerce -e \"UPDATE customers SET name = 'Ada King' WHERE customer_id = 1\""
    ));
    plain(format_args!("docker exec {redis} redis-cli GET customers:1"));
    if stand_in.is_some() {
        plain(format_args!("docker exec {mongodb} /opt/secantus/bin/python /opt/secantus/find-one.py ecommerce customers 1"));
    } else {
        plain(format_args!("docker exec {mongodb} mongosh --quiet ecommerce --eval 'db.customers.findOne({{_id: 1}})'"));
    }
    let program = programs("debug").join("streamsync");
    plain(format_args!("\nThe worker alone: docker stop {worker}, docker start {worker}. Commands for this machine:"));
    plain(format_args!("{} generation show --config {}", program.display(), config.display()));
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;

    use super::{ADDRESSES, Result, for_this_machine, root};

    #[test]
    fn the_configuration_for_this_machine_has_the_ports_of_the_stack() -> Result<()> {
        let shipped = read_to_string(root().join("deploy/streamsync.toml"))?;
        let compose = read_to_string(root().join("deploy/compose.yaml"))?;
        for (from, to) in ADDRESSES {
            assert!(shipped.contains(from), "{from} is not in the shipped configuration");
            assert!(compose.contains(&format!("\"{to}:")), "{to} is no port of the stack");
        }
        assert!(!for_this_machine(shipped).contains("localhost"));
        Ok(())
    }
}
