//! `[[routes]]`: one table's way each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Spot;
use super::kafka::check_topic;
use super::section::Section;
use super::settings::{Format, OnTruncate, Place, RedisForm, RouteSettings, SinkKind, SinkSettings, TargetSettings};
use super::sinks::check_name;
use super::transforms::{self, GuestLimits};
use super::words::{nearest, shorten};
use crate::decode::declared;

/// A target and where it was written: the places are compared over all routes.
pub(super) struct Written {
    pub(super) target: Arc<TargetSettings>,
    pub(super) spot: Spot,
}

/// The sinks as routes refer to them.
pub(super) struct Sinks<'s> {
    pub(super) settings: &'s [SinkSettings],
    /// Also of sinks that could not be read.
    pub(super) names: &'s [String],
}

/// Reads all routes.
pub(super) fn read(root: &mut Section<'_>, sinks: &Sinks<'_>, limits: &GuestLimits) -> (Vec<Arc<RouteSettings>>, Vec<Written>) {
    let mut routes: Vec<Arc<RouteSettings>> = Vec::new();
    let mut written = Vec::new();
    let mut names: BTreeMap<String, Spot> = BTreeMap::new();
    let mut topics: BTreeMap<String, String> = BTreeMap::new();
    for mut section in root.sections("routes") {
        let name = section.required_text("name", "\"orders\"").unwrap_or_else(|| section.here().key);
        section.rename(format!("routes.{name}"));
        check_name(&section.spot("name"), &section, name.trim_start_matches("routes[").trim_end_matches(']'));
        if names.insert(name.clone(), section.spot("name")).is_some() {
            section.fault("name", "another route has this name", "give each route a name of its own");
        }
        let route = route(section, name, sinks, limits, &mut topics, &mut written);
        routes.push(Arc::new(route));
    }
    if routes.is_empty() && !root.was_read("routes") {
        root.fault("routes", "there is no route", "add [[routes]] with name, topic, table, a transform and its targets");
    }
    (routes, written)
}

fn route(
    mut section: Section<'_>,
    name: String,
    sinks: &Sinks<'_>,
    limits: &GuestLimits,
    topics: &mut BTreeMap<String, String>,
    written: &mut Vec<Written>,
) -> RouteSettings {
    let topic = section.required_text("topic", "\"ecommerce.ecommerce.orders\"").unwrap_or_default();
    if !topic.is_empty() {
        check_topic(&section, "topic", &topic);
        if let Some(other) = topics.insert(topic.clone(), name.clone()) {
            let remedy = "give one topic to one route; it may have several targets";
            section.fault("topic", format!("route {other} reads this topic too"), remedy);
        }
    }
    let (database, table) = table(&mut section);
    let format = format(&mut section);
    let on_truncate = section.choice("on_truncate", Some("halt"), &[("halt", OnTruncate::Halt), ("clear", OnTruncate::Clear)]);
    let transform = transforms::read_guest(&mut section, &name, limits);
    let mut targets = Vec::new();
    for (target_name, target_section) in section.named_sections("targets") {
        let spot = target_section.here();
        if let Some(target) = target(target_section, target_name, sinks) {
            let target = Arc::new(target);
            written.push(Written { target: Arc::clone(&target), spot });
            targets.push(target);
        }
    }
    if targets.is_empty() && !section.was_read("targets") {
        section.fault(
            "targets",
            "the route has no target",
            format!("add [routes.targets.<name>] with the name that {name}'s transform writes to"),
        );
    }
    section.finish();
    let on_truncate = on_truncate.unwrap_or(OnTruncate::Halt);
    RouteSettings { name, topic, database, table, format, transform, targets, on_truncate }
}

fn table(section: &mut Section<'_>) -> (String, String) {
    let Some(text) = section.required_text("table", "\"ecommerce.orders\"") else { return (String::new(), String::new()) };
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => (database.to_owned(), table.to_owned()),
        _ => {
            section.fault("table", format!("{} is no database and table", shorten(&text)), "write database.table, as MySQL has them");
            (String::new(), String::new())
        }
    }
}

