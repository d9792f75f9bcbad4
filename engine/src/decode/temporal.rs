//! ISO 8601 texts as Debezium writes them, to days and microseconds.

use crate::calendar::days_from_civil;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A number of exactly `width` digits at the start, and what follows.
fn digits(text: &[u8], width: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(width)?;
    let mut number = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(byte - b'0');
    }
    Some((number, rest))
}

fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    text.split_first().filter(|(first, _)| **first == byte).map(|(_, rest)| rest)
}

/// `YYYY-MM-DD`, and what follows.
fn date_part(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(after(rest, b'-')?, 2)?;
    let (day, rest) = digits(after(rest, b'-')?, 2)?;
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then(|| (days_from_civil(year, month, day), rest))
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.ffffff` in microseconds, and what follows. Hours may have three digits.
fn time_part(text: &[u8]) -> Option<(i64, &[u8])> {
    let width = if text.get(2).is_some_and(u8::is_ascii_digit) { 3 } else { 2 };
    let (hours, rest) = digits(text, width)?;
    let (minutes, rest) = digits(after(rest, b':')?, 2)?;
    let (seconds, rest) = match after(rest, b':') {
        Some(rest) => digits(rest, 2)?,
        None => (0, rest),
    };
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let (fraction, rest) = fraction_part(rest)?;
    Some((((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + fraction, rest))
}

/// `.f` to `.fffffffff` in microseconds, or nothing. Digits beyond microseconds must be zeros.
fn fraction_part(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = after(text, b'.') else { return Some((0, text)) };
    let width = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&width) {
        return None;
    }
    let (number, rest) = digits(text, width)?;
    let nanos = number * 10_i64.pow(9 - width as u32);
    (nanos % 1000 == 0).then_some((nanos / 1000, rest))
}

/// `Z` or `+HH:MM`, in microseconds east of Greenwich; nothing may follow.
fn zone(text: &[u8]) -> Option<i64> {
    let sign = match text {
        b"Z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let (hours, rest) = digits(text.get(1..)?, 2)?;
    let (minutes, rest) = digits(after(rest, b':')?, 2)?;
    (rest.is_empty() && hours <= 18 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60 * MICROS_PER_SECOND)
}

/// DATE: `2024-02-29`, with or without `Z`. Days since 1970-01-01.
pub(super) fn date(text: &str) -> Option<i64> {
    let (days, rest) = date_part(text.as_bytes())?;
    matches!(rest, b"" | b"Z").then_some(days)
}

/// TIME: `-838:59:59.999999`, with or without `Z`. Microseconds.
pub(super) fn time(text: &str) -> Option<i64> {
    let text = text.as_bytes();
    let (sign, text) = match after(text, b'-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (micros, rest) = time_part(text)?;
    matches!(rest, b"" | b"Z").then_some(sign * micros)
}

/// Date and time of day, and what follows.
fn date_time_part(text: &str) -> Option<(i64, &[u8])> {
    let (days, rest) = date_part(text.as_bytes())?;
    let (micros, rest) = time_part(after(rest, b'T').or_else(|| after(rest, b' '))?)?;
    (micros < MICROS_PER_DAY).then_some((days * MICROS_PER_DAY + micros, rest))
}

/// DATETIME: `2024-02-29T12:34:56.789012`, with or without `Z`. Microseconds since 1970-01-01 00:00, no zone.
pub(super) fn datetime(text: &str) -> Option<i64> {
    let (micros, rest) = date_time_part(text)?;
    matches!(rest, b"" | b"Z").then_some(micros)
}

/// TIMESTAMP: `2024-02-29T12:34:56.789012Z` or with an offset. Microseconds since the Unix epoch, UTC.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let (micros, rest) = date_time_part(text)?;
    Some(micros - zone(rest)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates() {
        for (text, expected) in [
            ("1970-01-01Z", Some(0)),
            ("1969-12-31", Some(-1)),
            ("9999-12-31Z", Some(2_932_896)),
            ("1000-01-01Z", Some(-354_285)),
            ("2024-02-29Z", Some(19_782)),
            ("2024-13-01", None),
            ("2024-00-10", None),
            ("2024-1-1", None),
            ("2024-02-29Zx", None),
            ("", None),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("838:59:59.999999", Some(3_020_399_999_999)),
            ("-838:59:59.999999Z", Some(-3_020_399_999_999)),
            ("00:00:00Z", Some(0)),
            ("12:34:56.123456Z", Some(45_296_123_456)),
            ("-00:00:00.000001", Some(-1)),
            ("12:34", Some(45_240_000_000)),
            ("12:60:00", None),
            ("12:34:56.", None),
            ("12:34:56.1234567", None),
            ("12:34:56.1234560", Some(45_296_123_456)),
            ("12", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }

    #[test]
    fn moments() {
        for (text, expected) in [
            ("2038-01-19T03:14:07.999999Z", Some(2_147_483_647_999_999)),
            ("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1969-12-31T22:30:00-01:30", Some(0)),
            ("2024-02-29T24:00:00Z", None),
            ("2024-02-29T12:34:56", None),
            ("2024-02-29T12:34:56Z ", None),
        ] {
            assert_eq!(timestamp(text), expected, "{text}");
        }
        assert_eq!(datetime("1000-01-01T00:00:00.000001Z"), Some(-30_610_223_999_999_999));
        assert_eq!(datetime("2024-02-29 12:34:56"), Some(1_709_210_096_000_000));
        assert_eq!(datetime("2024-02-29T12:34:56+01:00"), None);
    }

    proptest! {
        #[test]
        fn moments_round_trip(micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            let (days, rest) = (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY));
            let (year, month, day) = crate::calendar::civil_from_days(days).unwrap();
            let seconds = rest / MICROS_PER_SECOND;
            let (h, m, s, f) = (seconds / 3600, seconds / 60 % 60, seconds % 60, rest % MICROS_PER_SECOND);
            let text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{f:06}Z");
            prop_assert_eq!(timestamp(&text).unwrap(), micros);
            prop_assert_eq!(datetime(&text).unwrap(), micros);
        }

        #[test]
        fn never_panics(text: String) {
            date(&text);
            time(&text);
            datetime(&text);
            timestamp(&text);
        }
    }
}
