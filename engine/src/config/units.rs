//! Durations and sizes as they are written: a whole number and its unit.

use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: &[(&str, u64)] =
    &[("B", 1), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `500ms`, `5s`, `5m`, `12h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    quantity(text, DURATION_UNITS).map(Duration::from_millis)
}

/// `900KB`, `64MiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    quantity(text, SIZE_UNITS)
}

/// The shortest form that [`duration`] reads back.
pub(super) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS, "ms")
}

/// The shortest form that [`size`] reads back.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, SIZE_UNITS, "B")
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(number: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let fits = |(_, factor): &&(&str, u64)| number != 0 && number.is_multiple_of(*factor);
    let (unit, factor) = units.iter().filter(fits).max_by_key(|(_, factor)| *factor).copied().unwrap_or((smallest, 1));
    format!("{}{unit}", number / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("5 s", 5_000), ("1m", 60_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5 sec", "-5s", "1.5s", "5S", "99999999999999999999d", "18446744073709551615d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("900KB", 900_000), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("0B", 0)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64M", "64mib", "MiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [0, 1, 1_000, 900_000, 1 << 20, 64 << 20, 1_048_577] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(86_400)), "1d");
        assert_eq!(show_size(64 << 20), "64MiB");
    }
}
