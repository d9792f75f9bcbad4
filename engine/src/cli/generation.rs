//! `streamsync generation` and `streamsync rebuild`.

use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{ConfigArguments, Exit, say, say_error};
use crate::config::{self, RouteSettings};
use crate::engine::{Begun, Known, OperateError, Operator, RefillFrom, Sweep};
use crate::sink::TopicIdentity;

#[derive(Args, Clone, Debug)]
pub(super) struct GenerationArguments {
    #[command(subcommand)]
    command: GenerationCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum GenerationCommand {
    /// Show what a topic is, its generation, and how far the group and the sinks are.
    Show {
        #[command(flatten)]
        config: ConfigArguments,
        /// One route; all without it.
        #[arg(long, value_name = "NAME")]
        route: Option<String>,
    },
    /// Begin the next generation of a route's topic as it is now: workers read it from its beginning. Refused while a worker reads it.
    Next {
        #[command(flatten)]
        config: ConfigArguments,
        /// The route whose topic it is.
        #[arg(long, value_name = "NAME")]
        route: String,
        /// The log has every row, although its beginning is gone.
        #[arg(long)]
        accept_truncated_log: bool,
    },
}

#[derive(Args, Clone, Debug)]
pub(super) struct RebuildArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The route whose stores are refilled.
    #[arg(long, value_name = "NAME")]
    route: String,
    /// Refill from a snapshot that Debezium takes after this command, instead of from the log's beginning.
    #[arg(long, conflicts_with_all = ["snapshot_complete", "accept_truncated_log"])]
    after_snapshot: bool,
    /// The snapshot is in the log: remove what it did not bring, once it is read. Workers may run.
    #[arg(long, conflicts_with = "accept_truncated_log")]
    snapshot_complete: bool,
    /// The log has every row, although its beginning is gone.
    #[arg(long)]
    accept_truncated_log: bool,
    /// The table is empty: remove all of the route's documents.
    #[arg(long, conflicts_with = "after_snapshot")]
    accept_empty: bool,
}

/// `streamsync generation`.
pub(super) async fn generation(arguments: GenerationArguments) -> Exit {
    match arguments.command {
        GenerationCommand::Show { config, route } => match operator(&config) {
            Ok((operator, routes)) => show(&operator, routes, route).await,
            Err(exit) => exit,
        },
        GenerationCommand::Next { config, route, accept_truncated_log } => {
            begin(&config, &route, RefillFrom::Beginning { accept_truncated_log }, None).await
        }
    }
}

/// `streamsync rebuild`.
pub(super) async fn rebuild(arguments: RebuildArguments) -> Exit {
    let RebuildArguments { config, route, after_snapshot, snapshot_complete, accept_truncated_log, accept_empty } = arguments;
    if !snapshot_complete {
        let from = if after_snapshot { RefillFrom::Snapshot } else { RefillFrom::Beginning { accept_truncated_log } };
        return begin(&config, &route, from, Some(Sweep { accept_empty })).await;
    }
    let operator = match operator(&config) {
        Ok((operator, _)) => operator,
        Err(exit) => return exit,
    };
    match operator.snapshot_complete(&route, accept_empty).await {
        Ok(ends) => {
            say(&format!("route {route}: the snapshot ends before {}; what it did not bring is removed once that is read", offsets(&ends)));
            Exit::Done
        }
        Err(error) => failed(&error),
    }
}

async fn begin(config: &ConfigArguments, route: &str, from: RefillFrom, rebuild: Option<Sweep>) -> Exit {
    let operator = match operator(config) {
        Ok((operator, _)) => operator,
        Err(exit) => return exit,
    };
    match operator.begin(route, from, rebuild).await {
        Ok(begun) => {
            tell(route, &begun, from, rebuild.is_some());
            Exit::Done
        }
        Err(error) => failed(&error),
    }
}

fn tell(route: &str, begun: &Begun, from: RefillFrom, rebuild: bool) {
    say(&format!("route {route}: generation {} begins at {}", begun.generation.number(), offsets(&begun.begins)));
    if let Some(ends) = &begun.ends {
        say(&format!("its refill ends before {}; then what it did not write again is removed from the sinks", offsets(ends)));
    }
    for note in &begun.notes {
        say(&format!("note: {note}"));
    }
    say("start the workers again");
    if from == RefillFrom::Snapshot {
        say(&format!(
            "then have Debezium take a snapshot of the table, and when it is done: streamsync rebuild --route {route} --snapshot-complete"
        ));
    } else if !rebuild && begun.generation.number() > 1 {
        say(&format!(
            "the sinks may keep documents of rows that the topic no longer has: `streamsync rebuild --route {route}` would remove them"
        ));
    }
}

