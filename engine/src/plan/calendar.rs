//! Days and microseconds as ISO 8601 text.

use super::Unstorable;
use crate::calendar::civil_from_days;

const MICROS_A_SECOND: i64 = 1_000_000;
const MICROS_A_DAY: i64 = 86_400 * MICROS_A_SECOND;

/// Days since 1970-01-01 as `2024-02-29`. Years 0 to 9999: ISO 8601 has no others without an agreement.
pub(super) fn date(out: &mut Vec<u8>, days: i64) -> Result<(), Unstorable> {
    let (year, month, day) = civil_from_days(days).ok_or(Unstorable::DateRange)?;
    if !(0..=9999).contains(&year) {
        return Err(Unstorable::DateRange);
    }
    digits(out, year as u64, 4);
    out.push(b'-');
    digits(out, month as u64, 2);
    out.push(b'-');
    digits(out, day as u64, 2);
    Ok(())
}

/// Microseconds since 1970-01-01 00:00 as `2024-02-29T12:34:56.789012`, without a zone.
pub(super) fn datetime(out: &mut Vec<u8>, micros: i64) -> Result<(), Unstorable> {
    date(out, micros.div_euclid(MICROS_A_DAY))?;
    out.push(b'T');
    clock(out, micros.rem_euclid(MICROS_A_DAY) as u64);
    Ok(())
}

/// Signed microseconds as `-01:02:03.004`; the hours may pass 24.
pub(super) fn time(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    clock(out, micros.unsigned_abs());
}

fn clock(out: &mut Vec<u8>, micros: u64) {
    let seconds = micros / MICROS_A_SECOND as u64;
    let fraction = micros % MICROS_A_SECOND as u64;
    digits(out, seconds / 3600, 2);
    out.push(b':');
    digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    digits(out, seconds % 60, 2);
    // Groups of three, and only as many as say something.
    if fraction == 0 {
        return;
    }
    out.push(b'.');
    if fraction.is_multiple_of(1000) { digits(out, fraction / 1000, 3) } else { digits(out, fraction, 6) }
}

fn digits(out: &mut Vec<u8>, number: u64, width: usize) {
    let digit = |power: u64| b'0' + (number / power % 10) as u8;
    match width {
        2 if number < 100 => out.extend_from_slice(&[digit(10), digit(1)]),
        3 if number < 1000 => out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        4 if number < 10_000 => out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]),
        _ => {
            let mut buffer = itoa::Buffer::new();
            let text = buffer.format(number).as_bytes();
            out.resize(out.len() + width.saturating_sub(text.len()), b'0');
            out.extend_from_slice(text);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates() {
        let cases = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (19_783, "2024-03-01"),
            (-719_528, "0000-01-01"),
            (2_932_896, "9999-12-31"),
            (-25_567, "1900-01-01"),
            (11_016, "2000-02-29"),
        ];
        for (days, expected) in cases {
            assert_eq!(text(|out| date(out, days).unwrap()), expected);
        }
        for days in [-719_529, 2_932_897, i64::MIN, i64::MAX] {
            assert_eq!(date(&mut Vec::new(), days), Err(Unstorable::DateRange), "{days}");
        }
    }

    #[test]
    fn datetimes_and_times() {
        let cases = [
            (0, "1970-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59.999999"),
            (1_709_210_096_789_012, "2024-02-29T12:34:56.789012"),
            (1_709_210_096_789_000, "2024-02-29T12:34:56.789"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999"),
        ];
        for (micros, expected) in cases {
            assert_eq!(text(|out| datetime(out, micros).unwrap()), expected);
        }
        let cases = [
            (0, "00:00:00"),
            (-3_723_004_000, "-01:02:03.004"),
            (3_020_399_000_000, "838:59:59"),
            (-3_020_399_999_999, "-838:59:59.999999"),
            (1, "00:00:00.000001"),
        ];
        for (micros, expected) in cases {
            assert_eq!(text(|out| time(out, micros)), expected);
        }
        assert!(text(|out| time(out, i64::MIN)).starts_with('-'));
    }
}
