//! The shape of a target's documents: the tree that dotted field names make, ready to be written in one pass.

use crate::config::{Place, TargetSettings};
use crate::plan::json_string;

/// Deepest nesting of declared fields.
const MAX_DEPTH: usize = 32;
/// Most fields of one document; a guest that names more than this is broken.
const MAX_FIELDS: usize = 4096;
/// Longest name, its dots included.
const MAX_NAME_BYTES: usize = 1024;

/// What to write for a document, in order.
#[derive(Debug, Default)]
pub struct Shape {
    /// Empty where `whole` is set.
    pub ops: Vec<Op>,
    /// The only field's cell is the whole document, as a JSON object.
    pub whole: bool,
}

/// One step of writing a document.
#[derive(Debug)]
pub enum Op {
    /// A field with a value.
    Leaf {
        /// The field's last name.
        name: Name,
        /// Index of its cell among the fields' cells.
        cell: u32,
    },
    /// A field that begins a document.
    Enter {
        /// The field's last name.
        name: Name,
        /// Number of the operations up to its `Leave`, that one included.
        ops: usize,
    },
    /// The end of a document.
    Leave,
}

/// A name, as each format writes it.
#[derive(Debug)]
pub struct Name {
    /// As the guest gave it.
    pub plain: Box<str>,
    /// In quotes, escaped, with a colon.
    pub json: Box<[u8]>,
    /// With a NUL behind it.
    pub bson: Box<[u8]>,
}

impl Name {
    fn new(plain: &str) -> Self {
        let mut json = Vec::with_capacity(plain.len() + 3);
        json_string(&mut json, plain.as_bytes());
        json.push(b':');
        let bson = [plain.as_bytes(), b"\0"].concat();
        Self { plain: plain.into(), json: json.into(), bson: bson.into() }
    }
}

#[derive(Default)]
struct Node {
    name: String,
    cell: Option<u32>,
    inner: Vec<Node>,
}

impl Shape {
    /// The shape of a target's documents, or why the names make none.
    pub fn new(target: &TargetSettings, fields: &[String]) -> Result<Self, String> {
        if let [only] = fields
            && only.is_empty()
        {
            return Ok(Self { ops: Vec::new(), whole: true });
        }
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            return Err(format!("the output to target {} has {} fields; 1 to {MAX_FIELDS} are allowed", target.name, fields.len()));
        }
        let mut root = Node::default();
        for (cell, field) in fields.iter().enumerate() {
            root.insert(target, field, cell as u32)?;
        }
        let mut ops = Vec::new();
        root.flatten(&mut ops);
        Ok(Self { ops, whole: false })
    }
}

impl Node {
    fn insert(&mut self, target: &TargetSettings, field: &str, cell: u32) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("field {:?} of the output to target {}: {why}", shortened(field), target.name));
        if field.len() > MAX_NAME_BYTES || field.split('.').count() > MAX_DEPTH {
            return refuse("the name is too long or nests too deep");
        }
        let in_mongodb = matches!(target.place, Place::MongoDb { .. });
        let mut at = self;
        for (depth, part) in field.split('.').enumerate() {
            if part.is_empty() || part.contains('\0') {
                return refuse("a part of the name is empty or contains NUL");
            }
            if in_mongodb && (part.starts_with('$') || (depth == 0 && matches!(part, "_id" | "_sync"))) {
                return refuse("MongoDB reserves names that start with $, streamsync reserves _id and _sync; choose another name");
            }
            if at.cell.is_some() {
                return refuse("a name is both a field and a parent");
            }
            let place = match at.inner.iter().position(|node| node.name == part) {
                Some(place) => place,
                None => {
                    at.inner.push(Node { name: part.to_owned(), ..Node::default() });
                    at.inner.len() - 1
                }
            };
            let Some(next) = at.inner.get_mut(place) else { return refuse("the name has no place") };
            at = next;
        }
        if at.cell.is_some() || !at.inner.is_empty() {
            return refuse("the name occurs twice, or is both a field and a parent");
        }
        at.cell = Some(cell);
        Ok(())
    }

    fn flatten(&self, ops: &mut Vec<Op>) {
        for node in &self.inner {
            let name = Name::new(&node.name);
            match node.cell {
                Some(cell) => ops.push(Op::Leaf { name, cell }),
                None => {
                    let mut inside = Vec::new();
                    node.flatten(&mut inside);
                    ops.push(Op::Enter { name, ops: inside.len() + 1 });
                    ops.append(&mut inside);
                    ops.push(Op::Leave);
                }
            }
        }
    }
}

/// A name in a message.
pub(super) fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(80)).unwrap_or(text)
}
