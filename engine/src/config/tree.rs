//! The file as a tree in which each value knows its line. Nothing is typed yet, so that one mistake hides no other.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::fault::{Origin, Report, Spot};

pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written. It may be a secret, so there is no `Debug`.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    /// From the environment: becomes what its key asks for.
    Raw(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// With its article, for messages.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Raw(_) => "a text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Array(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

/// Parses the file. Syntax errors become faults; what could be read is returned all the same.
pub(super) fn parse(text: &str, report: &Report) -> Table {
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::new(text);
    for error in errors {
        let origin = error.span().map_or(Origin::File, |span| lines.origin(span.start));
        // The error's Display quotes the line, which may hold a password; its message does not.
        report.fault(&Spot { origin, key: String::new() }, format!("not TOML: {}", error.message()), "correct the syntax");
    }
    lines.table(document.get_ref(), report, "")
}

/// Starts of the lines.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::Line(self.0.partition_point(|start| *start <= offset).max(1))
    }

    fn table(&self, table: &DeTable<'_>, report: &Report, path: &str) -> Table {
        let mut nodes = Table::new();
        for (key, value) in table {
            let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            let origin = self.origin(key.span().start);
            nodes.insert(key.get_ref().to_string(), self.node(value.get_ref(), origin, report, &path));
        }
        nodes
    }

    fn node(&self, value: &DeValue<'_>, origin: Origin, report: &Report, path: &str) -> Node {
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    let spot = Spot { origin: origin.clone(), key: path.to_owned() };
                    report.fault(&spot, "the integer does not fit 64 bits", "write a smaller one");
                    Value::Integer(0)
                }
            },
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::Text(datetime.to_string()),
            DeValue::Array(array) => {
                let node = |(index, element): (usize, &toml::Spanned<DeValue<'_>>)| {
                    self.node(element.get_ref(), self.origin(element.span().start), report, &format!("{path}[{index}]"))
                };
                Value::Array(array.iter().enumerate().map(node).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table, report, path)),
        };
        Node { origin, value }
    }
}
