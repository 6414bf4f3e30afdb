//! The Delta log, on the page.

use super::text::{Kind, Page};
use crate::delta::Counts;

/// Writes the families.
pub(super) fn write(page: &mut Page, counts: &Counts) {
    let counters = [
        ("tollhouse_delta_commits", "Commits to the Delta log by this collector.", counts.commits),
        (
            "tollhouse_delta_failures",
            "Commits and checkpoints of the Delta log that failed; what is due is tried again.",
            counts.failures,
        ),
    ];
    for (name, help, value) in counters {
        page.family(name, Kind::Counter, None, help);
        page.integer("", value);
    }
    const VERSION: &str = "The last commit of the Delta log that this collector knows.";
    page.family("tollhouse_delta_version", Kind::Gauge, None, VERSION);
    page.integer("", counts.version);
    const SUCCESS: &str = "When the Delta log was last equal to the table; 0 for never.";
    page.family("tollhouse_delta_last_success_timestamp_seconds", Kind::Gauge, Some("seconds"), SUCCESS);
    page.float("", counts.last_success_us as f64 / 1e6);
}
