//! The tables of the cases: their columns, and the documents that the transforms promise for their rows.

use crate::cell::{Cell, Kind};

/// A row, in the order of the table's columns.
pub type Row = Vec<Cell>;

/// A document's fields.
pub type Fields = Vec<(&'static str, Cell)>;

/// A table and what becomes of it.
#[derive(Clone, Copy)]
pub struct TableCheck {
    /// In MySQL; also the prefix in Redis and the collection in MongoDB.
    pub name: &'static str,
    /// Names and kinds.
    pub columns: &'static [(&'static str, Kind)],
    /// Indexes of the primary key's columns, in key order.
    pub key: &'static [usize],
    /// The guest's file, without `.wasm`.
    pub transform: &'static str,
    /// The document of a row.
    pub document: fn(&TableCheck, &Row) -> Fields,
}

/// The customers of the main job.
pub const CUSTOMERS: TableCheck = TableCheck {
    name: "customers",
    columns: &[
        ("customer_id", Kind::Int),
        ("name", Kind::Text),
        ("email", Kind::Text),
        ("address", Kind::Text),
        ("created_at", Kind::Timestamp),
    ],
    key: &[0],
    transform: "customers",
    document: |_, row| {
        vec![
            ("customer_id", at(row, 0)),
            ("name", text(row, 1, str::to_owned)),
            ("email", text(row, 2, str::to_lowercase)),
            ("address", at(row, 3)),
            ("created_at", at(row, 4)),
        ]
    },
};

/// The orders of the main job.
pub const ORDERS: TableCheck = TableCheck {
    name: "orders",
    columns: &[
        ("order_id", Kind::Int),
        ("customer_id", Kind::Int),
        ("total_amount", Kind::Decimal),
        ("status", Kind::Text),
        ("created_at", Kind::Timestamp),
        ("updated_at", Kind::Timestamp),
    ],
    key: &[0],
    transform: "orders",
    document: |_, row| {
        let minor = match at(row, 2) {
            Cell::Decimal(total) => total.replace('.', "").parse().map_or(Cell::Null, Cell::Int),
            other => other,
        };
        vec![
            ("order_id", at(row, 0)),
            ("customer_id", at(row, 1)),
            ("total", at(row, 2)),
            ("total_minor", minor),
            ("status", text(row, 3, str::to_uppercase)),
            ("open", flag(row, 3, &["cancelled", "delivered", "refund", "returned"])),
            ("created_at", at(row, 4)),
            ("updated_at", at(row, 5)),
        ]
    },
};

/// The shipments of the main job.
pub const SHIPPING_INFO: TableCheck = TableCheck {
    name: "shipping_info",
    columns: &[
        ("shipping_id", Kind::Int),
        ("order_id", Kind::Int),
        ("shipping_address", Kind::Text),
        ("shipping_method", Kind::Text),
        ("estimated_delivery", Kind::Date),
        ("status", Kind::Text),
    ],
    key: &[0],
    transform: "shipping_info",
    document: |_, row| {
        vec![
            ("shipping_id", at(row, 0)),
            ("order_id", at(row, 1)),
            ("address", at(row, 2)),
            ("method", text(row, 3, str::to_lowercase)),
            ("status", text(row, 5, str::to_uppercase)),
            ("under_way", flag(row, 5, &["cancelled", "delivered", "lost", "returned"])),
            ("estimated_delivery", at(row, 4)),
        ]
    },
};

/// The main job's tables.
pub const SHOP: [TableCheck; 3] = [CUSTOMERS, ORDERS, SHIPPING_INFO];

/// A key of three columns, whose order is not the table's.
pub const COMPOSITE: TableCheck = TableCheck {
    name: "composite",
    columns: &[("tenant", Kind::Text), ("region", Kind::Int), ("seq", Kind::Uint), ("payload", Kind::Text)],
    key: &[1, 0, 2],
    transform: "passthrough",
    document: every_column,
};

/// Customers with a key of a type that a key's schema does not tell, and a transform that names the other columns.
pub const ACCOUNTS: TableCheck = TableCheck {
    name: "accounts",
    columns: &[
        ("customer_id", Kind::Uint),
        ("name", Kind::Text),
        ("email", Kind::Text),
        ("address", Kind::Text),
        ("created_at", Kind::Timestamp),
    ],
    ..CUSTOMERS
};

