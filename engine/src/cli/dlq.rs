//! `streamsync dlq`: what was given up, and another try.

mod filter;
mod redrive;
mod show;
mod table;

use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use self::filter::Filter;
use super::{ConfigArguments, Exit, say_error};
use crate::config::{self, Settings};
use crate::dead_letter::{DeadLetterLog, LetterId, StoredLetter};

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// List open letters: those whose records were not redriven yet.
    List(ListArguments),
    /// Show letters whole: headers, key and value. These are a row's data.
    Show(ShowArguments),
    /// Put the records of open letters through the route's transform once more: the module of the configuration, whatever a worker has taken
    /// over since. Without --apply it only says what would happen.
    ///
    /// A record keeps its topic, partition and offset, and so its version: where a newer write has overtaken it, nothing changes. Workers may
    /// go on meanwhile.
    Redrive(redrive::RedriveArguments),
}

#[derive(Args, Clone, Debug)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    filter: Filter,
    /// Also letters whose records were redriven.
    #[arg(long)]
    all: bool,
    /// At most so many; the table says if there are more.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
    /// A table, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    format: Format,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Letters as `dlq list` names them: partition/offset in the dead-letter topic.
    #[arg(required = true, value_name = "LETTER")]
    letters: Vec<LetterId>,
    /// For reading, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    format: Format,
}

/// How letters are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

/// Runs one of the commands.
pub(super) async fn dlq(command: DlqCommand) -> Exit {
    match command {
        DlqCommand::List(arguments) => list(arguments).await,
        DlqCommand::Show(arguments) => show::show(arguments).await,
        DlqCommand::Redrive(arguments) => redrive::redrive(arguments).await,
    }
}

async fn list(arguments: ListArguments) -> Exit {
    let ListArguments { config, filter, all, limit, format } = arguments;
    let found = match open(&config) {
        Ok((_, log)) => letters(&log, move |letter| filter.matches(letter)).await,
        Err(exit) => return exit,
    };
    let mut found = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    found.retain(|letter| all || letter.closed.is_none());
    let more = found.len().saturating_sub(limit);
    found.truncate(limit);
    table::write(&found, format);
    if more > 0 {
        say_error(&format!("{more} more; raise --limit, or narrow the filters"));
    }
    Exit::Done
}

/// The settings, and the topic's reader.
fn open(arguments: &ConfigArguments) -> Result<(Arc<Settings>, DeadLetterLog), Exit> {
    let settings = match config::load(Some(&arguments.config), super::run::environment()) {
        Ok(loaded) => Arc::new(loaded.settings),
        Err(faults) => {
            faults.iter().for_each(|fault| say_error(&fault.to_string()));
            return Err(Exit::Usage);
        }
    };
    let log = DeadLetterLog::new(&settings).map_err(|error| {
        say_error(&error.to_string());
        Exit::Usage
    })?;
    Ok((settings, log))
}

async fn letters(log: &DeadLetterLog, keep: impl Fn(&StoredLetter) -> bool + Send + 'static) -> Result<Vec<StoredLetter>, Exit> {
    log.letters(keep).await.map_err(|error| {
        say_error(&error.to_string());
        Exit::No
    })
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    /// The command of a line that begins with `streamsync dlq`.
    pub(super) fn dlq(arguments: &[&str]) -> DlqCommand {
        match Cli::try_parse_from(["streamsync", "dlq"].iter().chain(arguments)) {
            Ok(Cli { command: Command::Dlq(command), .. }) => command,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    /// Each option of the filter, and what it asks for.
    pub(super) fn filters() -> Vec<(&'static [&'static str], Filter)> {
        let (none, text) = (Filter::default, |text: &str| Some(text.to_owned()));
        vec![
            (&[], none()),
            (&["--route", "orders"], Filter { route: text("orders"), ..none() }),
            (&["--code", "trapped"], Filter { code: text("trapped"), ..none() }),
            (&["--reason", "trapped"], Filter { code: text("trapped"), ..none() }),
            (&["--stage", "transform"], Filter { stage: text("transform"), ..none() }),
            (&["--key", "7"], Filter { key: text("7"), ..none() }),
            (&["--from", "1970-01-02"], Filter { from: Some(86_400_000), ..none() }),
            (&["--to", "1970-01-03T00:00:01Z"], Filter { to: Some(172_801_000), ..none() }),
            (
                &["--from", "1970-01-02", "--to", "1970-01-03", "--key", "7", "--route", "orders"],
                Filter { from: Some(86_400_000), to: Some(172_800_000), key: text("7"), route: text("orders"), ..none() },
            ),
        ]
    }

    #[test]
    fn what_list_is_asked_for() {
        for (options, expected) in filters() {
            let DlqCommand::List(list) = dlq(&[&["list"], options].concat()) else { panic!("{options:?}") };
            assert_eq!(format!("{:?}", list.filter), format!("{expected:?}"), "{options:?}");
            assert_eq!((list.all, list.limit, list.format), (false, 1000, Format::Table));
        }
        let DlqCommand::List(list) = dlq(&["list", "--all", "--limit", "3", "--format", "json"]) else { panic!("no list") };
        assert_eq!((list.all, list.limit, list.format), (true, 3, Format::Json));
    }

    #[test]
    fn what_show_is_asked_for() {
        let DlqCommand::Show(show) = dlq(&["show", "0/17", "2/3", "--format", "json"]) else { panic!("no show") };
        let letters = [LetterId { partition: 0, offset: 17 }, LetterId { partition: 2, offset: 3 }];
        assert_eq!((show.letters.as_slice(), show.format), (letters.as_slice(), Format::Json));
        assert!(Cli::try_parse_from(["streamsync", "dlq", "show"]).is_err(), "it shows the letters that are named, and no others");
    }

    #[test]
    fn what_is_no_time_or_no_letter_is_told_at_once() {
        for wrong in [&["list", "--from", "yesterday"], &["redrive", "--to", "soon"], &["redrive", "17", "--apply"]] {
            assert!(Cli::try_parse_from(["streamsync", "dlq"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
