//! Carries out changes, one after the other: loads, checks, compiles and tries a module on a thread of its own, then hands it to the lanes.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::prepare::{Again, Prepared, files, prepare, promote};
use super::request::Message;
use super::watch::Watch;
use super::{Change, Deployed, Desk, Done, Refusal, RouteRollout, Shown, Tried};
use crate::config::{ModuleSource, RouteSettings, Settings, ShadowSettings, TransformSettings};
use crate::http::{Health, ShownModule};
use crate::lane::Halt;
use crate::machine::Machine;
use crate::metrics::{Metrics, SwapResult};
use crate::transform::Module;

/// How long an answer waits for the lanes. Those that are late adopt a change all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// A period that no worker lives to see; the branch is off then.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// What this worker's routes run, and what they ran before.
pub struct Rollout {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    machine: Machine,
    routes: Vec<Route>,
    watch: Watch,
}

struct Route {
    rollout: Arc<RouteRollout>,
    /// As the configuration last had it; a change over HTTP leaves it alone.
    configured: TransformSettings,
    /// It was refused: SIGHUP and its files have it tried again.
    pending: bool,
    /// What ran before what runs, by digest.
    before: Option<Arc<Deployed>>,
}

impl Route {
    /// Whether what the configuration last had is what runs.
    fn is_in_force(&self) -> bool {
        let deployed = self.rollout.deployed();
        let second = deployed.second.as_ref().map(|second| (&second.route.transform, second.canary_percent));
        let shadow = self.configured.shadow.as_ref().map(|shadow| (&shadow.transform, shadow.canary_percent));
        deployed.route.transform == self.configured && second == shadow
    }
}

impl Rollout {
    /// Every route with its configured module, in the order of the settings.
    pub fn new(settings: &Arc<Settings>, modules: &[Arc<Module>], metrics: &Arc<Metrics>, health: &Arc<Health>, machine: Machine) -> Self {
        let route = |(route, module): (&Arc<RouteSettings>, &Arc<Module>)| Route {
            configured: route.transform.clone(),
            pending: false,
            rollout: RouteRollout::new(Arc::clone(settings), Arc::clone(route), Arc::clone(module)),
            before: None,
        };
        let routes: Vec<Route> = settings.routes.iter().zip(modules).map(route).collect();
        let mut watch = Watch::default();
        for route in &routes {
            files(&route.configured).for_each(|file| watch.known(&file));
            let deployed = route.rollout.deployed();
            metrics.route(&deployed.route.name).module(&deployed.module.digest);
            health.module(&deployed.route.name, shown(&deployed));
        }
        Self { settings: Arc::clone(settings), metrics: Arc::clone(metrics), health: Arc::clone(health), machine, routes, watch }
    }

    /// What the lanes of each route share, in the order of the settings.
    pub fn routes(&self) -> Vec<Arc<RouteRollout>> {
        self.routes.iter().map(|route| Arc::clone(&route.rollout)).collect()
    }

    /// Serves the desk and watches the files, until `stop` resolves: then a change that is being prepared is dropped.
    pub async fn run(mut self, mut desk: Desk, stop: impl Future<Output = ()>) {
        let every = self.settings.transforms.watch;
        let mut looks = tokio::time::interval(every.unwrap_or(NEVER));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        tokio::pin!(stop);
        let mut begun = false;
        loop {
            let work = async {
                if !begun {
                    self.begin().await;
                    begun = true;
                }
                tokio::select! {
                    biased;
                    Some(message) = desk.0.recv() => self.message(message).await,
                    _ = looks.tick(), if every.is_some() => self.look_at_files().await,
                    else => std::future::pending::<()>().await,
                }
            };
            tokio::select! { biased; () = &mut stop => return, () = work => {} }
        }
    }

    /// Second modules are loaded while the first ones work already: a worker's start does not wait for them.
    async fn begin(&mut self) {
        for index in 0..self.routes.len() {
            let Some(transform) = self.routes.get(index).map(|route| route.configured.clone()) else { return };
            if transform.shadow.is_some() {
                self.apply(index, transform, &Again::default(), "start").await;
            }
        }
    }

    async fn message(&mut self, message: Message) {
        match message {
            Message::Change { route, change, reply } => {
                let answer = self.change(&route, change).await;
                if reply.send(answer).is_err() {
                    tracing::debug!(route, "whoever asked for a change has gone");
                }
            }
            Message::Show { route, reply } => {
                let shown = self.index(&route).and_then(|index| self.show(index));
                if reply.send(shown).is_err() {
                    tracing::debug!(route, "whoever asked for the comparison has gone");
                }
            }
            Message::Reload { settings, done } => {
                self.reload(&settings).await;
                if done.send(()).is_err() {
                    tracing::debug!("whoever handed over the configuration has gone");
                }
            }
        }
    }

