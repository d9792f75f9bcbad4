//! `streamsync transform preview`: what another module would make of the last events of a live topic.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::report::{counted, grouped, table};
use super::trial::{BATCH, Trial};
use super::{Stop, trial};
use crate::cli::capture::{at_most_max, load, route_of};
use crate::cli::{ConfigArguments, say};
use crate::outcome;
use crate::source::tail::{self, Piece};

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct PreviewArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The route whose module would be replaced.
    #[arg(long, value_name = "NAME")]
    route: String,
    /// The module that would replace it.
    #[arg(long, value_name = "NEW.wasm")]
    module: PathBuf,
    /// So many events, the newest.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_most_max)]
    last: usize,
    /// Also show the events of which both make the same.
    #[arg(long)]
    all: bool,
}

/// Shows both modules' documents beside each other. That they differ is what was asked, not a failure.
pub(super) fn preview(arguments: &PreviewArguments) -> Result<(), Stop> {
    let mut settings = load(&arguments.config)?;
    settings.transforms.max_instances = 2;
    let route = Arc::clone(route_of(&settings, &arguments.route)?);
    let events =
        tail::read(&settings, &route.topic, Piece::Last(arguments.last), arguments.last).map_err(|error| Stop::no(error.to_string()))?;
    if events.is_empty() {
        return Err(Stop::no(format!("topic {} has no event yet: there is nothing to preview", route.topic)));
    }
    let now = trial::Trial::new(route, &settings)?;
    let new = now.with_module(&arguments.module)?;
    let (seen, would) = (now.run(&events, BATCH)?, new.run(&events, BATCH)?);
    say(&format!("{} of {}; nothing is written", counted(seen.events, "event"), now.route.topic));
    say(&format!("now: {}", named(&now)));
    say(&format!("new: {}", named(&new)));
    let compared = outcome::side_by_side(&seen.outcomes, &would.outcomes, true);
    for comparison in compared.iter().filter(|comparison| arguments.all || !comparison.is_alike()) {
        table(comparison, "now", "new").iter().for_each(|line| say(line));
    }
    let differing = compared.iter().filter(|comparison| !comparison.is_alike()).count();
    say(&format!("{} of {} would differ", grouped(differing as u64), counted(compared.len(), "outcome")));
    Ok(())
}

fn named(trial: &Trial<'_>) -> String {
    format!("{} {}, sha256 {}", trial.module.name, trial.module.version, trial.module.digest)
}