fn format(section: &mut Section<'_>) -> Format {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Shape {
        WithSchema,
        Plain,
    }
    let there = section.has("format");
    let shape = section.choice("format", None, &[("json-with-schema", Shape::WithSchema), ("json", Shape::Plain)]);
    let declared = section.pairs("columns", |_| false);
    let chosen = section.pairs("modes", |_| false);
    if shape == Some(Shape::WithSchema) {
        for (key, pairs) in [("columns", &declared), ("modes", &chosen)] {
            if !pairs.is_empty() {
                let remedy = "remove it, or set format = \"json\" where the connector writes no schemas";
                section.fault(key, "the records of this format tell their types themselves", remedy);
            }
        }
        return Format::JsonWithSchema;
    }
    if there && shape == Some(Shape::Plain) && declared.is_empty() && !section.was_read("columns") {
        section.fault(
            "columns",
            "records without schema do not tell their types",
            "add [routes.columns] with name = \"type\" for each column of the table",
        );
    }
    let modes = modes(section, &chosen);
    let mut columns = Vec::with_capacity(declared.len());
    for (name, text, spot) in declared {
        let (source_type, nullable) = nullability(&text);
        match declared::column(&name, source_type, nullable, &modes) {
            Ok(column) => columns.push(column),
            Err(message) => {
                section.reading.report.fault(&spot, message, "write the type as SHOW CREATE TABLE has it, \"decimal(10,2) not null\"")
            }
        }
    }
    Format::Json { columns }
}

/// A column's type and whether it allows NULL: MySQL's do unless they say otherwise. What else its definition says, and a label of an ENUM, is
/// neither.
fn nullability(text: &str) -> (&str, bool) {
    let text = text.trim();
    let mut in_label = false;
    for (at, byte) in text.bytes().enumerate() {
        in_label ^= byte == b'\'';
        if in_label || byte != b' ' {
            continue;
        }
        let (before, rest) = text.split_at_checked(at).unwrap_or((text, ""));
        let mut words = rest.split_ascii_whitespace().map(str::to_ascii_lowercase);
        match (words.next().as_deref(), words.next().as_deref()) {
            (Some("not"), Some("null")) => return (before.trim_end(), false),
            (Some("null"), _) => return (before.trim_end(), true),
            _ => {}
        }
    }
    (text, true)
}

fn modes(section: &Section<'_>, chosen: &[(String, String, Spot)]) -> declared::Modes {
    let mut modes = declared::Modes::default();
    for (name, value, spot) in chosen {
        let taken = match name.as_str() {
            "decimal.handling.mode" => mode(value).map(|mode| modes.decimal = mode),
            "time.precision.mode" => mode(value).map(|mode| modes.time = mode),
            "binary.handling.mode" => mode(value).map(|mode| modes.binary = mode),
            "bigint.unsigned.handling.mode" => mode(value).map(|mode| modes.bigint_unsigned = mode),
            "decimal.format" => match value.as_str() {
                "NUMERIC" | "BASE64" => {
                    modes.numeric_decimals = value == "NUMERIC";
                    Ok(())
                }
                _ => Err(format!("{} is neither \"BASE64\" nor \"NUMERIC\"", shorten(value))),
            },
            _ => Err("is no handling mode of Debezium that changes how values are written".to_owned()),
        };
        if let Err(message) = taken {
            let known = "decimal.handling.mode, time.precision.mode, binary.handling.mode, bigint.unsigned.handling.mode, decimal.format";
            section.reading.report.fault(spot, message, format!("write {known} as the connector's configuration has them, each in quotes"));
        }
    }
    modes
}

/// A mode by Debezium's own word.
fn mode<'v, M: serde::Deserialize<'v>>(value: &'v str) -> Result<M, String> {
    let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(value);
    M::deserialize(word).map_err(|error| error.to_string())
}

