#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use streamsync_sdk::contract::{TableSchema, Tag};
use streamsync_sdk::testing::{Event, EventResult, Harness, Image, Owned, table, timestamp};

use super::Customers;

fn customers() -> TableSchema {
    table(
        "customer_id",
        &[("customer_id", Tag::Int), ("name", Tag::Text), ("email", Tag::Text), ("address", Tag::Text), ("created_at", Tag::Timestamp)],
    )
}

fn row(name: impl Into<Owned>, email: impl Into<Owned>) -> Image {
    vec![
        ("customer_id", 4.into()),
        ("name", name.into()),
        ("email", email.into()),
        ("address", "C/ Mayor 1\nMadrid".into()),
        ("created_at", timestamp(1_709_251_199_000_000)),
    ]
}

fn run(targets: &[&str], after: Image) -> EventResult {
    let mut harness = Harness::<Customers>::open(&customers(), "{}", targets).expect("the table has what the transform reads");
    harness.run(&[Event::create(after)]).remove(0)
}

fn check(name: impl Into<Owned>, email: impl Into<Owned>, expected_name: impl Into<Owned>, expected_email: impl Into<Owned>) {
    let result = run(&["redis", "mongodb"], row(name, email));
    for target in ["redis", "mongodb"] {
        let customer = result.document(target).expect("each target gets the document");
        assert_eq!(customer.keys().collect::<Vec<_>>(), ["address", "created_at", "customer_id", "email", "name"]);
        assert_eq!(customer["customer_id"], 4.into());
        assert_eq!(customer["address"], "C/ Mayor 1\nMadrid".into());
        assert_eq!(customer["created_at"], timestamp(1_709_251_199_000_000));
    }
    assert_eq!(result.document("redis"), result.document("mongodb"));
    let customer = result.document("mongodb").expect("it has the document");
    assert_eq!(customer["name"], expected_name.into());
    assert_eq!(customer["email"], expected_email.into());
}

#[test]
fn name_is_trimmed_and_email_is_in_lower_case() {
    check("  Ada Lovelace ", " Ada@Example.COM\n", "Ada Lovelace", "ada@example.com");
    check("José Ñandú 🦤", "JOSÉ@EXAMPLE.com", "José Ñandú 🦤", "josé@example.com");
    check("\u{3000}王小明\u{a0}", "wang@example.com", "王小明", "wang@example.com");
    check("", " ", "", "");
}

#[test]
fn null_stays_null() {
    check(Owned::Null, Owned::Null, Owned::Null, Owned::Null);
    let nothing = vec![
        ("customer_id", 4.into()),
        ("name", Owned::Null),
        ("email", Owned::Null),
        ("address", Owned::Null),
        ("created_at", Owned::Null),
    ];
    let result = run(&["redis"], nothing);
    let customer = result.document("redis").expect("a row of nulls is a row");
    assert_eq!(customer["address"], Owned::Null);
    assert_eq!(customer["created_at"], Owned::Null);
}

#[test]
fn each_target_of_the_route_gets_the_document_and_no_other() {
    let result = run(&["redis"], row("Ada", "ada@example.com"));
    assert!(result.document("redis").is_some());
    assert_eq!(result.puts.len(), 1);
    assert!(run(&[], row("Ada", "ada@example.com")).skipped, "a route without targets holds nothing");
}

#[test]
fn an_absent_column_is_not_taken_for_null() {
    let result = run(&["redis"], vec![("customer_id", 4.into()), ("name", "Ada".into())]);
    assert_eq!(result.reject_code(), Some("absent-column"));
    assert!(result.puts.is_empty());
}

#[test]
fn a_table_without_the_columns_is_refused_with_a_remedy() {
    let mut schema = customers();
    schema.columns[4].tag = Tag::Text as u8;
    let error = Harness::<Customers>::open(&schema, "{}", &["redis"]).err().expect("created_at is no moment");
    assert!(error.contains("created_at") && error.contains("a timestamp or datetime"), "{error}");

    let mut schema = customers();
    schema.columns.remove(1);
    let error = Harness::<Customers>::open(&schema, "{}", &["redis"]).err().expect("there is no name");
    assert!(error.contains("has no column \"name\""), "{error}");

    let error = Harness::<Customers>::open(&customers(), r#"{"colour": 1}"#, &["redis"]).err().expect("there is no such setting");
    assert!(error.contains("colour"), "{error}");
}

#[test]
fn only_what_is_computed_crosses() {
    let harness = Harness::<Customers>::open(&customers(), "", &["redis", "mongodb"]).expect("no configuration is an empty one");
    assert_eq!(harness.plan().after.len(), 2);
    assert!(harness.plan().before.is_empty());
    assert!(!harness.plan().sees_deletes);
}
