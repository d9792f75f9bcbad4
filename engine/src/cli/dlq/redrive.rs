//! `streamsync dlq redrive`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::filter::Filter;
use super::{Format, letters, open};
use crate::cli::{ConfigArguments, Exit, say, say_error};
use crate::dead_letter::{DeadLetterLog, KafkaDeadLetters, LetterId, StoredLetter};
use crate::engine::Redriver;
use crate::lane::Verdict;
use crate::metrics::Metrics;

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct RedriveArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// These letters alone, as `dlq list` names them.
    #[arg(value_name = "LETTER")]
    letters: Vec<LetterId>,
    #[command(flatten)]
    filter: Filter,
    /// Do it. Without this nothing is changed.
    #[arg(long, alias = "yes")]
    apply: bool,
    /// At most so many letters, the oldest first.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
    /// Also write records of which it can't be told whether their row was deleted since. A row that is gone from MySQL would come back.
    #[arg(long)]
    accept_unproven: bool,
    /// For reading, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    format: Format,
}

/// What became of a letter, or would.
enum Result {
    Verdict(Verdict),
    /// The record is in no log any more.
    Gone,
    /// There is no verdict: a store is away, or no route reads the topic.
    Failed(String),
}

/// Redrives open letters in the order of their records.
pub(super) async fn redrive(arguments: RedriveArguments) -> Exit {
    let RedriveArguments { config, letters: wanted, filter, apply, limit, accept_unproven, format } = arguments;
    let (settings, log) = match open(&config) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let ids: HashSet<LetterId> = wanted.iter().copied().collect();
    let mut chosen = match letters(&log, move |letter| (ids.is_empty() || ids.contains(&letter.id)) && filter.matches(letter)).await {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let mut missing = false;
    for id in wanted.iter().filter(|id| !chosen.iter().any(|letter| letter.id == **id)) {
        say_error(&format!("there is no letter {id} among those that the filters mean"));
        missing = true;
    }
    chosen.retain(|letter| letter.closed.is_none());
    let more = chosen.len().saturating_sub(limit);
    chosen.truncate(limit);
    chosen.sort_by(|a, b| (&a.source, a.fence, a.offset).cmp(&(&b.source, b.fence, b.offset)));
    if chosen.is_empty() {
        say_error("no open letters");
        return if missing { Exit::No } else { Exit::Done };
    }
    let parts = match parts(&settings).await {
        Ok(parts) => parts,
        Err(message) => {
            say_error(&message);
            return Exit::No;
        }
    };
    // A worker may have taken over another module since, which no file tells.
    let routes: BTreeSet<&str> = chosen.iter().map(|letter| letter.route.as_str()).collect();
    for (route, digest) in routes.iter().filter_map(|route| Some((route, parts.0.module(route)?))) {
        say_error(&format!("route {route} is redriven by the module of the configuration, SHA-256 {digest}"));
    }
    let exit = run(parts, &log, &chosen, Mode { apply, accept_unproven, format }).await;
    if more > 0 {
        say_error(&format!("{more} more; run it again, or raise --limit"));
    }
    if missing || more > 0 { Exit::No } else { exit }
}

async fn parts(settings: &Arc<crate::config::Settings>) -> std::result::Result<(Redriver, KafkaDeadLetters), String> {
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let redriver = Redriver::build(Arc::clone(settings), metrics).await.map_err(|error| error.to_string())?;
    let notes = KafkaDeadLetters::new(settings).map_err(|error| error.to_string())?;
    Ok((redriver, notes))
}

#[derive(Clone, Copy)]
struct Mode {
    apply: bool,
    accept_unproven: bool,
    format: Format,
}

async fn run((mut redriver, notes): (Redriver, KafkaDeadLetters), log: &DeadLetterLog, chosen: &[StoredLetter], mode: Mode) -> Exit {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut all_done = true;
    for letter in chosen {
        let result = match log.record(letter).await {
            Ok(Some(record)) => match redriver.redrive(letter, record, mode.apply, mode.accept_unproven).await {
                Ok(verdict) => Result::Verdict(verdict),
                Err(message) => Result::Failed(message),
            },
            Ok(None) => Result::Gone,
            Err(error) => Result::Failed(error.to_string()),
        };
        let (word, closes, detail) = describe(&result);
        *counts.entry(word).or_default() += 1;
        all_done &= closes;
        match mode.format {
            Format::Table => say(&format!("{}  {}/{}  {word}{detail}", letter.id, letter.source, letter.offset)),
            Format::Json => {
                let (id, topic, partition) = (letter.id.to_string(), &*letter.source.topic, letter.source.partition);
                let detail = detail.trim_start_matches(": ");
                say(&json!({ "letter": id, "topic": topic, "partition": partition, "offset": letter.offset, "result": word, "detail": detail,
                             "applied": mode.apply })
                .to_string());
            }
        }
        if mode.apply
            && closes
            && let Err(error) = notes.close(letter.id, word).await
        {
            // The record itself is done: the next redrive finds it so, and notes it then.
            say_error(&format!("letter {} is not noted as redriven: {error}", letter.id));
            return Exit::No;
        }
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let summary = counts.join(", ");
    say_error(&if mode.apply { format!("redriven: {summary}") } else { format!("nothing was changed; with --apply: {summary}") });
    if all_done { Exit::Done } else { Exit::No }
}

/// The word that is counted and noted, whether it closes the letter, and what else there is to say.
fn describe(result: &Result) -> (&'static str, bool, String) {
    let none = String::new;
    match result {
        Result::Verdict(Verdict::Applied) => ("applied", true, none()),
        Result::Verdict(Verdict::Stale) => ("stale", true, ": its keys hold this write or a newer one".to_owned()),
        Result::Verdict(Verdict::Filtered) => ("filtered", true, ": it writes nothing".to_owned()),
        Result::Verdict(Verdict::EarlierGeneration) => ("earlier-generation", true, ": the topic began a new life since".to_owned()),
        Result::Verdict(Verdict::Unproven) => (
            "unproven",
            false,
            ": the record is older than tombstone_ttl and its keys hold nothing, so its row may have been deleted since; see whether MySQL has \
             it, then --accept-unproven"
                .to_owned(),
        ),
        Result::Verdict(Verdict::Faulty { stage, code, message }) => ("fails-again", false, format!(": {stage} {code}: {message}")),
        Result::Gone => ("gone", false, ": the record is no longer in its topic".to_owned()),
        Result::Failed(message) => ("failed", false, format!(": {message}")),
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::cli::dlq::DlqCommand;
    use crate::cli::dlq::tests::{dlq, filters};

    fn redrive(options: &[&str]) -> RedriveArguments {
        match dlq(&[&["redrive"], options].concat()) {
            DlqCommand::Redrive(arguments) => arguments,
            other @ (DlqCommand::List(_) | DlqCommand::Show(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_redrive_is_asked_for() {
        for (options, expected) in filters() {
            let redrive = redrive(options);
            assert_eq!(format!("{:?}", redrive.filter), format!("{expected:?}"), "{options:?}");
            let RedriveArguments { letters, apply, limit, accept_unproven, format, .. } = redrive;
            assert_eq!((letters, apply, limit, accept_unproven, format), (Vec::new(), false, 1000, false, Format::Table), "{options:?}");
        }
        for apply in ["--apply", "--yes"] {
            let redrive = redrive(&["0/17", apply, "--accept-unproven", "--limit", "3", "--format", "json"]);
            assert_eq!(redrive.letters, [LetterId { partition: 0, offset: 17 }]);
            assert_eq!((redrive.apply, redrive.accept_unproven, redrive.limit, redrive.format), (true, true, 3, Format::Json));
        }
    }
}