/// Wares whose table is about to change.
pub const WARES: TableCheck = TableCheck {
    name: "wares",
    columns: &[("id", Kind::Int), ("label", Kind::Text), ("colour", Kind::Text), ("price", Kind::Decimal)],
    key: &[0],
    transform: "passthrough",
    document: every_column,
};

/// The same table when it has changed: `colour` is gone, `stock` is new, and `price` has another scale.
pub const CHANGED_WARES: TableCheck =
    TableCheck { columns: &[("id", Kind::Int), ("stock", Kind::Int), ("label", Kind::Text), ("price", Kind::Decimal)], ..WARES };

/// Rows that others refer to.
pub const PARENTS: TableCheck = TableCheck {
    name: "parents",
    columns: &[("id", Kind::Int), ("note", Kind::Text)],
    key: &[0],
    transform: "passthrough",
    document: every_column,
};

/// Rows that change when their parents do.
pub const CHILDREN: TableCheck =
    TableCheck { name: "children", columns: &[("id", Kind::Int), ("parent_id", Kind::Int), ("note", Kind::Text)], ..PARENTS };

/// Every type of MySQL's.
pub const ALL_TYPES: TableCheck = TableCheck {
    name: "all_types",
    columns: &[
        ("id", Kind::Uint),
        ("note", Kind::Text),
        ("c_tinyint", Kind::Int),
        ("c_tinyint_u", Kind::Int),
        ("c_tinyint1", Kind::Int),
        ("c_smallint", Kind::Int),
        ("c_smallint_u", Kind::Int),
        ("c_mediumint", Kind::Int),
        ("c_mediumint_u", Kind::Int),
        ("c_int", Kind::Int),
        ("c_int_u", Kind::Int),
        ("c_bigint", Kind::Int),
        ("c_bigint_u", Kind::Uint),
        ("c_dec_65_30", Kind::Decimal),
        ("c_dec_10_2", Kind::Decimal),
        ("c_dec_20_0", Kind::Decimal),
        ("c_dec_u", Kind::Decimal),
        ("c_float", Kind::Float),
        ("c_double", Kind::Double),
        ("c_bit12", Kind::Bytes),
        ("c_bit64", Kind::Bytes),
        ("c_char", Kind::Text),
        ("c_varchar", Kind::Text),
        ("c_latin1", Kind::Text),
        ("c_utf16", Kind::Text),
        ("c_tinytext", Kind::Text),
        ("c_text", Kind::Text),
        ("c_mediumtext", Kind::Text),
        ("c_longtext", Kind::Text),
        ("c_binary", Kind::Bytes),
        ("c_varbinary", Kind::Bytes),
        ("c_tinyblob", Kind::Bytes),
        ("c_blob", Kind::Bytes),
        ("c_mediumblob", Kind::Bytes),
        ("c_longblob", Kind::Bytes),
        ("c_enum", Kind::Text),
        ("c_set", Kind::Text),
        ("c_json", Kind::Json),
        ("c_date", Kind::Date),
        ("c_time", Kind::Time),
        ("c_time3", Kind::Time),
        ("c_time6", Kind::Time),
        ("c_datetime", Kind::Datetime),
        ("c_datetime3", Kind::Datetime),
        ("c_datetime6", Kind::Datetime),
        ("c_timestamp", Kind::Timestamp),
        ("c_timestamp3", Kind::Timestamp),
        ("c_timestamp6", Kind::Timestamp),
        ("c_year", Kind::Int),
        ("c_point", Kind::Geometry),
        ("c_default", Kind::Int),
    ],
    key: &[0],
    transform: "passthrough",
    document: every_column,
};

/// Each column under its own name.
fn every_column(check: &TableCheck, row: &Row) -> Fields {
    check.columns.iter().map(|(name, _)| *name).zip(row.iter().cloned()).collect()
}

fn at(row: &Row, index: usize) -> Cell {
    row.get(index).cloned().unwrap_or(Cell::Null)
}

fn text(row: &Row, index: usize, change: fn(&str) -> String) -> Cell {
    match at(row, index) {
        Cell::Text(text) => Cell::Text(change(text.trim())),
        other => other,
    }
}

/// Whether a status is none of the last ones; nothing is said of none.
fn flag(row: &Row, index: usize, last: &[&str]) -> Cell {
    match at(row, index) {
        Cell::Text(status) => Cell::Bool(!last.contains(&status.trim().to_lowercase().as_str())),
        other => other,
    }
}
