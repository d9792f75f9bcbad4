//! How values and keys are shown in messages, and which known word a wrong one was meant to be.

/// As TOML writes a text; JSON's escapes are TOML's.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value in a message: quoted, and not longer than a line bears.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => quote(&format!("{}…", text.get(..end).unwrap_or_default())),
        None => quote(text),
    }
}

/// The known word that was probably meant.
pub(super) fn nearest<'k>(word: &str, known: &'k [String]) -> Option<&'k String> {
    let near = |candidate: &&String| distance(word, candidate) <= (word.len().max(candidate.len()) / 3).max(1);
    known.iter().filter(near).min_by_key(|candidate| distance(word, candidate))
}

/// Levenshtein's: how many characters are to be changed, added or removed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word() {
        let known = ["brokers", "group", "control_topic"].map(str::to_owned);
        for (word, expected) in [("broker", Some("brokers")), ("borkers", Some("brokers")), ("control-topic", Some("control_topic")), ("x", None)] {
            assert_eq!(nearest(word, &known).map(String::as_str), expected, "{word}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
