//! The version of a document as each store keeps it, read by the documents that say how: docs/decisions/0003-redis-format.md and
//! 0006-stored-version.md. A form that is not the documented one is an error: whoever reads it by that document could not.

use anyhow::{Context as _, Result, bail, ensure};
use bson::{Bson, Document};

/// What a companion key in Redis says of its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Generation and offset of the last write.
    pub fence: i64,
    /// Of the topic that it came from.
    pub partition: u32,
    /// Whether the last write put a document: it may have deleted one, and a mark stands without any.
    pub is_put: bool,
}

/// The key that lies beside a document's.
#[must_use]
pub fn companion_key(document: &str) -> String {
    format!("_sync:{{{document}}}")
}

/// Reads what a companion key holds: `fence state content module partition [mark]`.
///
/// # Errors
/// It is no version.
pub fn in_redis(text: &[u8]) -> Result<Companion> {
    let text = std::str::from_utf8(text).context("a version is no text")?;
    let fields: Vec<&str> = text.split(' ').collect();
    let [fence, state, content, module, partition, mark @ ..] = fields.as_slice() else { bail!("{text:?} is no version") };
    let partition = partition.parse().with_context(|| format!("{text:?} is no version"))?;
    let fits = is_fence(fence)
        && ["p", "d", "n"].contains(state)
        && is_digest(content)
        && is_digest(module)
        && mark.len() <= 1
        && mark.iter().all(|mark| is_fence(mark));
    ensure!(fits, "{text:?} is no version");
    Ok(Companion { fence: fence.parse()?, partition, is_put: *state == "p" })
}

/// Reads the fence of a document in MongoDB: `_sync: { v: Int64, p: Int32, m: String, h: Int64 }`.
///
/// # Errors
/// The document has no version, or one of another form.
pub fn in_mongodb(document: &Document) -> Result<i64> {
    let sync = document.get_document("_sync").context("it has no _sync")?;
    match ["v", "p", "m", "h"].map(|field| sync.get(field)) {
        [Some(Bson::Int64(fence)), Some(Bson::Int32(partition)), Some(Bson::String(module)), Some(Bson::Int64(_))]
            if sync.len() == 4 && *fence > 0 && *partition >= 0 && is_digest(module) =>
        {
            Ok(*fence)
        }
        _ => bail!("its _sync is {sync}"),
    }
}

/// Of the record that a fence is of.
#[must_use]
pub fn offset(fence: i64) -> i64 {
    fence & ((1 << 48) - 1)
}

/// 1:42 for generation 1, offset 42.
#[must_use]
pub fn told(fence: i64) -> String {
    format!("{}:{}", fence >> 48, offset(fence))
}

fn is_fence(text: &str) -> bool {
    text.len() == 19 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_digest(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document, doc};

    use super::{Companion, companion_key, in_mongodb, in_redis, told};

    const FENCE: i64 = 281_474_976_710_661;

    #[test]
    fn companions() -> anyhow::Result<()> {
        let put = in_redis(b"0000281474976710661 p 0000000000000abc 00c0ffee00c0ffee 12")?;
        assert_eq!(put, Companion { fence: FENCE, partition: 12, is_put: true });
        let marked = in_redis(b"0000281474976710661 d 0000000000000000 00c0ffee00c0ffee 12 0000281474976710669")?;
        assert_eq!(marked, Companion { fence: FENCE, partition: 12, is_put: false });
        for text in [
            "",
            "281474976710661 p 0000000000000abc 00c0ffee00c0ffee 12",
            "0000281474976710661",
            "0000281474976710661 x 0000000000000abc 00c0ffee00c0ffee 12",
            "0000281474976710661 p abc 00c0ffee00c0ffee 12",
            "0000281474976710661 p 0000000000000abc 00C0FFEE00C0FFEE 12",
            "0000281474976710661 p 0000000000000abc 00c0ffee00c0ffee ",
            "0000281474976710661 p 0000000000000abc 00c0ffee00c0ffee 12 13",
        ] {
            assert!(in_redis(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!((companion_key("orders:42").as_str(), told(FENCE).as_str()), ("_sync:{orders:42}", "1:5"));
        Ok(())
    }

    #[test]
    fn documents() -> anyhow::Result<()> {
        let sync = doc! { "v": FENCE, "p": 3, "m": "00c0ffee00c0ffee", "h": -1_i64 };
        assert_eq!(in_mongodb(&doc! { "_id": 1_i64, "_sync": sync.clone() })?, FENCE);
        let with = |field: &str, value: Bson| {
            let mut other = sync.clone();
            other.insert(field, value);
            doc! { "_sync": other }
        };
        let without: Document =
            sync.iter().filter(|(field, _)| *field != "v").map(|(field, value)| (field.clone(), value.clone())).collect();
        for other in [
            doc! { "_id": 1_i64 },
            doc! { "_sync": FENCE },
            doc! { "_sync": without },
            with("v", Bson::Double(1.0)),
            with("v", Bson::Int64(0)),
            with("p", Bson::Int64(3)),
            with("m", Bson::from("00c0ffee")),
            with("more", Bson::Null),
        ] {
            assert!(in_mongodb(&other).is_err(), "{other}");
        }
        Ok(())
    }
}
