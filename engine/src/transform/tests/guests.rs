//! A guest that fails on one event costs that event and nothing else.

use super::*;
use crate::plan::Fault;
use crate::transform::{Error, Guest, GuestAction, GuestBatch, TransformHost};

fn start(on_poison: &str) -> Guest {
    start_component(&super::guest(on_poison))
}

fn start_component(component: &[u8]) -> Guest {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("t.wasm");
    std::fs::write(&path, component).expect("written");
    let settings = transform_settings(&path);
    let host = TransformHost::new(&host_settings(None)).expect("a host");
    let module = host.load(&settings).expect("a module");
    Guest::new(module, route(settings), &[]).expect("a guest")
}

fn faults(batch: &GuestBatch) -> Vec<(u32, &Error)> {
    assert!(batch.faults.iter().all(|fault| matches!(fault.fault, Fault::Transform(_))));
    batch.faults.iter().filter_map(|fault| Some((fault.record, transform_error(&fault.fault)?))).collect()
}

fn transform_error(fault: &Fault) -> Option<&Error> {
    if let Fault::Transform(error) = fault { Some(error) } else { None }
}

/// As the first record of a partition a null one has a schema of the key's columns alone, with which no guest can do anything.
#[test]
fn a_row_that_is_gone_needs_no_guest() {
    let mut guest = start("");
    let mut routed = events(&[(13, -1), (13, -2), (13, 5)]);
    routed.batch.events[0].null_value = true;
    let batch = guest.apply(routed);
    assert_eq!(
        faults(&batch).into_iter().map(|(record, error)| (record, error.code())).collect::<Vec<_>>(),
        [(1, "open-failed"), (2, "open-failed")]
    );
    assert_eq!(guest.stats().failed_events, 2);
    let plan = crate::plan::build(batch, crate::fence::Generation::FIRST, "module");
    let deleted: Vec<_> =
        plan.sinks.iter().flat_map(|sink| sink.writes.iter().map(|write| (sink.sink, write.record, write.document.is_none()))).collect();
    // The other target has explicit keys, which nobody knows.
    assert_eq!(deleted, [(1, 0, true)]);
}

fn put(batch: &GuestBatch) -> Vec<u32> {
    let writes = batch.groups.iter().flat_map(|group| &group.writes);
    writes.filter(|w| matches!(w.action, GuestAction::Put { .. })).map(|w| w.event).collect()
}

fn trapped_in(place: &str) -> Error {
    Error::Trapped { message: format!("wasm trap: wasm `unreachable` instruction executed in {place}") }
}

const EVENTS: [(u32, i64); 7] = [(1, 1), (1, 2), (1, 666), (1, -4), (1, 5), (1, 666), (1, 7)];

#[test]
fn a_good_guest() {
    let mut guest = start("");
    let batch = guest.apply(events(&EVENTS));
    assert_eq!(put(&batch), [0, 1, 2, 4, 5, 6]);
    assert_eq!(batch.groups[0].events, [0, 1, 2, 3, 4, 5, 6]);
    assert!(batch.faults.is_empty());
    let stats = guest.stats();
    assert_eq!((stats.calls, stats.failed_calls, stats.restarts, stats.log_lines), (1, 0, 0, 1));
    assert_eq!(stats.counters["events"], 6);
    assert_eq!(stats.memory_bytes, 64 << 16);
}

