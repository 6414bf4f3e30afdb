//! Roll-ups: what is kept of requests by the minute and by the hour, as a table that outlives their rows.
//!
//! A row of a roll-up is a group: a minute or an hour, the names of who and what, and a class of status; with how many
//! requests there were, their bytes, and sketches of their durations and clients ([`crate::sketch`],
//! [`crate::distinct`]). Groups of one key add up, so it does not matter which file or process counted which request.

use crate::vocabulary::Outcome;
use serde::{Deserialize, Serialize};

/// Microseconds of a minute.
pub const MINUTE_US: i64 = 60_000_000;
/// Microseconds of an hour.
pub const HOUR_US: i64 = 60 * MINUTE_US;
/// Microseconds of a day.
pub const DAY_US: i64 = 24 * HOUR_US;

/// The name in place of those that are too many: in roll-ups as in metrics.
pub const OVERFLOW: &str = "__overflow__";

/// Names by which groups differ, in the order of the columns. Each may be absent.
pub const NAMES: [&str; 5] = ["workspace", "service", "route", "consumer", "source_service"];

/// Classes of status; the first is for a request that got none.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The classes as roll-ups write them: those above, and one for all of them together.
pub const CLASS_WORDS: [&str; 7] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "any"];
/// Index into [`CLASS_WORDS`] of that last one.
pub const ANY_CLASS: u8 = 6;

/// Index into [`STATUS_CLASSES`].
#[must_use]
#[inline]
pub fn status_class(status: u16) -> u8 {
    match status / 100 {
        class @ 1..=5 => class as u8,
        _ => 0,
    }
}

/// Whether a request counts as an error: a status of 500 or above, or an outcome in which the gateway could not get an
/// answer from the service, whatever the client saw.
#[must_use]
pub fn is_error(status: Option<u16>, outcome: Outcome) -> bool {
    status.is_some_and(|status| status >= 500) || outcome.is_failure()
}

/// How much time a group is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resolution {
    /// A minute; a file holds those of one hour.
    #[serde(rename = "1m")]
    Minute,
    /// An hour; a file holds those of one day.
    #[serde(rename = "1h")]
    Hour,
}

impl Resolution {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// How folders and tables call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }

    /// Microseconds of a group.
    #[must_use]
    pub fn bucket_us(self) -> i64 {
        match self {
            Self::Minute => MINUTE_US,
            Self::Hour => HOUR_US,
        }
    }

    /// Microseconds that a file is of.
    #[must_use]
    pub fn file_us(self) -> i64 {
        match self {
            Self::Minute => HOUR_US,
            Self::Hour => DAY_US,
        }
    }
}

/// By what groups differ, beside their time. With few names there are few groups, so that a question which names no others
/// is answered from few. Only those by all names differ by the class of status too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// By all of them.
    #[default]
    All,
    /// By workspace, service, route and source service.
    Services,
    /// By workspace and consumer.
    Consumers,
    /// By workspace alone.
    Workspaces,
}

impl Grouping {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::All, Self::Services, Self::Consumers, Self::Workspaces];

    /// Whether groups differ by each of [`NAMES`]. A name by which they do not is absent.
    #[must_use]
    pub const fn keeps(self) -> [bool; NAMES.len()] {
        match self {
            Self::All => [true; NAMES.len()],
            Self::Services => [true, true, true, false, true],
            Self::Consumers => [true, false, false, true, false],
            Self::Workspaces => [true, false, false, false, false],
        }
    }

    /// Whether they differ by the class of status; if not, it is [`ANY_CLASS`].
    #[must_use]
    pub fn keeps_class(self) -> bool {
        self == Self::All
    }

    /// What folders are called behind the resolution.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Services => "-services",
            Self::Consumers => "-consumers",
            Self::Workspaces => "-workspaces",
        }
    }

    /// What needs no word in a manifest.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::All
    }
}

#[cfg(feature = "arrow")]
pub use table::{SCHEMA_VERSION, schema};

#[cfg(feature = "arrow")]
mod table {
    use super::NAMES;
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
    use std::sync::{Arc, LazyLock};

    /// Version of the schema, written into each file. A newer version only adds columns.
    pub const SCHEMA_VERSION: u32 = 1;

    /// The Arrow schema of a roll-up, the same for each resolution. Rows of a file are in the order of their keys, which
    /// are the columns up to `status_class`.
    pub fn schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            let mut fields = vec![Field::new(
                "time",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            )];
            fields.extend(NAMES.map(|name| Field::new(name, DataType::Utf8View, true)));
            fields.push(Field::new("status_class", DataType::Utf8View, false));
            let counts = ["requests", "errors", "request_bytes", "response_bytes"];
            fields.extend(counts.map(|name| Field::new(name, DataType::UInt64, false)));
            let sketches = ["duration_sketch", "gateway_sketch", "clients_sketch"];
            fields.extend(sketches.map(|name| Field::new(name, DataType::Binary, false)));
            Arc::new(Schema::new(fields))
        });
        Arc::clone(&SCHEMA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_errors_follow_status_and_outcome() {
        assert_eq!(STATUS_CLASSES[usize::from(status_class(204))], "2xx");
        assert_eq!(STATUS_CLASSES, CLASS_WORDS[..usize::from(ANY_CLASS)]);
        assert_eq!(STATUS_CLASSES[usize::from(status_class(0))], "none");
        assert_eq!(STATUS_CLASSES[usize::from(status_class(u16::MAX))], "none");
        assert!(is_error(Some(500), Outcome::Ok) && is_error(None, Outcome::ConnectFailed));
        assert!(!is_error(Some(404), Outcome::NoRoute) && !is_error(None, Outcome::ClientClosed));
    }
}
