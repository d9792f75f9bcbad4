//! `streamsync dlq show`.

use std::collections::HashSet;

use serde_json::json;

use super::table::{as_json, text, time};
use super::{Format, ShowArguments, letters, open};
use crate::cli::{Exit, say, say_error};
use crate::dead_letter::{LetterId, StoredLetter};
use crate::source::RecordBatch;

/// Shows each letter with its record, where that is still there.
pub(super) async fn show(arguments: ShowArguments) -> Exit {
    let ShowArguments { config, letters: wanted, format } = arguments;
    let log = match open(&config) {
        Ok((_, log)) => log,
        Err(exit) => return exit,
    };
    let ids: HashSet<LetterId> = wanted.iter().copied().collect();
    let found = match letters(&log, move |letter| ids.contains(&letter.id)).await {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let mut exit = Exit::Done;
    for id in wanted {
        let Some(letter) = found.iter().find(|letter| letter.id == id) else {
            say_error(&format!("there is no letter {id}"));
            exit = Exit::No;
            continue;
        };
        match log.record(letter).await {
            Ok(record) => match format {
                Format::Table => for_reading(letter, record.as_ref()).iter().for_each(|line| say(line)),
                Format::Json => say(&whole_json(letter, record.as_ref()).to_string()),
            },
            Err(error) => {
                say_error(&error.to_string());
                return Exit::No;
            }
        }
    }
    exit
}

fn for_reading(letter: &StoredLetter, record: Option<&RecordBatch>) -> Vec<String> {
    let mut lines = vec![
        format!("letter     {}", letter.id),
        format!("written    {}", time(letter.at_ms)),
        format!("route      {}", letter.route),
        format!("stage      {}", letter.stage),
        format!("code       {}", letter.code),
        format!("message    {}", letter.message),
        format!("module     {}", letter.module),
        format!("record     {}/{}", letter.source, letter.offset),
        format!("timestamp  {}", letter.timestamp_ms.map_or_else(|| "-".to_owned(), time)),
        format!("fence      {}", letter.fence.map_or_else(|| "-".to_owned(), |fence| fence.to_string())),
    ];
    let state = letter.closed.as_ref().map_or_else(|| "open".to_owned(), |closed| format!("{} at {}", closed.outcome, time(closed.at_ms)));
    lines.push(format!("state      {state}"));
    if let Some(bytes) = letter.omitted_bytes {
        lines.push(format!("reference  the letter leaves out the record's {bytes} bytes; they are read from its topic"));
    }
    let shown = |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".to_owned(), text);
    match record {
        Some(record) => {
            lines.extend(record.headers(0).map(|(name, value)| format!("header     {name}: {}", shown(value))));
            lines.push(format!("key        {}", shown(record.key(0))));
            lines.push(format!("value      {}", shown(record.value(0))));
        }
        None => lines.push("the record is no longer there".to_owned()),
    }
    lines.push(String::new());
    lines
}

fn whole_json(letter: &StoredLetter, record: Option<&RecordBatch>) -> serde_json::Value {
    let mut whole = as_json(letter);
    let record = record.map(|record| {
        let headers: Vec<_> = record.headers(0).map(|(name, value)| json!([name, value.map(text)])).collect();
        json!({ "key": record.key(0).map(text), "value": record.value(0).map(text), "headers": headers })
    });
    if let Some(members) = whole.as_object_mut() {
        members.insert("record".to_owned(), record.unwrap_or_default());
    }
    whole
}