fn target(mut section: Section<'_>, name: String, sinks: &Sinks<'_>) -> Option<TargetSettings> {
    check_name(&section.here(), &section, &name);
    let sink_name = section.required_text("sink", "\"redis\"");
    let explicit_keys = section.flag("explicit_keys");
    let index = sink_name.as_ref().and_then(|wanted| sinks.settings.iter().position(|sink| sink.name == *wanted));
    let Some((index, sink)) = index.and_then(|index| Some((index, sinks.settings.get(index)?))) else {
        if let Some(wanted) = sink_name.filter(|wanted| !sinks.names.contains(wanted)) {
            let remedy = match nearest(&wanted, sinks.names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("name one of the sinks: {}", sinks.names.join(", ")),
            };
            section.fault("sink", format!("there is no sink {}", shorten(&wanted)), remedy);
        }
        return None;
    };
    let is_redis = match &sink.kind {
        SinkKind::Redis(_) => true,
        SinkKind::MongoDb(_) => false,
        SinkKind::Memory | SinkKind::Null => !section.has("collection"),
    };
    let (place, ttl_seconds) = if is_redis { redis_place(&mut section) } else { (mongodb_place(&mut section), None) };
    section.finish();
    Some(TargetSettings { name, sink: index, place: place?, explicit_keys, ttl_seconds })
}

fn redis_place(section: &mut Section<'_>) -> (Option<Place>, Option<u32>) {
    let prefix = section.required_text("prefix", "\"orders\"");
    let forms = [("string", RedisForm::String), ("hash", RedisForm::Hash), ("json", RedisForm::Json)];
    let form = section.choice("form", Some("string"), &forms).unwrap_or(RedisForm::String);
    let ttl = section.optional_duration("ttl", "1s"..="3650d").and_then(|ttl| u32::try_from(ttl.as_secs()).ok());
    let place = prefix.map(|prefix| {
        if prefix.contains(['{', '}']) {
            section.fault("prefix", "holds a brace, which would move its keys to one slot of a cluster", "leave braces away");
        }
        if prefix.ends_with(':') {
            section.fault("prefix", "ends with `:`, which is put between prefix and key anyway", "leave the last `:` away");
        }
        if prefix.chars().any(|c| c.is_control() || c.is_whitespace()) {
            section.fault("prefix", "holds white space or a control character", "leave it away");
        }
        if prefix.starts_with("_sync") {
            section.fault("prefix", "begins with `_sync`, which the engine's own keys begin with", "choose another prefix");
        }
        Place::Redis { prefix, form }
    });
    (place, ttl)
}

fn mongodb_place(section: &mut Section<'_>) -> Option<Place> {
    let collection = section.required_text("collection", "\"orders\"")?;
    if collection.starts_with("_sync") || collection.starts_with("system.") {
        section.fault("collection", "begins with `_sync` or `system.`, which are not for documents", "choose another name");
    }
    if collection.contains(['$', '\0']) || collection.len() > 200 || collection.starts_with('.') || collection.ends_with('.') {
        let message = format!("{} can't be a collection's name", shorten(&collection));
        section.fault("collection", message, "write up to 200 bytes without `$` and NUL, with no `.` at either end");
    }
    Some(Place::MongoDb { collection })
}

#[cfg(test)]
mod tests {
    use super::nullability;

    #[test]
    fn a_column_allows_null_unless_it_says_otherwise() {
        let cases = [
            ("bigint unsigned", ("bigint unsigned", true)),
            ("decimal(10,2) NOT NULL", ("decimal(10,2)", false)),
            ("varchar(9) null", ("varchar(9)", true)),
            ("datetime(3) NOT  NULL DEFAULT CURRENT_TIMESTAMP(3)", ("datetime(3)", false)),
            ("int NOT NULL COMMENT 'never null'", ("int", false)),
            ("enum('a',' not null') collate utf8mb4_bin", ("enum('a',' not null') collate utf8mb4_bin", true)),
            ("int default null", ("int default", true)),
        ];
        for (text, expected) in cases {
            assert_eq!(nullability(text), expected, "{text}");
        }
    }
}
