//! Reads one section of the tree, key by key. A wrong value is reported and the default stands in for it, so that reading goes on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Entry, Origin, Report, Spot};
use super::tree::{Node, Table, Value};
use super::words::{nearest, quote, shorten};
use super::{secret, units};

/// What reading needs beside the tree.
pub(super) struct Reading {
    pub(super) report: Report,
    /// The environment, for `${env:NAME}`.
    pub(super) variables: BTreeMap<String, String>,
    /// The file's directory: relative paths start here.
    pub(super) directory: PathBuf,
}

/// A section. Call [`Section::finish`] when all keys were read.
pub(super) struct Section<'r> {
    pub(super) reading: &'r Reading,
    table: Table,
    origin: Origin,
    path: String,
    pattern: String,
    origins: RefCell<BTreeMap<String, Origin>>,
    known: Vec<String>,
    /// The keys that were there, rightly or wrongly.
    written: BTreeSet<String>,
}

impl<'r> Section<'r> {
    pub(super) fn root(reading: &'r Reading, table: Table) -> Self {
        Self::new(reading, table, Origin::File, String::new(), String::new())
    }

    fn new(reading: &'r Reading, table: Table, origin: Origin, path: String, pattern: String) -> Self {
        let written = table.keys().cloned().collect();
        Self { reading, table, origin, path, pattern, origins: RefCell::default(), known: Vec::new(), written }
    }

    /// Where a key of this section was written, or the section where it was not.
    pub(super) fn spot(&self, key: &str) -> Spot {
        let origin = self.origins.borrow().get(key).or(self.table.get(key).map(|n| &n.origin)).unwrap_or(&self.origin).clone();
        Spot { origin, key: join(&self.path, key) }
    }

    /// The section itself.
    pub(super) fn here(&self) -> Spot {
        Spot { origin: self.origin.clone(), key: self.path.clone() }
    }

