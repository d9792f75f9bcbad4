//! Guests that mean harm, in whatever export they get to run, and what becomes of each: the route does not start, or the event is
//! dead-lettered with a reason. Whatever they do, the host goes on, the next batch is as good as ever, and a neighbour notices nothing.
//!
//! `guests.rs` has what fails by accident, `answers.rs` answers that break single rules, `modules.rs` files that are no transforms.

use std::time::Instant;

use super::*;
use crate::plan::Fault;
use crate::transform::{Guest, GuestAction, GuestBatch, SetupError, TransformHost};

const LOOP: &str = "(loop $l (br $l))";
const GROW: &str = "(drop (memory.grow (i32.const 1000)))";

/// A host, and a guest of it that does these things in these places.
fn start(host: &TransformHost, places: &[(&str, &str)]) -> Result<Guest, SetupError> {
    start_within(host, places, Duration::from_millis(50))
}

/// The same with another time for a call.
fn start_within(host: &TransformHost, places: &[(&str, &str)], call_timeout: Duration) -> Result<Guest, SetupError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("t.wasm");
    std::fs::write(&path, guest_of(places)).expect("written");
    let settings = TransformSettings { call_timeout, ..transform_settings(&path) };
    let module = host.load(&settings)?;
    Guest::new(module, route(settings), &[])
}

fn host() -> TransformHost {
    TransformHost::new(&host_settings(None)).expect("a host")
}

fn put(batch: &GuestBatch) -> Vec<u32> {
    let writes = batch.groups.iter().flat_map(|group| &group.writes);
    writes.filter(|write| matches!(write.action, GuestAction::Put { .. })).map(|write| write.event).collect()
}

fn faults(batch: &GuestBatch) -> Vec<(u32, String)> {
    let text = |fault: &Fault| if let Fault::Transform(error) = fault { format!("{} {error}", error.code()) } else { format!("{fault}") };
    batch.faults.iter().map(|fault| (fault.record, text(&fault.fault))).collect()
}