    fn index(&self, name: &str) -> Result<usize, Refusal> {
        let known = || self.settings.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.routes.iter().position(|route| route.rollout.deployed().route.name == name);
        found.ok_or_else(|| Refusal::NoRoute { route: name.to_owned(), known: known() })
    }

    fn show(&self, index: usize) -> Result<Shown, Refusal> {
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        let deployed = route.rollout.deployed();
        let Some(second) = &deployed.second else { return Err(Refusal::NoSecond { route: deployed.route.name.clone() }) };
        Ok(Shown {
            digest: second.module.digest.clone(),
            canary_percent: second.canary_percent,
            comparison: route.rollout.comparison().clone(),
        })
    }

    async fn change(&mut self, name: &str, change: Change) -> Result<Done, Refusal> {
        let index = self.index(name)?;
        let done = self.carry_out(index, name, change).await?;
        // From here on what was changed over HTTP stays.
        if let Some(route) = self.routes.get_mut(index) {
            route.pending = false;
        }
        Ok(done)
    }

    async fn carry_out(&mut self, index: usize, name: &str, change: Change) -> Result<Done, Refusal> {
        match change {
            Change::Swap { module, sha256 } => {
                let running = self.running(index)?;
                self.check_pin(index)?;
                let wanted = TransformSettings { shadow: running.shadow.clone(), ..self.named(index, name, &module, sha256)? };
                let again = Again { first: wanted.module.file().map(Path::to_owned).into_iter().collect(), ..Again::default() };
                let prepared = self.prepare(index, wanted, again).await;
                self.settle(index, "HTTP", prepared).await
            }
            Change::Shadow { module, sha256, canary_percent } => {
                let running = self.running(index)?;
                if canary_percent > 0 {
                    self.check_pin(index)?;
                }
                let transform = self.named(index, name, &module, sha256)?;
                let again = Again { second: transform.module.file().map(Path::to_owned).into_iter().collect(), ..Again::default() };
                let wanted = TransformSettings { shadow: Some(Box::new(ShadowSettings { transform, canary_percent })), ..running };
                let mut prepared = self.prepare(index, wanted, again).await;
                if let Ok(Some(Prepared { second_refused, .. })) = &mut prepared
                    && let Some(refusal) = second_refused.take()
                {
                    prepared = Err(refusal);
                }
                self.settle(index, "HTTP", prepared).await
            }
            Change::Unshadow => {
                let wanted = TransformSettings { shadow: None, ..self.running(index)? };
                let prepared = self.prepare(index, wanted, Again::default()).await;
                self.settle(index, "HTTP", prepared).await
            }
            Change::Promote => self.promote(index).await,
            Change::Rollback => self.roll_back(index).await,
        }
    }

    /// The transform section in force.
    fn running(&self, index: usize) -> Result<TransformSettings, Refusal> {
        self.routes.get(index).map(|route| route.rollout.deployed().route.transform.clone()).ok_or(Refusal::Stopped)
    }

    /// What the configuration pins is changed by the configuration.
    fn check_pin(&self, index: usize) -> Result<(), Refusal> {
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        match &route.configured.sha256 {
            Some(pinned) => Err(Refusal::Pinned { route: route.rollout.deployed().route.name.clone(), pinned: pinned.clone() }),
            None => Ok(()),
        }
    }

