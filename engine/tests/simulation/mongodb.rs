//! A MongoDB server: executes the commands that the sink writes, as the manual describes them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::{RawArrayBuf, RawBsonRef, RawDocument};
use mongodb::bson::{RawDocumentBuf, rawdoc};

/// A collection, by the one form of `_id`.
pub type Collection = BTreeMap<Id, RawDocumentBuf>;

/// What the server holds.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub collections: BTreeMap<String, Collection>,
}

/// A value of `_id`, in an order that is the server's for those values which the sink writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(Vec<u8>);

impl Id {
    pub fn of(value: RawBsonRef<'_>) -> Self {
        let mut bytes = Vec::new();
        write_id(&mut bytes, value);
        Self(bytes)
    }
}

fn write_id(out: &mut Vec<u8>, value: RawBsonRef<'_>) {
    match value {
        RawBsonRef::Int32(_) | RawBsonRef::Int64(_) => {
            out.push(1);
            out.extend_from_slice(&number(value).unwrap_or_default().to_be_bytes());
        }
        RawBsonRef::String(text) => {
            out.push(2);
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        RawBsonRef::Document(document) => {
            out.push(3);
            for (name, value) in elements(document) {
                out.extend_from_slice(name.as_bytes());
                out.push(0);
                write_id(out, value);
            }
            out.push(0);
        }
        RawBsonRef::DateTime(date) => {
            out.push(9);
            out.extend_from_slice(&date.timestamp_millis().to_be_bytes());
        }
        RawBsonRef::Binary(binary) => {
            out.push(5);
            out.extend_from_slice(&(binary.bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(binary.bytes);
        }
        _ => out.push(0),
    }
}

pub fn number(value: RawBsonRef<'_>) -> Option<i64> {
    match value {
        RawBsonRef::Int32(number) => Some(i64::from(number)),
        RawBsonRef::Int64(number) => Some(number),
        _ => None,
    }
}

pub fn elements(document: &RawDocument) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
    document.iter().map(|element| element.expect("the sink writes BSON")).map(|(name, value)| (name.as_str(), value))
}

/// The value at a path with dots.
pub fn at<'a>(document: &'a RawDocument, path: &str) -> Option<RawBsonRef<'a>> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = document.get(first).expect("the sink writes BSON")?;
    match rest {
        Some(rest) => at(value.as_document()?, rest),
        None => Some(value),
    }
}

/// Whether a document fits a query.
fn matches(document: &RawDocument, query: &RawDocument) -> bool {
    elements(query).all(|(path, condition)| fits(at(document, path), condition))
}

fn fits(value: Option<RawBsonRef<'_>>, condition: RawBsonRef<'_>) -> bool {
    let operators = condition.as_document().filter(|condition| elements(condition).any(|(name, _)| name.starts_with('$')));
    let Some(operators) = operators else { return equal(value, condition) };
    elements(operators).all(|(operator, operand)| match operator {
        "$not" => !fits(value, operand),
        "$gte" => compare(value, operand).is_some_and(Ordering::is_ge),
        "$gt" => compare(value, operand).is_some_and(Ordering::is_gt),
        "$exists" => value.is_some() == operand.as_bool().unwrap_or(true),
        "$in" => listed(operand).any(|one| equal(value, one)),
        other => unreachable!("the simulated server has no operator {other}"),
    })
}