/// Where it acts, what it does, and words of what is said of it.
type Case = (&'static str, &'static str, &'static str);

/// Before the first event: the route does not start.
const AT_THE_START: [Case; 15] = [
    ("(;ITEMS;)", "(func $begin (loop $l (br $l))) (start $begin)", "did not finish within 50 ms"),
    ("(;ITEMS;)", "(func $begin unreachable) (start $begin)", "unreachable"),
    ("(;ITEMS;)", "(memory $more 200)", "memor"),
    ("(;ON_DESCRIBE;)", LOOP, "did not finish within 50 ms"),
    ("(;ON_DESCRIBE;)", "unreachable", "unreachable"),
    ("(;ON_DESCRIBE;)", GROW, "needs more than 8388608 bytes"),
    // A name that lies beyond the memory, and one that is no text.
    ("(;ON_DESCRIBE;)", "(return (i32.const -4))", "pointer"),
    ("(;ON_DESCRIBE;)", "(i32.store8 (i32.const 0) (i32.const 0xff))", "utf-8"),
    ("(;ON_INIT;)", LOOP, "did not finish within 50 ms"),
    ("(;ON_INIT;)", "unreachable", "unreachable"),
    ("(;ON_INIT;)", GROW, "needs more than 8388608 bytes"),
    ("(;ON_INIT;)", "(return (i32.const 0x3ffffe))", "pointer"),
    // Neither ok nor an error.
    ("(;ON_INIT;)", "(i32.store (i32.const 4096) (i32.const 7)) (return (i32.const 4096))", "discriminant"),
    ("(;ON_REALLOC;)", LOOP, "did not finish within 50 ms"),
    ("(;ON_REALLOC;)", "(return (i32.const -8))", "realloc"),
];

/// For a table: its events are dead-lettered.
const IN_OPEN: [Case; 10] = [
    ("(;ON_OPEN;)", LOOP, "open-failed the transform can't handle the table's columns: the transform did not finish within 50 ms"),
    ("(;ON_OPEN;)", "unreachable", "open-failed the transform can't handle the table's columns: the transform trapped"),
    ("(;ON_OPEN;)", GROW, "the transform needs more than 8388608 bytes"),
    // A list of four thousand million columns.
    ("(i32.store (i32.const 4112) (i32.const 1))", "(i32.store (i32.const 4112) (i32.const -1))", "open-failed"),
    // Columns that lie at the end of the memory.
    ("(i32.store (i32.const 4108) (i32.const 128))", "(i32.store (i32.const 4108) (i32.const 0x3ffffe))", "open-failed"),
    ("\"\\00\\00\\00\\00\"", "\"\\09\\00\\00\\00\"", "asks for column 9"),
    ("(data (i32.const 48) \"t\")", "(data (i32.const 48) \"x\")", "writes to target \"x\""),
    ("(data (i32.const 64) \"id\")", "(data (i32.const 64) \"..\")", "empty or contains NUL"),
    ("(data (i32.const 64) \"id\")", "(data (i32.const 64) \"\\ff\\ff\")", "utf-8"),
    ("(i32.store (i32.const 4124) (i32.const 1))", "(i32.store (i32.const 4124) (i32.const 0x10000000))", "open-failed"),
];

/// For a poisonous event: it alone is dead-lettered.
const IN_APPLY: [Case; 24] = [
    ("ON_POISON", LOOP, "timed-out"),
    ("ON_POISON", "unreachable", "trapped"),
    ("ON_POISON", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
    ("ON_POISON", "(drop (i32.load (i32.const -1)))", "out of bounds"),
    ("ON_POISON", GROW, "out-of-memory"),
    ("ON_POISON", "(drop (table.grow (ref.null func) (i32.const 1000000)))", "out-of-memory"),
    ("ON_POISON", "(call $deep)", "stack"),
    ("ON_POISON", "(call_indirect (i32.const 0))", "uninitialized element"),
    // The answer's steps: too many, none at all, one too few, half of one, and numbers of nobody's.
    ("ON_POISON", "(local.set $step (i32.const 0x1fff0))", "broken-outcome"),
    ("ON_POISON", "(local.set $step (i32.const 0xfff0))", "no step"),
    ("ON_POISON", "(local.set $step (i32.sub (local.get $step) (i32.const 16)))", "broken-outcome"),
    ("ON_POISON", "(local.set $step (i32.add (local.get $step) (i32.const 1)))", "not a multiple of 16"),
    ("ON_POISON", "(i32.store (local.get $step) (i32.const -1))", "not in event order"),
    ("ON_POISON", "(i32.store offset=4 (local.get $step) (i32.const 77))", "none of put, delete, skip and reject"),
    ("ON_POISON", "(i32.store offset=8 (local.get $step) (i32.const 5))", "output is not in the plan"),
    ("ON_POISON", "(i32.store offset=4 (local.get $step) (i32.const 2)) (i32.store offset=12 (local.get $step) (i32.const 9))", "is not 0"),
    // Its cells: too few words, a tag of nobody's, a column of no table, a span and a text of no heap, a decimal of no number.
    ("ON_POISON", "(local.set $word (i32.sub (local.get $word) (i32.const 8)))", "8 bytes of words"),
    ("ON_POISON", "(i32.store8 (local.get $tag) (i32.const 31))", "none of the contract's"),
    ("ON_POISON", "(i64.store (local.get $word) (i64.const 0x7fffffff))", "no column"),
    ("ON_POISON", "(i32.store8 (local.get $tag) (i32.const 8)) (i64.store (local.get $word) (i64.const 0xffffffff00000001))", "beyond the heap"),
    (
        "ON_POISON",
        "(i32.store8 (i32.const 96) (i32.const 0xff)) (local.set $heap_length (i32.const 1))
         (i32.store8 (local.get $tag) (i32.const 7)) (i64.store (local.get $word) (i64.const 1))",
        "not UTF-8",
    ),
    (
        "ON_POISON",
        "(i32.store8 (i32.const 96) (i32.const 0x2e)) (local.set $heap_length (i32.const 1))
         (i32.store8 (local.get $tag) (i32.const 6)) (i64.store (local.get $word) (i64.const 1))",
        "a decimal is not",
    ),
    // An error of three megabytes.
    (
        "ON_POISON",
        "(i32.store (i32.const 4096) (i32.const 1)) (i32.store (i32.const 4100) (i32.const 0)) (i32.store (i32.const 4104) (i32.const 0x300000))
         (return (i32.const 4096))",
        "too-large",
    ),
    // A log line of three megabytes.
    ("ON_POISON", "(call $emit (i32.const 3) (i32.const 0) (i32.const 0x300000))", "too-large"),
];

/// What the cases call: without a poisonous event it does nothing.
const ITEMS: &str = "(table 1 funcref) (func $deep (call $deep) (call $deep))";

#[test]
fn what_harms_before_the_first_event_stops_the_route() {
    let host = host();
    for (place, does, expected) in AT_THE_START {
        let error = start(&host, &[(place, does)]).err().expect(does).to_string();
        assert!(error.contains(expected), "{place} {does}: {error}");
        assert!(error.len() < 4096, "{place} {does}: {} bytes", error.len());
    }
}

#[test]
fn what_harms_in_open_dead_letters_the_table() {
    let host = host();
    for (place, does, expected) in IN_OPEN {
        let mut guest = start(&host, &[(place, does)]).expect(does);
        let batch = guest.apply(events(&[(1, 1), (1, 2)]));
        assert!(put(&batch).is_empty(), "{place} {does}");
        let faults = faults(&batch);
        assert_eq!(faults.len(), 2, "{place} {does}");
        assert!(faults.iter().all(|(_, error)| error.contains(expected)), "{place} {does}: {faults:?}");
    }
}

#[test]
fn what_harms_in_apply_costs_the_event() {
    let host = host();
    for (place, does, expected) in IN_APPLY {
        let mut guest = start(&host, &[("(;ITEMS;)", ITEMS), (place, does)]).expect(does);
        let batch = guest.apply(events(&[(1, 1), (1, 666), (1, 3)]));
        assert_eq!(put(&batch), [0, 2], "{does}");
        let faults = faults(&batch);
        assert_eq!(faults.len(), 1, "{does}: {faults:?}");
        assert!(faults[0].0 == 1 && faults[0].1.contains(expected), "{does}: {faults:?}");
        assert_eq!(put(&guest.apply(events(&[(1, 4), (1, 5)]))), [0, 1], "the next batch is as good as ever: {does}");
    }
}

/// After the answer was given: it was complete, but an instance that fails then is not entered again.
#[test]
fn what_harms_after_the_answer_costs_the_call() {
    let host = host();
    for (does, code) in [(LOOP, "timed-out"), ("unreachable", "trapped")] {
        let mut guest = start(&host, &[("(;ON_POST;)", does)]).expect(does);
        let batch = guest.apply(events(&[(1, 1), (1, 2)]));
        assert!(faults(&batch).iter().all(|(_, error)| error.starts_with(code)), "{does}: {:?}", faults(&batch));
        assert_eq!(put(&batch).len() + batch.faults.len(), 2, "{does}");
    }
}

#[test]
fn floods_of_words_and_names_are_cut_off() {
    let flood = "(loop $more
        (call $emit (i32.const 3) (i32.const 0) (i32.const 10))
        (call $add (i32.const 80) (i32.const 6) (i32.const -1))
        (call $add (i32.const 0) (i32.const 10) (i32.const 1))
        (br_if $more (i32.lt_u (local.tee $heap_length (i32.add (local.get $heap_length) (i32.const 1))) (i32.const 1000))))
        (local.set $heap_length (i32.const 0))";
    let mut guest = start(&host(), &[("ON_POISON", flood)]).expect("a guest");
    let batch = guest.apply(events(&[(1, 1), (1, 666), (1, 3)]));
    assert_eq!((put(&batch).len(), batch.faults.len()), (3, 0), "to talk is no fault: {:?}", faults(&batch));
    let stats = guest.stats();
    assert_eq!((stats.log_lines, stats.dropped_log_lines), (3, 998));
    assert_eq!(stats.counters.len(), 1, "names that are none are not counted: {:?}", stats.counters);
}

#[test]
fn a_name_for_each_event_is_counted_with_the_others() {
    // Two letters, by how often the instance was asked.
    let names = "(i32.store (i32.const 8000) (i32.add (i32.load (i32.const 8000)) (i32.const 1)))
        (i32.store8 (i32.const 8004) (i32.add (i32.const 97) (i32.div_u (i32.load (i32.const 8000)) (i32.const 26))))
        (i32.store8 (i32.const 8005) (i32.add (i32.const 97) (i32.rem_u (i32.load (i32.const 8000)) (i32.const 26))))
        (call $add (i32.const 8004) (i32.const 2) (i32.const 1))";
    for events_a_call in [1, 10, 200] {
        let mut guest = start(&host(), &[("ON_POISON", names)]).expect("a guest");
        for _ in 0..200 / events_a_call {
            guest.apply(events(&vec![(1, 666); events_a_call]));
        }
        let counters = &guest.stats().counters;
        assert!(counters.len() <= 65, "{}", counters.len());
        assert_eq!((counters["events"], counters["ab"], counters.values().sum::<u64>()), (200, 1, 400), "nothing is lost: {counters:?}");
        assert!(counters["other"] > 100, "{counters:?}");
    }
}

#[test]
fn a_module_that_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("t.wasm");
    // It takes no place: nothing was ever written.
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file");
    let error = host().load(&transform_settings(&path)).expect_err("a terabyte").to_string();
    assert!(error.contains("larger than 268435456 bytes"), "{error}");
}