    /// A fault of a key of this section.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.reading.report.fault(&self.spot(key), message, remedy);
    }

    /// Shows messages with the name that the operator gave, where the section is an element of a list.
    pub(super) fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// Whether a key was written, rightly or wrongly.
    pub(super) fn was_read(&self, key: &str) -> bool {
        self.written.contains(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Takes a key's value. Every key that exists comes through here.
    fn take(&mut self, key: &str, default: &str) -> Option<Node> {
        self.reading.report.known(&join(&self.pattern, key), default);
        self.known.push(key.to_owned());
        let node = self.table.remove(key)?;
        self.origins.borrow_mut().insert(key.to_owned(), node.origin.clone());
        Some(node)
    }

    fn enter(&self, key: &str, value: String, default: &str) {
        let origins = self.origins.borrow();
        let place = origins.get(key).map_or_else(|| "default".to_owned(), |origin| self.reading.report.place(origin));
        let (key, pattern) = (join(&self.path, key), join(&self.pattern, key));
        self.reading.report.entry(Entry { key, pattern, value, place, default: default.to_owned() });
    }

    fn wrong_type(&self, key: &str, found: &Value, wanted: &str, example: &str) {
        self.fault(key, format!("{} where {wanted} is needed", found.name()), format!("write for example {key} = {example}"));
    }

    fn missing(&self, key: &str, example: &str) {
        self.fault(key, "is required and not set", format!("add {key} = {example}"));
    }

    /// Text with its references resolved; `None` where there is none or it is wrong.
    fn read_text(&mut self, key: &str, default: &str, kind: TextKind, example: &str) -> Option<String> {
        let node = self.take(key, default)?;
        let (Value::Text(raw) | Value::Raw(raw)) = &node.value else {
            self.wrong_type(key, &node.value, "a text", example);
            return None;
        };
        let resolved = match secret::resolve(raw, kind == TextKind::Url, &self.reading.variables, &self.reading.directory) {
            Ok(resolved) => resolved,
            Err((message, remedy)) => {
                self.fault(key, message, remedy);
                return None;
            }
        };
        let shown = match kind {
            _ if secret::is_reference(raw) => quote(raw),
            TextKind::Secret => quote("***"),
            TextKind::Url => quote(&secret::mask_url(raw)),
            TextKind::Plain => quote(raw),
        };
        self.enter(key, shown, default);
        Some(resolved)
    }

    /// A text that must be there. `example` is shown where it is not.
    pub(super) fn required_text(&mut self, key: &str, example: &str) -> Option<String> {
        let there = self.has(key);
        let text = self.read_text(key, "required", TextKind::Plain, example);
        if !there {
            self.missing(key, example);
        }
        if text.as_deref() == Some("") {
            self.fault(key, "is empty", format!("write for example {key} = {example}"));
            return None;
        }
        text
    }

    /// A URL that may hold a password.
    pub(super) fn url(&mut self, key: &str, example: &str) -> Option<String> {
        self.read_text(key, "-", TextKind::Url, example)
    }

    /// A text that may be left away.
    pub(super) fn optional_text(&mut self, key: &str, example: &str) -> Option<String> {
        self.read_text(key, "-", TextKind::Plain, example)
    }

    /// A secret that may be left away.
    pub(super) fn secret(&mut self, key: &str, example: &str) -> Option<String> {
        self.read_text(key, "-", TextKind::Secret, example)
    }

    /// A text with a default.
    pub(super) fn text(&mut self, key: &str, default: &str) -> String {
        let quoted = quote(default);
        if !self.has(key) {
            self.take(key, &quoted);
            self.enter(key, quoted, &quote(default));
            return default.to_owned();
        }
        match self.read_text(key, &quoted, TextKind::Plain, &quoted) {
            Some(text) if text.is_empty() => {
                self.fault(key, "is empty", format!("write for example {key} = {quoted}"));
                default.to_owned()
            }
            text => text.unwrap_or_else(|| default.to_owned()),
        }
    }

    /// One of a few words; `None` where it is missing or another.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, default: Option<&str>, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<String> = choices.iter().map(|(word, _)| quote(word)).collect();
        let example = words.first().cloned().unwrap_or_default();
        let text = match default {
            Some(default) => self.text(key, default),
            None => self.required_text(key, &example)?,
        };
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.fault(key, format!("{} is none of the known ones", shorten(&text)), format!("write one of {}", words.join(", ")));
        }
        found
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, key: &str, default: &str, range: RangeInclusive<&str>) -> Duration {
        let parse = |text: &str| units::duration(text).map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let show = |millis| units::show_duration(Duration::from_millis(millis));
        Duration::from_millis(self.quantity(key, default, range, "a duration with its unit (ms, s, m, h, d)", &parse, &show))
    }

    /// A size with its unit, in bytes.
    pub(super) fn size(&mut self, key: &str, default: &str, range: RangeInclusive<&str>) -> usize {
        let what = "a size with its unit (B, KB, MB, GB, KiB, MiB, GiB)";
        let bytes = self.quantity(key, default, range, what, &units::size, &units::show_size);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// A duration that may be left away.
    pub(super) fn optional_duration(&mut self, key: &str, range: RangeInclusive<&str>) -> Option<Duration> {
        if self.has(key) {
            return Some(self.duration(key, range.start(), range.clone()));
        }
        self.take(key, "-");
        None
    }

    fn quantity(
        &mut self,
        key: &str,
        default: &str,
        range: RangeInclusive<&str>,
        what: &str,
        parse: &dyn Fn(&str) -> Option<u64>,
        show: &dyn Fn(u64) -> String,
    ) -> u64 {
        let quoted = quote(default);
        let (least, most) = (parse(range.start()).unwrap_or(0), parse(range.end()).unwrap_or(u64::MAX));
        let fallback = parse(default).unwrap_or(least);
        let remedy = format!("write for example {key} = {quoted}");
        let node = self.take(key, &quoted);
        let value = match node.as_ref().map(|node| &node.value) {
            None => fallback,
            Some(Value::Text(text) | Value::Raw(text)) => match parse(text) {
                Some(value) if (least..=most).contains(&value) => value,
                Some(_) => {
                    let allowed = format!("write {} to {}", show(least), show(most));
                    self.fault(key, format!("{} is out of range", shorten(text)), allowed);
                    fallback
                }
                None => {
                    self.fault(key, format!("{} is not {what}", shorten(text)), remedy);
                    fallback
                }
            },
            Some(Value::Integer(number)) => {
                self.fault(key, format!("{number} has no unit"), remedy);
                fallback
            }
            Some(other) => {
                self.wrong_type(key, other, what, &quoted);
                fallback
            }
        };
        self.enter(key, quote(&show(value)), &quoted);
        value
    }

    /// A whole number with a default.
    pub(super) fn count(&mut self, key: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        self.number(key, &default.to_string(), &range).unwrap_or(default)
    }

    /// A whole number that may be left away.
    pub(super) fn optional_count(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        self.number(key, "-", &range)
    }

    fn number(&mut self, key: &str, default: &str, range: &RangeInclusive<u32>) -> Option<u32> {
        let Some(node) = self.take(key, default) else {
            if default != "-" {
                self.enter(key, default.to_owned(), default);
            }
            return None;
        };
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Raw(text) => text.parse().ok(),
            Value::Text(_) | Value::Float(_) | Value::Boolean(_) | Value::Array(_) | Value::Table(_) => None,
        };
        let Some(number) = number else {
            let example = if default == "-" { range.start().to_string() } else { default.to_owned() };
            self.wrong_type(key, &node.value, "an integer", &example);
            return None;
        };
        match u32::try_from(number).ok().filter(|n| range.contains(n)) {
            Some(number) => {
                self.enter(key, number.to_string(), default);
                Some(number)
            }
            None => {
                self.fault(key, format!("{number} is out of range"), format!("write {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// `true` or `false`; `false` by default.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        let value = match self.take(key, "false").map(|node| node.value) {
            None => false,
            Some(Value::Boolean(value)) => value,
            Some(Value::Raw(text)) if text == "true" || text == "false" => text == "true",
            Some(other) => {
                self.wrong_type(key, &other, "true or false", "true");
                false
            }
        };
        self.enter(key, value.to_string(), "false");
        value
    }

    /// A list of texts; in the environment separated by commas. `urls`: what they may hold is masked.
    pub(super) fn texts(&mut self, key: &str, urls: bool) -> Vec<String> {
        let default = if urls { "-" } else { "[]" };
        let Some(node) = self.take(key, default) else { return Vec::new() };
        let raw: Vec<String> = match node.value {
            Value::Raw(text) => text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect(),
            Value::Array(nodes) => {
                let text = |node: Node| match node.value {
                    Value::Text(text) => Some(text),
                    other @ (Value::Raw(_)
                    | Value::Integer(_)
                    | Value::Float(_)
                    | Value::Boolean(_)
                    | Value::Array(_)
                    | Value::Table(_)) => {
                        self.wrong_type(key, &other, "a list of texts", "[\"a\", \"b\"]");
                        None
                    }
                };
                nodes.into_iter().filter_map(text).collect()
            }
            other @ (Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Table(_)) => {
                self.wrong_type(key, &other, "a list of texts", "[\"a\", \"b\"]");
                return Vec::new();
            }
        };
        let shown: Vec<String> = raw.iter().map(|t| quote(&if urls { secret::mask_url(t) } else { t.clone() })).collect();
        self.enter(key, format!("[{}]", shown.join(", ")), default);
        raw.iter().filter_map(|text| self.resolve(key, text, urls)).collect()
    }

    /// Puts in what a text refers to.
    pub(super) fn resolve(&self, key: &str, text: &str, in_url: bool) -> Option<String> {
        match secret::resolve(text, in_url, &self.reading.variables, &self.reading.directory) {
            Ok(resolved) => Some(resolved),
            Err((message, remedy)) => {
                self.fault(key, message, remedy);
                None
            }
        }
    }

    /// A section below this one; empty where it is not written.
    pub(super) fn section(&mut self, key: &str) -> Section<'r> {
        self.known.push(key.to_owned());
        let (table, origin) = match self.table.remove(key) {
            None => (Table::new(), self.origin.clone()),
            Some(Node { value: Value::Table(table), origin }) => (table, origin),
            Some(Node { value, origin }) => {
                self.origins.borrow_mut().insert(key.to_owned(), origin.clone());
                self.fault(key, format!("{} where a section is needed", value.name()), format!("write [{}]", join(&self.pattern, key)));
                (Table::new(), origin)
            }
        };
        self.origins.borrow_mut().insert(key.to_owned(), origin.clone());
        Section::new(self.reading, table, origin, join(&self.path, key), join(&self.pattern, key))
    }

    /// Sections whose names the operator chose.
    pub(super) fn named_sections(&mut self, key: &str) -> Vec<(String, Section<'r>)> {
        let mut parent = self.section(key);
        let names: Vec<String> = parent.table.keys().cloned().collect();
        let pattern = join(&parent.pattern, "<name>");
        names
            .into_iter()
            .map(|name| {
                let mut section = parent.section(&name);
                section.pattern.clone_from(&pattern);
                (name, section)
            })
            .collect()
    }

    /// The elements of a list of sections.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Section<'r>> {
        self.known.push(key.to_owned());
        let pattern = format!("{}[]", join(&self.pattern, key));
        let Some(node) = self.table.remove(key) else { return Vec::new() };
        self.origins.borrow_mut().insert(key.to_owned(), node.origin);
        let wanted =
            |found: &Value| self.fault(key, format!("{} where a list of sections is needed", found.name()), format!("write [[{key}]]"));
        let Value::Array(nodes) = node.value else {
            wanted(&node.value);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.into_iter().enumerate() {
            let Value::Table(table) = node.value else {
                wanted(&node.value);
                continue;
            };
            let path = format!("{}[{index}]", join(&self.path, key));
            sections.push(Section::new(self.reading, table, node.origin, path, pattern.clone()));
        }
        sections
    }

    /// Names and texts that somebody else gives a meaning: librdkafka's properties, column types, handling modes.
    pub(super) fn pairs(&mut self, key: &str, secrets: fn(&str) -> bool) -> Vec<(String, String, Spot)> {
        let mut section = self.section(key);
        section.pattern = join(&self.pattern, key);
        let mut pairs = Vec::new();
        self.reading.report.known(&format!("{}.<name>", section.pattern), "-");
        for name in section.table.keys().cloned().collect::<Vec<_>>() {
            let Some(node) = section.table.remove(&name) else { continue };
            section.origins.borrow_mut().insert(name.clone(), node.origin);
            let raw = match node.value {
                Value::Text(text) | Value::Raw(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Boolean(boolean) => boolean.to_string(),
                Value::Float(number) => number.to_string(),
                other @ (Value::Array(_) | Value::Table(_)) => {
                    let quoted = quote(&name);
                    section.fault(
                        &name,
                        format!("{} where a text is needed", other.name()),
                        format!("write {quoted} = \"…\", the name in quotes"),
                    );
                    continue;
                }
            };
            let hidden = secrets(&name) && !secret::is_reference(&raw);
            let spot = section.spot(&name);
            if let Some(text) = section.resolve(&name, &raw, false) {
                let place = self.reading.report.place(&spot.origin);
                let value = quote(if hidden { "***" } else { &raw });
                let (key, pattern) = (spot.key.clone(), format!("{}.<name>", section.pattern));
                self.reading.report.entry(Entry { key, pattern, value, place, default: "-".to_owned() });
                pairs.push((name, text, spot));
            }
        }
        pairs
    }

    /// Any value at all, as JSON: a guest's own configuration.
    pub(super) fn json(&mut self, key: &str) -> serde_json::Value {
        let Some(node) = self.take(key, "{}") else { return serde_json::Value::Object(serde_json::Map::new()) };
        let json = self.node_to_json(key, &node.value);
        self.enter(key, quote("***"), "{}");
        json
    }

    fn node_to_json(&self, key: &str, value: &Value) -> serde_json::Value {
        match value {
            Value::Text(text) => self.resolve(key, text, false).unwrap_or_default().into(),
            Value::Raw(text) => {
                let text = self.resolve(key, text, false).unwrap_or_default();
                serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
            }
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => serde_json::Number::from_f64(*number).map_or_else(
                || {
                    self.fault(key, "JSON has no such number", "write a finite number");
                    serde_json::Value::Null
                },
                serde_json::Value::Number,
            ),
            Value::Boolean(boolean) => (*boolean).into(),
            Value::Array(nodes) => nodes.iter().map(|node| self.node_to_json(key, &node.value)).collect(),
            Value::Table(table) => table
                .iter()
                .map(|(name, node)| (name.clone(), self.node_to_json(key, &node.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// Whatever was not asked for is unknown.
    pub(super) fn finish(self) {
        for (name, node) in &self.table {
            let spot = Spot { origin: node.origin.clone(), key: join(&self.path, name) };
            let remedy = match nearest(name, &self.known) {
                Some(known) => format!("did you mean `{known}`?"),
                None if self.known.is_empty() => "remove it".to_owned(),
                None => format!("remove it; the keys here are {}", self.known.join(", ")),
            };
            self.reading.report.fault(&spot, "unknown key", remedy);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Plain,
    Url,
    /// Shown to nobody, also where it stands in the file itself.
    Secret,
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
