#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::*;
use crate::change::{Cells, Value};
use crate::outcome;
use crate::route::RoutedBatch;
use crate::transform::tests::events;
use crate::transform::wire::{Output, Plan};
use crate::transform::{GuestAction, GuestGroup, GuestWrite, OpenedSchema, TAG_AFTER};

#[test]
fn json_is_read_back_as_it_was_told() {
    for json in ["{\"a\":\n [1]}\n", " {}\t", "\r\n\"\u{2003}\" ", "1"] {
        let told = value(Cell { tag: Tag::Json, word: 0, bytes: json.as_bytes(), column: None });
        let part = Part { title: "put t".into(), fields: vec![Field { name: "a".into(), value: told }] };
        let outcomes = vec![Outcome { partition: 0, offset: 1, event: "create id = int 1".into(), parts: vec![part] }];
        assert_eq!(outcome::parse(&outcome::write(&outcomes)).as_ref(), Ok(&outcomes), "{json:?}");
    }
}

#[test]
fn answers_are_told_with_their_keys_and_kinds() {
    let routed = events(&[(1, 5), (1, 6), (1, -7), (1, 8)]);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let output = |target: &str, key: &[&str], fields: &[&str]| Output { target: target.into(), key: texts(key), fields: texts(fields) };
    let outputs = vec![output("t", &[], &["id", "n"]), output("m", &[], &["id", "n"]), output("t", &["id", "kind"], &["x", "raw"])];
    let plan = Plan { before: vec![], after: vec![], sees_deletes: false, outputs };
    let schema = routed.batch.schemas.first().expect("one schema");
    let opened = Arc::new(OpenedSchema::new(Arc::clone(schema), &routed.route, plan).expect("allowed"));
    let mut cells = Cells::default();
    let mut push = |values: &[Option<Value<'_>>]| {
        let first = cells.len() as u32;
        for value in values {
            match value {
                Some(value) => cells.push(*value),
                None => {
                    cells.tags.push(TAG_AFTER);
                    cells.words.push(0);
                }
            }
        }
        first
    };
    let put = |event, output, first_cell, ttl_seconds| GuestWrite { event, action: GuestAction::Put { output, first_cell, ttl_seconds } };
    let writes = vec![
        put(0, 0, push(&[None, Some(Value::Text("a \"b\""))]), 0),
        put(0, 1, push(&[None, Some(Value::Text("a \"b\""))]), 0),
        put(1, 2, push(&[None, Some(Value::Text("k")), Some(Value::Absent), Some(Value::Bytes(&[0, 255]))]), 60),
        put(1, 0, push(&[None, Some(Value::Null)]), 0),
        GuestWrite { event: 3, action: GuestAction::Skip },
    ];
    let groups = vec![GuestGroup { opened, events: vec![0, 1, 2, 3], writes, cells }];
    let outcomes: Vec<Outcome> =
        super::outcomes(&GuestBatch { routed, groups, faults: vec![], canary: None }).into_iter().map(|(_, told)| told).collect();
    let expected = r#"
3:0 create id = int 5
  put t, m
    id = int 5
    n = text "a \"b\""
3:1 create id = int 6
  put t key id = int 6, kind = text "k" ttl 60
    raw = bytes 00ff
  put t
    id = int 6
    n = null
3:2 delete id = int -7
  delete t, m
3:3 create id = int 8
  skip
"#;
    assert_eq!(
        outcome::write(&outcomes).replace("\n\n", "\n"),
        outcome::write(&outcome::parse(expected).expect("outcomes")).replace("\n\n", "\n")
    );
}

/// A delete that no guest sees goes by the row's own key: what lies under another one stays.
#[test]
fn a_delete_says_which_targets_it_is_of() {
    let of = |outputs: &[(&str, &[&str])]| {
        let routed = events(&[(1, -7)]);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let outputs = outputs.iter().map(|(target, key)| Output { target: (*target).into(), key: texts(key), fields: texts(&["id"]) });
        let plan = Plan { before: vec![], after: vec![], sees_deletes: false, outputs: outputs.collect() };
        let schema = routed.batch.schemas.first().expect("one schema");
        let opened = Arc::new(OpenedSchema::new(Arc::clone(schema), &routed.route, plan).expect("allowed"));
        title_of(routed, opened)
    };
    // Of the route's targets t alone has explicit keys. What lies in it is not known where the guest was not asked, as of a row that is gone.
    for (outputs, expected) in [
        (&[("t", &[][..]), ("m", &[])][..], "delete"),
        (&[("t", &[])], "delete"),
        (&[("t", &["id"]), ("m", &[])], "delete m"),
        (&[("t", &["id"]), ("t", &[])], "delete t, m"),
        (&[("m", &[])], "delete m"),
        // What no output names may have a document of the module before.
        (&[("t", &["id"])], "delete m"),
        (&[], "delete m"),
    ] {
        assert_eq!(of(outputs), expected, "{outputs:?}");
    }
}

fn title_of(routed: RoutedBatch, opened: Arc<OpenedSchema>) -> String {
    let groups = vec![GuestGroup { opened, events: vec![0], writes: vec![], cells: Cells::default() }];
    let told = super::outcomes(&GuestBatch { routed, groups, faults: vec![], canary: None });
    let titles: Vec<String> = told.into_iter().flat_map(|(_, outcome)| outcome.parts).map(|part| part.title).collect();
    titles.join("; ")
}
