//! Columns whose types the records do not tell.

use crate::change::Tag;
use crate::config::{DeclaredColumn, Wire};

/// Debezium's handling modes, as the connector is configured.
#[derive(Clone, Debug, Default)]
pub struct Modes {
    decimal_as_text: bool,
}

impl Modes {
    /// Takes over one property of the connector's configuration.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match (name, value) {
            ("decimal.handling.mode", "string") => self.decimal_as_text = true,
            ("decimal.handling.mode", "precise") => self.decimal_as_text = false,
            ("decimal.handling.mode", _) => return Err(format!("{name} has no value {value:?}")),
            _ => return Err(format!("{name} is no handling mode")),
        }
        Ok(())
    }
}

/// A column of a declared type.
///
/// # Errors
/// What is wrong with the type.
pub fn column(name: &str, source_type: &str, nullable: bool, modes: &Modes) -> Result<DeclaredColumn, String> {
    let base = source_type.split(['(', ' ']).next().unwrap_or_default();
    let (tag, wire) = match base {
        "int" | "bigint" => (Tag::Int, Wire::Integer),
        "decimal" if modes.decimal_as_text => (Tag::Decimal, Wire::Text),
        "decimal" => (Tag::Decimal, Wire::Base64Decimal),
        "varchar" | "text" => (Tag::Text, Wire::Text),
        "timestamp" => (Tag::Timestamp, Wire::Iso),
        _ => return Err(format!("MySQL has no type {source_type:?}")),
    };
    Ok(DeclaredColumn { name: name.to_owned(), source_type: source_type.to_owned(), tag, wire, nullable, length: None, scale: None })
}
