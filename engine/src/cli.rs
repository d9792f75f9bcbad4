//! Arguments, logs, exit codes.
//!
//! Enters: the command line. Leaves: an exit code, chosen here and nowhere else. Logs go to stderr, what was asked for to stdout.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::source::closing::CLOSE_TIMEOUT;

mod capture;
mod check;
mod demo;
mod dlq;
mod generation;
mod rollout;
mod run;
mod transform;

const EXIT_CODES: &str = "Exit codes:
  0    done
  1    it could not be done, or the answer is no: a route halted, a connection failed, the demo's stores differ from its shop
  2    the arguments or the configuration are wrong
  130  stopped at once by a second signal";

/// Logs of libraries that are shown only where `--log-level` names them.
const QUIET: &str = "librdkafka=off,rdkafka=off";

/// What a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// What was asked for was tried, and the answer is no.
    No,
    /// The arguments or the configuration are wrong.
    Usage,
    /// Stopped at once by a second signal.
    Interrupted,
}

impl Exit {
    /// The number, as `--help` has it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
        }
    }
}

/// MySQL row changes from Debezium and Kafka into Redis and MongoDB, through WebAssembly transforms.
#[derive(Debug, Parser)]
#[command(name = "streamsync", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sync until a signal (Ctrl-C, SIGTERM) comes: it settles what was read and stops; a second one stops at once.
    Run(ConfigArguments),
    /// Read the configuration, try its modules, and report all faults at once, each with its place and remedy.
    Check(check::CheckArguments),
    /// Show or begin a topic's generation: after it was created again, moved, or lost what was not read.
    Generation(generation::GenerationArguments),
    /// Refill a route's stores in a new generation, and then remove what is no longer in MySQL. Refused while a worker reads the topic.
    Rebuild(generation::RebuildArguments),
    /// Dead letters: list them, show one, or redrive their records after the cause was mended.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Show it at work with nothing installed: an invented shop, a Kafka in this process, and a check that both stores equal the shop.
    Demo(demo::DemoArguments),
    /// Write, build, try and compare transforms; change those of a running worker.
    #[command(subcommand)]
    Transform(TransformCommand),
    /// Write the events of a topic to a file, as `transform test` reads them. The group's offsets stay where they are.
    Capture(capture::CaptureArguments),
}

#[derive(Clone, Debug, Subcommand)]
enum TransformCommand {
    #[command(flatten)]
    Project(transform::TransformCommand),
    #[command(flatten)]
    Running(rollout::RolloutCommand),
}

/// Where the configuration is.
#[derive(Args, Clone, Debug)]
struct ConfigArguments {
    /// The configuration, TOML. A variable STREAMSYNC_SECTION__KEY comes over the key section.key.
    #[arg(long, env = "STREAMSYNC_CONFIG", default_value = "streamsync.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct LogArguments {
    /// Form of the logs on stderr.
    #[arg(long, global = true, env = "STREAMSYNC_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
    /// error, warn, info, debug, trace; or by module: info,streamsync::sink=debug. Kafka's own log: info,librdkafka=info.
    #[arg(long, global = true, env = "STREAMSYNC_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the process's command.
pub fn main() -> ExitCode {
    crate::machine::bound_arenas();
    crate::machine::use_ring();
    let exit = match Cli::try_parse() {
        Ok(cli) => execute(cli),
        Err(error) => {
            // clap chooses stdout for --help and stderr for mistakes. A closed pipe is the reader's wish.
            let printed = error.print();
            if printed.is_ok() && !error.use_stderr() { Exit::Done } else { Exit::Usage }
        }
    };
    ExitCode::from(exit.code())
}

fn execute(cli: Cli) -> Exit {
    if let Err(message) = start_logs(&cli.log) {
        say_error(&message);
        return Exit::Usage;
    }
    if matches!(cli.command, Command::Run(_)) {
        crate::machine::schedule_as_batch();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say_error(&format!("the runtime can't start: {error}"));
            return Exit::No;
        }
    };
    let exit = match cli.command {
        Command::Run(arguments) => runtime.block_on(run::run(arguments)),
        Command::Check(arguments) => runtime.block_on(check::check(arguments)),
        Command::Generation(arguments) => runtime.block_on(generation::generation(arguments)),
        Command::Rebuild(arguments) => runtime.block_on(generation::rebuild(arguments)),
        Command::Dlq(command) => runtime.block_on(dlq::dlq(command)),
        Command::Demo(arguments) => runtime.block_on(demo::demo(arguments)),
        Command::Transform(TransformCommand::Project(command)) => transform::transform(command),
        Command::Transform(TransformCommand::Running(command)) => runtime.block_on(rollout::rollout(command)),
        Command::Capture(arguments) => capture::capture(arguments),
    };
    // A thread that waits in librdkafka can't be told to end; the command has its result without it.
    let begin = Instant::now();
    runtime.shutdown_timeout(CLOSE_TIMEOUT);
    if begin.elapsed() >= CLOSE_TIMEOUT {
        tracing::warn!("threads that wait for Kafka do not end in time; they are left to the process's end");
    }
    exit
}

fn start_logs(arguments: &LogArguments) -> Result<(), String> {
    use tracing_subscriber::EnvFilter;
    let wrong =
        |error: &dyn std::fmt::Display| format!("--log-level {:?} can't be read: {error}; write for example info", arguments.log_level);
    // Each of the process's Kafka clients repeats several times a second that its broker is away. The engine says it itself.
    let level = format!("{QUIET},{}", arguments.log_level);
    let filter = EnvFilter::builder().parse(level).map_err(|error| wrong(&error))?;
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(coloured).with_writer(std::io::stderr);
    let started = match arguments.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("the logs can't start: {error}"))
}

/// A line on stdout. A closed pipe is the reader's wish, not a fault.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap_or_default();
}

/// A line on stderr, for what is told before there are logs or to a person alone.
fn say_error(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_has_every_exit_code() {
        for exit in [Exit::Done, Exit::No, Exit::Usage, Exit::Interrupted] {
            assert!(EXIT_CODES.lines().any(|line| line.trim_start().starts_with(&format!("{} ", exit.code()))), "{exit:?}");
        }
    }
}
