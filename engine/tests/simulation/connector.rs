//! Debezium: reads the binlog and writes records, again and again where it crashed before it had stored its position.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::kafka::{Kafka, Said};
use crate::mysql::{Change, Key, MySql, Row};
use crate::setting::TABLES;

/// A connector's place in the binlog.
#[derive(Debug, Default)]
pub struct Connector {
    position: usize,
    /// The position that survives a crash.
    stored: usize,
    chunk: Option<Chunk>,
}

/// A chunk of an incremental snapshot: rows that were read, minus those which change before the high watermark.
#[derive(Debug)]
struct Chunk {
    rows: Vec<(Key, usize, Row)>,
    changed: BTreeSet<Key>,
    closes_at: usize,
}

impl Connector {
    pub fn is_done(&self, limit: usize) -> bool {
        self.position >= limit && self.chunk.is_none()
    }

    /// The topics are new: all rows, and from here on what happens to them.
    pub fn begin_again(&mut self, mysql: &MySql, kafka: &mut Kafka, dice: &mut Dice) {
        self.stored = self.position;
        self.snapshot(mysql, kafka, dice);
    }

    /// All rows as they are at the connector's position. What follows in the binlog comes after them.
    pub fn snapshot(&mut self, mysql: &MySql, kafka: &mut Kafka, dice: &mut Dice) {
        self.chunk = None;
        for (key, (table, row)) in mysql.rows_at(self.position) {
            emit_row(kafka, table, &key, &row, "r", dice);
        }
    }

    /// Begins a chunk of an incremental snapshot, between this position and one a little later, which is before `limit`.
    pub fn begin_chunk(&mut self, mysql: &MySql, limit: usize, dice: &mut Dice) {
        let read_at = (self.position + dice.below(3) as usize).min(limit);
        let rows: Vec<_> =
            mysql.rows_at(read_at).into_iter().map(|(key, (table, row))| (key, table, row)).filter(|_| dice.permille(600)).collect();
        self.chunk = Some(Chunk { rows, changed: BTreeSet::new(), closes_at: (read_at + dice.below(3) as usize).min(limit) });
    }

    /// Emits the next transaction, whole, where there is one before `limit`.
    pub fn step(&mut self, mysql: &MySql, limit: usize, kafka: &mut Kafka, dice: &mut Dice) {
        let mut more = self.position < limit;
        while let Some(change) = mysql.binlog.get(self.position).filter(|_| more) {
            more = change.more;
            self.position += 1;
            emit(kafka, change, dice);
            if let Some(chunk) = &mut self.chunk {
                let touched = [&change.before, &change.after].into_iter().flatten();
                chunk.changed.extend(touched.map(|row| row.key(change.table)));
                if change.is_truncate() {
                    chunk.rows.retain(|(_, table, _)| *table != change.table);
                }
            }
        }
        if let Some(chunk) = self.chunk.take_if(|chunk| chunk.closes_at <= self.position) {
            for (key, table, row) in chunk.rows.iter().filter(|(key, ..)| !chunk.changed.contains(key)) {
                emit_row(kafka, *table, key, row, "r", dice);
            }
        }
        if dice.permille(300) {
            self.stored = self.position;
        }
    }

    /// Starts again where the last stored position was: what came since comes once more.
    pub fn crash(&mut self) {
        self.position = self.stored;
        self.chunk = None;
    }

    /// Its stored position is gone, and with it what happened until it comes back with a snapshot: of rows that were deleted meanwhile
    /// nothing is said.
    pub fn lose_position(&mut self, mysql: &MySql, dice: &mut Dice) {
        self.position = mysql.boundary((self.position + dice.below(8) as usize).min(mysql.binlog.len()));
        self.stored = self.position;
    }

    /// A record that nobody can read, at a key that no row has.
    pub fn garbage(kafka: &mut Kafka, number: u64, dice: &mut Dice) {
        let row = Row { id: 5_000 + number, line: 'x', note: None, v: 0 };
        let table = dice.below(TABLES.len() as u64) as usize;
        kafka.produce(table, &row.key(table), key_bytes(table, &row), Some(b"{".to_vec()), Said::Garbage, 0);
    }
}

fn emit(kafka: &mut Kafka, change: &Change, dice: &mut Dice) {
    let table = change.table;
    match (&change.before, &change.after) {
        (Some(row), None) => {
            let key = row.key(table);
            kafka.produce(table, &key, key_bytes(table, row), Some(envelope(table, Some(row), None, "d")), Said::Delete, gap(dice));
            // Another record of the partition may stand between the two.
            kafka.produce(table, &key, key_bytes(table, row), None, Said::Null { after_own_delete: true }, 0);
        }
        (before, Some(row)) => {
            let op = if before.is_some() { "u" } else { "c" };
            let value = envelope(table, before.as_ref(), Some(row), op);
            kafka.produce(table, &row.key(table), key_bytes(table, row), Some(value), Said::Row(row.clone()), gap(dice));
        }
        // No key: it concerns all of them.
        (None, None) => kafka.produce(table, &Key::new(), None, Some(envelope(table, None, None, "t")), Said::Truncate, gap(dice)),
    }
}

fn emit_row(kafka: &mut Kafka, table: usize, key: &Key, row: &Row, op: &str, dice: &mut Dice) {
    kafka.produce(table, key, key_bytes(table, row), Some(envelope(table, None, Some(row), op)), Said::Row(row.clone()), gap(dice));
}

fn gap(dice: &mut Dice) -> u64 {
    if dice.permille(100) { dice.between(1, 3) } else { 0 }
}

fn key_bytes(table: usize, row: &Row) -> Vec<u8> {
    let key = if table == 0 { json!({ "id": row.id }) } else { json!({ "id": row.id, "line": row.line.to_string() }) };
    key.to_string().into_bytes()
}

fn envelope(table: usize, before: Option<&Row>, after: Option<&Row>, op: &str) -> Vec<u8> {
    let image = |row: Option<&Row>| row.map_or(Value::Null, Row::fields);
    let snapshot = if op == "r" { "true" } else { "false" };
    let source = json!({ "db": "shop", "table": TABLES.get(table), "ts_ms": 5, "snapshot": snapshot });
    json!({ "before": image(before), "after": image(after), "source": source, "op": op }).to_string().into_bytes()
}
