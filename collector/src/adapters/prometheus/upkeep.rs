//! Merges of Parquet files, and damage in them, on the page.

use super::text::{Kind, Page};
use crate::upkeep::Counts;

/// Writes the families.
pub(super) fn write(page: &mut Page, counts: &Counts) {
    let counters = [
        ("tollhouse_compaction_merges", "Merges of Parquet files that were put in force.", counts.merges),
        (
            "tollhouse_compaction_failures",
            "Merges that came to nothing; the files stay as they are.",
            counts.failures,
        ),
        ("tollhouse_compaction_read_files", "Files that were merged.", counts.files_before),
        ("tollhouse_compaction_written_files", "Files that took their places.", counts.files_after),
        ("tollhouse_compaction_rows", "Rows of merged files.", counts.rows),
    ];
    for (name, help, value) in counters {
        page.family(name, Kind::Counter, None, help);
        page.integer("", value);
    }
    let bytes = [
        ("tollhouse_compaction_read_bytes", "Bytes of files that were merged.", counts.bytes_before),
        (
            "tollhouse_compaction_written_bytes",
            "Bytes of the files that took their places.",
            counts.bytes_after,
        ),
    ];
    for (name, help, value) in bytes {
        page.family(name, Kind::Counter, Some("bytes"), help);
        page.integer("", value);
    }
    const TIME: &str = "How long merges took, one after another.";
    page.family("tollhouse_compaction_seconds", Kind::Counter, Some("seconds"), TIME);
    page.float("", counts.us as f64 / 1e6);
    let gauges = [
        (
            "tollhouse_storage_damaged_files",
            "Files that were found damaged, until one takes note of it: see `tollhouse storage check`.",
            counts.damaged_files,
        ),
        (
            "tollhouse_storage_set_aside_rows",
            "Rows that are missing in the table since damaged files were set aside.",
            counts.rows_set_aside,
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, Kind::Gauge, None, help);
        page.integer("", value);
    }
}
