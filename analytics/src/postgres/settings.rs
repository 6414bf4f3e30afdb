//! Settings of a session, as `SET` and `SHOW` know them: a closed list, none of which changes what may be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sqlstate::Report;

/// The PostgreSQL whose behaviour drivers may count on.
pub(crate) const SERVER_VERSION: &str = concat!("16.6 (Tollhouse ", env!("CARGO_PKG_VERSION"), ")");
pub(crate) const SERVER_VERSION_NUM: &str = "160006";
/// Longest value of a setting, in characters.
const VALUE_CHARS_MAX: usize = 1_024;

/// What may become of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is what it is; another value is refused.
    Fixed,
    /// It is what it is; another value is taken without a word at the start, and with a warning later.
    Kept,
    /// Drivers set it, and nothing here depends on it.
    Free,
    /// The longest time of a statement.
    Timeout,
}

/// Name, value at the start, kind.
const SETTINGS: &[(&str, &str, Kind)] = &[
    ("application_name", "", Kind::Free),
    ("bytea_output", "hex", Kind::Fixed),
    ("check_function_bodies", "on", Kind::Free),
    ("client_encoding", "UTF8", Kind::Kept),
    ("client_min_messages", "notice", Kind::Free),
    ("datestyle", "ISO, MDY", Kind::Kept),
    ("default_transaction_deferrable", "off", Kind::Free),
    ("default_transaction_isolation", "repeatable read", Kind::Free),
    ("default_transaction_read_only", "on", Kind::Kept),
    ("escape_string_warning", "on", Kind::Free),
    ("extra_float_digits", "1", Kind::Free),
    ("geqo", "on", Kind::Free),
    ("idle_in_transaction_session_timeout", "0", Kind::Free),
    ("idle_session_timeout", "0", Kind::Free),
    ("in_hot_standby", "off", Kind::Fixed),
    ("integer_datetimes", "on", Kind::Fixed),
    ("intervalstyle", "postgres", Kind::Kept),
    ("is_superuser", "off", Kind::Fixed),
    ("jit", "off", Kind::Free),
    ("lc_collate", "C", Kind::Fixed),
    ("lc_ctype", "C", Kind::Fixed),
    ("lc_messages", "C", Kind::Free),
    ("lc_monetary", "C", Kind::Free),
    ("lc_numeric", "C", Kind::Free),
    ("lc_time", "C", Kind::Free),
    ("lock_timeout", "0", Kind::Free),
    ("max_identifier_length", "63", Kind::Fixed),
    ("max_index_keys", "32", Kind::Fixed),
    ("quote_all_identifiers", "off", Kind::Free),
    ("row_security", "on", Kind::Free),
    ("search_path", "\"$user\", public", Kind::Free),
    ("server_encoding", "UTF8", Kind::Fixed),
    ("server_version", SERVER_VERSION, Kind::Fixed),
    ("server_version_num", SERVER_VERSION_NUM, Kind::Fixed),
    ("standard_conforming_strings", "on", Kind::Kept),
    ("statement_timeout", "0", Kind::Timeout),
    ("synchronize_seqscans", "on", Kind::Free),
    ("timezone", "UTC", Kind::Kept),
    ("transaction_deferrable", "off", Kind::Free),
    ("transaction_isolation", "repeatable read", Kind::Free),
    ("transaction_read_only", "on", Kind::Kept),
    ("work_mem", "4MB", Kind::Free),
    ("xmloption", "content", Kind::Free),
];

/// What a client is told without asking, as PostgreSQL writes the names.
const REPORTED: [&str; 13] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "search_path",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "TimeZone",
];

/// Values that differ from those at the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    changed: BTreeMap<&'static str, String>,
    statement_timeout: Option<Duration>,
}

/// What became of a `SET`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done. If clients are told of that setting, its name as they know it.
    Set(Option<&'static str>),
    /// It stays as it is, which is to be said.
    Stays(Report),
}

fn find(name: &str) -> Option<&'static (&'static str, &'static str, Kind)> {
    let name = name.to_ascii_lowercase();
    let name = if name == "time zone" { "timezone" } else { &name };
    SETTINGS.iter().find(|(known, ..)| *known == name)
}

fn unknown(name: &str) -> Report {
    Report::error("42704", format!("unrecognized configuration parameter \"{name}\""))
}

