//! The disk of the data folder, and the spool's share of it, on the page.

use event::layout::DataFolder;

use super::text::{Kind, Page};
use crate::disk;

/// Writes the families; what the system does not say is left out.
pub(super) fn write(page: &mut Page, folder: &DataFolder, spool_bytes_max: Option<u64>) {
    let room = disk::room(folder.root());
    let gauges = [
        (
            "tollhouse_spool_bytes",
            "Segments of the spool, those that wait for events included.",
            disk::spool_bytes(folder),
        ),
        ("tollhouse_spool_limit_bytes", "Most bytes of the spool: spool.bytes_max.", spool_bytes_max),
        (
            "tollhouse_storage_free_bytes",
            "Free for Tollhouse on the disk of the data folder.",
            room.map(|room| room.free_bytes),
        ),
        ("tollhouse_storage_size_bytes", "Size of that disk.", room.map(|room| room.size_bytes)),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            page.family(name, Kind::Gauge, Some("bytes"), help);
            page.integer("", value);
        }
    }
}
