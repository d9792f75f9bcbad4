//! `streamsync transform …`: everything that the author of a transform does before it goes live. No service is needed, `preview` aside.

mod build;
mod inspect;
mod new;
mod preview;
mod project;
mod report;
mod subject;
mod test;
#[cfg(test)]
mod tests;
mod trial;
mod verify;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use clap::Subcommand;

use super::{Exit, say_error};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum TransformCommand {
    /// Write a project: the contract, the SDK, a transform of the table, recorded events and what is expected of them.
    New(new::NewArguments),
    /// Build a project's component with its language's tools, and check it against the contract.
    Build(build::BuildArguments),
    /// Say what a module is: name, version, contract, imports, digest, memory, what it reads and writes.
    Inspect(inspect::InspectArguments),
    /// Run recorded events through a transform and compare what becomes of them with what is expected.
    Test(test::TestArguments),
    /// Check that a transform always answers alike: two runs, batches of any size, and another module where one is named.
    Verify(verify::VerifyArguments),
    /// Show what another module would make of the last events of a live topic. Nothing is written.
    Preview(preview::PreviewArguments),
}

/// Runs a command.
pub(super) fn transform(command: TransformCommand) -> Exit {
    Stop::exit(match command {
        TransformCommand::New(arguments) => new::new(&arguments),
        TransformCommand::Build(arguments) => build::build(&arguments),
        TransformCommand::Inspect(arguments) => inspect::inspect(&arguments),
        TransformCommand::Test(arguments) => test::test(&arguments),
        TransformCommand::Verify(arguments) => verify::verify(&arguments),
        TransformCommand::Preview(arguments) => preview::preview(&arguments),
    })
}

/// Why a command ends without what was asked for. The text says what is wrong, where, and what to type next.
#[derive(Debug)]
pub(super) enum Stop {
    /// What was given can't be used.
    Usage(String),
    /// It was tried, and the answer is no.
    No(String),
}

/// Writes a file as a whole: what was there stays until all is written, and a reader, which may be a worker that watches it, never sees half.
pub(super) fn write_whole(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Stop> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let write = || {
        let mut file = BufWriter::new(File::create(&unfinished)?);
        content(&mut file)?;
        file.flush()?;
        std::fs::rename(&unfinished, path)
    };
    write().map_err(|error| Stop::no(format!("{} can't be written: {error}", path.display())))
}

impl Stop {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(super) fn no(message: impl Into<String>) -> Self {
        Self::No(message.into())
    }

    /// The exit code, after the reason was told.
    pub(super) fn exit(result: Result<(), Self>) -> Exit {
        match result {
            Ok(()) => Exit::Done,
            Err(Self::Usage(message)) => {
                say_error(&message);
                Exit::Usage
            }
            Err(Self::No(message)) => {
                say_error(&message);
                Exit::No
            }
        }
    }

    #[cfg(test)]
    fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::No(message) => message,
        }
    }
}
