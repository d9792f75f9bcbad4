//! `streamsync transform verify`: the same events give the same bytes, whatever the run, the batch or the language.

use std::path::PathBuf;

use clap::Args;

use super::Stop;
use super::report::{counted, grouped, table};
use super::subject::SubjectArguments;
use super::trial::{Run, Trial, quietly, repeated};
use crate::cli::say;
use crate::config::RouteSettings;
use crate::outcome;
use crate::recording::RecordedEvent;

/// Sizes of batches, each run twice.
const BATCHES: [usize; 6] = [1, 2, 7, 16, 256, 1000];
/// Size of the batches that each have a fresh instance.
const FRESH: usize = 7;
/// Events of a run, at least: more than the largest batch.
const EVENTS: usize = 1040;
/// Events that are shown where runs differ.
const SHOWN: usize = 5;

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct VerifyArguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// A module that must give the same documents: the same transform in another language, or before a change that is to change nothing.
    #[arg(long, value_name = "MODULE")]
    against: Option<PathBuf>,
}

/// Checks, and says what was compared.
pub(super) fn verify(arguments: &VerifyArguments) -> Result<(), Stop> {
    let subject = arguments.subject.read(None)?;
    let trial = Trial::new(subject.route.clone(), &subject.settings)?;
    let run = same_always(&trial, &subject.events)?;
    let Some(path) = &arguments.against else { return Ok(()) };
    let other = trial.with_module(path)?;
    let other_run = same_always(&other, &subject.events)?;
    let names = (named(&trial), named(&other));
    same(&run, &other_run, false, &names.0, &names.1)?;
    say(&format!("{} and {} give the same bytes", names.0, names.1));
    Ok(())
}

fn named(trial: &Trial<'_>) -> String {
    format!("{} {} ({})", trial.module.name, trial.module.version, trial.module.digest.get(..12).unwrap_or_default())
}

/// Runs the events in batches of every size, twice each; any difference is an error.
pub(super) fn same_always(trial: &Trial<'_>, events: &[RecordedEvent]) -> Result<Run, Stop> {
    let events = repeated(events, EVENTS);
    let mut first: Option<Run> = None;
    for size in BATCHES {
        for time in ["a first", "a second"] {
            let run = quietly(|| trial.run(&events, size))?;
            match &first {
                Some(first) => same(first, &run, true, "batches of 1", &format!("batches of {size}, {time} time"))?,
                None => first = Some(run),
            }
        }
    }
    let Some(run) = first else { return Err(Stop::no("there is nothing to compare")) };
    let faults = faults(&trial.route, &run)?;
    let fresh = quietly(|| trial.run_fresh(&events, FRESH))?;
    same(&run, &fresh, true, "one instance", "a fresh instance a batch")?;
    let sizes: Vec<String> = BATCHES.iter().map(|size| grouped(*size as u64)).collect();
    say(&format!(
        "{}: the same bytes of {}{faults}, in two runs each at batches of {}, and with a fresh instance a batch",
        named(trial),
        counted(run.events, "event"),
        sizes.join(" ")
    ));
    Ok(run)
}

/// How many events are faults; to have compared nothing else is no success.
fn faults(route: &RouteSettings, run: &Run) -> Result<String, Stop> {
    let nothing = match (run.events, run.answered()) {
        (0, _) => format!("no record is a change of {}.{}", route.database, route.table),
        (events, 0) => format!("{} came to nothing but faults", counted(events, "event")),
        (events, answered) if answered < events => return Ok(format!(", {} of them faults", grouped((events - answered) as u64))),
        _ => return Ok(String::new()),
    };
    Err(Stop::no(format!("nothing was compared: {nothing}; `streamsync transform test` tells why")))
}

fn same(first: &Run, second: &Run, messages: bool, first_name: &str, second_name: &str) -> Result<(), Stop> {
    let differences = outcome::differences(&first.outcomes, &second.outcomes, messages);
    for difference in differences.iter().take(SHOWN) {
        for line in table(difference, first_name, second_name) {
            say(&line);
        }
    }
    if !differences.is_empty() {
        return Err(Stop::no(format!(
            "{} differ between {first_name} and {second_name}: a transform is a function of its event alone; look for state that is kept \
             from event to event, for a map whose order varies, for floating-point sums",
            counted(differences.len(), "outcome")
        )));
    }
    if first.stored != second.stored {
        let differ = first.stored.iter().filter(|(key, document)| second.stored.get(*key) != Some(*document)).count();
        let differ = differ + second.stored.keys().filter(|key| !first.stored.contains_key(*key)).count();
        return Err(Stop::no(format!("{} would be stored otherwise by {second_name} than by {first_name}", counted(differ, "document"))));
    }
    Ok(())
}