impl Settings {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// All, each with its value, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS.iter().map(|(name, start, _)| (*name, self.changed.get(name).map_or(*start, String::as_str)))
    }

    /// The value of one.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (name, start, _) = find(name)?;
        Some(self.changed.get(name).map_or(*start, String::as_str))
    }

    /// The same, as `SHOW` says it.
    pub(super) fn show(&self, name: &str) -> Result<&str, Report> {
        self.get(name).ok_or_else(|| unknown(name))
    }

    /// The longest time of a statement, if the client has said one.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }

    /// What a client is told at the start.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        REPORTED.into_iter().map(|name| (name, self.get(name).unwrap_or_default()))
    }

    /// A parameter of the start-up message. What is not known there is no error: `database`, `user`, those to come.
    pub(super) fn start_with(&mut self, name: &str, value: &str) -> Result<(), Report> {
        if name == "options" {
            return self.options(value);
        }
        if matches!(name, "user" | "database" | "replication") || find(name).is_none() {
            return Ok(());
        }
        self.set(name, value).map(|_| ())
    }

    /// `-c name=value`, more than once.
    fn options(&mut self, text: &str) -> Result<(), Report> {
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            let pair = match (word.strip_prefix("-c"), word.strip_prefix("--")) {
                (Some(""), _) => words.next().unwrap_or_default(),
                (Some(pair), _) | (None, Some(pair)) => pair,
                (None, None) => return Err(Report::error("22023", format!("unknown option \"{word}\""))),
            };
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.set(&name.replace('-', "_"), value)?;
        }
        Ok(())
    }

    /// Gives a setting another value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Report> {
        let Some((name, start, kind)) = find(name) else {
            // Those of the engine are the operator's.
            return Err(if name.contains('.') {
                Report::error("42501", format!("permission denied to set parameter \"{name}\""))
            } else {
                unknown(name)
            });
        };
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(Report::error("22023", format!("the value of \"{name}\" is too long")));
        }
        let same = same(name, value, start);
        match kind {
            Kind::Fixed if !same => {
                return Err(Report::error("55P02", format!("parameter \"{name}\" cannot be changed")));
            }
            Kind::Kept if !same => {
                let text = format!("parameter \"{name}\" stays {start}");
                return Ok(Outcome::Stays(Report::warning("01000", text)));
            }
            Kind::Fixed | Kind::Kept => return Ok(Outcome::Set(None)),
            Kind::Timeout => self.statement_timeout = milliseconds(name, value)?,
            Kind::Free => {}
        }
        self.changed.insert(name, value.to_owned());
        Ok(Outcome::Set(REPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name))))
    }

    /// Puts a setting back.
    pub(super) fn reset(&mut self, name: &str) -> Result<Outcome, Report> {
        let (name, ..) = find(name).ok_or_else(|| unknown(name))?;
        self.changed.remove(name);
        if *name == "statement_timeout" {
            self.statement_timeout = None;
        }
        Ok(Outcome::Set(REPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name))))
    }

    /// Puts all back.
    pub(super) fn reset_all(&mut self) {
        *self = Self::default();
    }
}

/// Whether a value is another spelling of what a setting is anyway.
fn same(name: &str, value: &str, start: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    match name {
        "client_encoding" => ["utf8", "utf-8", "unicode", "default", "auto"].contains(&value.as_str()),
        "timezone" => {
            ["utc", "gmt", "etc/utc", "universal", "zulu", "0", "default", "+00", "+00:00", "utc+0"]
                .contains(&value.as_str())
        }
        "datestyle" => value.starts_with("iso") || value == "default",
        _ if value == "default" => true,
        _ => {
            let on = |value: &str| match value {
                "on" | "true" | "yes" | "1" => Some(true),
                "off" | "false" | "no" | "0" => Some(false),
                _ => None,
            };
            let start = start.to_ascii_lowercase();
            value == start || (on(&value).is_some() && on(&value) == on(&start))
        }
    }
}

/// A time as PostgreSQL writes it: milliseconds, or a number with its unit. 0 is none.
fn milliseconds(name: &str, value: &str) -> Result<Option<Duration>, Report> {
    let wrong = || Report::error("22023", format!("invalid value for parameter \"{name}\": \"{value}\""));
    let text = value.trim();
    if text.eq_ignore_ascii_case("default") {
        return Ok(None);
    }
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim() {
        "" | "ms" => 1,
        "us" => return Ok(Some(Duration::from_micros(number)).filter(|time| !time.is_zero())),
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let most = u64::try_from(i32::MAX).unwrap_or_default();
    match number.checked_mul(unit) {
        Some(0) => Ok(None),
        Some(time) if time <= most => Ok(Some(Duration::from_millis(time))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_may_set_what_they_do_and_nobody_what_matters() {
        let mut settings = Settings::new();
        assert_eq!(settings.set("application_name", "psql"), Ok(Outcome::Set(Some("application_name"))));
        assert_eq!(settings.set("Extra_Float_Digits", "3"), Ok(Outcome::Set(None)));
        assert_eq!(settings.show("extra_float_digits"), Ok("3"));
        assert_eq!(settings.set("TIME ZONE", "utc"), Ok(Outcome::Set(None)));
        let stays = settings.set("TimeZone", "Europe/Berlin").unwrap();
        assert!(matches!(stays, Outcome::Stays(report) if report.severity == "WARNING"));
        assert_eq!(settings.show("timezone"), Ok("UTC"));
        let code = |settings: &mut Settings, name: &str, value: &str| {
            settings.set(name, value).map_err(|report| report.code).err()
        };
        assert_eq!(code(&mut settings, "server_version", "9"), Some("55P02"));
        assert_eq!(code(&mut settings, "datafusion.execution.batch_size", "1"), Some("42501"));
        assert_eq!(code(&mut settings, "data_directory", "/"), Some("42704"));
        assert_eq!(code(&mut settings, "application_name", &"x".repeat(2_000)), Some("22023"));
        assert_eq!(settings.start_with("datestyle", "SQL"), Ok(()));
        assert_eq!(settings.start_with("options", "-c statement_timeout=5s --geqo=off"), Ok(()));
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(5)));
        settings.reset("statement_timeout").unwrap();
        assert_eq!(settings.statement_timeout(), None);
    }

    #[test]
    fn times_have_units() {
        let time = |text: &str| milliseconds("x", text);
        assert_eq!(time("250"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(time("2 min"), Ok(Some(Duration::from_secs(120))));
        assert_eq!(time("0"), Ok(None));
        for wrong in ["", "-1", "1 year", "99999999999999999999", "9999999d"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_in_order_and_all_that_is_told_is_known() {
        assert!(SETTINGS.is_sorted_by_key(|(name, ..)| *name));
        assert!(REPORTED.into_iter().all(|name| find(name).is_some()));
    }
}
