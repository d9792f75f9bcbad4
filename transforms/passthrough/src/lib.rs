//! Any row as it is: every column under its own name, typed, whatever the table.

use streamsync_sdk::{Changes, Document, NoConfig, OpenError, Reject, Row, Table, Transform};

/// Makes documents of the rows of any table. No cell crosses to the guest.
pub struct Passthrough {
    row: Document,
}

impl Transform for Passthrough {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = NoConfig;

    fn open(table: &Table<'_>, _: &NoConfig) -> Result<Self, OpenError> {
        let mut row = table.document();
        for column in &table.schema().columns {
            row.copy(&column.name)?;
        }
        Ok(Self { row: row.build() })
    }

    fn event(&self, _: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        changes.put(&self.row);
        Ok(())
    }
}

streamsync_sdk::export!(Passthrough);
