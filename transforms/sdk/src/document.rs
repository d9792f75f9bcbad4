//! Documents as `open` declares them: their fields, resolved to handles, so that an event costs no search by name.

use std::fmt;

use crate::contract::{Output, Tag};
use crate::kind::{Any, Kind};
use crate::table::{OpenError, Table};

/// A field that `event` sets, or a part of an explicit key.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Told apart from fields of other documents by [`Document::id`].
    pub(crate) document: u32,
    pub(crate) cell: usize,
}

/// A declared document: put it with [`crate::Changes::put`].
#[derive(Debug)]
pub struct Document {
    pub(crate) id: u32,
    /// The outputs that it is written to, one a target; none where the route configures none of its targets.
    pub(crate) outputs: Vec<u32>,
    pub(crate) key_cells: usize,
    /// A put's cells before anything is set: references for copied columns, absent for the others.
    pub(crate) tags: Vec<u8>,
    pub(crate) words: Vec<u8>,
}

/// A document cannot have this field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError(String);

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DocumentError {}

/// What stands in a cell before anything is set.
type Preset = Option<u32>;

/// Declares a document. The order of the fields is that of the calls.
pub struct DocumentBuilder<'t, 'a> {
    table: &'t Table<'a>,
    id: u32,
    targets: Vec<String>,
    key: Vec<(String, Preset)>,
    fields: Vec<(String, Preset)>,
}

impl<'t, 'a> DocumentBuilder<'t, 'a> {
    pub(crate) fn new(table: &'t Table<'a>, targets: Vec<String>) -> Self {
        let id = table.next_document();
        Self { table, id, targets, key: Vec::new(), fields: Vec::new() }
    }

    /// Passes a column on, unchanged and under its own name. It does not cross to the guest.
    pub fn copy(&mut self, column: &str) -> Result<&mut Self, OpenError> {
        self.copy_as::<Any>(column, column)
    }

    /// Passes a column of a certain kind on under another name; a dot nests: "address.city".
    pub fn copy_as<K: Kind>(&mut self, column: &str, field: &str) -> Result<&mut Self, OpenError> {
        let index = self.table.find::<K>(column)?;
        self.add_field(field, Some(index))?;
        Ok(self)
    }

    /// A field for [`crate::Put::set`]; a dot nests. The single name "" takes [`crate::Json`] with the whole document.
    pub fn field(&mut self, name: &str) -> Result<Field, OpenError> {
        let index = self.add_field(name, None)?;
        // The key's parts stand before the fields: `key` refuses to be called after a field was declared.
        Ok(Field { document: self.id, cell: self.key.len() + index })
    }

    /// A part of an explicit key, for [`crate::Put::set`]. Without any, the key is the row's primary key, which is always safe;
    /// with them, the key must hold every primary-key column by [`Self::key_copy`], and the route must permit it.
    pub fn key(&mut self, name: &str) -> Result<Field, OpenError> {
        let cell = self.add_key(name, None)?;
        Ok(Field { document: self.id, cell })
    }

    /// A column as a part of an explicit key, under its own name.
    pub fn key_copy(&mut self, column: &str) -> Result<&mut Self, OpenError> {
        let index = self.table.find::<Any>(column)?;
        self.add_key(column, Some(index))?;
        Ok(self)
    }

    /// Declares the document to the host.
    pub fn build(self) -> Document {
        let names = |parts: &[(String, Preset)]| parts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let (key, fields) = (names(&self.key), names(&self.fields));
        let outputs = self
            .targets
            .into_iter()
            .map(|target| self.table.add_output(Output { target, key: key.clone(), fields: fields.clone() }))
            .collect();
        let presets = || self.key.iter().chain(&self.fields).map(|(_, preset)| *preset);
        Document {
            id: self.id,
            outputs,
            key_cells: key.len(),
            tags: presets().map(|preset| if preset.is_some() { Tag::After } else { Tag::Absent } as u8).collect(),
            words: presets().flat_map(|preset| u64::from(preset.unwrap_or(0)).to_le_bytes()).collect(),
        }
    }

    fn add_field(&mut self, name: &str, preset: Preset) -> Result<usize, DocumentError> {
        for (other, _) in &self.fields {
            if other == name {
                return Err(DocumentError(format!("the document has the field {name:?} twice: name each field once")));
            }
            if nests_in(name, other) || nests_in(other, name) {
                return Err(DocumentError(format!("{name:?} and {other:?}: a name is either a field or a parent of fields")));
            }
        }
        self.fields.push((name.to_owned(), preset));
        Ok(self.fields.len() - 1)
    }

    fn add_key(&mut self, name: &str, preset: Preset) -> Result<usize, DocumentError> {
        if !self.fields.is_empty() {
            return Err(DocumentError(format!("the key's part {name:?} comes after a field: declare the key first")));
        }
        if self.key.iter().any(|(other, _)| other == name) {
            return Err(DocumentError(format!("the key has the part {name:?} twice: name each part once")));
        }
        self.key.push((name.to_owned(), preset));
        Ok(self.key.len() - 1)
    }
}

/// Whether `inner` lies below `outer`: "address.city" below "address". Everything lies below the whole document, "".
fn nests_in(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}
