//! A shop's changes as Debezium writes them: JSON with schema, decimals precise, times adaptive; key, value, tombstone, headers.
//!
//! The schemas in `schema/` are Debezium's own, as its MySQL connector 3.6 wrote them for these tables.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::shop::{Change, Row};

/// A record to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) table: Table,
    pub(super) key: String,
    /// `None`: a tombstone.
    pub(super) value: Option<String>,
    /// `__debezium.newkey` or `__debezium.oldkey`, where the key changed.
    pub(super) header: Option<(&'static str, String)>,
}

/// The shop's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Customers,
    Orders,
    ShippingInfo,
}

impl Table {
    pub(super) const ALL: [Self; 3] = [Self::Customers, Self::Orders, Self::ShippingInfo];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Orders => "orders",
            Self::ShippingInfo => "shipping_info",
        }
    }

    const fn schemas(self) -> (&'static str, &'static str) {
        match self {
            Self::Customers => (include_str!("schema/customers.key.json"), include_str!("schema/customers.value.json")),
            Self::Orders => (include_str!("schema/orders.key.json"), include_str!("schema/orders.value.json")),
            Self::ShippingInfo => (include_str!("schema/shipping_info.key.json"), include_str!("schema/shipping_info.value.json")),
        }
    }
}

/// The records of a change: one; two for a delete; three where the primary key changed.
pub(super) fn records(change: &Change, now_ms: i64) -> Vec<Record> {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    let Some(row) = after.or(before) else { return Vec::new() };
    let table = table(row);
    let (old_key, new_key) = (before.map(|r| key(table, r)), after.map(|r| key(table, r)));
    let record = |key: &str, value, header| Record { table, key: key.to_owned(), value, header };
    let value = |op, before, after| Some(envelope(table, op, before, after, now_ms));
    match (old_key, new_key) {
        (None, Some(new)) => vec![record(&new, value("c", None, after), None)],
        (Some(old), None) => vec![record(&old, value("d", before, None), None), record(&old, None, None)],
        (Some(old), Some(new)) if old != new => vec![
            record(&old, value("d", before, None), Some(("__debezium.newkey", new.clone()))),
            record(&old, None, Some(("__debezium.newkey", new.clone()))),
            record(&new, value("c", None, after), Some(("__debezium.oldkey", old))),
        ],
        (Some(old), Some(_)) => vec![record(&old, value("u", before, after), None)],
        (None, None) => Vec::new(),
    }
}

fn table(row: &Row) -> Table {
    match row {
        Row::Customer(_) => Table::Customers,
        Row::Order(_) => Table::Orders,
        Row::Shipment(_) => Table::ShippingInfo,
    }
}

fn key(table: Table, row: &Row) -> String {
    let payload = match row {
        Row::Customer(r) => json!({ "customer_id": r.id }),
        Row::Order(r) => json!({ "order_id": r.id }),
        Row::Shipment(r) => json!({ "shipping_id": r.id }),
    };
    format!(r#"{{"schema":{},"payload":{payload}}}"#, table.schemas().0)
}

fn envelope(table: Table, op: &str, before: Option<&Row>, after: Option<&Row>, now_ms: i64) -> String {
    let image = |row: Option<&Row>| row.map_or_else(|| "null".to_owned(), |row| image(row).to_string());
    let (us, ns) = (now_ms * 1000, now_ms * 1_000_000);
    format!(
        r#"{{"schema":{},"payload":{{"before":{},"after":{},"source":{{"version":"3.6.1.Final","connector":"mysql","name":"ecommerce","ts_ms":{now_ms},"snapshot":"false","db":"ecommerce","sequence":null,"ts_us":{us},"ts_ns":{ns},"table":"{}","server_id":223344,"gtid":null,"file":"mysql-bin.000001","pos":4,"row":0,"thread":61,"query":null}},"transaction":null,"op":"{op}","ts_ms":{now_ms},"ts_us":{us},"ts_ns":{ns}}}}}"#,
        table.schemas().1,
        image(before),
        image(after),
        table.name(),
    )
}

fn image(row: &Row) -> Value {
    match row {
        Row::Customer(r) => {
            json!({ "customer_id": r.id, "name": r.name, "email": r.email, "address": r.address, "created_at": timestamp(r.created_at) })
        }
        Row::Order(r) => json!({
            "order_id": r.id, "customer_id": r.customer_id, "total_amount": r.cents.map(precise), "status": r.status,
            "created_at": timestamp(r.created_at), "updated_at": timestamp(r.updated_at),
        }),
        Row::Shipment(r) => json!({
            "shipping_id": r.id, "order_id": r.order_id, "shipping_address": r.address, "shipping_method": r.method,
            "estimated_delivery": r.estimated, "status": r.status,
        }),
    }
}

/// `decimal.handling.mode=precise`: base64 of the shortest big-endian two's complement.
fn precise(unscaled: i64) -> String {
    let bytes = unscaled.to_be_bytes();
    let is_padding = |pair: &[u8]| matches!(pair, [0, next] if next & 0x80 == 0) || matches!(pair, [0xff, next] if next & 0x80 != 0);
    let skipped = bytes.windows(2).take_while(|pair| is_padding(pair)).count();
    STANDARD.encode(bytes.get(skipped..).unwrap_or_default())
}

/// `2026-11-22T17:34:53Z`; empty beyond the year 9999, where no shop sells.
pub(super) fn timestamp(seconds: i64) -> String {
    bson::DateTime::from_millis(seconds * 1000).try_to_rfc3339_string().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::super::shop::Shop;
    use super::*;

    #[test]
    fn decimals_are_debeziums() {
        // From a real event: 19.90 is "B8Y=".
        for (cents, expected) in [(1990, "B8Y="), (0, "AA=="), (-1, "/w=="), (127, "fw=="), (128, "AIA="), (-128, "gA=="), (-129, "/38=")] {
            assert_eq!(precise(cents), expected, "{cents}");
        }
    }

    #[test]
    fn timestamps_are_iso() {
        for (seconds, expected) in [(0, "1970-01-01T00:00:00Z"), (951_827_696, "2000-02-29T12:34:56Z"), (-1, "1969-12-31T23:59:59Z")] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn a_history_is_json_and_deletes_end_in_tombstones() {
        let mut shop = Shop::new(3);
        for i in 0..1000 {
            let change = shop.change(1_700_000_000 + i);
            let records = records(&change, 1_700_000_000_000);
            for record in &records {
                let key: Value = serde_json::from_str(&record.key).unwrap();
                assert!(key["payload"].is_object() && key["schema"].is_object());
                if let Some(value) = &record.value {
                    let value: Value = serde_json::from_str(value).unwrap();
                    assert!(value["payload"]["op"].is_string());
                }
            }
            assert_eq!(records.iter().any(|r| r.value.is_none()), change.after.is_none() || records.len() == 3);
            assert_eq!(records.last().unwrap().value.is_none(), change.after.is_none());
        }
    }
}
