//! Debezium's envelope, and what it is when it is none: heartbeat, transaction, schema change.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::row::{RowSeed, Shape};
use super::{Error, FaultSlot};
use crate::change::{Cells, PassedOver, Snapshot};

/// What an envelope says, its rows aside.
#[derive(Debug, Default)]
pub(super) struct Envelope<'de> {
    /// One bit for each of the members that are there.
    members: u32,
    pub(super) op: Option<char>,
    /// First cells of the images.
    pub(super) before: Option<u32>,
    pub(super) after: Option<u32>,
    /// Whether a value of the after image may be Debezium's mark of an unavailable one, or the row's own.
    pub(super) is_after_ambiguous: bool,
    pub(super) source: Source<'de>,
}

/// What is needed of `source`.
#[derive(Debug, Default)]
pub(super) struct Source<'de> {
    pub(super) database: Cow<'de, str>,
    pub(super) table: Cow<'de, str>,
    pub(super) snapshot: Snapshot,
    pub(super) changed_at_us: Option<i64>,
}

/// The members of all records that Debezium writes; the bits are their positions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Before,
    After,
    Source,
    Op,
    Transaction,
    TsMs,
    TsUs,
    TsNs,
    Message,
    Status,
    Id,
    EventCount,
    DataCollections,
    DatabaseName,
    SchemaName,
    Ddl,
    TableChanges,
    Schema,
    Payload,
    Other,
}

const fn set(members: &[Member]) -> u32 {
    let mut bits = 0;
    let mut rest = members;
    while let [first, tail @ ..] = rest {
        bits |= 1 << *first as u32;
        rest = tail;
    }
    bits
}

/// Member sets of the records that are no row changes.
const HEARTBEATS: [u32; 2] = [set(&[Member::TsMs]), set(&[Member::TsMs, Member::TsUs, Member::TsNs])];
const TRANSACTION: u32 = set(&[Member::Status, Member::Id, Member::EventCount, Member::DataCollections, Member::TsMs]);
const SCHEMA_CHANGE: u32 =
    set(&[Member::Source, Member::TsMs, Member::DatabaseName, Member::SchemaName, Member::Ddl, Member::TableChanges]);
const WITH_SCHEMA: u32 = set(&[Member::Schema, Member::Payload]);

impl Envelope<'_> {
    /// What a record without an `op` is, by its members.
    pub(super) fn passed_over(&self) -> Result<PassedOver, Error> {
        match self.members {
            TRANSACTION => Ok(PassedOver::Transaction),
            SCHEMA_CHANGE => Ok(PassedOver::SchemaChange),
            WITH_SCHEMA => Err(Error::UnexpectedSchema),
            members if HEARTBEATS.contains(&members) => Ok(PassedOver::Heartbeat),
            _ => Err(Error::NotAnEnvelope),
        }
    }
}

/// Reads an envelope whose rows have a known shape.
pub(super) struct EnvelopeSeed<'a> {
    /// `None`: the rows are not read.
    pub(super) shape: Option<&'a Shape>,
    pub(super) order: &'a mut Vec<u32>,
    pub(super) cells: &'a mut Cells,
    /// Set where the error is not the JSON's.
    pub(super) fault: &'a FaultSlot,
}

impl EnvelopeSeed<'_> {
    fn fail<E: serde::de::Error>(&self, fault: Error) -> E {
        self.fault.set(Some(fault));
        E::custom("fault")
    }

    fn image<'de, A: MapAccess<'de>>(&mut self, map: &mut A, image: &'static str, ambiguous: &mut bool) -> Result<Option<u32>, A::Error> {
        let Some(shape) = self.shape else {
            map.next_value::<IgnoredAny>()?;
            return Ok(None);
        };
        let (order, cells, fault) = (&mut *self.order, &mut *self.cells, self.fault);
        map.next_value_seed(RowSeed { shape, image, order, cells, ambiguous, fault, whole: true })
    }
}

impl<'de> DeserializeSeed<'de> for EnvelopeSeed<'_> {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed<'_> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(member) = map.next_key_seed(MemberSeed)? {
            let bit = 1 << member as u32;
            if envelope.members & bit != 0 && member != Member::Other {
                return Err(self.fail(Error::Duplicate { place: "a member of the envelope".into() }));
            }
            envelope.members |= bit;
            match member {
                Member::Before => envelope.before = self.image(&mut map, "before", &mut false)?,
                Member::After => envelope.after = self.image(&mut map, "after", &mut envelope.is_after_ambiguous)?,
                Member::Source => map.next_value_seed(SourceSeed(&mut envelope.source))?,
                Member::Op => match map.next_value_seed(ScalarSeed)? {
                    Scalar::Text(op) => {
                        let mut letters = op.chars();
                        envelope.op = letters.next().filter(|_| letters.next().is_none());
                        if envelope.op.is_none() {
                            return Err(self.fail(Error::UnknownOp));
                        }
                    }
                    Scalar::Null | Scalar::Boolean(_) | Scalar::Integer(_) | Scalar::Other => return Err(self.fail(Error::UnknownOp)),
                },
                Member::Transaction
                | Member::TsMs
                | Member::TsUs
                | Member::TsNs
                | Member::Message
                | Member::Status
                | Member::Id
                | Member::EventCount
                | Member::DataCollections
                | Member::DatabaseName
                | Member::SchemaName
                | Member::Ddl
                | Member::TableChanges
                | Member::Schema
                | Member::Payload
                | Member::Other => {
                    map.next_value_seed(ScalarSeed)?;
                }
            }
        }
        Ok(envelope)
    }
}