    /// Modules of the route are signed with the key that the configuration names, whatever names them.
    fn check_key(&self, index: usize, transform: &TransformSettings) -> Result<(), Refusal> {
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        match &route.configured.signature_key {
            Some(key) if transform.signature_key.as_ref() != Some(key) => {
                Err(Refusal::OtherKey { route: route.rollout.deployed().route.name.clone(), module: transform.module.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The route's transform section with another module, and without a second one.
    fn named(&self, index: usize, route: &str, module: &str, sha256: Option<String>) -> Result<TransformSettings, Refusal> {
        let Some(known) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        // After a rollback the section in force may know another key, or none.
        let signature_key = known.configured.signature_key.clone();
        let like = known.rollout.deployed().route.transform.clone();
        let malformed = |message: &str| Refusal::Malformed { message: message.to_owned() };
        if module.is_empty() {
            return Err(malformed("module is empty: name the component's .wasm file"));
        }
        if sha256.as_ref().is_some_and(|digest| digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(malformed("sha256 is no SHA-256: write the 64 hexadecimal digits that sha256sum prints"));
        }
        let module = ModuleSource::parse(module, &self.settings.directory, route);
        let module = module.map_err(|(message, remedy)| malformed(&format!("{message}: {remedy}")))?;
        let sha256 = sha256.map(|digest| digest.to_ascii_lowercase());
        Ok(TransformSettings { module, sha256, signature_key, shadow: None, ..like })
    }

    /// Loads and tries a module, while the lanes go on with the one that they have. What runs is loaded again only where its file is to be
    /// read `again`.
    async fn prepare(&mut self, index: usize, wanted: TransformSettings, again: Again) -> Result<Option<Prepared>, Refusal> {
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        // A file that is not read now may have changed a moment ago: that is still to be noticed.
        files(&wanted).for_each(|file| self.watch.begin(&file));
        again.first.iter().chain(&again.second).for_each(|file| self.watch.known(file));
        let rollout = Arc::clone(&route.rollout);
        let recent = rollout.recent().batches();
        let prepared = self.machine.away(move || prepare(&rollout, wanted, &again, &recent)).await;
        prepared.unwrap_or_else(|| Err(Refusal::Defect))
    }

    /// What was prepared runs from now on, or the refusal is told to everyone.
    async fn settle(&mut self, index: usize, cause: &'static str, prepared: Result<Option<Prepared>, Refusal>) -> Result<Done, Refusal> {
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        let current = route.rollout.deployed();
        match prepared {
            Ok(Some(mut prepared)) => {
                let second_refused = prepared.second_refused.take();
                let done = self.deploy(index, prepared, cause).await;
                if let Some(refusal) = second_refused {
                    self.refused(&current, cause, &refusal);
                }
                Ok(done)
            }
            Ok(None) => {
                let lanes = route.rollout.adopted(current.number, Duration::ZERO).await;
                Ok(Done { halted: why(route.rollout.halted()), ..done(&current, &current, Tried::Runs, lanes) })
            }
            Err(refusal) => {
                self.refused(&current, cause, &refusal);
                Err(refusal)
            }
        }
    }

    fn refused(&self, current: &Deployed, cause: &'static str, refusal: &Refusal) {
        let name = &current.route.name;
        tracing::error!(route = name, cause, error = %refusal, "module refused");
        self.metrics.route(name).swap(SwapResult::Refused);
        self.health.module_refused(name, &refusal.in_public());
    }

    /// The second module is the first from now on, for all keys.
    async fn promote(&mut self, index: usize) -> Result<Done, Refusal> {
        self.check_pin(index)?;
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        let current = route.rollout.deployed();
        let Some(second) = &current.second else { return Err(Refusal::NoSecond { route: current.route.name.clone() }) };
        self.check_key(index, &second.route.transform)?;
        let (rollout, second) = (Arc::clone(&route.rollout), Arc::clone(second));
        let recent = rollout.recent().batches();
        let promoted = self.machine.away(move || promote(&rollout, &second, &recent)).await;
        let promoted = promoted.unwrap_or_else(|| Err(Refusal::Defect));
        self.settle(index, "promote", promoted.map(Some)).await
    }

    async fn roll_back(&mut self, index: usize) -> Result<Done, Refusal> {
        self.check_pin(index)?;
        let Some(route) = self.routes.get(index) else { return Err(Refusal::Stopped) };
        let current = route.rollout.deployed();
        let Some(before) = &route.before else { return Err(Refusal::NoneBefore { route: current.route.name.clone() }) };
        self.check_key(index, &before.route.transform)?;
        let (route, module, second) = (Arc::clone(&before.route), Arc::clone(&before.module), before.second.clone());
        let next = current.next(route, module, second);
        // Its file may hold what is rolled back from: only a later change of it counts.
        files(&next.route.transform).for_each(|file| self.watch.known(&file));
        let (tried, result) = (Tried::RanBefore, SwapResult::RolledBack);
        Ok(self.deploy(index, Prepared { next, tried, result, left_out: Vec::new(), second_refused: None }, "rollback").await)
    }

    async fn deploy(&mut self, index: usize, prepared: Prepared, cause: &'static str) -> Done {
        let Prepared { next, tried, result, left_out, second_refused: _ } = prepared;
        let number = next.number;
        let Some(route) = self.routes.get_mut(index) else { return Done::default() };
        let before = route.rollout.deployed();
        let was_halted = route.rollout.halted().is_some();
        route.rollout.deploy(next);
        let next = route.rollout.deployed();
        let name = &next.route.name;
        // A rollback goes back to another first module: neither other settings nor a second one that comes or goes are such a step.
        if next.module.digest != before.module.digest {
            route.before = Some(Arc::clone(&before));
        }
        if !Arc::ptr_eq(&next.module, &before.module) {
            self.metrics.route(name).module(&next.module.digest);
            self.metrics.route(name).swap(result);
        }
        self.health.module(name, shown(&next));
        let lanes = route.rollout.adopted(number, PATIENCE).await;
        for stuck in route.rollout.stuck() {
            self.health.module_refused(name, &stuck);
        }
        let halted = route.rollout.still_halted(PATIENCE).await;
        let lifted = was_halted && halted.is_none();
        let done = Done { lifted, halted: why(halted), left_out, ..done(&next, &before, tried, lanes) };
        tracing::info!(
            route = name,
            cause,
            module = done.name,
            version = done.version,
            sha256 = done.digest,
            before = done.before,
            tried = tried.events(),
            partitions = done.partitions,
            late = done.late,
            lifted = done.lifted,
            halted = done.halted,
            left_out = (!done.left_out.is_empty()).then(|| done.left_out.join(", ")),
            "module changed"
        );
        done
    }

    /// Whatever file has changed is loaded, where it is what its route runs.
    async fn look_at_files(&mut self) {
        // A section that was refused may have waited for its file.
        let pending = |route: &Route| route.pending.then(|| route.configured.clone());
        let wanted = self.routes.iter().enumerate().flat_map(|(index, route)| {
            let running = route.rollout.deployed().route.transform.clone();
            pending(route).into_iter().chain(Some(running)).map(move |transform| (index, transform))
        });
        let wanted: Vec<(usize, TransformSettings)> = wanted.collect();
        let watched: Vec<PathBuf> = wanted.iter().flat_map(|(_, transform)| files(transform)).collect();
        let mut watch = std::mem::take(&mut self.watch);
        let looked = self.machine.away(move || {
            // A file that several routes run is looked at once.
            let changed: BTreeSet<PathBuf> =
                watched.iter().collect::<BTreeSet<_>>().into_iter().filter(|file| watch.changed(file)).cloned().collect();
            (watch, changed)
        });
        let Some((watch, changed)) = looked.await else { return };
        self.watch = watch;
        let mut done = None;
        for (index, transform) in wanted {
            if done == Some(index) || !files(&transform).any(|file| changed.contains(&file)) {
                continue;
            }
            self.apply(index, transform, &Again::changed(&changed), "file changed").await;
            done = Some(index);
        }
    }

    /// The configuration was read anew. Only the routes' transforms can change while a worker runs.
    async fn reload(&mut self, settings: &Settings) {
        let restart = self.settings.needs_restart_for(settings);
        if !restart.is_empty() {
            tracing::warn!(
                changed = restart.join(", "),
                "the configuration has changes that need a restart; transforms alone are taken over"
            );
        }
        let all = settings.routes.iter().flat_map(|route| files(&route.transform));
        let changed: BTreeSet<PathBuf> = all.filter(|file| self.watch.differs(file)).collect();
        for index in 0..self.routes.len() {
            let Some(route) = self.routes.get_mut(index) else { return };
            let deployed = route.rollout.deployed();
            let Some(wanted) = settings.routes.iter().find(|wanted| wanted.name == deployed.route.name) else { continue };
            let wanted = wanted.transform.clone();
            let is_new = wanted != route.configured || route.pending;
            route.configured = wanted.clone();
            if !is_new && wanted != deployed.route.transform {
                tracing::info!(route = deployed.route.name, "its transform section is what it was: what was changed over HTTP stays");
                continue;
            }
            if is_new || files(&wanted).any(|file| changed.contains(&file)) {
                self.apply(index, wanted, &Again::changed(&changed), "SIGHUP").await;
            }
        }
    }

    /// The refusal, if any, is in the log, on the status page and in the metrics: nobody waits for it.
    async fn apply(&mut self, index: usize, wanted: TransformSettings, again: &Again, cause: &'static str) {
        let is_configured = self.routes.get(index).is_some_and(|route| route.configured == wanted);
        let prepared = self.prepare(index, wanted, again.clone()).await;
        if let Err(refusal) = self.settle(index, cause, prepared).await {
            tracing::debug!(%refusal, "nothing was changed");
        }
        if is_configured && let Some(route) = self.routes.get_mut(index) {
            route.pending = !route.is_in_force();
        }
    }
}

fn done(now: &Deployed, before: &Deployed, tried: Tried, (partitions, late): (usize, usize)) -> Done {
    Done {
        name: now.module.name.clone(),
        version: now.module.version.clone(),
        digest: now.module.digest.clone(),
        before: before.module.digest.clone(),
        tried,
        partitions,
        late,
        lifted: false,
        halted: None,
        left_out: Vec::new(),
    }
}

fn why(halt: Option<Halt>) -> Option<String> {
    halt.map(|halt| halt.message)
}

fn shown(deployed: &Deployed) -> ShownModule {
    let Module { name, version, digest, .. } = &*deployed.module;
    let second = deployed.second.as_ref().map(|second| (second.module.digest.clone(), second.canary_percent));
    ShownModule { name: name.clone(), version: version.clone(), digest: digest.clone(), second }
}
