#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use streamsync_sdk::contract::{TableSchema, Tag};
use streamsync_sdk::testing::{Event, EventResult, Harness, Owned, date, table};

use super::Shipments;

fn shipping_info() -> TableSchema {
    table(
        "shipping_id",
        &[
            ("shipping_id", Tag::Int),
            ("order_id", Tag::Int),
            ("shipping_address", Tag::Text),
            ("shipping_method", Tag::Text),
            ("estimated_delivery", Tag::Date),
            ("status", Tag::Text),
        ],
    )
}

fn run(method: Owned, delivery: Owned, status: Owned) -> EventResult {
    let mut harness = Harness::<Shipments>::open(&shipping_info(), "{}", &["redis", "mongodb"]).expect("the table has what it reads");
    let after = vec![
        ("shipping_id", 1000.into()),
        ("order_id", Owned::Null),
        ("shipping_address", "12 St James's Sq".into()),
        ("shipping_method", method),
        ("estimated_delivery", delivery),
        ("status", status),
    ];
    harness.run(&[Event::update(Vec::new(), after)]).remove(0)
}

fn check(
    method: impl Into<Owned>,
    status: impl Into<Owned>,
    lower: impl Into<Owned>,
    upper: impl Into<Owned>,
    under_way: impl Into<Owned>,
) {
    let result = run(method.into(), date(19_787), status.into());
    assert_eq!(result.document("redis"), result.document("mongodb"));
    let shipment = result.document("redis").expect("the shipment is written");
    assert_eq!(shipment["shipping_id"], 1000.into());
    assert_eq!(shipment["order_id"], Owned::Null);
    assert_eq!(shipment["address"], "12 St James's Sq".into());
    assert_eq!(shipment["estimated_delivery"], date(19_787));
    assert_eq!(shipment["method"], lower.into());
    assert_eq!(shipment["status"], upper.into());
    assert_eq!(shipment["under_way"], under_way.into());
    assert_eq!(shipment.len(), 7);
}

#[test]
fn method_and_status_are_normalised() {
    check("Express", "preparing", "express", "PREPARING", true);
    check("  SAME-day ", "\tIn transit", "same-day", "IN TRANSIT", true);
    check("ÉCO", "expédié", "éco", "EXPÉDIÉ", true);
}

#[test]
fn a_shipment_is_under_way_until_it_arrived_or_was_given_up() {
    check("express", "Delivered", "express", "DELIVERED", false);
    check("express", "returned ", "express", "RETURNED", false);
    check("express", "lost", "express", "LOST", false);
    check("express", "cancelled", "express", "CANCELLED", false);
    check("express", "", "express", "", true);
}

#[test]
fn null_stays_null_and_nothing_is_said_of_it() {
    check(Owned::Null, Owned::Null, Owned::Null, Owned::Null, Owned::Null);
    let result = run(Owned::Null, Owned::Null, Owned::Null);
    assert_eq!(result.document("mongodb").expect("a row of nulls is a row")["estimated_delivery"], Owned::Null);
}