struct MemberSeed;

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberSeed {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        Ok(match name {
            "before" => Member::Before,
            "after" => Member::After,
            "source" => Member::Source,
            "op" => Member::Op,
            "transaction" => Member::Transaction,
            "ts_ms" => Member::TsMs,
            "ts_us" => Member::TsUs,
            "ts_ns" => Member::TsNs,
            "message" => Member::Message,
            "status" => Member::Status,
            "id" => Member::Id,
            "event_count" => Member::EventCount,
            "data_collections" => Member::DataCollections,
            "databaseName" => Member::DatabaseName,
            "schemaName" => Member::SchemaName,
            "ddl" => Member::Ddl,
            "tableChanges" => Member::TableChanges,
            "schema" => Member::Schema,
            "payload" => Member::Payload,
            _ => Member::Other,
        })
    }
}

/// Fills the source that an envelope has.
struct SourceSeed<'a, 'de>(&'a mut Source<'de>);

impl<'de> DeserializeSeed<'de> for SourceSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SourceSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source of an event")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // The finest of the three is taken; a row's time has microseconds.
        let mut finest = 0;
        let mut time = |fineness: u8, value: Scalar<'_>, micros: fn(i64) -> Option<i64>| {
            if let Scalar::Integer(n) = value
                && fineness > finest
            {
                finest = fineness;
                return micros(n);
            }
            None
        };
        while let Some(member) = map.next_key_seed(SourceMemberSeed)? {
            let at = match member {
                SourceMember::Database => {
                    self.0.database = map.next_value_seed(ScalarSeed)?.text();
                    continue;
                }
                SourceMember::Table => {
                    self.0.table = map.next_value_seed(ScalarSeed)?.text();
                    continue;
                }
                SourceMember::Snapshot => {
                    self.0.snapshot = match map.next_value_seed(ScalarSeed)? {
                        Scalar::Boolean(true) => Snapshot::GoesOn,
                        Scalar::Text(text) => match &*text {
                            "false" => Snapshot::No,
                            "incremental" => Snapshot::Incremental,
                            "first" | "first_in_data_collection" => Snapshot::Begins,
                            _ => Snapshot::GoesOn,
                        },
                        Scalar::Boolean(false) | Scalar::Null | Scalar::Integer(_) | Scalar::Other => Snapshot::No,
                    };
                    continue;
                }
                SourceMember::TsMs => time(1, map.next_value_seed(ScalarSeed)?, |n| n.checked_mul(1000)),
                SourceMember::TsNs => time(2, map.next_value_seed(ScalarSeed)?, |n| Some(n.div_euclid(1000))),
                SourceMember::TsUs => time(3, map.next_value_seed(ScalarSeed)?, Some),
                SourceMember::Other => {
                    map.next_value_seed(ScalarSeed)?;
                    continue;
                }
            };
            self.0.changed_at_us = at.or(self.0.changed_at_us);
        }
        Ok(())
    }
}

enum SourceMember {
    Database,
    Table,
    Snapshot,
    TsMs,
    TsUs,
    TsNs,
    Other,
}

struct SourceMemberSeed;

impl<'de> DeserializeSeed<'de> for SourceMemberSeed {
    type Value = SourceMember;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<SourceMember, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SourceMemberSeed {
    type Value = SourceMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<SourceMember, E> {
        Ok(match name {
            "db" => SourceMember::Database,
            "table" => SourceMember::Table,
            "snapshot" => SourceMember::Snapshot,
            "ts_ms" => SourceMember::TsMs,
            "ts_us" => SourceMember::TsUs,
            "ts_ns" => SourceMember::TsNs,
            _ => SourceMember::Other,
        })
    }
}

/// A value of the envelope that is no row.
enum Scalar<'de> {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(Cow<'de, str>),
    Other,
}

impl<'de> Scalar<'de> {
    fn text(self) -> Cow<'de, str> {
        match self {
            Self::Text(text) => text,
            Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Other => Cow::Borrowed(""),
        }
    }
}

/// Reads any value: also what is not needed, which costs less than the parser's own way of skipping.
#[derive(Clone, Copy)]
struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
        Ok(i64::try_from(value).map_or(Scalar::Other, Scalar::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_key_seed(Self)?.is_some() {
            map.next_value_seed(Self)?;
        }
        Ok(Scalar::Other)
    }
}
