//! The slot of a key in a Redis cluster (cluster specification, "Key distribution model").

/// Number of slots of a cluster.
pub(super) const SLOTS: usize = 16384;

/// CRC16 (XMODEM) of the key, or of what stands between its first `{` and the next `}` where that is not empty.
pub(super) fn of_key(key: &[u8]) -> usize {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let behind = key.get(open + 1..)?;
        let close = behind.iter().position(|&byte| byte == b'}')?;
        behind.get(..close).filter(|tag| !tag.is_empty())
    });
    usize::from(crc16(tag.unwrap_or(key))) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_as_the_specification_has_them() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(of_key(b"foo"), 12182);
        assert_eq!(of_key(b"{foo}.bar"), 12182);
        assert_eq!(of_key(b"_sync:{foo}"), 12182);
        assert_eq!(of_key(b"a{foo}{bar}"), 12182);
        assert_eq!(of_key(b"foo{}{bar}"), usize::from(crc16(b"foo{}{bar}")) % SLOTS);
        assert_eq!(of_key(b"{foo"), usize::from(crc16(b"{foo")) % SLOTS);
    }
}
