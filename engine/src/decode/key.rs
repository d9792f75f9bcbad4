//! A record's key: its members name the primary key's columns, in their order.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::row::Shape;
use super::{Error, FaultSlot};

/// The columns of a key.
#[derive(Debug, Default)]
pub(super) struct Key {
    pub(super) names: Vec<Box<str>>,
    /// What the key's schema says, where it has one.
    pub(super) shape: Option<Arc<Shape>>,
}

impl Key {
    /// The key that a schema describes.
    pub(super) fn of(shape: Shape) -> Self {
        Self { names: shape.columns.iter().map(|c| c.name.clone()).collect(), shape: Some(Arc::new(shape)) }
    }
}

/// Compares the names of a key's members with those of the last key. `None`: they are the same.
pub(super) struct NamesSeed<'a> {
    pub(super) expected: &'a [Box<str>],
    /// Set where the error is not the JSON's.
    pub(super) fault: &'a FaultSlot,
}

impl<'de> DeserializeSeed<'de> for NamesSeed<'_> {
    type Value = Option<Vec<Box<str>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NamesSeed<'_> {
    type Value = Option<Vec<Box<str>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = 0;
        let mut other: Option<Vec<Box<str>>> = None;
        while let Some(name) =
            map.next_key_seed(NameSeed { expected: self.expected.get(seen).filter(|_| other.is_none()).map(|name| &**name) })?
        {
            map.next_value::<IgnoredAny>()?;
            if let Some(name) = name {
                other.get_or_insert_with(|| self.expected.iter().take(seen).cloned().collect()).push(name);
            }
            seen += 1;
        }
        if other.is_none() && seen < self.expected.len() {
            other = Some(self.expected.iter().take(seen).cloned().collect());
        }
        if let Some(names) = &other {
            let twice = names.iter().enumerate().find(|(i, name)| names.iter().take(*i).any(|n| n == *name));
            if let Some((_, name)) = twice {
                self.fault.set(Some(Error::Duplicate { place: format!("column {name} of the key") }));
                return Err(serde::de::Error::custom("fault"));
            }
        }
        Ok(other)
    }
}

/// A member's name; `None`: it is the expected one.
struct NameSeed<'a> {
    expected: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Option<Box<str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(if self.expected == Some(name) { None } else { Some(name.into()) })
    }
}
