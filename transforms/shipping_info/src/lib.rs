//! A shipment: where it goes, its method in lower case and its status in upper case, both trimmed, the day on which it should
//! arrive, and whether it is still under way.

use streamsync_sdk::text::{lower, upper};
use streamsync_sdk::{Changes, Column, Document, Field, NoConfig, OpenError, Reject, Row, Table, Transform, kind};

/// Statuses after which a shipment no longer moves.
const ARRIVED_OR_GIVEN_UP: [&str; 6] = ["CANCELED", "CANCELLED", "DELIVERED", "FAILED", "LOST", "RETURNED"];

/// Makes documents of the rows of `shipping_info`.
pub struct Shipments {
    method: Column<kind::Text>,
    status: Column<kind::Text>,
    shipment: Document,
    lower_method: Field,
    upper_status: Field,
    under_way: Field,
}

impl Transform for Shipments {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = NoConfig;

    fn open(table: &Table<'_>, _: &NoConfig) -> Result<Self, OpenError> {
        let mut shipment = table.document();
        shipment.copy("shipping_id")?.copy("order_id")?.copy_as::<kind::Text>("shipping_address", "address")?;
        let lower_method = shipment.field("method")?;
        let upper_status = shipment.field("status")?;
        let under_way = shipment.field("under_way")?;
        shipment.copy_as::<kind::Date>("estimated_delivery", "estimated_delivery")?;
        Ok(Self {
            method: table.column("shipping_method")?,
            status: table.column("status")?,
            shipment: shipment.build(),
            lower_method,
            upper_status,
            under_way,
        })
    }

    fn event(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
        let method = row.get(self.method)?.map(str::trim).map(lower);
        let status = row.get(self.status)?.map(str::trim).map(upper);
        let under_way = status.as_ref().map(|status| !ARRIVED_OR_GIVEN_UP.contains(&status.as_ref()));
        changes.put(&self.shipment).set(self.lower_method, method).set(self.upper_status, status).set(self.under_way, under_way);
        Ok(())
    }
}

streamsync_sdk::export!(Shipments);

#[cfg(test)]
mod tests;
