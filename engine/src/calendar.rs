//! Days and dates of the proleptic Gregorian calendar, in both directions: decoding reads dates as text, planning writes them.
//!
//! Howard Hinnant's algorithms: years begin in March, so that the leap day is the last of a year, and are counted in eras of 400.

/// Days of an era.
const ERA_DAYS: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Days since 1970-01-01. A day that its month does not have (MySQL knows 2024-02-31) counts on into the next.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// Year, month and day; `None` at the far end of the 64 bits.
pub(crate) fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    let days = days.checked_add(EPOCH_DAYS)?;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    Some((year_of_era + era * 400 + i64::from(month <= 2), month, day))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_days() {
        for (date, days) in
            [((1970, 1, 1), 0), ((1969, 12, 31), -1), ((2024, 2, 29), 19_782), ((0, 1, 1), -719_528), ((9999, 12, 31), 2_932_896)]
        {
            assert_eq!(days_from_civil(date.0, date.1, date.2), days);
            assert_eq!(civil_from_days(days), Some(date));
        }
        assert_eq!(days_from_civil(2024, 2, 31), days_from_civil(2024, 3, 2));
        assert_eq!(civil_from_days(i64::MAX), None);
    }

    proptest! {
        #[test]
        fn there_and_back(days in -1_000_000_000_i64..1_000_000_000) {
            let back = civil_from_days(days).map(|(year, month, day)| days_from_civil(year, month, day));
            prop_assert_eq!(back, Some(days));
        }
    }
}
