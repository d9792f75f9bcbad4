//! Keys: two rows share a key in a store if and only if they share it in MySQL.

use std::sync::Arc;

use streamsync::change::{Cells, ChangeBatch, ChangeEvent, Column, Op, Snapshot, TableSchema, Tag, Value};
use streamsync::config::{Format, RouteSettings};
use streamsync::fence::Generation;
use streamsync::plan;
use streamsync::route::RoutedBatch;
use streamsync::source::{RecordBatch, TopicPartition};
use streamsync::transform::{GuestAction, GuestBatch, GuestGroup, GuestWrite, OpenedSchema, wire};

use crate::input::Input;
use crate::stored::{check_plan, route};

const TAGS: [Tag; 14] = [
    Tag::Int,
    Tag::Uint,
    Tag::Text,
    Tag::Bytes,
    Tag::Bits,
    Tag::Decimal,
    Tag::Double,
    Tag::Boolean,
    Tag::Date,
    Tag::Time,
    Tag::Datetime,
    Tag::Timestamp,
    Tag::Year,
    Tag::Text,
];

/// Types that may meet in one part of an explicit key and stay apart: numbers of different types are equal where MySQL holds them equal.
const EXPLICIT: [Tag; 6] = [Tag::Int, Tag::Text, Tag::Bytes, Tag::Boolean, Tag::Date, Tag::Text];

/// One key part that owns its value.
#[derive(Clone, Debug)]
enum Part {
    Word(Tag, u64),
    Text(String),
    Decimal(String),
    Bytes(Tag, Vec<u8>),
}

impl Part {
    fn read(tag: Tag, input: &mut Input<'_>) -> Self {
        match tag {
            Tag::Text => Self::Text(input.text()),
            // A column has one scale.
            Tag::Decimal => {
                let number = input.small();
                Self::Decimal(format!(
                    "{}{}.{:02}",
                    if number < 0 { "-" } else { "" },
                    number.unsigned_abs() / 100,
                    number.unsigned_abs() % 100
                ))
            }
            Tag::Bytes | Tag::Bits => Self::Bytes(tag, input.stretch().to_vec()),
            Tag::Boolean => Self::Word(tag, input.flag().into()),
            Tag::Year => Self::Word(tag, u64::from(input.byte())),
            Tag::Date | Tag::Int | Tag::Uint | Tag::Double | Tag::Time | Tag::Datetime | Tag::Timestamp => {
                Self::Word(tag, input.small().cast_unsigned())
            }
            Tag::Null | Tag::Absent | Tag::Json | Tag::Geometry => Self::Word(Tag::Null, 0),
        }
    }

    fn push(&self, cells: &mut Cells) {
        match self {
            Self::Word(tag, word) => cells.push_word(*tag, *word),
            Self::Text(text) => cells.push(Value::Text(text)),
            Self::Decimal(text) => cells.push(Value::Decimal(text)),
            Self::Bytes(tag, bytes) => cells.push_span(*tag, bytes),
        }
    }

