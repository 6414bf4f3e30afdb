//! `time_bucket(width, time[, origin])`: the start of the interval of that width that a time is in, as TimescaleDB has it.
//! The width is an interval or its text (`'300.000s'`, which Grafana writes); without an origin intervals of days and less
//! begin at Monday, 2000-01-03, those of months at 2000-01-01.

use arrow::array::{Array, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Monday, 2000-01-03, in microseconds since 1970.
const MONDAY_US: i64 = 946_857_600_000_000;
const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn interval() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

/// Times are microseconds, and of the zone that they were of.
fn time(kind: &DataType) -> Result<DataType> {
    match kind {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Date64 | DataType::Null => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        other => plan_err!("time_bucket wants a time, not {other}"),
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [_, moment] => Ok(vec![interval(), time(moment)?]),
            [_, moment, _] => Ok(vec![interval(), time(moment)?, time(moment)?]),
            _ => plan_err!("time_bucket wants a width, a time and perhaps an origin"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.get(1).map_or_else(|| plan_err!("time_bucket wants a time"), time)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let kind = time(args.return_field.data_type())?;
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let widths = cast(&arrays[0], &interval())?;
        let widths = widths.as_primitive::<IntervalMonthDayNanoType>();
        let times = cast(&arrays[1], &kind)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let origins = arrays.get(2).map(|origins| cast(origins, &kind)).transpose()?;
        let origins = origins.as_ref().map(|origins| origins.as_primitive::<TimestampMicrosecondType>());
        let start = |row: usize| {
            let origin = match origins {
                Some(origins) if origins.is_null(row) => return Ok(None),
                Some(origins) => Some(origins.value(row)),
                None => None,
            };
            if widths.is_null(row) || times.is_null(row) {
                return Ok(None);
            }
            bucket(widths.value(row), times.value(row), origin).map(Some)
        };
        let starts = (0..times.len()).map(start).collect::<Result<TimestampMicrosecondArray>>()?;
        Ok(ColumnarValue::Array(cast(&starts, &kind)?))
    }
}

/// The start of the interval that a time is in.
fn bucket(width: IntervalMonthDayNano, us: i64, origin: Option<i64>) -> Result<i64> {
    if width.months != 0 {
        if width.days != 0 || width.nanoseconds != 0 || width.months < 0 {
            return exec_err!("time_bucket takes months or days and hours, not both, and no less than none");
        }
        return months(width.months.into(), us, origin);
    }
    let whole = i64::from(width.days).checked_mul(DAY_US);
    let width = whole.and_then(|whole| whole.checked_add(width.nanoseconds / 1_000));
    let Some(width) = width.filter(|width| *width > 0) else {
        return exec_err!("time_bucket wants a width of more than nothing");
    };
    let origin = origin.unwrap_or(MONDAY_US).rem_euclid(width);
    let start = us.checked_sub(origin).and_then(|since| since.div_euclid(width).checked_mul(width));
    match start.and_then(|start| start.checked_add(origin)) {
        Some(start) => Ok(start),
        None => exec_err!("time_bucket of a time that is out of range"),
    }
}

fn months(width: i64, us: i64, origin: Option<i64>) -> Result<i64> {
    let date = |us: i64| Timestamp::from_microsecond(us).map(|time| time.to_zoned(TimeZone::UTC).date());
    let number = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
    let start = || {
        let origin = origin.map_or_else(|| Date::new(2000, 1, 1), date)?;
        let first = number(origin);
        let start = (number(date(us)?) - first).div_euclid(width) * width;
        // An origin of the 15th makes months from the 15th on; times before that are of the one before.
        let at = |months: i64| origin.checked_add(months.months())?.to_zoned(TimeZone::UTC);
        let begun = at(start)?.timestamp().as_microsecond();
        if begun <= us { Ok(begun) } else { Ok(at(start - width)?.timestamp().as_microsecond()) }
    };
    start().or_else(|error: jiff::Error| exec_err!("time_bucket: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn start(months: i32, days: i32, seconds: i64, time: &str, origin: Option<&str>) -> String {
        let width = IntervalMonthDayNano { months, days, nanoseconds: seconds * 1_000_000_000 };
        let start = bucket(width, us(time), origin.map(us)).unwrap();
        Timestamp::from_microsecond(start).unwrap().to_string()
    }

    #[test]
    fn a_time_is_in_one_interval() {
        assert_eq!(start(0, 0, 300, "2026-11-30T01:23:45Z", None), "2026-11-30T01:20:00Z");
        assert_eq!(start(0, 7, 0, "2026-11-29T01:23:45Z", None), "2026-11-23T00:00:00Z", "a Monday");
        assert_eq!(start(0, 0, 300, "1969-12-31T23:59:59Z", None), "1969-12-31T23:55:00Z");
        assert_eq!(
            start(0, 0, 300, "2026-11-30T01:23:45Z", Some("2026-01-01T00:02:00Z")),
            "2026-11-30T01:22:00Z"
        );
        assert_eq!(start(3, 0, 0, "2026-11-30T01:23:45Z", None), "2026-10-01T00:00:00Z");
        assert_eq!(
            start(1, 0, 0, "2026-11-10T00:00:00Z", Some("2020-01-15T00:00:00Z")),
            "2026-10-15T00:00:00Z"
        );
    }

    #[test]
    fn widths_that_are_none_are_refused() {
        for (months, days, nanoseconds) in [(0, 0, 0), (0, -1, 0), (1, 1, 0), (-1, 0, 0), (0, 0, 999)] {
            assert!(bucket(IntervalMonthDayNano { months, days, nanoseconds }, 0, None).is_err());
        }
        let day = IntervalMonthDayNano { months: 0, days: 1, nanoseconds: 0 };
        assert!(bucket(day, i64::MIN, None).is_err());
        assert!(bucket(IntervalMonthDayNano { months: 1, days: 0, nanoseconds: 0 }, i64::MAX, None).is_err());
    }
}
