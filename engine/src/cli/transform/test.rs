//! `streamsync transform test`: recorded events in, outcomes compared with the expected ones.

use std::path::PathBuf;

use clap::Args;

use super::report::{counted, grouped, size, table};
use super::subject::{Subject, SubjectArguments};
use super::trial::{BATCH, Run, Trial, quietly};
use super::{Stop, verify};
use crate::cli::say;
use crate::config::RouteSettings;
use crate::outcome::{self, Outcome};

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct TestArguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// The expected outcomes. A project has its own; else they lie beside the events.
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// Write what was seen as what is expected.
    #[arg(long)]
    update: bool,
    /// Also check that two runs and batches of any size answer alike, as `transform verify` does.
    #[arg(long)]
    deterministic: bool,
    /// Leave out speed, memory and fuel.
    #[arg(long)]
    no_cost: bool,
}

/// Compares, and says what the module costs.
pub(super) fn test(arguments: &TestArguments) -> Result<(), Stop> {
    let subject = arguments.subject.read(arguments.expected.as_deref())?;
    let expected = if arguments.update { None } else { Some(read_expected(&subject)?) };
    let trial = Trial::new(subject.route.clone(), &subject.settings)?;
    let run = trial.run(&subject.events, BATCH)?;
    let (name, version) = (&trial.module.name, &trial.module.version);
    let digest = trial.module.digest.get(..12).unwrap_or_default();
    say(&format!(
        "{name} {version}, sha256 {digest}…: {} of {}.{}",
        counted(run.events, "event"),
        subject.route.database,
        subject.route.table
    ));
    let verdict = match expected {
        None => update(&subject, &run),
        Some(expected) => compare(&subject, expected.as_deref(), &run),
    };
    if !arguments.no_cost {
        say(&match quietly(|| trial.cost(&subject.events))? {
            Some(cost) => format!(
                "{} ns an event at batches of {BATCH}, memory {}, fuel {} an event",
                grouped(cost.ns_per_event),
                size(cost.memory_bytes),
                grouped(cost.fuel_per_event)
            ),
            None => "no speed is told of a transform that fails on some of the events".to_owned(),
        });
    }
    if arguments.deterministic {
        verify::same_always(&trial, &subject.events)?;
    }
    verdict.and_then(|()| tested(&subject, &run))
}

/// That records which are no events come out as expected says nothing of the transform.
fn tested(subject: &Subject, run: &Run) -> Result<(), Stop> {
    if run.events > 0 {
        return Ok(());
    }
    let RouteSettings { database, table, .. } = &*subject.route;
    let records = counted(subject.events.len(), "record");
    Err(Stop::no(format!(
        "nothing was tested: of {records} none is a change of {database}.{table}; {} tells what they are. Record events of that table, or correct \
         the route",
        subject.expected.display()
    )))
}

/// `None`: there is no such file yet.
fn read_expected(subject: &Subject) -> Result<Option<Vec<Outcome>>, Stop> {
    let path = subject.expected.display();
    match std::fs::read_to_string(&subject.expected) {
        Ok(text) => outcome::parse(&text)
            .map(Some)
            .map_err(|error| Stop::usage(format!("{path}: {error}\n--update writes the file anew from what is seen"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Stop::usage(format!("{path} can't be read: {error}"))),
    }
}

fn update(subject: &Subject, run: &Run) -> Result<(), Stop> {
    let path = subject.expected.display();
    std::fs::write(&subject.expected, outcome::write(&run.outcomes))
        .map_err(|error| Stop::no(format!("{path} can't be written: {error}")))?;
    say(&format!("what was seen is in {path}: read it before you keep it"));
    Ok(())
}

fn compare(subject: &Subject, expected: Option<&[Outcome]>, run: &Run) -> Result<(), Stop> {
    let Some(expected) = expected else {
        say(outcome::write(&run.outcomes).trim_end());
        return Err(Stop::no(format!(
            "there are no expected outcomes yet, {} is missing: read what was seen, and keep it with --update",
            subject.expected.display()
        )));
    };
    let differences = outcome::differences(expected, &run.outcomes, true);
    for difference in &differences {
        for line in table(difference, "expected", "seen") {
            say(&line);
        }
    }
    if differences.is_empty() {
        say(&format!("{} as expected", counted(run.outcomes.len(), "outcome")));
        return Ok(());
    }
    Err(Stop::no(format!(
        "{} of {} differ from {}: correct the transform, or keep what was seen with --update",
        differences.len(),
        counted(run.outcomes.len().max(expected.len()), "outcome"),
        subject.expected.display()
    )))
}
