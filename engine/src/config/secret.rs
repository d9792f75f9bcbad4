//! `${env:NAME}` and `${file:/run/secrets/name}` inside a text: the one way in which secrets enter. `$${` is a plain `${`.

use std::collections::BTreeMap;
use std::path::Path;

/// What was wrong, and what to do.
pub(super) type Unresolved = (String, String);

/// Resolves the references of a text. Where `in_url` is set, what is put into the midst of a text is percent-encoded, so that a password
/// may hold any character. A file's trailing line ends are cut off. Relative files are looked for in `directory`.
pub(super) fn resolve(text: &str, in_url: bool, variables: &BTreeMap<String, String>, directory: &Path) -> Result<String, Unresolved> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(plain) = before.strip_suffix('$') {
            resolved.push_str(plain);
            resolved.push_str("${");
            rest = from.get(2..).unwrap_or_default();
            continue;
        }
        resolved.push_str(before);
        let Some(end) = from.find('}') else {
            return Err(("`${` is not closed".to_owned(), "close it with `}`, or write `$${` for a plain `${`".to_owned()));
        };
        let reference = from.get(2..end).unwrap_or_default();
        let value = fetch(reference, variables, directory)?;
        let whole = reference.len() + 3 == text.len();
        resolved.push_str(&if in_url && !whole { percent_encode(&value) } else { value });
        rest = from.get(end + 1..).unwrap_or_default();
    }
    resolved.push_str(rest);
    Ok(resolved)
}

fn fetch(reference: &str, variables: &BTreeMap<String, String>, directory: &Path) -> Result<String, Unresolved> {
    match reference.split_once(':') {
        Some(("env", name)) => variables
            .get(name)
            .cloned()
            .ok_or_else(|| (format!("the environment variable {name} is not set"), format!("set {name}, or refer to another one"))),
        Some(("file", file)) => std::fs::read_to_string(directory.join(file))
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| (format!("the file {file} can't be read: {error}"), "mount the file and let this user read it".to_owned())),
        _ => Err((
            "only `${env:NAME}` and `${file:PATH}` can be put into a text".to_owned(),
            "write one of the two, or `$${` for a plain `${`".to_owned(),
        )),
    }
}

fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else if write!(encoded, "%{byte:02X}").is_err() {
            // Writing to a String can't fail.
        }
        encoded
    })
}

/// Whether a text is one reference and nothing else: then it holds no secret itself.
pub(super) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|reference| !reference.contains(['$', '{', '}']))
}

/// A URL without its user, password and query values: for printing.
pub(super) fn mask_url(url: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, None), |(head, query)| (head, Some(query)));
    let Some((scheme, rest)) = head.split_once("://") else { return "***".to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let hosts = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, hosts)| format!("***@{hosts}"));
    let path = path.map(|p| format!("/{p}")).unwrap_or_default();
    let query = if query.is_some() { "?***" } else { "" };
    format!("{scheme}://{hosts}{path}{query}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn check(text: &str, in_url: bool, expected: Result<&str, &str>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("password"), "p@ss/w\r\n").unwrap();
        let variables = BTreeMap::from([("USER".to_owned(), "a:b".to_owned()), ("NESTED".to_owned(), "${env:USER}".to_owned())]);
        match (resolve(text, in_url, &variables, directory.path()), expected) {
            (Ok(resolved), Ok(expected)) => assert_eq!(resolved, expected, "{text}"),
            (Err((message, _)), Err(expected)) => assert!(message.contains(expected), "{message}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn references() {
        check("plain $ { text", false, Ok("plain $ { text"));
        check("${env:USER}", true, Ok("a:b"));
        check("redis://${env:USER}:${file:password}@host", true, Ok("redis://a%3Ab:p%40ss%2Fw@host"));
        check("${file:password}x", false, Ok("p@ss/wx"));
        check("$${env:USER}", false, Ok("${env:USER}"));
        check("${env:NESTED}", false, Ok("${env:USER}"));
        check("${env:GONE}", false, Err("GONE is not set"));
        check("${file:gone}", false, Err("gone can't be read"));
        check("${env:USER", false, Err("not closed"));
        check("${USER}", false, Err("only `${env:NAME}`"));
    }

    #[test]
    fn only_a_reference_alone_may_be_shown() {
        assert!(is_reference("${env:PASSWORD}") && is_reference("${file:/run/secrets/x}"));
        for text in ["${env:A}x", "x${env:A}", "${env:A}${env:B}", "$${env:A}", "${env:A", "plain", ""] {
            assert!(!is_reference(text), "{text}");
        }
    }

    #[test]
    fn what_a_printed_url_shows() {
        assert_eq!(mask_url("redis://u:p@h:1/0"), "redis://***@h:1/0");
        assert_eq!(mask_url("mongodb://u:p@a,b/?authSource=x"), "mongodb://***@a,b/?***");
        assert_eq!(mask_url("redis://h"), "redis://h");
        assert_eq!(mask_url("what"), "***");
    }
}
