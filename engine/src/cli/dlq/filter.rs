//! Which letters are meant. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::config;
use crate::dead_letter::StoredLetter;

/// All that are given must hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Of this route.
    #[arg(long, value_name = "ROUTE")]
    pub(super) route: Option<String>,
    /// With this reason: a code, as the table shows it.
    #[arg(long, alias = "reason", value_name = "CODE")]
    pub(super) code: Option<String>,
    /// Of this stage: decode, route, transform, plan or a sink's name.
    #[arg(long, value_name = "STAGE")]
    pub(super) stage: Option<String>,
    /// Of the row with this key: one of the key's values, or the whole key as the table or Kafka has it. Letters of which only a reference was
    /// kept have none.
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Written at this time or later: 2026-01-31T12:00:00Z, 2026-01-31, or 15m, 12h, 7d for so long ago.
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub(super) from: Option<i64>,
    /// Written before this time.
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub(super) to: Option<i64>,
}

impl Filter {
    /// Whether a letter is meant.
    pub(super) fn matches(&self, letter: &StoredLetter) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.route, &letter.route)
            && is(&self.code, &letter.code)
            && is(&self.stage, &letter.stage)
            && self.from.is_none_or(|from| letter.at_ms >= from)
            && self.to.is_none_or(|to| letter.at_ms < to)
            && self.key.as_deref().is_none_or(|key| letter.key.as_deref().is_some_and(|bytes| has_key(bytes, key)))
    }
}

/// The key's values, by Kafka Connect's JSON with a schema or without one.
fn has_key(bytes: &[u8], wanted: &str) -> bool {
    if bytes == wanted.as_bytes() {
        return true;
    }
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return false };
    let payload = if json.get("schema").is_some() { json.get("payload") } else { Some(&json) };
    if payload.is_some() && payload == serde_json::from_str(wanted).ok().as_ref() {
        return true;
    }
    let is = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text == wanted,
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => serde_json::to_string(value).is_ok_and(|text| text == wanted),
    };
    payload.and_then(serde_json::Value::as_object).is_some_and(|members| members.values().any(is))
}

/// Milliseconds since the Unix epoch.
fn time(text: &str) -> Result<i64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time_at(text, now).ok_or_else(|| "write 2026-01-31T12:00:00Z, 2026-01-31, or 15m, 12h, 7d for so long ago".to_owned())
}

fn time_at(text: &str, now: Duration) -> Option<i64> {
    if let Some(ago) = config::duration(text) {
        return i64::try_from(now.saturating_sub(ago).as_millis()).ok();
    }
    let parse = |text: &str| bson::DateTime::parse_rfc3339_str(text).ok().map(bson::DateTime::timestamp_millis);
    parse(text).or_else(|| parse(&format!("{text}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::LetterId;
    use crate::source::TopicPartition;

    fn letter(key: &str) -> StoredLetter {
        StoredLetter {
            id: LetterId { partition: 0, offset: 1 },
            at_ms: 1000,
            route: "orders".into(),
            stage: "transform".into(),
            code: "trapped".into(),
            message: String::new(),
            module: String::new(),
            source: TopicPartition::new("shop.orders", 0),
            offset: 7,
            timestamp_ms: None,
            fence: None,
            omitted_bytes: None,
            key: Some(key.into()),
            closed: None,
        }
    }

    #[test]
    fn all_that_are_given_must_hold() {
        let check = |filter: Filter, expected: bool| assert_eq!(filter.matches(&letter(r#"{"id":7}"#)), expected, "{filter:?}");
        let some = |text: &str| Some(text.to_owned());
        check(Filter::default(), true);
        check(Filter { route: some("orders"), code: some("trapped"), stage: some("transform"), ..Filter::default() }, true);
        check(Filter { route: some("orders"), code: some("other"), ..Filter::default() }, false);
        check(Filter { from: Some(1000), to: Some(1001), ..Filter::default() }, true);
        check(Filter { to: Some(1000), ..Filter::default() }, false);
        check(Filter { from: Some(1001), ..Filter::default() }, false);
        check(Filter { key: some("7"), ..Filter::default() }, true);
        check(Filter { key: some("77"), ..Filter::default() }, false);
    }

    #[test]
    fn keys_in_each_form() {
        for key in [r#"{"id":7,"name":"x"}"#, r#"{"schema":{"type":"struct"},"payload":{"id":7}}"#, r#"{"id":"7"}"#, "7"] {
            assert!(has_key(key.as_bytes(), "7"), "{key}");
        }
        let whole = r#"{"id":7,"line":"x"}"#;
        for key in [r#"{"line":"x","id":7}"#, r#"{"schema":{"type":"struct"},"payload":{"id":7,"line":"x"}}"#] {
            assert!(has_key(key.as_bytes(), whole), "{key}");
        }
        assert!(!has_key(br#"{"id":7,"line":"y"}"#, whole));
        for key in [r#"{"id":17}"#, r#"{"schema":{"id":7},"payload":{"id":1}}"#, "no json", r#"{"schema":null}"#, "[7]"] {
            assert!(!has_key(key.as_bytes(), "7"), "{key}");
        }
    }

    #[test]
    fn times() {
        let now = Duration::from_secs(100_000);
        for (text, expected) in [
            ("15m", Some(99_100_000)),
            ("2d", Some(0)),
            ("1970-01-02", Some(86_400_000)),
            ("1970-01-01T00:00:01Z", Some(1000)),
            ("1970-01-01T01:00:01+01:00", Some(1000)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time_at(text, now), expected, "{text}");
        }
    }
}