async fn show(operator: &Operator, routes: Vec<Arc<RouteSettings>>, only: Option<String>) -> Exit {
    let routes = match only.map(|name| operator.route(&name)) {
        None => routes,
        Some(Ok(route)) => vec![route],
        Some(Err(error)) => return failed(&error),
    };
    let mut exit = Exit::Done;
    for route in routes {
        match operator.known(&route).await {
            Ok(known) => print(&known),
            Err(error) => {
                say_error(&format!("route {}: {error}", route.name));
                exit = Exit::No;
            }
        }
    }
    exit
}

fn print(known: &Known) {
    let Known { route, facts, record, partitions, sinks } = known;
    say(&format!("route {}: topic {}", route.name, route.topic));
    say(&format!("  Kafka: cluster {}, topic id {}, {} partitions", facts.cluster_id, facts.topic_id, facts.partitions));
    say(&format!("  control topic: {}", identity(record.identity.as_ref())));
    for sink in sinks {
        say(&format!("  sink {}: {}", sink.name, identity(sink.identity.as_ref())));
    }
    for (index, partition) in partitions.iter().enumerate() {
        let committed = partition.committed.map_or("nothing".to_owned(), |offset| offset.to_string());
        let mut line = format!("  partition {index}: log {} to {}, committed {committed}", partition.low, partition.high);
        for sink in sinks {
            let watermark = sink.watermarks.get(index).copied().flatten();
            let watermark = watermark.map_or("none".to_owned(), |w| format!("{} of generation {}", w.next_offset, w.generation.number()));
            line.push_str(&format!(", {} {watermark}", sink.name));
        }
        say(&line);
    }
    let current = record.identity.as_ref().map_or(0, |identity| identity.generation);
    if let Some(beginning) = record.beginnings.get(&current) {
        say(&format!("  generation {} was begun at {}", beginning.generation, offsets(&beginning.offsets)));
    }
    if let Some(generation) = record.beginnings.keys().next_back().filter(|last| **last > current) {
        say(&format!("  generation {generation} was not begun: its command was interrupted; give it again, or leave it"));
    }
    if let Some(rebuild) = record.rebuild() {
        let ends = rebuild.ends.as_ref().map_or("the end of a snapshot".to_owned(), |ends| offsets(ends));
        let state = if rebuild.swept_at_ms.is_some() { "done" } else { "under way" };
        say(&format!("  rebuild of generation {}, up to {ends}: {state}", rebuild.generation));
    }
    say(&format!("  {}", record.unproven().map_or("proven".to_owned(), |why| format!("unproven: {why}"))));
}

fn identity(identity: Option<&TopicIdentity>) -> String {
    let Some(TopicIdentity { cluster_id, topic_id, partitions, generation }) = identity else { return "no identity".to_owned() };
    format!("generation {generation}, cluster {cluster_id}, topic id {topic_id}, {partitions} partitions")
}

/// `offset 7` or `offsets 7, 0, 12`, one a partition.
fn offsets(offsets: &[i64]) -> String {
    let s = if offsets.len() == 1 { "" } else { "s" };
    let list: Vec<String> = offsets.iter().map(i64::to_string).collect();
    format!("offset{s} {}", list.join(", "))
}

fn operator(config: &ConfigArguments) -> Result<(Operator, Vec<Arc<RouteSettings>>), Exit> {
    let loaded = config::load(Some(&config.config), super::run::environment()).map_err(|faults| {
        for fault in &faults {
            say_error(&fault.to_string());
        }
        Exit::Usage
    })?;
    let settings = Arc::new(loaded.settings);
    let routes = settings.routes.clone();
    Operator::new(settings).map(|operator| (operator, routes)).map_err(|error| {
        say_error(&error.to_string());
        Exit::Usage
    })
}

fn failed(error: &OperateError) -> Exit {
    say_error(&error.to_string());
    match error {
        OperateError::UnknownRoute { .. } => Exit::Usage,
        OperateError::Refused(_) | OperateError::Source(_) | OperateError::Identity(_) | OperateError::Sink(_) | OperateError::Defect => {
            Exit::No
        }
    }
}
