//! What the stores must hold for the shop's rows: the default transforms once more, in code that shares nothing with them.

use bson::{Bson, Document, doc};
use serde_json::{Value, json};

use super::debezium::{Table, timestamp};
use super::shop::{Customer, Order, Shipment, Shop};
use super::stores::Documents;

/// The documents that Redis must hold.
pub(super) fn redis(shop: &Shop) -> Documents<Value> {
    let customers = shop.customers.values().map(|row| (Table::Customers, row.id, redis_customer(row)));
    let orders = shop.orders.values().map(|row| (Table::Orders, row.id, redis_order(row)));
    let shipments = shop.shipments.values().map(|row| (Table::ShippingInfo, row.id, redis_shipment(row)));
    by_key(customers.chain(orders).chain(shipments))
}

/// The documents that MongoDB must hold, without their versions.
pub(super) fn mongodb(shop: &Shop) -> Documents<Document> {
    let customers = shop.customers.values().map(|row| (Table::Customers, row.id, mongodb_customer(row)));
    let orders = shop.orders.values().map(|row| (Table::Orders, row.id, mongodb_order(row)));
    let shipments = shop.shipments.values().map(|row| (Table::ShippingInfo, row.id, mongodb_shipment(row)));
    by_key(customers.chain(orders).chain(shipments))
}

fn by_key<D>(documents: impl Iterator<Item = (Table, i32, D)>) -> Documents<D> {
    documents.map(|(table, id, document)| ((table.name(), id.to_string()), document)).collect()
}

fn redis_customer(row: &Customer) -> Value {
    json!({
        "customer_id": row.id, "name": trimmed(&row.name), "email": trimmed(&row.email).map(|e| e.to_lowercase()),
        "address": row.address, "created_at": timestamp(row.created_at),
    })
}

fn redis_order(row: &Order) -> Value {
    json!({
        "order_id": row.id, "customer_id": row.customer_id, "total": row.cents.map(decimal), "total_minor": row.cents,
        "status": upper(&row.status), "open": is_open(row), "created_at": timestamp(row.created_at), "updated_at": timestamp(row.updated_at),
    })
}

fn redis_shipment(row: &Shipment) -> Value {
    json!({
        "shipping_id": row.id, "order_id": row.order_id, "address": row.address, "method": trimmed(&row.method).map(|m| m.to_lowercase()),
        "status": upper(&row.status), "under_way": is_under_way(row), "estimated_delivery": row.estimated.map(date),
    })
}

fn mongodb_customer(row: &Customer) -> Document {
    doc! {
        "_id": i64::from(row.id), "customer_id": i64::from(row.id), "name": trimmed(&row.name),
        "email": trimmed(&row.email).map(|e| e.to_lowercase()), "address": row.address.clone(), "created_at": moment(row.created_at),
    }
}

fn mongodb_order(row: &Order) -> Document {
    let total: Option<Bson> = row.cents.map(|cents| decimal(cents).parse().map_or(Bson::Undefined, Bson::Decimal128));
    doc! {
        "_id": i64::from(row.id), "order_id": i64::from(row.id), "customer_id": i64::from(row.customer_id), "total": total,
        "total_minor": row.cents, "status": upper(&row.status), "open": is_open(row),
        "created_at": moment(row.created_at), "updated_at": moment(row.updated_at),
    }
}

fn mongodb_shipment(row: &Shipment) -> Document {
    doc! {
        "_id": i64::from(row.id), "shipping_id": i64::from(row.id), "order_id": i64::from(row.order_id), "address": row.address.clone(),
        "method": trimmed(&row.method).map(|m| m.to_lowercase()), "status": upper(&row.status), "under_way": is_under_way(row),
        "estimated_delivery": row.estimated.map(|day| moment(i64::from(day) * 86_400)),
    }
}

fn is_open(row: &Order) -> Option<bool> {
    row.status.as_deref().map(|status| !matches!(status, "delivered" | "cancelled" | "refunded"))
}

fn is_under_way(row: &Shipment) -> Option<bool> {
    row.status.as_deref().map(|status| !matches!(status, "delivered" | "returned"))
}

fn trimmed(text: &Option<String>) -> Option<String> {
    text.as_ref().map(|text| text.trim().to_owned())
}

fn upper(text: &Option<String>) -> Option<String> {
    text.as_ref().map(|text| text.trim().to_uppercase())
}

fn decimal(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

fn date(days: i32) -> String {
    timestamp(i64::from(days) * 86_400).chars().take(10).collect()
}

fn moment(seconds: i64) -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(seconds * 1000))
}