#[test]
fn each_way_to_fail_is_the_guilty_event_s() {
    let broken = |place: &str, what| Error::BrokenOutcome { what, place: place.into() };
    let cases = [
        ("unreachable", trapped_in("function 7")),
        ("(loop $l (br $l))", Error::TimedOut { timeout_ms: 50 }),
        ("(drop (memory.grow (i32.const 1000)))", Error::OutOfMemory { limit_bytes: 8 << 20 }),
        ("(return (call $error))", Error::GuestError { message: "no".into() }),
        (
            "(i32.store8 (local.get $tag) (i32.const 99))",
            broken("field \"id\" of the output to target t: ", "a tag is none of the contract's"),
        ),
        ("(i32.store offset=4 (local.get $step) (i32.const 9))", broken("", "a step's action is none of put, delete, skip and reject")),
        ("(local.set $step (i32.add (local.get $step) (i32.const 0x200000)))", Error::TooLarge { limit_bytes: 1 << 20 }),
        (include_str!("reject.wat"), Error::Rejected { code: "bad-amount-".into(), message: "Bad".into() }),
    ];
    for (on_poison, expected) in cases {
        let mut guest = start(on_poison);
        let batch = guest.apply(events(&EVENTS));
        assert_eq!(faults(&batch), [(2, &expected), (5, &expected)], "{on_poison}");
        assert_eq!(put(&batch), [0, 1, 4, 6], "{on_poison}");
        let grouped: Vec<u32> = batch.groups.iter().flat_map(|group| group.events.clone()).collect();
        assert!(grouped.contains(&3), "the delete that the guest does not see goes on: {on_poison}");
        // A guest that failed is as good as new afterwards, and what it said in failed calls was not heard.
        let batch = guest.apply(events(&[(1, 1), (1, 2)]));
        assert_eq!((put(&batch).len(), batch.faults.len()), (2, 0), "{on_poison}");
        let stats = guest.stats();
        assert_eq!(stats.log_lines, stats.calls - stats.failed_calls, "{on_poison}");
        assert!(stats.restarts >= stats.traps.min(1), "{on_poison}");
    }
}

/// The names are those of the guest's name section; Rust's are read back.
#[test]
fn a_trap_names_the_guest_s_functions() {
    let text = include_str!("guest.wat").replace("ON_POISON", "(call $total)").replace(
        "(func $error",
        "(func $_RNvNtCs1234_6orders5total3sum unreachable)
         (func $deep (param i32) (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))))
           (call $_RNvNtCs1234_6orders5total3sum))
         (func $total (call $deep (i32.const 9)))
         (func $error",
    );
    let mut guest = start_component(&component(&text, "0.1.0"));
    let batch = guest.apply(events(&[(1, 666)]));
    let expected = trapped_in("orders::total::sum < deep < deep < deep < deep < deep < …");
    assert_eq!(faults(&batch), [(0, &expected)]);
}

#[test]
fn a_guest_that_hangs_on_everything_costs_a_bounded_time() {
    let mut guest = start("(loop $l (br $l))");
    let all = vec![(1, 666); 256];
    let began = std::time::Instant::now();
    let batch = guest.apply(events(&all));
    assert_eq!(batch.faults.len(), 256);
    let given_up = faults(&batch).iter().filter(|(_, error)| matches!(error, Error::GivenUp { .. })).count();
    assert!(given_up > 200, "{given_up}");
    // 25 calls of 50 ms, and what a busy machine adds.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(guest.stats().calls <= 25, "{}", guest.stats().calls);
}

#[test]
fn a_schema_that_the_guest_refuses_does_not_stop_another() {
    let mut guest = start("");
    let batch = guest.apply(events(&[(1, 1), (13, 2), (13, 3), (1, 4), (2, 5)]));
    assert_eq!(put(&batch), [0, 3, 4]);
    let refused = Error::OpenFailed { message: "no".into() };
    assert_eq!(faults(&batch), [(1, &refused), (2, &refused)]);
}

#[test]
fn an_instance_that_grew_is_replaced_between_batches() {
    let mut guest = start("(drop (memory.grow (i32.const 10)))");
    let batch = guest.apply(events(&EVENTS));
    assert_eq!((put(&batch).len(), batch.faults.len()), (6, 0));
    assert_eq!(guest.stats().memory_bytes, (64 + 20) << 16);
    guest.apply(events(&[(1, 1)]));
    assert_eq!((guest.stats().restarts, guest.stats().memory_bytes), (1, 64 << 16));
}
