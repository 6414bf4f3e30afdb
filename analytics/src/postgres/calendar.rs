//! Days and times of day as PostgreSQL writes them, in UTC.

use std::fmt::Write;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_US: i64 = EPOCH_DAYS as i64 * DAY_US;
pub(super) const DAY_US: i64 = 86_400_000_000;

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `2026-11-30`; true for years before Christ, which carry a mark at the end of all.
fn date(out: &mut String, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let before = year <= 0;
    let year = if before { 1 - year } else { year };
    // Writing to a text cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    before
}

/// `01:20:23.5`; microseconds without zeros at the end.
fn time_of_day(out: &mut String, us: i64) {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    self::fraction(out, fraction);
}

fn fraction(out: &mut String, us: i64) {
    if us != 0 {
        let digits = format!("{us:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// A day since 1970-01-01.
pub(super) fn write_date(out: &mut String, days: i32) {
    if date(out, days.into()) {
        out.push_str(" BC");
    }
}

/// Microseconds since midnight.
pub(super) fn write_time(out: &mut String, us: i64) {
    time_of_day(out, us.clamp(0, DAY_US));
}

/// Microseconds since 1970-01-01.
pub(super) fn write_timestamp(out: &mut String, us: i64, with_zone: bool) {
    let before = date(out, us.div_euclid(DAY_US));
    out.push(' ');
    time_of_day(out, us.rem_euclid(DAY_US));
    if with_zone {
        out.push_str("+00");
    }
    if before {
        out.push_str(" BC");
    }
}

/// Months, days and microseconds, in the style `postgres`.
pub(super) fn write_interval(out: &mut String, months: i32, days: i32, us: i64) {
    let start = out.len();
    let mut signed_before = false;
    let mut part = |out: &mut String, count: i64, one: &str, many: &str| {
        if count == 0 {
            return;
        }
        let blank = if out.len() > start { " " } else { "" };
        let plus = if signed_before && count > 0 { "+" } else { "" };
        let unit = if count == 1 { one } else { many };
        let _ = write!(out, "{blank}{plus}{count} {unit}");
        signed_before = count < 0;
    };
    part(out, i64::from(months / 12), "year", "years");
    part(out, i64::from(months % 12), "mon", "mons");
    part(out, days.into(), "day", "days");
    if us == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(' ');
    }
    if us < 0 {
        out.push('-');
    } else if signed_before {
        out.push('+');
    }
    let us = us.unsigned_abs();
    let (seconds, rest) = (us / 1_000_000, us % 1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    fraction(out, i64::try_from(rest).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn times_are_written_as_postgresql_does() {
        let timestamp = |us: i64| text(|out| write_timestamp(out, us, true));
        assert_eq!(timestamp(0), "1970-01-01 00:00:00+00");
        assert_eq!(timestamp(1_796_001_623_120_000), "2026-11-30 01:20:23.12+00");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999999+00");
        assert_eq!(text(|out| write_timestamp(out, 951_782_400_000_000, false)), "2000-02-29 00:00:00");
        assert_eq!(text(|out| write_date(out, EPOCH_DAYS)), "2000-01-01");
        assert_eq!(text(|out| write_date(out, -719_163)), "0001-12-31 BC");
        assert_eq!(text(|out| write_time(out, 3_600_000_001)), "01:00:00.000001");
    }

    #[test]
    fn intervals_are_written_as_postgresql_does() {
        let interval = |months, days, us| text(|out| write_interval(out, months, days, us));
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(14, 3, 4_005_006_700), "1 year 2 mons 3 days 01:06:45.0067");
        assert_eq!(interval(0, 1, 0), "1 day");
        assert_eq!(interval(-1, 2, -1_000_000), "-1 mons +2 days -00:00:01");
        assert_eq!(interval(0, -2, 1_000_000), "-2 days +00:00:01");
    }
}
