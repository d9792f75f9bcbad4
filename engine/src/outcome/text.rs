//! Outcomes as a text file.
//!
//! ```text
//! 0:4 update order_id = int 103
//!   put redis, mongodb
//!     order_id = int 103
//!     total = decimal 19.90
//! ```
//!
//! Partition and offset begin an event, two blanks a part of its outcome, four a field. `#` begins a line that is for people alone.

use super::{Field, Outcome, Part};

/// Why a file of outcomes can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it, and what to write.
    pub what: String,
}

const HEADER: &str =
    "# What becomes of each event: `streamsync transform test --update` writes this file. Read the difference before you keep it.\n";
/// First words of parts that are no puts, with what may follow.
const WORDS: [&str; 8] = ["put", "delete", "skip", "reject", "fault", "passed over", "truncate", "nothing"];

/// The file's text.
pub fn write(outcomes: &[Outcome]) -> String {
    let mut out = HEADER.to_owned();
    for outcome in outcomes {
        out.push_str(&format!("\n{}:{} {}\n", outcome.partition, outcome.offset, outcome.event));
        for part in &outcome.parts {
            out.push_str(&format!("  {}\n", part.title));
            for field in &part.fields {
                out.push_str(&format!("    {} = {}\n", field_name(&field.name), field.value));
            }
        }
    }
    out
}

/// A name as it stands in the file and in differences: in quotes where it could be taken for something else.
pub(super) fn field_name(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | ':');
    if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// Reads the file.
///
/// # Errors
/// The first line that can't be read.
pub fn parse(text: &str) -> Result<Vec<Outcome>, ParseError> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let refuse = |what: String| ParseError { line, what };
        let trimmed = content.trim_end();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let inner = trimmed.trim_start_matches(' ');
        match trimmed.len() - inner.len() {
            0 => outcomes.push(event(inner).map_err(refuse)?),
            2 => {
                let outcome = outcomes
                    .last_mut()
                    .ok_or_else(|| refuse("a part of no event: an event's line, as `0:4 update id = int 1`, comes first".into()))?;
                outcome.parts.push(part(inner).map_err(refuse)?);
            }
            4 => {
                let part = outcomes.last_mut().and_then(|outcome| outcome.parts.last_mut());
                let part = part.ok_or_else(|| refuse("a field of nothing: a line like `  put redis` comes before it".into()))?;
                let field = field(inner).map_err(refuse)?;
                if part.fields.iter().any(|other| other.name == field.name) {
                    return Err(refuse(format!("field {} is there twice", field_name(&field.name))));
                }
                part.fields.push(field);
            }
            blanks => {
                return Err(refuse(format!(
                    "it begins with {blanks} blanks: an event begins with none, its parts with 2, their fields with 4"
                )));
            }
        }
    }
    Ok(outcomes)
}

fn event(line: &str) -> Result<Outcome, String> {
    let number = || {
        let (place, event) = line.split_once(' ')?;
        let (partition, offset) = place.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?, event.trim().to_owned()))
    };
    let (partition, offset, event) =
        number().ok_or("no event: write partition:offset and what happened, as in `0:4 update order_id = int 103`")?;
    Ok(Outcome { partition, offset, event, parts: Vec::new() })
}

fn part(line: &str) -> Result<Part, String> {
    let begins = |word: &&&str| line.strip_prefix(**word).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let Some(word) = WORDS.iter().find(begins) else {
        return Err(format!(
            "{:?} is nothing that becomes of an event: write put, delete, skip, reject CODE or fault STAGE CODE",
            first_word(line)
        ));
    };
    let followed = line.len() > word.len();
    let must = matches!(*word, "put" | "reject" | "fault" | "passed over");
    match (must, followed) {
        (true, false) => Err(format!("{word} of what: write for example {}", example(word))),
        _ => Ok(Part::new(line)),
    }
}

fn example(word: &str) -> &'static str {
    match word {
        "put" => "`put redis, mongodb`",
        "reject" => "`reject bad-amount`",
        "fault" => "`fault transform trapped`",
        _ => "`passed over heartbeat`",
    }
}

fn field(line: &str) -> Result<Field, String> {
    let (name, value) = if line.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(line).into_iter::<String>();
        let name = names.next().and_then(Result::ok).ok_or("the field's name is no text in quotes")?;
        let value = line.get(names.byte_offset()..).and_then(|rest| rest.strip_prefix(" = "));
        (name, value)
    } else {
        match line.split_once(" = ") {
            Some((name, value)) => (name.to_owned(), Some(value)),
            None => (String::new(), None),
        }
    };
    let value = value.ok_or("no field: write its name, ` = `, the value's kind and the value, as in `total = decimal 19.90`")?;
    check_value(value)?;
    Ok(Field { name, value: value.to_owned() })
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
}

/// A value that could not come out of any event is a slip of whoever edited the file.
fn check_value(value: &str) -> Result<(), String> {
    let (kind, rest) = value.split_once(' ').map_or((value, None), |(kind, rest)| (kind, Some(rest)));
    let good = match (kind, rest) {
        ("null", rest) => rest.is_none(),
        ("boolean", Some(rest)) => matches!(rest, "true" | "false"),
        ("int", Some(rest)) => rest.parse::<i64>().is_ok(),
        ("uint", Some(rest)) => rest.parse::<u64>().is_ok(),
        ("double", Some(rest)) => rest.parse::<f64>().is_ok(),
        ("year", Some(rest)) => rest.parse::<i64>().is_ok(),
        ("decimal", Some(rest)) => !rest.is_empty() && rest.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit() || b == b'.'),
        ("text", Some(rest)) => serde_json::from_str::<String>(rest).is_ok(),
        ("json", Some(rest)) => serde_json::from_str::<serde::de::IgnoredAny>(rest).is_ok(),
        ("bytes" | "bits" | "geometry", rest) => rest.is_none_or(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit())),
        ("date" | "time" | "datetime" | "timestamp", Some(rest)) => !rest.is_empty(),
        _ => false,
    };
    if good { Ok(()) } else { Err(wrong_value(kind)) }
}

fn wrong_value(kind: &str) -> String {
    let example = match kind {
        "null" => "`null` alone",
        "boolean" => "`boolean true`",
        "int" => "`int -5`",
        "uint" => "`uint 5`",
        "double" => "`double 1.5`",
        "year" => "`year 2024`",
        "decimal" => "`decimal 19.90`",
        "text" => "`text \"paid\"`, in quotes and with JSON's escapes",
        "json" => "`json {\"a\":[1]}`",
        "bytes" | "bits" | "geometry" => "`bytes 00ff`, hexadecimal",
        "date" => "`date 2024-02-29`",
        "time" => "`time 12:30:00`",
        "datetime" => "`datetime 2024-02-29T12:30:00`",
        "timestamp" => "`timestamp 2024-02-29T12:30:00Z`",
        _ => {
            return format!(
                "{kind:?} is no kind of value: write null, boolean, int, uint, double, decimal, text, bytes, bits, json, geometry, date, time, datetime, \
                 timestamp or year before the value"
            );
        }
    };
    format!("the value is no {kind}: write for example {example}")
}
