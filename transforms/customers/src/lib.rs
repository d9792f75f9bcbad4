//! A customer: the name trimmed, the email trimmed and in lower case, the address as it is, the day and time of creation as a date.

use streamsync_sdk::text::lower;
use streamsync_sdk::{Changes, Column, Document, Field, NoConfig, OpenError, Reject, Row, Table, Transform, kind};

/// Makes documents of the rows of `customers`.
pub struct Customers {
    name: Column<kind::Text>,
    email: Column<kind::Text>,
    customer: Document,
    trimmed_name: Field,
    lower_email: Field,
}

impl Transform for Customers {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = NoConfig;

    fn open(table: &Table<'_>, _: &NoConfig) -> Result<Self, OpenError> {
        let mut customer = table.document();
        let trimmed_name = customer.copy("customer_id")?.field("name")?;
        let lower_email = customer.field("email")?;
        customer.copy("address")?.copy_as::<kind::Moment>("created_at", "created_at")?;
        Ok(Self { name: table.column("name")?, email: table.column("email")?, customer: customer.build(), trimmed_name, lower_email })
    }

    fn event(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        let name = row.get(self.name)?.map(str::trim);
        let email = row.get(self.email)?.map(str::trim).map(lower);
        changes.put(&self.customer).set(self.trimmed_name, name).set(self.lower_email, email);
        Ok(())
    }
}

streamsync_sdk::export!(Customers);

#[cfg(test)]
mod tests;
