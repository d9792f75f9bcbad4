//! Keys: one form for all encodings that MongoDB takes for the same `_id`.

use super::bson_bytes::{Value, kind};

/// A key's one form. MongoDB holds 42 to be the same `_id` as int, long and double, and returns it as whoever wrote it first had
/// it: so replies are matched, and tombstones named, by this form and not by the bytes that were sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CanonicalKey(Vec<u8>);

impl CanonicalKey {
    pub(super) fn of(value: Value<'_>) -> Self {
        let mut bytes = Vec::with_capacity(value.bytes.len() + 1);
        write_canonical(&mut bytes, value);
        Self(bytes)
    }

    /// `_id` of the tombstone: the collection's name, NUL (no name holds one), and the key.
    pub(super) fn tombstone_id(&self, collection: &str) -> Vec<u8> {
        [collection.as_bytes(), &[0], &self.0].concat()
    }
}

fn write_canonical(out: &mut Vec<u8>, value: Value<'_>) {
    if let Some(number) = value.as_i64() {
        out.push(kind::INT64);
        out.extend_from_slice(&number.to_le_bytes());
        return;
    }
    out.push(value.kind);
    if value.kind != kind::DOCUMENT && value.kind != kind::ARRAY {
        out.extend_from_slice(value.bytes);
        return;
    }
    for (name, element) in value.elements() {
        // Lengths are left out, because they change with the numbers' width; the end is marked instead, so that nothing is lost.
        out.push(1);
        out.extend_from_slice(name);
        out.push(0);
        write_canonical(out, element);
    }
    out.push(0);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is what these say")]
mod tests {
    use std::collections::HashMap;

    use mongodb::bson::{Bson, RawDocumentBuf, doc, rawdoc};
    use proptest::prelude::*;

    use super::super::bson_bytes::Elements;
    use super::*;

    fn key(value: Bson) -> CanonicalKey {
        let document = RawDocumentBuf::try_from(&doc! { "_id": value }).unwrap();
        CanonicalKey::of(Elements::of(document.as_bytes()).find("_id").expect("it was written"))
    }

    #[test]
    fn numbers_of_any_width_are_one_key() {
        assert_eq!(key(Bson::Int32(42)), key(Bson::Int64(42)));
        assert_eq!(key(Bson::Int32(-1)), key(Bson::Double(-1.0)));
        assert_ne!(key(Bson::Int32(1)), key(Bson::String("1".into())));
        assert_ne!(key(Bson::Double(1.5)), key(Bson::Int32(1)));
        assert_ne!(key(Bson::Double(9.3e18)), key(Bson::Int64(i64::MAX)));
        assert_eq!(key(doc! { "a": 1, "b": "x" }.into()), key(doc! { "a": 1_i64, "b": "x" }.into()));
        assert_ne!(key(doc! { "a": 1, "b": 2 }.into()), key(doc! { "b": 2, "a": 1 }.into()));
        assert_ne!(key(doc! { "a": { "b": 1 } }.into()), key(doc! { "a": {}, "b": 1 }.into()));
    }

    #[test]
    fn tombstones_of_two_collections_differ() {
        let text = |text: &str| key(Bson::String(text.into()));
        assert_ne!(text("1").tombstone_id("orders"), text("1").tombstone_id("orders2"));
        let raw = rawdoc! { "_id": "x" };
        let id = CanonicalKey::of(Elements::of(raw.as_bytes()).find("_id").unwrap()).tombstone_id("c");
        assert_eq!(id, b"c\0\x02\x02\0\0\0x\0");
    }

    proptest! {
        /// Different composite keys never share a tombstone, and equal ones always do.
        #[test]
        fn injective(keys in proptest::collection::vec(proptest::collection::vec(("[ab]{0,2}", prop_oneof![
            any::<i8>().prop_map(|n| Bson::Int64(n.into())), "[\\x00ab\\x01]{0,3}".prop_map(Bson::String), Just(Bson::Null),
        ]), 0..4), 2..20)) {
            let mut seen = HashMap::new();
            for parts in keys {
                let document: mongodb::bson::Document = parts.into_iter().collect();
                let id = key(document.clone().into()).tombstone_id("orders");
                if let Some(other) = seen.insert(id, document.clone()) {
                    prop_assert_eq!(other, document);
                }
            }
        }
    }
}
