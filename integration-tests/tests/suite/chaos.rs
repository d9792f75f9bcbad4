//! Faults on the real systems, one scenario after the other: two or three workers sync a shop that goes on changing MySQL, and when the
//! faults have ended both stores hold exactly what MySQL holds.

mod clock;
mod connect;
mod ground;
mod kafka;
mod kills;
mod network;
mod rig;
mod stores;
mod zombies;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use integration_tests::stack::Stack;
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;

use ground::Ground;
use rig::Verdict;

type Running<'g> = Pin<Box<dyn Future<Output = Result<Verdict>> + 'g>>;

/// A scenario's name and way.
struct Scenario {
    name: &'static str,
    /// Whether `cargo xtask test` runs it too.
    short: bool,
    run: for<'g> fn(&'g mut Ground) -> Running<'g>,
}

/// The functions of these names, in this order; those of the short form are marked.
macro_rules! scenarios {
    (@short) => { false };
    (@short short) => { true };
    ($($module:ident::$name:ident $($short:ident)?),* $(,)?) => {
        const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            short: scenarios!(@short $($short)?),
            run: |ground| Box::pin($module::$name(ground)),
        }),*];
    };
}

scenarios![
    kills::kill_before_write,
    kills::kill_between_sinks short,
    kills::kill_before_commit,
    kills::kill_inside_rebalance,
    zombies::zombie_frozen,
    zombies::zombie_writes_late short,
    kafka::broker_killed,
    kafka::coordinator_lost,
    kafka::group_rewound,
    kafka::dead_letters_unavailable short,
    stores::redis_killed,
    stores::mongodb_killed,
    stores::redis_emptied,
    stores::mongodb_emptied,
    stores::redis_restored,
    stores::mongodb_restored,
    stores::redis_flushed,
    network::kafka_cut_both_ways,
    network::kafka_cut_one_way,
    network::stores_cut_both_ways,
    network::stores_cut_one_way,
    connect::connect_killed,
    connect::connect_offsets_deleted,
    clock::clock_moved,
];

/// Which scenarios are run.
pub(crate) enum Choice {
    /// The few that `cargo xtask test` has time for.
    Short,
    /// All, or those of these names.
    Named(Vec<String>),
}

/// What has been seen of the scenarios so far.
pub(crate) struct Chaos {
    ground: tokio::sync::Mutex<Option<Ground>>,
    rows: Mutex<Vec<(&'static str, Result<Verdict, String>)>>,
}

impl Choice {
    /// `cargo xtask chaos` says `all`, or names.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let names: Vec<String> = if text == "all" { Vec::new() } else { text.split(',').map(str::to_owned).collect() };
        for name in &names {
            let known = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
            anyhow::ensure!(SCENARIOS.iter().any(|scenario| scenario.name == name), "there is no scenario {name:?}; there are {}", known());
        }
        Ok(Self::Named(names))
    }

    fn takes(&self, scenario: &Scenario) -> bool {
        match self {
            Self::Short => scenario.short,
            Self::Named(names) => names.is_empty() || names.iter().any(|name| name == scenario.name),
        }
    }
}

impl Chaos {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { ground: tokio::sync::Mutex::new(None), rows: Mutex::default() })
    }

    /// The chosen scenarios. They must run one after the other: they share a broker that some of them kill.
    pub(crate) fn trials(self: &Arc<Self>, choice: &Choice, runtime: &Arc<Runtime>, stack: &Arc<Stack>) -> Vec<Trial> {
        let trial = |scenario: &'static Scenario| {
            let (chaos, runtime, stack) = (Arc::clone(self), Arc::clone(runtime), Arc::clone(stack));
            Trial::test(scenario.name, move || {
                let outcome = runtime.block_on(chaos.run(scenario, &stack)).map_err(|error| format!("{error:#}"));
                let failed = outcome.as_ref().err().map(Failed::from);
                chaos.rows.lock().unwrap_or_else(PoisonError::into_inner).push((scenario.name, outcome));
                failed.map_or(Ok(()), Err)
            })
            .with_kind("chaos")
        };
        SCENARIOS.iter().filter(|scenario| choice.takes(scenario)).map(trial).collect()
    }

    async fn run(&self, scenario: &Scenario, stack: &Arc<Stack>) -> Result<Verdict> {
        let mut ground = self.ground.lock().await;
        if ground.is_none() {
            *ground = Some(Ground::prepare(stack).await?);
        }
        (scenario.run)(ground.as_mut().context("the ground was prepared")?).await
    }

    /// The table, and the line that counts.
    pub(crate) fn report(&self) -> Vec<String> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![format!("{:<26} {:>9} {:>9} {:>8}  verdict; faults", "scenario", "equal (s)", "repeated", "changes")];
        for (name, outcome) in rows.iter() {
            lines.push(match outcome {
                Ok(Verdict { faults, equal_after, repeated, statements, looks }) => {
                    format!(
                        "{name:<26} {:>9.1} {repeated:>9} {statements:>8}  equal, versions looked at {looks} times; {faults}",
                        equal_after.as_secs_f64()
                    )
                }
                Err(error) => format!("{name:<26} {:>9} {:>9} {:>8}  FAILED: {}", "-", "-", "-", error.lines().next().unwrap_or_default()),
            });
        }
        let equal = rows.iter().filter(|(_, outcome)| outcome.is_ok()).count();
        lines.push(format!("{equal} of {} scenarios ended equal", rows.len()));
        lines
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        match self.ground.lock().await.take() {
            Some(ground) => ground.remove().await,
            None => Ok(()),
        }
    }
}
