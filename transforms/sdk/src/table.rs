//! A table as `open` sees it: its columns are resolved here, once, and documents are declared here.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

use crate::contract::{ColumnSchema, Context, Output, Plan, TableSchema, Tag};
use crate::document::{DocumentBuilder, DocumentError};
use crate::kind::Kind;

/// Why a transform does not take a table. The host dead-letters the table's events with this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError(String);

impl OpenError {
    /// Say what is wrong and what to do about it.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

impl From<DocumentError> for OpenError {
    fn from(error: DocumentError) -> Self {
        Self(error.to_string())
    }
}

/// Which image of the row a column is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Before,
    After,
}

/// A column that `event` reads, resolved by [`Table::column`] or [`Table::column_before`].
#[derive(Debug)]
pub struct Column<K> {
    pub(crate) image: Image,
    /// Index into the cells that cross of this image.
    pub(crate) index: usize,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Column<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Column<K> {}

/// One version of one table, the route that the transform serves, and the plan that `open` makes.
pub struct Table<'a> {
    schema: &'a TableSchema,
    context: &'a Context,
    plan: RefCell<Plan>,
    documents: Cell<u32>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(schema: &'a TableSchema, context: &'a Context) -> Self {
        Self { schema, context, plan: RefCell::default(), documents: Cell::new(0) }
    }

    pub(crate) fn into_plan(self) -> Plan {
        self.plan.into_inner()
    }

    /// The schema: columns with their MySQL types, and the primary key.
    pub fn schema(&self) -> &'a TableSchema {
        self.schema
    }

    /// The route: its targets, and its configuration as text.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// A column of the row as it is after the change.
    pub fn column<K: Kind>(&self, name: &str) -> Result<Column<K>, OpenError> {
        let column = self.find::<K>(name)?;
        let index = cross(&mut self.plan.borrow_mut().after, column);
        Ok(Column { image: Image::After, index, kind: PhantomData })
    }

    /// A column of the row as it was before the change. It is absent where there was no row.
    ///
    /// What a store holds can be recomputed from MySQL only while documents do not depend on it.
    pub fn column_before<K: Kind>(&self, name: &str) -> Result<Column<K>, OpenError> {
        let column = self.find::<K>(name)?;
        let index = cross(&mut self.plan.borrow_mut().before, column);
        Ok(Column { image: Image::Before, index, kind: PhantomData })
    }

    /// Deletes come as events too, and nothing is deleted that the transform does not delete.
    pub fn see_deletes(&self) {
        self.plan.borrow_mut().sees_deletes = true;
    }

    /// A document for every target that the route configures.
    pub fn document(&self) -> DocumentBuilder<'_, 'a> {
        self.document_for(&self.context.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>())
    }

    /// A document for those of the named targets that the route configures; what is put for the others is written nowhere.
    pub fn document_for(&self, targets: &[&str]) -> DocumentBuilder<'_, 'a> {
        let configured = self.context.targets.iter().filter(|target| targets.contains(&target.name.as_str()));
        DocumentBuilder::new(self, configured.map(|target| target.name.clone()).collect())
    }

    pub(crate) fn find<K: Kind>(&self, name: &str) -> Result<u32, OpenError> {
        let TableSchema { database, table, columns, .. } = self.schema;
        let Some((index, column)) = (0..).zip(columns).find(|(_, column)| column.name == name) else {
            return Err(OpenError(format!("{database}.{table} has no column {name:?}: its columns are {}", names(columns))));
        };
        if !Tag::from_number(column.tag).is_some_and(K::accepts) {
            return Err(OpenError(format!(
                "{database}.{table}.{name} comes as {} (tag {}), but the transform needs {}: correct the connector's handling mode, or the \
                 type that the route declares for the column",
                column.source_type,
                column.tag,
                K::NAME
            )));
        }
        Ok(index)
    }

    /// A number for the next document.
    pub(crate) fn next_document(&self) -> u32 {
        self.documents.replace(self.documents.get() + 1)
    }

    /// Adds a shape of documents to the plan, and says which it is.
    pub(crate) fn add_output(&self, output: Output) -> u32 {
        let mut plan = self.plan.borrow_mut();
        plan.outputs.push(output);
        plan.outputs.len() as u32 - 1
    }
}

/// Where the column stands among those that cross; one that is asked for twice crosses once.
fn cross(columns: &mut Vec<u32>, column: u32) -> usize {
    columns.iter().position(|crossing| *crossing == column).unwrap_or_else(|| {
        columns.push(column);
        columns.len() - 1
    })
}

fn names(columns: &[ColumnSchema]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}
