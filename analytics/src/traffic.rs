//! The tables `traffic_1m` and `traffic_1h`: what roll-ups keep of requests by the minute and by the hour.
//!
//! Sealed roll-ups are added up by their keys, and with them the rows of hot files, which are in no roll-up yet: both are
//! of the snapshot of the query, so that the live minute is there and the sums are those of `requests`. Where retention or
//! an older version has left rows without roll-ups or roll-ups without rows, each table has what it has.

use event::rollup::{Grouping, NAMES, Resolution, STATUS_CLASSES};

/// What the SQL of a table of traffic calls the groups of sealed rows.
pub(crate) const SEALED: &str = "sealed";
/// What it calls the rows of hot files.
pub(crate) const HOT: &str = "hot";

/// The name of a table.
pub(crate) fn name(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Minute => "traffic_1m",
        Resolution::Hour => "traffic_1h",
    }
}

/// What `system.files` calls its files.
pub(crate) fn kind(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Minute => "rollup_1m",
        Resolution::Hour => "rollup_1h",
    }
}

/// Whose file a path under the data folder, or in a bucket, is: that of groups by all names, which a table is made of, or
/// by fewer, which rows stand in for.
pub(crate) fn of_path(path: &str) -> Option<(Resolution, Grouping)> {
    let (_, below) = path.split_once("rollups/")?;
    let folder = below.split('/').next()?;
    let kinds = Resolution::ALL.into_iter().flat_map(|one| Grouping::ALL.map(|other| (one, other)));
    kinds.into_iter().find(|(one, other)| folder == format!("{}{}", one.as_str(), other.suffix()))
}

/// The definition of a table.
pub(crate) fn sql(resolution: Resolution) -> String {
    let names = NAMES.join(", ");
    let keys = "1, 2, 3, 4, 5, 6, 7";
    let interval = match resolution {
        Resolution::Minute => "1 minute",
        Resolution::Hour => "1 hour",
    };
    let classes: String =
        (1..).zip(&STATUS_CLASSES[1..]).map(|(class, word)| format!("WHEN {class} THEN '{word}' ")).collect();
    let live = format!(
        "SELECT arrow_cast(date_bin(INTERVAL '{interval}', time), 'Timestamp(Microsecond, Some(\"UTC\"))') AS time, \
         {names}, \
         CASE r.status / 100 {classes}ELSE '{}' END AS status_class, \
         CAST(count(*) AS BIGINT UNSIGNED) AS requests, \
         CAST(count(*) FILTER (WHERE {}) AS BIGINT UNSIGNED) AS errors, \
         sum(r.request_bytes) AS request_bytes, sum(r.response_bytes) AS response_bytes, \
         latency_sketch(r.duration_us) AS duration_sketch, latency_sketch(r.gateway_us) AS gateway_sketch, \
         distinct_sketch(r.client_ip) AS clients_sketch FROM {HOT} r GROUP BY {keys}",
        STATUS_CLASSES[0],
        crate::views::failed(),
    );
    format!(
        "SELECT time, {names}, status_class, sum(requests) AS requests, sum(errors) AS errors, \
         sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes, \
         latency_merge(duration_sketch) AS duration_sketch, latency_merge(gateway_sketch) AS gateway_sketch, \
         distinct_merge(clients_sketch) AS clients_sketch \
         FROM (SELECT * FROM {SEALED} UNION ALL {live}) GROUP BY {keys}"
    )
}
