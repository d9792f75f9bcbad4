//! The text in a companion key: everything that is known of the last write of its document.
//!
//! `fence state content module partition [mark]`, separated by one space: docs/decisions/0003-redis-format.md.

use crate::fence::Fence;
use crate::plan::{FencedWrite, SinkWrites};
use crate::sink::Held;

/// Of a module's digest, as it is stored.
const MODULE_DIGITS: usize = 16;

/// Writes the companion key of a document's key, which lies in the same cluster slot.
pub(super) fn write_key(buffer: &mut Vec<u8>, document_key: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(b"_sync:{");
    buffer.extend_from_slice(document_key);
    buffer.push(b'}');
}

/// Writes the version of a write. Once for each of them: a formatter would take as long as all the rest of its command.
pub(super) fn write(buffer: &mut Vec<u8>, writes: &SinkWrites, write: &FencedWrite) {
    buffer.clear();
    buffer.extend_from_slice(&write.fence.digits());
    buffer.extend_from_slice(if write.document.is_some() { b" p " } else { b" d " });
    buffer.extend(write.content.to_be_bytes().iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0xf)]));
    buffer.push(b' ');
    buffer.extend(std::iter::repeat_n(b'0', MODULE_DIGITS.saturating_sub(writes.module.len())));
    buffer.extend_from_slice(writes.module.as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(itoa::Buffer::new().format(writes.partition).as_bytes());
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

/// A version as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Of the last write.
    pub fence: Fence,
    /// Whether the last write was a delete.
    pub deleted: bool,
    /// Partition of the last write.
    pub partition: i32,
}

impl StoredVersion {
    /// `None` where the text is no version.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split(' ');
        let fence = Fence::from_stored(parts.next()?.parse().ok()?)?;
        let deleted = match parts.next()? {
            "p" => false,
            "d" => true,
            _ => return None,
        };
        let partition = parts.nth(2)?.parse().ok()?;
        Some(Self { fence, deleted, partition })
    }
}

/// What a key holds, by the text of its companion key: also of one that has a mark and no version. `None` where the text is neither.
pub(super) fn held(text: &[u8]) -> Option<Held> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split(' ');
    let fence = parts.next()?.parse().ok()?;
    let (fence, deleted) = match parts.next()? {
        "p" => (Some(Fence::from_stored(fence)?), false),
        "d" => (Some(Fence::from_stored(fence)?), true),
        "n" => (None, false),
        _ => return None,
    };
    let mark = match parts.nth(3) {
        Some(mark) => Some(Fence::from_stored(mark.parse().ok()?)?),
        None => None,
    };
    Some(Held { fence, deleted, mark })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::fence::Generation;
    use crate::plan::Bytes;

    #[test]
    fn the_format_is_the_documented_one() {
        let fence = Fence::new(Generation::FIRST, 5).expect("a fence");
        let document = Some(Bytes { start: 0, len: 0 });
        let put = FencedWrite { target: 0, record: 0, fence, key: Bytes { start: 0, len: 0 }, document, ttl_seconds: 0, content: 0xabc };
        let writes = SinkWrites { partition: 12, module: "00c0ffee00c0ffee".into(), ..SinkWrites::default() };
        let mut text = Vec::new();
        write(&mut text, &writes, &put);
        assert_eq!(String::from_utf8_lossy(&text), "0000281474976710661 p 0000000000000abc 00c0ffee00c0ffee 12");
        assert_eq!(StoredVersion::parse(&text), Some(StoredVersion { fence, deleted: false, partition: 12 }));
        text.extend_from_slice(b" 0000281474976710669");
        assert_eq!(StoredVersion::parse(&text), Some(StoredVersion { fence, deleted: false, partition: 12 }));
        let mark = Fence::new(Generation::FIRST, 13);
        assert_eq!(held(&text), Some(Held { fence: Some(fence), deleted: false, mark }));
        let unwritten = b"0000000000000000000 n 0000000000000000 0000000000000000 12 0000281474976710669";
        assert_eq!(held(unwritten), Some(Held { fence: None, deleted: false, mark }));
        assert_eq!(held(b"0000000000000000000 p 0000000000000000 0000000000000000 12"), None);
        write(&mut text, &writes, &FencedWrite { document: None, content: 0, ..put });
        assert_eq!(String::from_utf8_lossy(&text), "0000281474976710661 d 0000000000000000 00c0ffee00c0ffee 12");
        assert_eq!(StoredVersion::parse(b"hello"), None);
        write_key(&mut text, b"orders:42");
        assert_eq!(text, b"_sync:{orders:42}");
    }
}