#[test]
fn a_neighbour_notices_nothing() {
    let host = host();
    let mut neighbour = start(&host, &[]).expect("a guest");
    let all: Vec<(u32, i64)> = (1..=64).map(|id| (1, id)).collect();
    let hostile: Vec<Guest> = [LOOP, "unreachable", GROW, "(call $deep)"]
        .into_iter()
        .map(|does| start(&host, &[("(;ITEMS;)", ITEMS), ("ON_POISON", does)]).expect(does))
        .collect();
    std::thread::scope(|scope| {
        // As many at once as the host has room for beside the neighbour's.
        for mut guest in hostile {
            scope.spawn(move || {
                for _ in 0..3 {
                    let batch = guest.apply(events(&[(1, 1), (1, 666), (1, 3), (1, 666)]));
                    assert_eq!(batch.faults.len(), 2);
                }
            });
        }
        for _ in 0..50 {
            let batch = neighbour.apply(events(&all));
            assert_eq!((put(&batch).len(), batch.faults.len()), (64, 0), "{:?}", faults(&batch));
        }
    });
    let stats = neighbour.stats();
    assert_eq!((stats.calls, stats.failed_calls, stats.restarts), (50, 0, 0));
}

/// On the processors, of this thread.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

/// No route is to go without a core for as long as another one's guest hangs. That it goes on hanging is known after the first time.
#[test]
#[cfg(target_os = "linux")]
fn a_guest_that_has_hung_leaves_the_processors_to_others() {
    let host = host();
    let mut guest = start_within(&host, &[("ON_POISON", LOOP)], Duration::from_millis(400)).expect("a guest");
    let hung = guest.apply(events(&[(1, 666)]));
    assert!(faults(&hung)[0].1.starts_with("timed-out"), "{:?}", faults(&hung));

    let (began, used) = (Instant::now(), processor_time());
    let batch = guest.apply(events(&[(1, 1), (1, 666), (1, 3)]));
    let (took, used) = (began.elapsed(), processor_time() - used);
    assert_eq!((put(&batch), faults(&batch).len()), (vec![0, 2], 1), "{:?}", faults(&batch));
    assert!(used < took / 2, "{used:?} of {took:?}");
}
