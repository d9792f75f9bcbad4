//! Where outcomes differ, event by event and field by field.

use std::collections::BTreeMap;

use super::text::field_name;
use super::{Field, MESSAGE, Outcome, Part};

/// What became of an event on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// `0:4 update order_id = int 103`
    pub event: String,
    /// All lines of both outcomes.
    pub lines: Vec<Line>,
}

/// A line of an outcome, on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The field's name; a part's own line has none.
    pub name: String,
    /// The first side's value, where it has one.
    pub first: Option<String>,
    /// The other side's.
    pub second: Option<String>,
    /// Whether it may differ.
    pub is_free: bool,
}

impl Line {
    fn new(name: impl Into<String>, first: Option<String>, second: Option<String>) -> Self {
        Self { name: name.into(), first, second, is_free: false }
    }

    /// Whether both sides are alike, or need not be.
    pub fn is_alike(&self) -> bool {
        self.is_free || self.first == self.second
    }
}

impl Comparison {
    /// Whether the event ended alike.
    pub fn is_alike(&self) -> bool {
        self.lines.iter().all(Line::is_alike)
    }
}

/// How closely outcomes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closeness {
    /// Of one module: also the words of a reject.
    Words,
    /// Of two modules: a reject's code counts, its words are the language's.
    Codes,
}

/// Every event's outcomes beside each other, in the order of partitions and offsets. Messages of faults never count, those of rejects where `messages`
/// says so: two languages' SDKs may say the same thing in other words.
pub fn side_by_side(first: &[Outcome], second: &[Outcome], messages: bool) -> Vec<Comparison> {
    let closeness = if messages { Closeness::Words } else { Closeness::Codes };
    let mut events: BTreeMap<(i32, i64, usize), [Option<&Outcome>; 2]> = BTreeMap::new();
    for (side, outcomes) in [first, second].into_iter().enumerate() {
        let mut seen: BTreeMap<(i32, i64), usize> = BTreeMap::new();
        for outcome in outcomes {
            let place = (outcome.partition, outcome.offset);
            let nth = seen.entry(place).or_default();
            if let Some(slot) = events.entry((place.0, place.1, *nth)).or_default().get_mut(side) {
                *slot = Some(outcome);
            }
            *nth += 1;
        }
    }
    events.into_values().filter_map(|[first, second]| comparison(first, second, closeness)).collect()
}

/// The events whose outcomes differ; as [`side_by_side`] compares them.
pub fn differences(first: &[Outcome], second: &[Outcome], messages: bool) -> Vec<Comparison> {
    let mut compared = side_by_side(first, second, messages);
    compared.retain(|comparison| !comparison.is_alike());
    compared
}

fn comparison(first: Option<&Outcome>, second: Option<&Outcome>, closeness: Closeness) -> Option<Comparison> {
    let some = first.or(second)?;
    let mut lines = Vec::new();
    let event = |outcome: Option<&Outcome>| outcome.map(|outcome| outcome.event.clone());
    if first.is_none() || second.is_none() || event(first) != event(second) {
        lines.push(Line::new("", event(first), event(second)));
    }
    let parts = |outcome: Option<&Outcome>| outcome.map(|outcome| outcome.parts.clone()).unwrap_or_default();
    let (first, mut second) = (parts(first), parts(second));
    // The same title first; then the same kind, so that a put to other targets is shown beside the put that it was.
    let mut others: Vec<Option<Part>> = Vec::new();
    for part in &first {
        others.push(second.iter().position(|other| other.title == part.title).map(|at| second.remove(at)));
    }
    for (part, slot) in first.iter().zip(&mut others).filter(|(_, slot)| slot.is_none()) {
        *slot = second.iter().position(|other| other.kind() == part.kind()).map(|at| second.remove(at));
    }
    for (part, other) in first.iter().zip(&others) {
        compare(Some(part), other.as_ref(), closeness, &mut lines);
    }
    for part in &second {
        compare(None, Some(part), closeness, &mut lines);
    }
    Some(Comparison { event: format!("{}:{} {}", some.partition, some.offset, some.event), lines })
}

fn compare(first: Option<&Part>, second: Option<&Part>, closeness: Closeness, into: &mut Vec<Line>) {
    let title = |part: Option<&Part>| part.map(|part| part.title.clone());
    into.push(Line::new("", title(first), title(second)));
    let of = |part: Option<&'_ Part>| part.map(|part| part.fields.clone()).unwrap_or_default();
    let (first_fields, second_fields) = (of(first), of(second));
    let value = |fields: &[Field], name: &str| fields.iter().find(|field| field.name == name).map(|field| field.value.clone());
    let is_free = |field: &Field| {
        let part = first.or(second);
        field.name == MESSAGE
            && first.is_some() == second.is_some()
            && part.is_some_and(|part| part.is_fault() || closeness == Closeness::Codes && part.is_reject())
    };
    let only_second = second_fields.iter().filter(|field| value(&first_fields, &field.name).is_none());
    for field in first_fields.iter().chain(only_second) {
        let line = Line::new(field_name(&field.name), value(&first_fields, &field.name), value(&second_fields, &field.name));
        into.push(Line { is_free: is_free(field), ..line });
    }
    if first.is_some() && second.is_some() && is_other_order(&first_fields, &second_fields) {
        let order = |fields: &[Field]| Some(fields.iter().map(|field| field_name(&field.name)).collect::<Vec<_>>().join(", "));
        into.push(Line::new("(order of the fields)", order(&first_fields), order(&second_fields)));
    }
}

/// The order of fields is part of a document: the same fields in another order are other bytes.
fn is_other_order(first: &[Field], second: &[Field]) -> bool {
    let names = |fields: &[Field]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    names(first) != names(second) && sorted(names(first)) == sorted(names(second))
}
