//! A MongoDB server: executes the commands that the sink writes, as the manual describes them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use mongodb::bson::raw::{RawBsonRef, RawDocument};
use mongodb::bson::{Bson, Document, doc};

/// A collection, by the one form of `_id`.
pub type Collection = BTreeMap<Id, Document>;

/// What the server holds.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub collections: BTreeMap<String, Collection>,
}

/// A value of `_id`, in an order that is the server's for those values which the sink writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(Vec<u8>);

impl Id {
    pub fn of(value: &Bson) -> Self {
        let mut bytes = Vec::new();
        write_id(&mut bytes, value);
        Self(bytes)
    }
}

fn write_id(out: &mut Vec<u8>, value: &Bson) {
    match value {
        Bson::Int32(_) | Bson::Int64(_) => {
            out.push(1);
            out.extend_from_slice(&number(value).unwrap_or_default().to_be_bytes());
        }
        Bson::String(text) => {
            out.push(2);
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        Bson::Document(document) => {
            out.push(3);
            for (name, value) in document {
                out.extend_from_slice(name.as_bytes());
                out.push(0);
                write_id(out, value);
            }
            out.push(0);
        }
        Bson::DateTime(date) => {
            out.push(9);
            out.extend_from_slice(&date.timestamp_millis().to_be_bytes());
        }
        Bson::Binary(binary) => {
            out.push(5);
            out.extend_from_slice(&(binary.bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&binary.bytes);
        }
        _ => out.push(0),
    }
}

pub fn number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// The value at a path with dots.
pub fn at<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = document.get(first)?;
    match rest {
        Some(rest) => at(value.as_document()?, rest),
        None => Some(value),
    }
}

/// Whether a document fits a query.
fn matches(document: &Document, query: &Document) -> bool {
    query.iter().all(|(path, condition)| fits(at(document, path), condition))
}

fn fits(value: Option<&Bson>, condition: &Bson) -> bool {
    let operators = condition.as_document().filter(|condition| condition.keys().any(|name| name.starts_with('$')));
    let Some(operators) = operators else { return equal(value, condition) };
    operators.iter().all(|(operator, operand)| match operator.as_str() {
        "$not" => !fits(value, operand),
        "$gte" => compare(value, operand).is_some_and(Ordering::is_ge),
        "$gt" => compare(value, operand).is_some_and(Ordering::is_gt),
        "$exists" => value.is_some() == operand.as_bool().unwrap_or(true),
        "$in" => operand.as_array().is_some_and(|all| all.iter().any(|one| equal(value, one))),
        other => unreachable!("the simulated server has no operator {other}"),
    })
}

/// Null is equal to nothing.
fn equal(value: Option<&Bson>, other: &Bson) -> bool {
    match (value, other) {
        (None | Some(Bson::Null), Bson::Null) => true,
        (None, _) => false,
        (Some(value), other) => Id::of(value) == Id::of(other),
    }
}

fn compare(value: Option<&Bson>, other: &Bson) -> Option<Ordering> {
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
    pub query: Document,
    /// `None`: a delete.
    pub replacement: Option<Document>,
    pub upsert: bool,
}

impl Statement {
    pub fn id(&self) -> Option<Id> {
        self.query.get("_id").map(Id::of)
    }
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

    pub fn get(&self, collection: &str, id: &Id) -> Option<&Document> {
        self.collections.get(collection)?.get(id)
    }

    /// Whether an upsert would find its document now. What it does with the answer may be done later.
    pub fn finds(&self, statement: &Statement) -> bool {
        statement.id().and_then(|id| self.get(&statement.collection, &id)).is_some_and(|document| matches(document, &statement.query))
    }

    /// Executes a statement. `inserts`: an upsert that has found nothing before, and now tries to insert whatever is there.
    pub fn execute(&mut self, statement: &Statement, inserts: bool) -> Done {
        if !statement.query.contains_key("_id") && statement.replacement.is_none() {
            let collection = self.collection(&statement.collection);
            let before = collection.len();
            collection.retain(|_, document| !matches(document, &statement.query));
            return if collection.len() < before { Done::Changed } else { Done::Nothing };
        }
        // `check` asks for its rights with an `_id` that no document has.
        let Some(id) = statement.id().filter(|_| !matches!(statement.query.get_document("_id"), Ok(id) if id.contains_key("$in"))) else {
            return Done::Nothing;
        };
        let found = !inserts && self.finds(statement);
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
    pub fn find(&self, command: &Document) -> Vec<Document> {
        let Ok(name) = command.get_str("find") else { return Vec::new() };
        let empty = Document::new();
        let filter = command.get_document("filter").unwrap_or(&empty);
        let limit = command.get_i32("limit").map_or(usize::MAX, |limit| limit as usize);
        let documents = self.collections.get(name).into_iter().flat_map(BTreeMap::values);
        documents.filter(|document| matches(document, filter)).take(limit).cloned().collect()
    }
}

/// Takes the statements out of an update or a delete; `None` for another command.
pub fn take_statements(command: &mut Document) -> Option<Vec<Statement>> {
    let deletes = command.contains_key("delete");
    let (name, list) = if deletes { ("delete", "deletes") } else { ("update", "updates") };
    let name = command.get_str(name).ok()?.to_owned();
    let Some(Bson::Array(statements)) = command.get_mut(list) else { return None };
    let document = |one: &mut Document, name| match one.get_mut(name) {
        Some(Bson::Document(document)) => std::mem::take(document),
        _ => Document::new(),
    };
    let statement = |one: &mut Document| Statement {
        collection: name.clone(),
        query: document(one, "q"),
        replacement: (!deletes).then(|| document(one, "u")),
        upsert: one.get_bool("upsert").unwrap_or_default(),
    };
    Some(statements.iter_mut().filter_map(Bson::as_document_mut).map(statement).collect())
}

/// A command as it came. The crate's own conversion copies everything twice.
pub fn parsed(raw: &RawDocument) -> mongodb::bson::error::Result<Document> {
    raw.iter_elements()
        .map(|element| element.and_then(|element| Ok((element.key().as_str().to_owned(), value(element.value()?)?))))
        .collect()
}

fn value(raw: RawBsonRef<'_>) -> mongodb::bson::error::Result<Bson> {
    Ok(match raw {
        RawBsonRef::Document(document) => Bson::Document(parsed(document)?),
        RawBsonRef::Array(array) => Bson::Array(array.into_iter().map(|one| value(one?)).collect::<Result<_, _>>()?),
        RawBsonRef::String(text) => Bson::String(text.to_owned()),
        other => other.try_into()?,
    })
}

/// The reply to commands that need none but this.
pub fn plain_reply(command: &Document, run: u64) -> Document {
    if command.contains_key("hello") {
        let process = mongodb::bson::oid::ObjectId::from_bytes([run as u8; 12]);
        return doc! {
            "ok": 1.0, "maxWireVersion": 21, "isWritablePrimary": true, "setName": "rs0", "electionId": process,
            "setVersion": 1, "topologyVersion": { "processId": process, "counter": 6_i64 },
        };
    }
    doc! { "ok": 1.0 }
}
