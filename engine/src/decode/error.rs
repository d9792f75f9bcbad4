//! Why a record is no change event of its route.

/// Why a record is not a change event of its route. The texts name the place and the remedy, never a value of a row.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The bytes are no UTF-8.
    #[error("the {part} is not UTF-8 from byte {at} on: the topic needs Kafka Connect's JsonConverter")]
    Utf8 {
        /// "key" or "value".
        part: &'static str,
        /// Offset in the part.
        at: usize,
    },
    /// The text is no JSON.
    #[error("the {part} is not JSON: {message} near byte {at}; the topic needs Kafka Connect's JsonConverter, or the record was cut off")]
    Json {
        /// "key" or "value".
        part: &'static str,
        /// What is wrong.
        message: &'static str,
        /// Offset in the part.
        at: usize,
    },
    /// Deeper than any envelope.
    #[error("the {part} nests deeper than {limit} levels, which no Debezium envelope does")]
    TooDeep {
        /// "key" or "value".
        part: &'static str,
        /// Most levels.
        limit: usize,
    },
    /// JSON, but no envelope.
    #[error(
        "the value is no Debezium envelope (no `op`), heartbeat, transaction or schema change: remove ExtractNewRecordState or other flattening transforms from the connector"
    )]
    NotAnEnvelope,
    /// A record with a schema on a route without one.
    #[error(
        "the value is {{schema, payload}}, but the route declares `json`: declare `json-with-schema`, or set value.converter.schemas.enable=false"
    )]
    UnexpectedSchema,
    /// No schema where the route declares one.
    #[error(
        "the {part} has no `schema` and `payload`: set {part}.converter.schemas.enable=true, or declare the route's format as `json` with columns"
    )]
    NoSchema {
        /// "key" or "value".
        part: &'static str,
    },
    /// The schema is not what Kafka Connect writes.
    #[error("the schema of the {part} is not understood: {message}")]
    BadSchema {
        /// "key" or "value".
        part: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A column's type has no place in the contract.
    #[error(
        "column {column} has the type {type_name}, which is not supported: leave it out with column.exclude.list, or change the connector's handling modes"
    )]
    UnsupportedType {
        /// Its name.
        column: String,
        /// The schema's name of the type.
        type_name: String,
    },
    /// An unknown `op`.
    #[error("`op` is none of c, u, d, r, t, m: the record is not Debezium's, or of a newer version than this engine knows")]
    UnknownOp,
    /// The table has no key.
    #[error("no primary key: the record's key is null; give table {table} a primary key, or set message.key.columns on the connector")]
    NoPrimaryKey {
        /// The route's table.
        table: String,
    },
    /// The key is no object of columns.
    #[error("the key is not understood: {message}")]
    BadKey {
        /// What is wrong, and the remedy.
        message: String,
    },
    /// A key column that the row lacks.
    #[error(
        "key column {column} is not a column of the row: message.key.columns must name columns of the table, and no transform may rename them"
    )]
    KeyNotInRow {
        /// Its name.
        column: String,
    },
    /// A column that is not declared.
    #[error("column {column} of the {image} image is not declared: add it to the route's columns")]
    UnknownColumn {
        /// "before" or "after".
        image: &'static str,
        /// Its name.
        column: String,
    },
    /// The row image lacks a column.
    #[error(
        "the {image} image has no value for column {column}: set binlog_row_image=FULL and binlog_row_value_options='' in MySQL, then take a new snapshot; if the column was dropped, remove it from the route's columns"
    )]
    IncompleteRow {
        /// "before" or "after".
        image: &'static str,
        /// Its name.
        column: String,
    },
    /// The row image has Debezium's mark in place of a value.
    #[error(
        "column {column} of the {image} image has Debezium's mark of a value that the binlog lacks: set binlog_row_image=FULL and binlog_row_value_options='' in MySQL; if they are set, the text is the row's own, and the row's next change brings it"
    )]
    UnavailableValue {
        /// "before" or "after".
        image: &'static str,
        /// Its name.
        column: String,
    },
    /// The image which the `op` needs is missing.
    #[error("`{image}` is missing for op {op}: the record is not Debezium's, or a transform cut it")]
    MissingImage {
        /// "before" or "after".
        image: &'static str,
        /// As in the envelope.
        op: char,
    },
    /// A member occurs twice.
    #[error("{place} occurs twice")]
    Duplicate {
        /// Where.
        place: String,
    },
    /// A value is not what its column's type says.
    #[error(
        "column {column} of the {image} image is not {expected}: the route's declared type or handling mode differs from the connector's"
    )]
    Value {
        /// "key", "before" or "after".
        image: &'static str,
        /// Its name.
        column: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A member of the envelope is not what Debezium writes.
    #[error("{place} is not {expected}")]
    Member {
        /// Path.
        place: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The row is of another table.
    #[error("the row is of table {found}, the route is for {declared}: give each table a topic of its own")]
    OtherTable {
        /// `database.table` of the event.
        found: String,
        /// `database.table` of the route.
        declared: String,
    },
}

impl Error {
    /// A short constant name: a metric's label, and the code of a dead letter.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Utf8 { .. } => "invalid-utf8",
            Self::Json { .. } => "bad-json",
            Self::TooDeep { .. } => "too-deep",
            Self::NotAnEnvelope => "not-an-envelope",
            Self::UnexpectedSchema => "unexpected-schema",
            Self::NoSchema { .. } => "no-schema",
            Self::BadSchema { .. } => "bad-schema",
            Self::UnsupportedType { .. } => "unsupported-type",
            Self::UnknownOp => "unknown-op",
            Self::NoPrimaryKey { .. } => "no-primary-key",
            Self::BadKey { .. } => "bad-key",
            Self::KeyNotInRow { .. } => "key-not-in-row",
            Self::UnknownColumn { .. } => "unknown-column",
            Self::IncompleteRow { .. } => "incomplete-row",
            Self::UnavailableValue { .. } => "unavailable-value",
            Self::MissingImage { .. } => "missing-image",
            Self::Duplicate { .. } => "duplicate-member",
            Self::Value { .. } => "bad-value",
            Self::Member { .. } => "bad-member",
            Self::OtherTable { .. } => "other-table",
        }
    }
}
