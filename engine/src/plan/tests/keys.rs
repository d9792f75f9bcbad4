//! Keys of different parts stay different, whatever the parts are.

use super::*;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Boolean(bool),
    Date(i64),
    Time(i64),
}

impl Part {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(i) => Value::Int(*i),
            Self::Text(s) => Value::Text(s),
            Self::Bytes(b) => Value::Bytes(b),
            Self::Boolean(b) => Value::Boolean(*b),
            Self::Date(d) => Value::Date(*d),
            Self::Time(t) => Value::Time(*t),
        }
    }
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        any::<i8>().prop_map(|i| Part::Int(i.into())),
        "[a:%{}3-]{0,3}|true|-?[0-9]{1,2}|%[0-9A-Fx]{2}|1970-01-0[1-3]|00:00:0[0-2]".prop_map(Part::Text),
        proptest::collection::vec(any::<u8>(), 0..3).prop_map(Part::Bytes),
        any::<bool>().prop_map(Part::Boolean),
        (0i64..3).prop_map(Part::Date),
        (0i64..3).prop_map(|seconds| Part::Time(seconds * 1_000_000)),
    ]
}

fn explicit_keys(place: Arc<TargetSettings>, keys: [&[Part]; 2]) -> Vec<Vec<u8>> {
    let names = ["p", "q", "r"];
    let encode = |parts: &[Part]| {
        let mut maker = Maker::new(vec![Arc::clone(&place)], 1, vec![output(&place.name, &names[..parts.len()], &["f"])]);
        let event = maker.event(Op::Create, ROW);
        let values: Vec<Value<'_>> = parts.iter().map(Part::value).chain([Value::Int(1)]).collect();
        maker.put(event, 0, &values);
        let plan = maker.plan();
        let sink = &plan.sinks[0];
        sink.slice(sink.writes[0].key).to_vec()
    };
    keys.into_iter().map(encode).collect()
}

proptest! {
    #[test]
    fn different_keys_stay_different(a in proptest::collection::vec(part(), 1..=3), b in proptest::collection::vec(part(), 1..=3)) {
        for place in [redis(RedisForm::String), mongodb()] {
            let encoded = explicit_keys(place, [&a, &b]);
            prop_assert_eq!(a == b, encoded[0] == encoded[1], "{:?}", encoded);
        }
    }
}
