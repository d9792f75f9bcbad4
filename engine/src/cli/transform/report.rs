//! Outcomes beside each other, as a table for people.

use crate::outcome::{Comparison, Line};

/// Longest value in a column; the rest of a longer one is cut off where both sides fit on a line otherwise.
const MAX_WIDTH: usize = 48;

/// An event's lines, on both sides; what differs stands behind `!`.
pub(super) fn table(compared: &Comparison, first: &str, second: &str) -> Vec<String> {
    let rows: Vec<[String; 3]> = compared.lines.iter().map(row).collect();
    let width = |column: usize, least: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0).clamp(least, MAX_WIDTH)
    };
    let (names, firsts) = (width(0, 5), width(1, first.len()));
    let mut lines = vec![compared.event.clone(), format!("    {:names$}  {first:firsts$}  {second}", "")];
    for ([name, left, right], field) in rows.iter().zip(&compared.lines) {
        let mark = if field.is_alike() { ' ' } else { '!' };
        let line = if left.chars().count() > MAX_WIDTH {
            // A value that is longer than the column has the line for itself.
            format!("  {mark} {name:names$}  {left}\n    {:names$}  {:firsts$}  {right}", "", "")
        } else {
            format!("  {mark} {name:names$}  {left:firsts$}  {right}")
        };
        lines.extend(line.lines().map(|line| line.trim_end().to_owned()));
    }
    lines
}

fn row(field: &Line) -> [String; 3] {
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".into());
    [field.name.clone(), side(&field.first), side(&field.second)]
}

/// 12,345
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// 1.1 MiB, 64 KiB
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..=1023 => format!("{bytes} bytes"),
        1024..=1_048_575 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// `1 event`, `2 events`
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_marked() {
        let field = |name: &str, first: Option<&str>, second: Option<&str>| Line {
            name: name.into(),
            first: first.map(Into::into),
            second: second.map(Into::into),
            is_free: false,
        };
        let long = "x".repeat(60);
        let compared = Comparison {
            event: "0:4 update id = int 1".into(),
            lines: vec![
                field("", Some("put redis"), Some("put redis")),
                field("status", Some("text \"a\""), Some("text \"b\"")),
                field("open", None, Some("boolean true")),
                field("long", Some(&long), None),
            ],
        };
        let expected = [
            "0:4 update id = int 1".to_owned(),
            format!("    {:6}  {:48}  seen", "", "expected"),
            format!("    {:6}  {:48}  put redis", "", "put redis"),
            format!("  ! status  {:48}  text \"b\"", "text \"a\""),
            format!("  ! open    {:48}  boolean true", "-"),
            format!("  ! long    {long}"),
            format!("    {:6}  {:48}  -", "", ""),
        ];
        assert_eq!(table(&compared, "expected", "seen"), expected);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
    }
}
