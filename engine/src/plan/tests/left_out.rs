//! Targets that a module names for none of its documents: what the module before wrote there is gone with the row.

use super::*;

fn with_default_keys(place: Arc<TargetSettings>) -> Arc<TargetSettings> {
    Arc::new(TargetSettings { explicit_keys: false, ..(*place).clone() })
}

/// Sink, whether it is a put, and the offset.
fn written(plan: &WritePlan) -> Vec<(usize, bool, i64)> {
    assert!(plan.faults.is_empty(), "{:?}", plan.faults);
    let writes = plan.sinks.iter().flat_map(|sink| sink.writes.iter().map(move |write| (sink.sink, write)));
    writes.map(|(sink, write)| (sink, write.document.is_some(), write.fence.offset())).collect()
}

fn key(id: i64) -> [Value<'static>; 3] {
    [Value::Int(id), Value::Null, Value::Null]
}

fn maker(mongodb: Arc<TargetSettings>, keys: usize, named: &[&str]) -> Maker {
    let outputs = named.iter().map(|target| output(target, if keys == 0 { &["k"] } else { &[] }, &["f"])).collect();
    let mut maker = Maker::new(vec![redis(RedisForm::String), mongodb], keys, outputs);
    let update = maker.event(Op::Update, key(1));
    let cells = if keys == 0 { vec![Value::Int(1); 2] } else { vec![Value::Int(1)] };
    maker.put(update, 0, &cells);
    let skipped = maker.event(Op::Update, key(2));
    maker.skip(skipped);
    maker.event(Op::Delete, key(7));
    maker
}

#[test]
fn a_target_that_no_output_names_loses_the_row() {
    let of_redis = [(0, true, 100), (0, false, 101), (0, false, 102)];
    let plan = maker(with_default_keys(mongodb()), 1, &["redis"]).plan();
    assert_eq!(written(&plan), [&of_redis[..], &[(1, false, 100), (1, false, 101), (1, false, 102)]].concat());
    // At the keys that a module which names it writes to.
    let both = maker(with_default_keys(mongodb()), 1, &["redis", "mongodb"]).plan();
    let keys = |plan: &WritePlan| plan.sinks[1].writes.iter().map(|write| plan.sinks[1].slice(write.key).to_vec()).collect::<Vec<_>>();
    assert_eq!((keys(&plan), plan.sinks[1].writes.len()), (keys(&both), both.sinks[1].writes.len()));
    // Where the module before may have named the parts of each key, nobody knows them.
    assert_eq!(written(&maker(mongodb(), 1, &["redis"]).plan()), of_redis);
    // A table without a primary key has no default keys.
    assert_eq!(written(&maker(with_default_keys(mongodb()), 0, &["redis"]).plan()), [(0, true, 100)]);
}

/// MongoDB has no document with such a key, and refuses to look for one.
#[test]
fn a_key_that_mongodb_refuses_is_not_deleted() {
    let named = |name: &str, expected: usize| {
        let mut maker = maker(with_default_keys(mongodb()), 2, &["redis"]);
        maker.batch.cells = Cells::default();
        (0..3).flat_map(|id| [Value::Int(id), Value::Int(1), Value::Null]).for_each(|value| maker.batch.cells.push(value));
        let mut schema = (*maker.opened.schema).clone();
        schema.columns[1].name = name.into();
        let schema = Arc::new(schema);
        Arc::get_mut(&mut maker.opened).expect("not shared yet").schema = Arc::clone(&schema);
        maker.batch.schemas = vec![schema];
        let plan = maker.plan();
        assert_eq!(written(&plan).iter().filter(|(sink, ..)| *sink == 1).count(), expected, "{name}");
    };
    named("b", 3);
    named("$b", 0);
}

#[test]
fn a_record_that_is_given_up_marks_its_key_there_too() {
    let mut maker = Maker::new(vec![redis(RedisForm::String), with_default_keys(mongodb())], 1, vec![output("redis", &[], &["f"])]);
    let event = maker.event(Op::Update, ROW);
    maker.put(event, 0, &[Value::Double(f64::NAN)]);
    let plan = maker.plan();
    assert_eq!(plan.faults.len(), 1);
    assert_eq!(plan.marks.iter().map(|marks| (marks.sink, marks.writes.len())).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
}
