//! `streamsync capture`: events of a live topic into a file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::transform::{Stop, write_whole};
use super::{ConfigArguments, Exit, say_error};
use crate::config::Settings;
use crate::recording::RecordedEvent;
use crate::source::tail::{self, Piece};

/// More events than anybody reads; a file of them has some 100 MB.
const MAX_EVENTS: usize = 100_000;

#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["route", "topic"])))]
pub(super) struct CaptureArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The topic of this route.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// This topic.
    #[arg(long)]
    topic: Option<String>,
    /// So many events, the newest.
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "from_offset", value_parser = at_most_max)]
    last: usize,
    /// All events of each partition from this offset on, to its end; of more than 100,000 the oldest.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// Of this partition alone.
    #[arg(long, value_name = "N", requires = "from_offset", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where the events go. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file where it is there.
    #[arg(long)]
    overwrite: bool,
}

/// A number of events that fits into memory.
pub(super) fn at_most_max(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if (1..=MAX_EVENTS).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(format!("write a number from 1 to {MAX_EVENTS}")),
    }
}

/// Captures, and says how many there were.
pub(super) fn capture(arguments: CaptureArguments) -> Exit {
    Stop::exit(captured(&arguments))
}

fn captured(arguments: &CaptureArguments) -> Result<(), Stop> {
    let settings = load(&arguments.config)?;
    let topic = match (&arguments.route, &arguments.topic) {
        (Some(route), _) => route_of(&settings, route)?.topic.clone(),
        (None, Some(topic)) => topic.clone(),
        (None, None) => return Err(Stop::usage("name a route or a topic")),
    };
    let piece = match arguments.from_offset {
        Some(offset) => Piece::From { offset, partition: arguments.partition },
        None => Piece::Last(arguments.last),
    };
    let events = tail::read(&settings, &topic, piece, MAX_EVENTS).map_err(|error| Stop::no(error.to_string()))?;
    if events.is_empty() {
        return Err(Stop::no(format!("topic {topic} has no event, or none from that offset on: nothing is written")));
    }
    write(&arguments.out, arguments.overwrite, &events)?;
    say_error(&format!("{} events of {topic} are in {}", events.len(), arguments.out.display()));
    if events.len() == MAX_EVENTS {
        say_error(&format!("more than {MAX_EVENTS} are not captured: there may be others"));
    }
    Ok(())
}

/// The configuration, or all its faults.
pub(super) fn load(arguments: &ConfigArguments) -> Result<Settings, Stop> {
    Settings::load(Some(&arguments.config), super::run::environment())
        .map_err(|faults| Stop::Usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// A route of the configuration.
pub(super) fn route_of<'s>(settings: &'s Settings, name: &str) -> Result<&'s std::sync::Arc<crate::config::RouteSettings>, Stop> {
    settings.routes.iter().find(|route| route.name == name).ok_or_else(|| {
        let known: Vec<&str> = settings.routes.iter().map(|route| route.name.as_str()).collect();
        Stop::usage(format!("the configuration has no route {name:?}: it has {}", known.join(", ")))
    })
}

fn write(path: &Path, overwrite: bool, events: &[RecordedEvent]) -> Result<(), Stop> {
    if !overwrite && path.exists() {
        return Err(Stop::usage(format!("{} is there already: name another file, or add --overwrite", path.display())));
    }
    write_whole(path, |file| events.iter().try_for_each(|event| writeln!(file, "{}", event.line())))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_where_that_was_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("events.jsonl");
        let event = |offset| RecordedEvent { topic: "t".into(), offset, ..RecordedEvent::default() };
        write(&path, false, &[event(1)]).expect("written");
        assert!(matches!(write(&path, false, &[event(2)]), Err(Stop::Usage(message)) if message.contains("add --overwrite")));
        write(&path, true, &[event(2), event(3)]).expect("written");
        let kept = crate::recording::parse(&std::fs::read_to_string(&path).expect("there")).expect("events");
        assert_eq!(kept, [event(2), event(3)]);
        assert!(matches!(write(&dir.path().join("none/events.jsonl"), true, &[event(1)]), Err(Stop::No(_))));
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1, "nothing is left beside it");
    }
}
