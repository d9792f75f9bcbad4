#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::*;

const TEXT: &str = r#"
0:4 update order_id = int 103
  put redis, mongodb
    order_id = int 103
    total = decimal 19.90
    "a b" = text "x = \"y\""
    note = null
    bytes = bytes
    tags = json [1,{"a":null}]
0:5 delete order_id = int 103
  delete
0:6 record
  fault decode bad-key
    message = text "why"
1:7 create a = text "0:1", b = date 2024-02-29
  reject bad-amount
    message = text "no"
1:8 delete id = int 1
  skip
1:8 create id = int 2
  delete redis
  put mongodb key a = int 1 ttl 60
    "" = json {}
"#;

#[test]
fn what_is_written_is_what_was_read() {
    let outcomes = parse(TEXT).expect("well-formed");
    assert_eq!(outcomes.len(), 6);
    assert_eq!(outcomes[0].parts[0].fields[2], Field { name: "a b".into(), value: r#"text "x = \"y\"""#.into() });
    assert_eq!(parse(&write(&outcomes)).expect("written"), outcomes);
    assert!(differences(&outcomes, &outcomes, true).is_empty());
}

#[test]
fn what_does_not_parse_has_its_line() {
    let event = "0:1 create id = int 1\n";
    let cases = [
        ("event 0:1", "no event"),
        ("0:x create", "no event"),
        ("0:1 create id = int 1\n   put redis", "it begins with 3 blanks"),
        ("0:1 create id = int 1\n    a = int 1", "a field of nothing"),
        ("0:1 create id = int 1\n  putt redis", "\"putt\" is nothing that becomes of an event"),
        ("0:1 create id = int 1\n  put", "put of what"),
        ("0:1 create id = int 1\n  put redis\n    a: int 1", "no field"),
        ("0:1 create id = int 1\n  put redis\n    a = 1", "\"1\" is no kind of value"),
        ("0:1 create id = int 1\n  put redis\n    a = int 1.5", "the value is no int"),
        ("0:1 create id = int 1\n  put redis\n    a = text paid", "the value is no text"),
        ("0:1 create id = int 1\n  put redis\n    a = null 1", "the value is no null"),
        ("0:1 create id = int 1\n  put redis\n    a = int 1\n    a = int 2", "field a is there twice"),
    ];
    for (text, expected) in cases {
        let lines = text.lines().count();
        let error = parse(&format!("# for people\n{event}{text}")).expect_err(expected);
        assert!(error.line == lines + 2 && error.what.starts_with(expected), "{expected}, line {}: {error}", lines + 2);
    }
    let first = parse("  put redis").expect_err("nothing before it");
    assert!(first.line == 1 && first.what.starts_with("a part of no event"), "{first}");
}

fn check(first: &str, second: &str, messages: bool, expected: &[(&str, &str, &str)]) {
    let (first, second) = (parse(first).expect("first"), parse(second).expect("second"));
    let found = differences(&first, &second, messages);
    let text = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".into());
    let found: Vec<(String, String, String)> = found
        .iter()
        .flat_map(|comparison| &comparison.lines)
        .filter(|field| !field.is_alike())
        .map(|field| (field.name.clone(), text(&field.first), text(&field.second)))
        .collect();
    let found: Vec<(&str, &str, &str)> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn differences_are_told_by_field_and_kind() {
    let event = |part: &str| format!("0:1 create id = int 1\n{part}");
    check(
        &event("  put redis\n    a = int 1\n    b = null"),
        &event("  put redis\n    a = text \"1\"\n    b = null\n    c = int 2"),
        true,
        &[("a", "int 1", "text \"1\""), ("c", "-", "int 2")],
    );
    check(
        &event("  put redis\n    a = int 1\n    b = int 2"),
        &event("  put redis\n    b = int 2\n    a = int 1"),
        true,
        &[("(order of the fields)", "a, b", "b, a")],
    );
    check(&event("  skip"), &event("  put redis\n    a = int 1"), true, &[("", "skip", "-"), ("", "-", "put redis"), ("a", "-", "int 1")]);
    check(
        &event("  put redis, mongodb\n    a = int 1"),
        &event("  put mongodb\n    a = int 1\n  put redis\n    a = int 2"),
        true,
        &[("", "put redis, mongodb", "put mongodb"), ("", "-", "put redis"), ("a", "-", "int 2")],
    );
    check(&event("  skip"), "", true, &[("", "create id = int 1", "-"), ("", "skip", "-")]);
    check(&event("  skip"), "0:1 update id = int 1\n  skip", true, &[("", "create id = int 1", "update id = int 1")]);
}

#[test]
fn words_of_faults_do_not_count_and_those_of_rejects_where_asked() {
    let with = |part: &str, message: &str| format!("0:1 create id = int 1\n  {part}\n    message = text \"{message}\"");
    check(&with("fault transform trapped", "a"), &with("fault transform trapped", "b"), true, &[]);
    check(&with("reject no", "a"), &with("reject no", "b"), false, &[]);
    check(&with("reject no", "a"), &with("reject no", "b"), true, &[("message", "text \"a\"", "text \"b\"")]);
    check(&with("reject no", "a"), &with("reject never", "a"), false, &[("", "reject no", "reject never")]);
}
