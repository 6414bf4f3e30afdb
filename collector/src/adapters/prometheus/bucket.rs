//! Uploads to a bucket, on the page: what is there, what waits, and what went wrong.

use super::text::{Kind, Page};
use crate::upload::Counts;

/// Writes the families.
pub(super) fn write(page: &mut Page, counts: &Counts) {
    let counters = [
        ("tollhouse_bucket_uploaded_files", "Sealed files that were uploaded to the bucket.", counts.files),
        ("tollhouse_bucket_deleted_objects", "Objects that were deleted in the bucket.", counts.deleted),
        ("tollhouse_bucket_commits", "Changes of the bucket's manifest by this collector.", counts.commits),
        (
            "tollhouse_bucket_conflicts",
            "Times that another collector was quicker to change the manifest; it was tried again.",
            counts.conflicts,
        ),
        (
            "tollhouse_bucket_failures",
            "Rounds of uploads that failed; what is due is tried again.",
            counts.failures,
        ),
    ];
    for (name, help, value) in counters {
        page.family(name, Kind::Counter, None, help);
        page.integer("", value);
    }
    const BYTES: &str = "Bytes of the files that were uploaded.";
    page.family("tollhouse_bucket_uploaded_bytes", Kind::Counter, Some("bytes"), BYTES);
    page.integer("", counts.bytes);
    const WAITS: &str = "Bytes of sealed files that wait to be uploaded.";
    page.family("tollhouse_bucket_backlog_bytes", Kind::Gauge, Some("bytes"), WAITS);
    page.integer("", counts.backlog_bytes);
    let gauges = [
        ("tollhouse_bucket_backlog_files", "Sealed files that wait to be uploaded.", counts.backlog_files),
        (
            "tollhouse_bucket_backlog_full",
            "Whether so much waits that events are left in the spool.",
            counts.is_full.into(),
        ),
        (
            "tollhouse_bucket_fenced",
            "Whether another collector works in the bucket on a copy of this data folder: nothing is uploaded then.",
            counts.is_fenced.into(),
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, Kind::Gauge, None, help);
        page.integer("", value);
    }
    const SUCCESS: &str = "When all that was due was last in the bucket; 0 for never.";
    page.family("tollhouse_bucket_last_success_timestamp_seconds", Kind::Gauge, Some("seconds"), SUCCESS);
    page.float("", counts.last_success_us as f64 / 1e6);
}
