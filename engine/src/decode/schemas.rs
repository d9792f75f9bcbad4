//! The tables' schemas of one decoder: the same columns and key are the same schema, with the same id.

use std::sync::Arc;

use super::Error;
use super::key::Key;
use super::row::Shape;
use crate::change::{ChangeBatch, TableSchema};

/// Schemas that are found without comparing columns.
const RESOLVED: usize = 8;
/// Schemas kept in all; a table that has had more versions gets new ids for the oldest.
const KNOWN: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Schemas {
    next_id: u32,
    known: Vec<Arc<TableSchema>>,
    resolved: Vec<Resolved>,
}

struct Resolved {
    shape: Arc<Shape>,
    key: Arc<Key>,
    schema: Arc<TableSchema>,
}

impl Schemas {
    /// The schema of rows of this shape with this key.
    pub(super) fn resolve(&mut self, shape: &Arc<Shape>, key: &Arc<Key>, database: &str, table: &str) -> Result<Arc<TableSchema>, Error> {
        let found = self.resolved.iter().find(|r| {
            Arc::ptr_eq(&r.shape, shape) && Arc::ptr_eq(&r.key, key) && *r.schema.table == *table && *r.schema.database == *database
        });
        if let Some(resolved) = found {
            return Ok(resolved.schema.clone());
        }
        let column = |name: &str| shape.find(name).map(|c| c as u32).ok_or_else(|| Error::KeyNotInRow { column: name.into() });
        let primary_key = key.names.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
        let is_same = |s: &&Arc<TableSchema>| {
            *s.table == *table && *s.database == *database && s.columns == shape.columns && s.primary_key == primary_key
        };
        let schema = match self.known.iter().find(is_same) {
            Some(schema) => schema.clone(),
            None => {
                let columns = shape.columns.clone();
                let schema =
                    Arc::new(TableSchema { id: self.next_id, database: database.into(), table: table.into(), columns, primary_key });
                self.next_id = self.next_id.wrapping_add(1);
                if self.known.len() == KNOWN {
                    self.known.remove(0);
                }
                self.known.push(schema.clone());
                schema
            }
        };
        self.resolved.insert(0, Resolved { shape: shape.clone(), key: key.clone(), schema: schema.clone() });
        self.resolved.truncate(RESOLVED);
        Ok(schema)
    }
}

/// Index of a schema in a batch, which gets it if it is new there.
pub(super) fn index_in(batch: &mut ChangeBatch, schema: &Arc<TableSchema>) -> u32 {
    let found = batch.schemas.iter().rposition(|s| s.id == schema.id);
    let index = found.unwrap_or_else(|| {
        batch.schemas.push(schema.clone());
        batch.schemas.len() - 1
    });
    index as u32
}