/// The values of an array.
fn listed(array: RawBsonRef<'_>) -> impl Iterator<Item = RawBsonRef<'_>> {
    array.as_array().into_iter().flatten().map(|one| one.expect("the sink writes BSON"))
}

/// A null asks for null, or for no value at all.
fn equal(value: Option<RawBsonRef<'_>>, other: RawBsonRef<'_>) -> bool {
    match (value, other) {
        (None | Some(RawBsonRef::Null), RawBsonRef::Null) => true,
        (None, _) => false,
        (Some(value), other) => compare(Some(value), other).is_some_and(Ordering::is_eq),
    }
}

fn compare(value: Option<RawBsonRef<'_>>, other: RawBsonRef<'_>) -> Option<Ordering> {
    let value = value?;
    match (number(value), number(other)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (None, None) => Some(Id::of(value).cmp(&Id::of(other))),
        _ => None,
    }
}

/// One statement of an update or a delete.
#[derive(Clone, Debug)]
pub struct Statement {
    pub collection: String,
    pub query: RawDocumentBuf,
    /// `None`: a delete.
    pub replacement: Option<RawDocumentBuf>,
    pub upsert: bool,
}

impl Statement {
    /// `None` for a statement on many documents. `check` asks for its rights with an `_id` that no document has.
    pub fn id(&self) -> Option<Id> {
        at(&self.query, "_id").filter(|id| listed_ids(*id).is_none()).map(Id::of)
    }
}

/// The values of `{"$in": […]}`.
fn listed_ids(condition: RawBsonRef<'_>) -> Option<RawBsonRef<'_>> {
    at(condition.as_document()?, "$in")
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Nothing,
    Changed,
    Inserted,
    /// E11000 on `_id`.
    Collided,
}

impl Data {
    pub fn collection(&mut self, name: &str) -> &mut Collection {
        self.collections.entry(name.to_owned()).or_default()
    }

    pub fn get(&self, collection: &str, id: &Id) -> Option<&RawDocumentBuf> {
        self.collections.get(collection)?.get(id)
    }

    /// Whether an upsert would find its document now. What it does with the answer may be done later.
    pub fn finds(&self, statement: &Statement) -> bool {
        statement.id().is_some_and(|id| self.finds_at(&id, statement))
    }

    fn finds_at(&self, id: &Id, statement: &Statement) -> bool {
        self.get(&statement.collection, id).is_some_and(|document| matches(document, &statement.query))
    }

    /// Executes a statement. `inserts`: an upsert that has found nothing before, and now tries to insert whatever is there.
    pub fn execute(&mut self, statement: &Statement, inserts: bool) -> Done {
        if statement.replacement.is_none() && at(&statement.query, "_id").is_none() {
            let collection = self.collection(&statement.collection);
            let before = collection.len();
            collection.retain(|_, document| !matches(document, &statement.query));
            return if collection.len() < before { Done::Changed } else { Done::Nothing };
        }
        let Some(id) = statement.id() else { return Done::Nothing };
        let found = !inserts && self.finds_at(&id, statement);
        let collection = self.collection(&statement.collection);
        match &statement.replacement {
            None if found => {
                collection.remove(&id);
                Done::Changed
            }
            None => Done::Nothing,
            Some(replacement) if found => {
                collection.insert(id, replacement.clone());
                Done::Changed
            }
            Some(_) if !statement.upsert => Done::Nothing,
            Some(_) if collection.contains_key(&id) => Done::Collided,
            Some(replacement) => {
                collection.insert(id, replacement.clone());
                Done::Inserted
            }
        }
    }

    /// Runs a command that answers with a cursor: all documents at once.
    pub fn find(&self, command: &RawDocument) -> RawArrayBuf {
        let mut found = RawArrayBuf::new();
        let Some(collection) = command.get_str("find").ok().and_then(|name| self.collections.get(name)) else { return found };
        let all = RawDocumentBuf::new();
        let filter = command.get_document("filter").unwrap_or(&all);
        let limit = command.get_i32("limit").map_or(usize::MAX, |limit| limit as usize);
        let fitting = |document: &&RawDocumentBuf| matches(document, filter);
        match at(filter, "_id").and_then(listed_ids) {
            Some(ids) => {
                let ids: BTreeSet<Id> = listed(ids).map(Id::of).collect();
                ids.iter().filter_map(|id| collection.get(id)).filter(fitting).take(limit).for_each(|document| found.push(document));
            }
            None => collection.values().filter(fitting).take(limit).for_each(|document| found.push(document)),
        }
        found
    }
}

/// The statements of an update or a delete; `None` for another command.
pub fn statements(command: &RawDocument) -> Option<Vec<Statement>> {
    let (collection, deletes) = match command.get_str("delete") {
        Ok(collection) => (collection, true),
        Err(_) => (command.get_str("update").ok()?, false),
    };
    let part = |one: &RawDocument, name| one.get_document(name).expect("a statement has it").to_owned();
    let statement = |one: &RawDocument| Statement {
        collection: collection.to_owned(),
        query: part(one, "q"),
        replacement: (!deletes).then(|| part(one, "u")),
        upsert: one.get_bool("upsert").unwrap_or_default(),
    };
    let list = at(command, if deletes { "deletes" } else { "updates" })?;
    Some(listed(list).filter_map(|one| one.as_document()).map(statement).collect())
}

/// The reply to commands that need none but this.
pub fn plain_reply(command: &RawDocument, run: u64) -> RawDocumentBuf {
    if at(command, "hello").is_some() {
        let process = ObjectId::from_bytes([run as u8; 12]);
        return rawdoc! {
            "ok": 1.0, "maxWireVersion": 21, "isWritablePrimary": true, "setName": "rs0", "electionId": process,
            "setVersion": 1, "topologyVersion": { "processId": process, "counter": 6_i64 },
        };
    }
    rawdoc! { "ok": 1.0 }
}