    /// MySQL holds 0 and -0 for equal, in doubles and in decimals.
    fn equals(&self, other: &Self) -> bool {
        let zero = |text: &str| text.bytes().all(|byte| matches!(byte, b'0' | b'.' | b'-'));
        match (self, other) {
            (Self::Word(Tag::Double, a), Self::Word(Tag::Double, b)) => f64::from_bits(*a) == f64::from_bits(*b),
            (Self::Word(tag, a), Self::Word(other, b)) => tag == other && a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Decimal(a), Self::Decimal(b)) => a == b || (zero(a) && zero(b)),
            (Self::Bytes(tag, a), Self::Bytes(other, b)) => tag == other && a == b,
            (Self::Word(..) | Self::Text(_) | Self::Decimal(_) | Self::Bytes(..), _) => false,
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let parts = 1 + input.below(3);
    let explicit = input.flag();
    let known: &[Tag] = if explicit { &EXPLICIT } else { &TAGS };
    let tags: Vec<Tag> = (0..parts).map(|_| known[input.below(known.len())]).collect();
    let first: Vec<Part> = tags.iter().map(|tag| Part::read(*tag, &mut input)).collect();
    let second: Vec<Part> = tags
        .iter()
        .zip(&first)
        .map(|(tag, same)| {
            // The parts of an explicit key may have other types from row to row.
            let tag = if explicit && input.flag() { known[input.below(known.len())] } else { *tag };
            if !input.is_empty() && input.flag() { same.clone() } else { Part::read(tag, &mut input) }
        })
        .collect();
    let route = route(Format::JsonWithSchema, "shop", "t");
    let (a, b) = (keys(&route, &tags, &first, explicit), keys(&route, &tags, &second, explicit));
    let equal = first.iter().zip(&second).all(|(a, b)| a.equals(b));
    for (place, (a, b)) in a.iter().zip(&b).enumerate() {
        let (Some(a), Some(b)) = (a, b) else { continue };
        assert_eq!(equal, a == b, "sink {place}: {first:?} and {second:?}: {} and {}", a.escape_ascii(), b.escape_ascii());
    }
}

/// The key in each sink; `None` where it can't be stored.
fn keys(route: &Arc<RouteSettings>, tags: &[Tag], parts: &[Part], explicit: bool) -> [Option<Vec<u8>>; 2] {
    let names = ["p", "q", "r"];
    let column = |(name, tag): (&&str, &Tag)| Column {
        name: (*name).into(),
        tag: *tag,
        nullable: false,
        length: None,
        scale: None,
        source_type: "fuzz".into(),
    };
    let schema = Arc::new(TableSchema {
        id: 1,
        database: "shop".into(),
        table: "t".into(),
        columns: names.iter().zip(tags).map(column).collect(),
        primary_key: (0..tags.len() as u32).collect(),
    });
    let key: Vec<String> = if explicit { names.iter().take(parts.len()).map(|name| (*name).to_owned()).collect() } else { vec![] };
    let output = |target: &str| wire::Output { target: target.to_owned(), key: key.clone(), fields: vec!["f".to_owned()] };
    let said = wire::Plan { before: vec![], after: vec![], sees_deletes: false, outputs: vec![output("redis"), output("mongodb")] };
    let opened = Arc::new(OpenedSchema::new(Arc::clone(&schema), route, said).expect("an allowed plan"));
    let mut batch = ChangeBatch { records: RecordBatch::new(TopicPartition::new("t", 0)), schemas: vec![schema], ..ChangeBatch::default() };
    batch.records.push(1, None, None, None, []).expect("small");
    parts.iter().for_each(|part| part.push(&mut batch.cells));
    batch.events.push(ChangeEvent {
        record: 0,
        offset: 1,
        schema: 0,
        op: Op::Create,
        changed_at_us: 0,
        snapshot: Snapshot::No,
        null_value: false,
        follows_own_delete: false,
        before: None,
        after: Some(0),
    });
    let mut cells = Cells::default();
    let mut writes = Vec::new();
    for output in 0..2 {
        writes.push(GuestWrite { event: 0, action: GuestAction::Put { output, first_cell: cells.len() as u32, ttl_seconds: 0 } });
        if explicit {
            parts.iter().for_each(|part| part.push(&mut cells));
        }
        cells.push(Value::Int(1));
    }
    let group = GuestGroup { opened, events: vec![0], writes, cells };
    let routed = RoutedBatch { route: Arc::clone(route), batch, faults: vec![] };
    let plan = plan::build(GuestBatch { routed, groups: vec![group], faults: vec![], canary: None }, Generation::FIRST, "0123456789abcdef");
    check_plan(&plan);
    [0, 1].map(|sink| plan.sinks.get(sink).and_then(|writes| writes.writes.first().map(|write| writes.slice(write.key).to_vec())))
}
