//! An order: its exact total and the same in minor units, its status in upper case, its times as dates, and whether it is still open.
//!
//! The route's `config` may name the statuses that are permitted; an order with another one is rejected.

use serde::Deserialize;
use streamsync_sdk::text::upper;
use streamsync_sdk::{Changes, Column, Document, Field, OpenError, Reject, Row, Table, Transform, kind};

/// Digits of a currency's minor unit: cents.
const MINOR_DIGITS: usize = 2;

/// Statuses after which nothing happens to an order.
const CLOSED: [&str; 10] =
    ["CANCELED", "CANCELLED", "CLOSED", "COMPLETED", "DELIVERED", "FAILED", "REFUND", "REFUNDED", "REJECTED", "RETURNED"];

/// The route's `config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// In any case. Where it is missing, every status is permitted. An order without a status always is.
    permitted_status: Option<Vec<String>>,
}

/// Makes documents of the rows of `orders`.
pub struct Orders {
    total: Column<kind::Decimal>,
    status: Column<kind::Text>,
    /// Trimmed and in upper case.
    permitted: Option<Vec<String>>,
    order: Document,
    total_minor: Field,
    upper_status: Field,
    open: Field,
}

impl Transform for Orders {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("../config.schema.json"));
    type Config = Config;

    fn open(table: &Table<'_>, config: &Config) -> Result<Self, OpenError> {
        let mut order = table.document();
        order.copy("order_id")?.copy("customer_id")?.copy_as::<kind::Decimal>("total_amount", "total")?;
        let total_minor = order.field("total_minor")?;
        let upper_status = order.field("status")?;
        let open = order.field("open")?;
        order.copy_as::<kind::Moment>("created_at", "created_at")?.copy_as::<kind::Moment>("updated_at", "updated_at")?;
        let permitted = config.permitted_status.as_ref();
        Ok(Self {
            total: table.column("total_amount")?,
            status: table.column("status")?,
            permitted: permitted.map(|statuses| statuses.iter().map(|status| upper(status.trim()).into_owned()).collect()),
            order: order.build(),
            total_minor,
            upper_status,
            open,
        })
    }

    fn event(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        let total_minor = row.get(self.total)?.map(|total| total.minor_units(MINOR_DIGITS)).transpose()?;
        let status = row.get(self.status)?.map(str::trim).map(upper);
        if let (Some(permitted), Some(status)) = (&self.permitted, &status) {
            if !permitted.iter().any(|permitted| permitted == status) {
                return Err(Reject::new("status-not-permitted", "the order's status is not among the route's permitted_status"));
            }
        }
        let open = status.as_ref().map(|status| !CLOSED.contains(&status.as_ref()));
        changes.put(&self.order).set(self.total_minor, total_minor).set(self.upper_status, status).set(self.open, open);
        Ok(())
    }
}

streamsync_sdk::export!(Orders);

#[cfg(test)]
mod tests;
