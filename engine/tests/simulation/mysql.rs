//! The database: what it holds, and the binlog of how it came about. The oracle of what the stores must hold is here, and knows nothing
//! of Kafka, offsets or fences.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::setting::TABLES;

/// A row of either table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: u64,
    pub line: char,
    pub note: Option<u64>,
    pub v: u64,
}

/// The value that makes the guest trap.
const POISON: u64 = 666;
/// Ids of rows that can't be transformed begin here; no other row has them.
const FIRST_POISONED: u64 = 1_000;

/// A key as Redis has it, `a:1` or `b:1:x`: also the name by which the checks know it.
pub type Key = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Redis,
    MongoDb,
}

impl Row {
    pub fn key(&self, table: usize) -> Key {
        if table == 0 { format!("a:{}", self.id) } else { format!("b:{}:{}", self.id, self.line) }
    }

    /// The columns, as a document has them.
    pub fn fields(&self) -> Value {
        json!({ "id": self.id, "line": self.line.to_string(), "note": self.note.map(|note| format!("n{note}")), "v": self.v })
    }

    /// What the transform makes of it for a store: the rule of `guest.wat`, said again.
    pub fn document(&self, store: Store) -> Option<Value> {
        let put = match self.v % 5 {
            4 => false,
            3 => store == Store::Redis,
            2 => store == Store::MongoDb,
            _ => true,
        };
        put.then(|| self.fields())
    }

    pub fn is_poisoned(&self) -> bool {
        self.v == POISON
    }
}

/// One row event of the binlog; without any row, the table was truncated.
#[derive(Clone, Debug)]
pub struct Change {
    pub table: usize,
    pub before: Option<Row>,
    pub after: Option<Row>,
    /// The next one belongs to the same transaction.
    pub more: bool,
}

impl Change {
    pub fn is_truncate(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

/// The database after all that ever happens to it.
pub struct MySql {
    /// Rows that were there before the connector came: its snapshot.
    pub initial: BTreeMap<Key, (usize, Row)>,
    pub binlog: Vec<Change>,
    rows: BTreeMap<Key, (usize, Row)>,
    /// Whether tables are ever truncated.
    truncates: bool,
}

impl MySql {
    pub fn new(truncates: bool, dice: &mut Dice) -> Self {
        let mut this = Self { initial: BTreeMap::new(), binlog: Vec::new(), rows: BTreeMap::new(), truncates };
        for _ in 0..dice.below(6) {
            this.transaction(dice);
        }
        this.binlog.clear();
        this.initial = this.rows.clone();
        for _ in 0..dice.between(4, 24) {
            this.transaction(dice);
        }
        this
    }

    fn transaction(&mut self, dice: &mut Dice) {
        if self.truncates && dice.permille(60) {
            return self.truncate(dice.below(TABLES.len() as u64) as usize);
        }
        let begin = self.binlog.len();
        for _ in 0..dice.between(1, 3) {
            self.statement(dice);
        }
        let last = self.binlog.len().saturating_sub(1);
        for change in self.binlog.get_mut(begin..last).into_iter().flatten() {
            change.more = true;
        }
    }

    fn statement(&mut self, dice: &mut Dice) {
        let table = dice.below(TABLES.len() as u64) as usize;
        let new = Row {
            id: dice.below(4),
            line: if dice.permille(500) { 'x' } else { 'y' },
            note: dice.permille(800).then(|| dice.below(100)),
            v: dice.below(60),
        };
        if dice.permille(15) {
            let id = FIRST_POISONED + self.binlog.len() as u64;
            return self.write(table, None, Some(Row { id, v: POISON, ..new }));
        }
        let key = new.key(table);
        let Some((_, old)) = self.rows.get(&key).cloned() else { return self.write(table, None, Some(new)) };
        match dice.below(10) {
            0..=3 => self.write(table, Some(old), None),
            4 => {
                // An update of the primary key, which Debezium tells as a delete and a create.
                let moved = Row { id: dice.below(4), ..new };
                if self.rows.contains_key(&moved.key(table)) {
                    return self.write(table, Some(old), None);
                }
                self.write(table, Some(old), None);
                self.write(table, None, Some(moved));
            }
            _ => self.write(table, Some(old), Some(new)),
        }
    }

    fn truncate(&mut self, table: usize) {
        self.rows.retain(|_, (of, _)| *of != table);
        self.binlog.push(Change { table, before: None, after: None, more: false });
    }

    fn write(&mut self, table: usize, before: Option<Row>, after: Option<Row>) {
        if let Some(row) = &before {
            self.rows.remove(&row.key(table));
        }
        if let Some(row) = &after {
            self.rows.insert(row.key(table), (table, row.clone()));
        }
        self.binlog.push(Change { table, before, after, more: false });
    }

    /// What a SELECT at this position of the binlog finds.
    pub fn rows_at(&self, position: usize) -> BTreeMap<Key, (usize, Row)> {
        let mut rows = self.initial.clone();
        for change in self.binlog.iter().take(position) {
            if change.is_truncate() {
                rows.retain(|_, (table, _)| *table != change.table);
            }
            if let Some(row) = &change.before {
                rows.remove(&row.key(change.table));
            }
            if let Some(row) = &change.after {
                rows.insert(row.key(change.table), (change.table, row.clone()));
            }
        }
        rows
    }

    /// What a store must hold: the rows that there are, transformed, and nothing else. At the binlog's end these are the rows of the
    /// database itself; before it, those that a replay up to the position makes.
    pub fn documents(&self, store: Store, position: usize) -> BTreeMap<Key, Value> {
        let earlier = (position < self.binlog.len()).then(|| self.rows_at(position));
        let sound = earlier.as_ref().unwrap_or(&self.rows).iter().filter(|(_, (_, row))| !row.is_poisoned());
        sound.filter_map(|(key, (_, row))| Some((key.clone(), row.document(store)?))).collect()
    }

    /// The next beginning of a transaction at a position or behind it.
    pub fn boundary(&self, position: usize) -> usize {
        let open = self.binlog.get(position.saturating_sub(1)..).unwrap_or_default().iter().take_while(|change| change.more).count();
        if position == 0 { 0 } else { position + open }
    }
}
