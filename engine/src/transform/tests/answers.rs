//! Each rule of the contract has an answer that breaks it.

use proptest::prelude::*;

use super::*;
use crate::transform::{Answer, Error, GuestAction, OpenedSchema, answer, wire};

const MAX_OUTPUT: usize = 4096;

fn output(target: &str, key: &[&str], fields: &[&str]) -> wire::Output {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    wire::Output { target: target.into(), key: owned(key), fields: owned(fields) }
}

fn plan(outputs: Vec<wire::Output>) -> wire::Plan {
    wire::Plan { before: vec![], after: vec![0], sees_deletes: false, outputs }
}

fn open(plan: wire::Plan) -> Result<OpenedSchema, String> {
    OpenedSchema::new(schema(1), &route(transform_settings(Path::new("t.wasm"))), plan)
}

/// Output 0: one field to Redis. Output 1: a key of two parts and one field. Output 2: one field to MongoDB.
fn opened() -> Arc<OpenedSchema> {
    let outputs = vec![output("t", &[], &["f"]), output("t", &["kind", "id"], &["f"]), output("m", &[], &["a.b"])];
    Arc::new(open(plan(outputs)).expect("allowed"))
}

#[derive(Clone, Debug)]
struct Made {
    steps: Vec<u8>,
    tags: Vec<u8>,
    words: Vec<u8>,
    heap: Vec<u8>,
}

/// Steps of event, action, output, ttl; cells of tag and payload.
fn made(steps: &[[u32; 4]], cells: &[(u8, u64)], heap: &[u8]) -> Made {
    Made {
        steps: steps.iter().flatten().flat_map(|number| number.to_le_bytes()).collect(),
        tags: cells.iter().map(|(tag, _)| *tag).collect(),
        words: cells.iter().flat_map(|(_, word)| word.to_le_bytes()).collect(),
        heap: heap.to_vec(),
    }
}

fn check(opened: &Arc<OpenedSchema>, made: Made) -> Result<Answer, Error> {
    let Made { steps, tags, words, heap } = made;
    let outcome = wire::Outcome { steps, cells: wire::Cells { tags, words, heap } };
    // Event 11 is a delete that the guest did not see.
    answer(opened, vec![10, 11, 12], &[10, 12], outcome, MAX_OUTPUT)
}

fn valid() -> Made {
    // Event 0: a put to each output; event 1: a reject.
    let steps = [[0, 0, 0, 60], [0, 0, 1, 0], [0, 1, 2, 0], [1, 3, 0, 0]];
    let cells = [(6, 5 << 32 | 6), (7, 3), (32, 0), (10, 11 << 32 | 7), (7, 3), (7, 3)];
    made(&steps, &cells, b"Ab\xc3\xbc!-12.50{\"a\":1}")
}

#[test]
fn a_good_answer() {
    let opened = opened();
    let mut good = valid();
    good.words[8..16].copy_from_slice(&2u64.to_le_bytes());
    good.words[32..40].copy_from_slice(&2u64.to_le_bytes());
    good.words[40..48].copy_from_slice(&4u64.to_le_bytes());
    let answer = check(&opened, good).expect("good");
    assert_eq!(answer.group.events, [10, 11, 12]);
    let actions: Vec<(u32, GuestAction)> = answer.group.writes.iter().map(|w| (w.event, w.action)).collect();
    let expected = [
        (10, GuestAction::Put { output: 0, first_cell: 0, ttl_seconds: 60 }),
        (10, GuestAction::Put { output: 1, first_cell: 1, ttl_seconds: 0 }),
        (10, GuestAction::Delete { output: 2, first_cell: 4 }),
    ];
    assert_eq!(actions, expected);
    assert_eq!(answer.group.cells.get(0), Value::Decimal("-12.50"));
    assert_eq!(answer.rejects, [(12, Error::Rejected { code: "ab".into(), message: "Abü".into() })]);
}

