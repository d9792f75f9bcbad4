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
