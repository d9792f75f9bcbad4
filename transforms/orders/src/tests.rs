#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use streamsync_sdk::contract::{TableSchema, Tag};
use streamsync_sdk::testing::{Event, EventResult, Harness, Image, Owned, decimal, table, timestamp};

use super::Orders;

fn orders() -> TableSchema {
    table(
        "order_id",
        &[
            ("order_id", Tag::Int),
            ("customer_id", Tag::Int),
            ("total_amount", Tag::Decimal),
            ("status", Tag::Text),
            ("created_at", Tag::Timestamp),
            ("updated_at", Tag::Timestamp),
        ],
    )
}

fn row(total: Owned, status: impl Into<Owned>) -> Image {
    vec![
        ("order_id", 102.into()),
        ("customer_id", 1.into()),
        ("total_amount", total),
        ("status", status.into()),
        ("created_at", timestamp(1_709_287_200_000_000)),
        ("updated_at", Owned::Null),
    ]
}

fn run(config: &str, after: Image) -> EventResult {
    let mut harness = Harness::<Orders>::open(&orders(), config, &["redis", "mongodb"]).expect("the table has what the transform reads");
    harness.run(&[Event::read(after)]).remove(0)
}

fn check(total: Owned, status: impl Into<Owned>, minor: impl Into<Owned>, upper: impl Into<Owned>, open: impl Into<Owned>) {
    let result = run("{}", row(total.clone(), status));
    assert_eq!(result.document("redis"), result.document("mongodb"));
    let order = result.document("mongodb").expect("the order is written");
    assert_eq!(order["total"], total, "the total is passed on as it is");
    assert_eq!(order["total_minor"], minor.into());
    assert_eq!(order["status"], upper.into());
    assert_eq!(order["open"], open.into());
    assert_eq!(order["order_id"], 102.into());
    assert_eq!(order["customer_id"], 1.into());
    assert_eq!(order["created_at"], timestamp(1_709_287_200_000_000));
    assert_eq!(order["updated_at"], Owned::Null);
    assert_eq!(order.len(), 8);
}

#[test]
fn totals_are_exact() {
    check(decimal("99.99"), "pending", 9999, "PENDING", true);
    check(decimal("0.00"), "paid", 0, "PAID", true);
    check(decimal("-12345678.90"), "refund", -1_234_567_890, "REFUND", false);
    check(decimal("-0.01"), "paid", -1, "PAID", true);
    check(decimal("99999999.99"), "paid", 9_999_999_999, "PAID", true);
}

#[test]
fn status_is_trimmed_and_in_upper_case_and_says_whether_the_order_is_open() {
    check(decimal("1.00"), " Delivered ", 100, "DELIVERED", false);
    check(decimal("1.00"), "cancelled", 100, "CANCELLED", false);
    check(decimal("1.00"), "größe", 100, "GRÖSSE", true);
    check(decimal("1.00"), "", 100, "", true);
}

#[test]
fn null_stays_null_and_nothing_is_said_of_it() {
    check(Owned::Null, Owned::Null, Owned::Null, Owned::Null, Owned::Null);
}

#[test]
fn a_status_that_the_route_does_not_permit_is_rejected() {
    let config = r#"{"permitted_status": ["pending", "Paid"]}"#;
    assert!(run(config, row(decimal("1.00"), "PAID ")).document("redis").is_some());
    assert!(run(config, row(decimal("1.00"), Owned::Null)).document("redis").is_some(), "no status is not a wrong one");
    let result = run(config, row(decimal("1.00"), "shipped"));
    assert_eq!(result.reject_code(), Some("status-not-permitted"));
    assert!(result.puts.is_empty());
}

#[test]
fn a_rejected_order_leaves_those_beside_it_alone() {
    let config = r#"{"permitted_status": ["paid"]}"#;
    let mut harness = Harness::<Orders>::open(&orders(), config, &["redis"]).expect("the table has what the transform reads");
    let events = ["paid", "odd", "paid"].map(|status| Event::create(row(decimal("1.00"), status)));
    let results = harness.run(&events);
    assert_eq!(results[0], results[2]);
    assert!(results[0].document("redis").is_some());
    assert_eq!(results[1].reject_code(), Some("status-not-permitted"));
}

#[test]
fn a_total_that_has_no_exact_minor_units_is_rejected() {
    assert_eq!(run("{}", row(decimal("1.005"), "paid")).reject_code(), Some("decimal-inexact"));
    assert_eq!(run("{}", row(decimal("92233720368547758.08"), "paid")).reject_code(), Some("decimal-too-large"));
}

#[test]
fn a_total_that_is_not_exact_is_refused_when_the_table_is_opened() {
    let mut schema = orders();
    schema.columns[2].tag = Tag::Double as u8;
    let error = Harness::<Orders>::open(&schema, "{}", &["redis"]).err().expect("a double is not exact");
    assert!(error.contains("total_amount") && error.contains("an exact decimal"), "{error}");
}

#[test]
fn a_wrong_configuration_is_named() {
    let error = Harness::<Orders>::open(&orders(), r#"{"permitted_status": "paid"}"#, &["redis"]).err().expect("it is no list");
    assert!(error.contains(env!("CARGO_PKG_NAME")) && error.contains("a sequence"), "{error}");
}
