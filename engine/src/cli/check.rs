//! `streamsync check`.

use std::sync::Arc;

use clap::Args;

use super::{ConfigArguments, Exit, say, say_error};
use crate::config;
use crate::engine::{CheckedConnections, CheckedModules, UnfitModule};

#[derive(Args, Clone, Debug)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Also connect to Kafka (the topics and the group), to every sink and to the modules' registries, and check that each is fit.
    #[arg(long)]
    connect: bool,
    /// Print every setting in force and where it comes from, without secrets.
    #[arg(long)]
    print: bool,
}

/// Says what is wrong, or that nothing is.
pub(super) async fn check(arguments: CheckArguments) -> Exit {
    let file = &arguments.config.config;
    let loaded = match config::load(Some(file), super::run::environment()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            for fault in &faults {
                say_error(&fault.to_string());
            }
            let s = if faults.len() == 1 { "" } else { "s" };
            say_error(&format!("{} fault{s}", faults.len()));
            return Exit::Usage;
        }
    };
    if arguments.print {
        for entry in &loaded.entries {
            say(&format!("{} = {}  # {}", entry.key, entry.value, entry.place));
        }
    }
    let settings = Arc::new(loaded.settings);
    let CheckedModules { faults: unfit, not_pulled, away } = crate::engine::check_modules(Arc::clone(&settings), arguments.connect).await;
    for module in not_pulled {
        say(&format!("{module} is not here yet, and was not looked at: --connect pulls it"));
    }
    for UnfitModule { key, message } in &unfit {
        let place = loaded.entries.iter().find(|entry| entry.key == *key).map(|entry| format!("{}: ", entry.place));
        say_error(&format!("{}{message}", place.unwrap_or_default()));
    }
    let mut valid = format!("{} is valid", file.display());
    let mut unanswered = Vec::new();
    if arguments.connect {
        let sinks: Vec<&str> = settings.sinks.iter().map(|sink| &*sink.name).collect();
        let sinks = sinks.join(", ");
        say(&format!("asking Kafka and the sinks {sinks}"));
        let CheckedConnections { faults, notes } = crate::engine::check_connections(Arc::clone(&settings)).await;
        for note in &notes {
            say(note);
        }
        unanswered.extend(away.into_iter().chain(faults));
        for fault in &unanswered {
            say_error(fault);
        }
        valid.push_str(&format!("; Kafka and the sinks {sinks} have answered"));
    }
    match (unfit.is_empty(), unanswered.is_empty()) {
        (false, _) => Exit::Usage,
        (true, false) => Exit::No,
        (true, true) => {
            say(&valid);
            Exit::Done
        }
    }
}
