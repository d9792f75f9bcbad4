//! Letters written out: a line each.

use serde_json::json;

use super::Format;
use crate::cli::{say, say_error};
use crate::dead_letter::StoredLetter;

/// Longest text of a cell; the whole is in `dlq show`.
const MAX_CELL_CHARS: usize = 80;

/// Writes letters to stdout.
pub(super) fn write(letters: &[StoredLetter], format: Format) {
    match format {
        Format::Json => letters.iter().for_each(|letter| say(&as_json(letter).to_string())),
        Format::Table if letters.is_empty() => say_error("no letters"),
        Format::Table => {
            let head = ["LETTER", "WRITTEN", "ROUTE", "STAGE", "CODE", "RECORD", "KEY", "STATE", "MESSAGE"].map(str::to_owned);
            let rows: Vec<[String; 9]> = std::iter::once(head).chain(letters.iter().map(row)).collect();
            lines(&rows).iter().for_each(|line| say(line));
        }
    }
}

fn row(letter: &StoredLetter) -> [String; 9] {
    let state = letter.closed.as_ref().map_or_else(|| "open".to_owned(), |closed| closed.outcome.clone());
    [
        letter.id.to_string(),
        time(letter.at_ms),
        letter.route.clone(),
        letter.stage.clone(),
        letter.code.clone(),
        format!("{}/{}", letter.source, letter.offset),
        letter.key.as_deref().map_or_else(|| "-".to_owned(), key),
        state,
        letter.message.clone(),
    ]
}

/// The key's values where it is Kafka Connect's JSON; else its text.
fn key(bytes: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let payload = json.as_ref().and_then(|json| if json.get("schema").is_some() { json.get("payload") } else { Some(json) });
    payload.map_or_else(|| text(bytes), serde_json::Value::to_string)
}

/// Columns of equal width; the last one is as long as it is.
pub(super) fn lines<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shortened(cell)).collect()).collect();
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

/// One line, without what moves a terminal's cursor.
fn shortened(cell: &str) -> String {
    let mut shown: String = cell.chars().take(MAX_CELL_CHARS).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if cell.chars().count() > MAX_CELL_CHARS {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// UTC.
pub(super) fn time(at_ms: i64) -> String {
    bson::DateTime::from_millis(at_ms).try_to_rfc3339_string().unwrap_or_else(|_| at_ms.to_string())
}

/// UTF-8 as it is, what is none as hexadecimal digits.
pub(super) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|byte| format!("{byte:02x}")).collect(), str::to_owned)
}

/// Names as in the headers.
pub(super) fn as_json(letter: &StoredLetter) -> serde_json::Value {
    json!({
        "letter": letter.id.to_string(),
        "at_ms": letter.at_ms,
        "route": letter.route,
        "stage": letter.stage,
        "code": letter.code,
        "message": letter.message,
        "module": letter.module,
        "topic": &*letter.source.topic,
        "partition": letter.source.partition,
        "offset": letter.offset,
        "timestamp_ms": letter.timestamp_ms,
        "fence": letter.fence.map(crate::fence::Fence::number),
        "omitted_bytes": letter.omitted_bytes,
        "key": letter.key.as_deref().map(text),
        "closed": letter.closed.as_ref().map(|closed| json!({ "at_ms": closed.at_ms, "outcome": closed.outcome })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["A", "B"], ["long\ttext", "x\u{1b}[2J"], ["ä", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows), ["A          B", "long text  x [2J", "ä"]);
        let long = [["x".repeat(200)]];
        assert_eq!(lines(&long).first().map(|line| line.chars().count()), Some(MAX_CELL_CHARS));
    }

    #[test]
    fn bytes_and_keys() {
        assert_eq!(text(b"\xff\x00"), "ff00");
        assert_eq!(key(br#"{"schema":{},"payload":{"id":7}}"#), r#"{"id":7}"#);
        assert_eq!(key(br#"{"id":7}"#), r#"{"id":7}"#);
        assert_eq!(key(b"plain"), "plain");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
    }
}