#[test]
fn each_rule_is_checked() {
    let skip = |event| [event, 2, 0, 0];
    let put = |cell: (u8, u64), heap: &[u8]| made(&[[0, 0, 0, 0], skip(1)], &[cell], heap);
    let keyed = |kind: (u8, u64), id: (u8, u64)| made(&[[0, 0, 1, 0], skip(1)], &[kind, id, (0, 0)], b"k");
    let mut odd_steps = made(&[skip(0), skip(1)], &[], b"");
    odd_steps.steps.pop();
    let mut odd_words = put((3, 0), b"");
    odd_words.words.pop();
    let cases: Vec<(Made, &str)> = vec![
        (odd_steps, "multiple of 16"),
        (odd_words, "8 bytes of words"),
        (made(&[skip(1), skip(0)], &[], b""), "not in event order"),
        (made(&[skip(0)], &[], b""), "an event has no step"),
        (made(&[], &[], b""), "an event has no step"),
        (made(&[skip(0), skip(0), skip(1)], &[], b""), "two fates"),
        (made(&[[0, 0, 0, 0], skip(0), skip(1)], &[(3, 0)], b""), "two fates"),
        (made(&[skip(0), [0, 0, 0, 0], skip(1)], &[(3, 0)], b""), "two fates"),
        (made(&[skip(0), skip(1), skip(2)], &[], b""), "not in the batch"),
        (made(&[[0, 2, 1, 0], skip(1)], &[], b""), "unused number"),
        (made(&[[0, 2, 0, 1], skip(1)], &[], b""), "unused number"),
        (made(&[[0, 3, 1, 0], skip(1)], &[], b""), "unused number"),
        (made(&[[0, 1, 0, 1], skip(1)], &[], b""), "belongs to a put"),
        (made(&[[0, 4, 0, 0], skip(1)], &[], b""), "none of put, delete"),
        (made(&[[0, 0, 3, 0], skip(1)], &[], b""), "output is not in the plan"),
        (made(&[[0, 1, u32::MAX, 0], skip(1)], &[], b""), "output is not in the plan"),
        (made(&[[0, 0, 2, 5], skip(1)], &[(0, 0)], b""), "time to live"),
        (made(&[[0, 0, 0, 0], skip(1)], &[], b""), "fewer cells"),
        (made(&[skip(0), skip(1)], &[(0, 0)], b""), "more cells"),
        (made(&[[0, 3, 0, 0], skip(1)], &[(7, 0)], b""), "fewer cells"),
        (made(&[[0, 3, 0, 0], skip(1)], &[(7, 0), (3, 0)], b""), "two texts"),
        (put((17, 0), b""), "a tag is none"),
        (put((34, 0), b""), "a tag is none"),
        (put((255, 0), b""), "a tag is none"),
        (put((0, 1), b""), "null or absent"),
        (put((1, 1), b""), "null or absent"),
        (put((2, 2), b""), "neither 0 nor 1"),
        (put((16, 10_000), b""), "a year"),
        (put((16, u64::MAX), b""), "a year"),
        (put((32, 2), b""), "no column"),
        (put((33, u64::MAX), b""), "no column"),
        (put((7, 1), b""), "beyond the heap"),
        (put((8, u64::MAX), b"x"), "larger than"),
        (put((8, 1 << 63), b"x"), "beyond the heap"),
        (put((7, 1), b"\xff"), "not UTF-8"),
        (put((10, 1), b"{"), "not well-formed JSON"),
        (keyed((7, 1), (3, 1)), "every primary-key column"),
        (keyed((7, 1), (32, 1)), "every primary-key column"),
        (keyed((32, 9), (32, 0)), "no column"),
        (made(&[[0, 1, 1, 0], skip(1)], &[(7, 1), (7, 1)], b"k"), "every primary-key column"),
    ];
    for (answer, expected) in cases {
        let shown = format!("{answer:?}");
        let error = check(&opened(), answer).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}: {shown}");
    }
    for text in ["", "-", ".", "1.", ".5", "+1", "1e5", "1 ", "--1", "1.2.3", "NaN"] {
        let error = check(&opened(), put((6, text.len() as u64), text.as_bytes())).expect_err(text).to_string();
        assert!(error.contains("a decimal is not"), "{text}: {error}");
    }
    let product = format!("-{}.{}", "9".repeat(70), "9".repeat(60));
    assert!(check(&opened(), put((6, product.len() as u64), product.as_bytes())).is_ok(), "of two of MySQL's longest");
    let long = "1".repeat(513);
    let error = check(&opened(), put((6, 513), long.as_bytes())).expect_err("too long").to_string();
    assert!(error.contains("a decimal has more than 512 characters: round it"), "{error}");
}

/// One of sixty fields is not found by the rule alone that it breaks.
#[test]
fn what_breaks_a_rule_is_named() {
    let many = |prefix: &str| (0..60).map(|number| format!("{prefix}.{number}")).collect::<Vec<_>>();
    let outputs = vec![
        wire::Output { target: "t".into(), key: vec!["kind".into(), "id".into()], fields: many("f") },
        wire::Output { target: "m".into(), key: vec![], fields: vec!["x".repeat(500)] },
    ];
    let opened = Arc::new(open(plan(outputs)).expect("allowed"));
    let with = |broken: usize| {
        let mut cells = vec![(7, 0), (32, 0)];
        cells.extend((0..60).map(|number| if number == broken { (7, 1) } else { (3, 0) }));
        made(&[[0, 0, 0, 0], [1, 2, 0, 0]], &cells, b"\xff")
    };
    let error = |made: Made| check(&opened, made).expect_err("broken").to_string();
    let expected = "the transform's answer breaks the contract: field \"f.41\" of the output to target t: a text is not UTF-8";
    assert_eq!(error(with(41)), expected);
    let mut key = with(60);
    key.words[..8].copy_from_slice(&1u64.to_le_bytes());
    assert!(error(key).ends_with("key part \"kind\" of the output to target t: a text is not UTF-8"));
    let reject = error(made(&[[0, 2, 0, 0], [1, 3, 0, 0]], &[(7, 0), (7, 1)], b"\xff"));
    assert!(reject.ends_with("the message of a reject: a text is not UTF-8"), "{reject}");
    let long = error(made(&[[0, 0, 1, 0], [1, 2, 0, 0]], &[(2, 2)], b""));
    assert!(long.len() < 250 && long.contains("xxx\" of the output to target m: the payload of a boolean"), "{long}");
}

#[test]
fn spans_may_overlap_but_not_without_end() {
    let many = |count: usize| {
        let steps: Vec<[u32; 4]> = (0..count).map(|_| [0, 0, 0, 0]).chain([[1, 2, 0, 0]]).collect();
        made(&steps, &vec![(8, 1000); count], &[0; 1000])
    };
    assert!(check(&opened(), many(4)).is_ok());
    assert_eq!(check(&opened(), many(5)).expect_err("5000 bytes"), Error::TooLarge { limit_bytes: MAX_OUTPUT });
}

#[test]
fn a_primary_key_does_not_change_its_place_in_a_key() {
    let opened = opened();
    let keyed = |kind: (u8, u64), id: (u8, u64)| made(&[[0, 0, 1, 0], [1, 2, 0, 0]], &[kind, id, (0, 0)], b"k");
    assert!(check(&opened, keyed((7, 1), (32, 0))).is_ok());
    assert!(check(&opened, keyed((7, 1), (33, 0))).is_ok());
    let swapped = check(&opened, keyed((32, 0), (7, 1))).expect_err("swapped").to_string();
    assert!(swapped.contains("change their places"), "{swapped}");
}

#[test]
fn what_a_guest_may_ask_for() {
    let long = "a.".repeat(40) + "a";
    let with = |target: &str, key: &[&str], fields: &[&str]| plan(vec![output(target, key, fields)]);
    let cases = [
        (with("x", &[], &["f"]), "writes to target \"x\""),
        (with("t", &[], &[]), "0 fields"),
        (with("t", &[], &["f", "f"]), "occurs twice"),
        (with("t", &[], &["a", "a.b"]), "both a field and a parent"),
        (with("t", &[], &["a.b", "a"]), "both a field and a parent"),
        (with("t", &[], &["a..b"]), "empty or contains NUL"),
        (with("t", &[], &["", "b"]), "empty or contains NUL"),
        (with("t", &[], &["a\0"]), "empty or contains NUL"),
        (with("t", &[], &[&long]), "nests too deep"),
        (with("m", &[], &["_id"]), "reserves _id"),
        (with("m", &[], &["_sync.v"]), "reserves _id"),
        (with("m", &[], &["$set"]), "start with $"),
        (with("m", &[], &["a.$b"]), "start with $"),
        (with("m", &["k"], &["f"]), "explicit_keys"),
        (with("t", &["k", "k"], &["f"]), "two key parts"),
        (with("t", &[""], &["f"]), "no usable name"),
        (wire::Plan { after: vec![2], ..plan(vec![]) }, "asks for column 2"),
        (wire::Plan { before: vec![u32::MAX], ..plan(vec![]) }, "asks for column"),
        (wire::Plan { after: vec![0, 0, 1], ..plan(vec![]) }, "a column twice"),
    ];
    for (plan, expected) in cases {
        let error = open(plan).expect_err(expected);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(open(with("t", &[], &["_id", "$set"])).is_ok(), "Redis has no such names");
    let mut keyless = (*schema(1)).clone();
    keyless.primary_key.clear();
    let route = route(transform_settings(Path::new("t.wasm")));
    let error = OpenedSchema::new(Arc::new(keyless), &route, with("t", &[], &["f"])).expect_err("no key");
    assert!(error.contains("no primary key"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_answer_panics(edits in proptest::collection::vec((0usize..4, any::<prop::sample::Index>(), any::<u8>(), 0u8..5), 0..4)) {
        let mut answer = valid();
        for (list, at, byte, how) in edits {
            let list = match list {
                0 => &mut answer.steps,
                1 => &mut answer.tags,
                2 => &mut answer.words,
                _ => &mut answer.heap,
            };
            match how {
                0 => list.truncate(at.index(list.len() + 1)),
                1 => list.extend_from_slice(&[byte; 16]),
                2 => list.push(byte),
                _ if list.is_empty() => {}
                3 => { let at = at.index(list.len()); list[at] = byte % 36; }
                _ => { let at = at.index(list.len()); list[at] = byte; }
            }
        }
        if let Ok(answer) = check(&opened(), answer) {
            for index in 0..answer.group.cells.len() {
                // What was accepted can be read.
                if let Some(tag) = Tag::from_number(answer.group.cells.tags[index]) {
                    prop_assert_eq!(answer.group.cells.get(index) == Value::Absent, tag == Tag::Absent);
                }
            }
        }
    }
}

/// A row that is gone may have left a document wherever its own key can be one; MongoDB refuses to look for some.
#[test]
fn deletes_without_a_guest_go_where_the_row_s_own_key_can_be() {
    let targets = |second: &str| {
        let mut schema = (*schema(1)).clone();
        schema.columns[1].name = second.into();
        schema.primary_key = vec![0, 1];
        let opened = OpenedSchema::of_deletes(Arc::new(schema), &route(transform_settings(Path::new("t.wasm"))));
        opened.outputs.iter().map(|output| output.target.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(targets("name"), ["m"]);
    assert_eq!(targets("$name"), Vec::<String>::new());
}
