//! What an operator can say about the collector, and the check that turns it into a plan.

use std::net::SocketAddr;

use event::Problem;
use event::bucket::BucketPlan;
use event::rollup::Grouping;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapters::{MetricsConfig, OtlpConfig};
use crate::delta::DeltaConfig;
use crate::hosts::{ForwardConfig, ReceiveConfig};

/// The collector: turns recorded requests into rows, metrics and spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CollectorConfig {
    /// Longest that an event waits before its row can be queried, in milliseconds (1 to 250).
    pub flush_interval_ms: u32,
    /// Most rows of one batch; a full batch is flushed at once.
    pub batch_rows_max: u32,
    /// Most bytes of different texts in one batch; beyond it the batch is flushed at once.
    pub batch_bytes_max: u32,
    /// Longest that stored rows are in memory of the system only, in milliseconds; 0 puts each batch on disk at once. The
    /// spool keeps their events until then; what is on disk within `spool.sync_interval_ms` is never written from there.
    pub sync_interval_ms: u32,
    /// Longest wait between two attempts while the disk refuses writes, in milliseconds.
    pub retry_interval_ms: u32,
    /// How long a stopping collector may take to store and seal what is left, in milliseconds. The rest waits on
    /// disk for the next start.
    pub drain_timeout_ms: u32,
    /// When hot files become Parquet files.
    pub seal: SealConfig,
    /// How Parquet files are written.
    pub parquet: ParquetConfig,
    /// When Parquet files are merged into larger ones.
    pub compaction: CompactionConfig,
    /// What is kept of requests by the minute and by the hour.
    pub rollup: RollupConfig,
    /// When rows are deleted.
    pub retention: RetentionConfig,
    /// A Delta Lake log over the Parquet files.
    pub delta: DeltaConfig,
    /// Prometheus metrics.
    pub metrics: MetricsConfig,
    /// OpenTelemetry spans.
    pub otlp: OtlpConfig,
    /// Rows go to collectors on other hosts instead of to local files.
    pub forward: ForwardConfig,
    /// Rows of other hosts are stored here.
    pub receive: ReceiveConfig,
}

/// When hot files become Parquet files: at whichever bound is met first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SealConfig {
    /// Age of a hot file, in seconds.
    pub interval_s: u32,
    /// Rows in a hot file.
    pub rows_max: u64,
    /// Bytes of a hot file.
    pub bytes_max: u64,
    /// How long a sealed hot file stays for queries that are about to open it, in milliseconds.
    pub grace_ms: u32,
    /// Most rows of one row group of a sealed file; merged ones have `collector.parquet.row_group_rows`. Less takes less
    /// memory and time, more makes fewer and larger pieces.
    pub row_group_rows: u32,
}

/// How Parquet files are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParquetConfig {
    /// Level of zstd, 1 (fast) to 22 (small).
    pub zstd_level: u8,
    /// Most rows of one row group of a merged file.
    pub row_group_rows: u32,
    /// Whether request and trace ids get a bloom filter, so that a look-up by id reads few files. It takes about
    /// 1.3 bytes per row and id.
    pub bloom_ids: bool,
}

/// When Parquet files are merged into larger ones, sorted for queries: on a thread of the lowest priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompactionConfig {
    /// Whether it is done at all.
    pub enabled: bool,
    /// How long after its end an hour is merged, in seconds.
    pub delay_s: u32,
    /// Files of one hour, and merged as often, that are merged before the hour is over.
    pub files_min: u32,
    /// Most files of one merge.
    pub files_max: u32,
    /// Bytes from which on a merged file takes no more rows.
    pub bytes_max: u64,
    /// Most bytes of rows in memory; buffers of the files that are open come on top, some megabytes for each.
    pub memory_bytes_max: u64,
    /// Most bytes per second that are read and written.
    pub io_bytes_per_s_max: u64,
    /// Level of zstd of merged files, 1 (fast) to 22 (small).
    pub zstd_level: u8,
}

/// What is kept of requests by the minute and by the hour, in the tables `traffic_1m` and `traffic_1h`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollupConfig {
    /// Most groups (workspace, service, route, consumer, source service and class of status) of one minute or hour. What
    /// comes beyond is counted in groups whose names are `__overflow__`.
    pub groups_max: u32,
    /// The same of groups by fewer names: those of services, of consumers and of workspaces.
    pub fewer_groups_max: u32,
}

impl RollupConfig {
    /// Most groups of one minute or hour.
    pub(crate) fn most(&self, grouping: Grouping) -> usize {
        match grouping {
            Grouping::All => self.groups_max as usize,
            Grouping::Services | Grouping::Consumers | Grouping::Workspaces => self.fewer_groups_max as usize,
        }
    }
}

/// When rows are deleted. Without a bound they stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Rows older than this are deleted, in hours. A file goes when its last row is that old.
    pub age_h: Option<u32>,
    /// Most bytes of Parquet files; beyond it the oldest files are deleted.
    pub bytes_max: Option<u64>,
    /// Roll-ups by the minute that are older than this are deleted, in hours; not before their rows. A file of an hour
    /// goes when its last minute is that old.
    pub rollup_minute_age_h: Option<u32>,
    /// Roll-ups by the hour that are older than this are deleted, in hours; not before their rows. A file of a day goes
    /// when its last hour is that old.
    pub rollup_hour_age_h: Option<u32>,
    /// Most bytes of roll-ups by the minute; beyond it the oldest files are deleted.
    pub rollup_minute_bytes_max: Option<u64>,
    /// Most bytes of roll-ups by the hour; beyond it the oldest files are deleted.
    pub rollup_hour_bytes_max: Option<u64>,
    /// How long an expired file stays for queries that have begun, in seconds.
    pub grace_s: u32,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            delay_s: 600,
            files_min: 64,
            files_max: 256,
            bytes_max: 1 << 30,
            memory_bytes_max: 128 << 20,
            io_bytes_per_s_max: 64 << 20,
            zstd_level: 6,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            age_h: None,
            bytes_max: None,
            rollup_minute_age_h: None,
            rollup_hour_age_h: None,
            rollup_minute_bytes_max: None,
            rollup_hour_bytes_max: None,
            grace_s: 300,
        }
    }
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            flush_interval_ms: 100,
            batch_rows_max: 8_192,
            batch_bytes_max: 16 << 20,
            sync_interval_ms: 0,
            retry_interval_ms: 1_000,
            drain_timeout_ms: 20_000,
            seal: SealConfig::default(),
            parquet: ParquetConfig::default(),
            compaction: CompactionConfig::default(),
            rollup: RollupConfig::default(),
            retention: RetentionConfig::default(),
            delta: DeltaConfig::default(),
            metrics: MetricsConfig::default(),
            otlp: OtlpConfig::default(),
            forward: ForwardConfig::default(),
            receive: ReceiveConfig::default(),
        }
    }
}

impl Default for SealConfig {
    fn default() -> Self {
        Self {
            interval_s: 60,
            rows_max: 1_000_000,
            bytes_max: 1 << 30,
            grace_ms: 10_000,
            row_group_rows: 131_072,
        }
    }
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self { zstd_level: 3, row_group_rows: 1_000_000, bloom_ids: true }
    }
}

impl Default for RollupConfig {
    fn default() -> Self {
        Self { groups_max: 10_000, fewer_groups_max: 50_000 }
    }
}

/// A configuration that has been found right; `start` takes nothing else.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) config: CollectorConfig,
    pub(crate) bucket: Option<BucketPlan>,
    pub(crate) spool_bytes_max: Option<u64>,
}

impl Plan {
    /// The same with a bucket that sealed files are uploaded to.
    #[must_use]
    pub fn with_bucket(self, bucket: Option<BucketPlan>) -> Self {
        Self { bucket, ..self }
    }

    /// The same with the most bytes of the spool, which metrics tell.
    #[must_use]
    pub fn with_spool(self, bytes_max: u64) -> Self {
        Self { spool_bytes_max: Some(bytes_max), ..self }
    }

    /// Where `/metrics` is to answer.
    pub fn listen(&self) -> SocketAddr {
        self.config.metrics.listen
    }
}

/// Checks the whole configuration.
///
/// # Errors
/// All problems at once, each with its path from the top of the file (`collector.seal.rows_max`).
pub fn validate(config: &CollectorConfig) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut range = |field: &str, value: u64, low: u64, high: u64| {
        if value < low || value > high {
            problems.push(Problem {
                path: format!("collector.{field}"),
                message: format!("must be between {low} and {high}, is {value}"),
                hint: None,
            });
        }
    };
    range("flush_interval_ms", config.flush_interval_ms.into(), 1, 250);
    range("batch_rows_max", config.batch_rows_max.into(), 1, 65_536);
    range("batch_bytes_max", config.batch_bytes_max.into(), 1 << 16, 1 << 28);
    range("sync_interval_ms", config.sync_interval_ms.into(), 0, 60_000);
    range("retry_interval_ms", config.retry_interval_ms.into(), 10, 4_000);
    range("drain_timeout_ms", config.drain_timeout_ms.into(), 100, 3_600_000);
    range("seal.interval_s", config.seal.interval_s.into(), 1, 86_400);
    range("seal.rows_max", config.seal.rows_max, 1, 16_000_000);
    range("seal.bytes_max", config.seal.bytes_max, 1 << 16, 16 << 30);
    range("seal.grace_ms", config.seal.grace_ms.into(), 0, 3_600_000);
    range("seal.row_group_rows", config.seal.row_group_rows.into(), 1_000, 16_000_000);
    range("parquet.zstd_level", config.parquet.zstd_level.into(), 1, 22);
    range("parquet.row_group_rows", config.parquet.row_group_rows.into(), 1_000, 16_000_000);
    range("compaction.delay_s", config.compaction.delay_s.into(), 0, 604_800);
    range("compaction.files_min", config.compaction.files_min.into(), 2, 100_000);
    range("compaction.files_max", config.compaction.files_max.into(), 2, 1_000);
    range("compaction.bytes_max", config.compaction.bytes_max, 1 << 20, 16 << 30);
    range("compaction.memory_bytes_max", config.compaction.memory_bytes_max, 8 << 20, 16 << 30);
    range("compaction.io_bytes_per_s_max", config.compaction.io_bytes_per_s_max, 1 << 20, 1 << 40);
    range("compaction.zstd_level", config.compaction.zstd_level.into(), 1, 22);
    range("rollup.groups_max", config.rollup.groups_max.into(), 1, 1_000_000);
    range("rollup.fewer_groups_max", config.rollup.fewer_groups_max.into(), 1, 1_000_000);
    range("retention.grace_s", config.retention.grace_s.into(), 0, 86_400);
    range("delta.checkpoint_commits", config.delta.checkpoint_commits.into(), 1, 10_000);
    range("delta.log_retention_h", config.delta.log_retention_h.into(), 1, 1_000_000);
    if let Some(age_h) = config.retention.age_h {
        range("retention.age_h", age_h.into(), 1, 1_000_000);
    }
    let retention = &config.retention;
    for (field, bytes_max) in [
        ("bytes_max", retention.bytes_max),
        ("rollup_minute_bytes_max", retention.rollup_minute_bytes_max),
        ("rollup_hour_bytes_max", retention.rollup_hour_bytes_max),
    ] {
        if let Some(bytes_max) = bytes_max {
            range(&format!("retention.{field}"), bytes_max, 1 << 20, u64::MAX);
        }
    }
    let (raw, minute, hour) =
        (config.retention.age_h, config.retention.rollup_minute_age_h, config.retention.rollup_hour_age_h);
    for (field, age_h) in [("rollup_minute_age_h", minute), ("rollup_hour_age_h", hour)] {
        // What a roll-up counts is there at least as long as the rows.
        if let Some(age_h) = age_h {
            range(&format!("retention.{field}"), age_h.into(), raw.unwrap_or(1).max(1).into(), 1_000_000);
        }
    }
    problems.extend(config.metrics.validate("collector.metrics"));
    problems.extend(config.otlp.validate("collector.otlp"));
    problems.extend(config.forward.validate("collector.forward"));
    problems.extend(config.receive.validate("collector.receive"));
    if config.forward.is_on() && config.receive.listen.is_some() {
        let message = "a collector that forwards stores nothing, so it cannot receive";
        let hint = "let the other hosts send to the collectors in collector.forward.to";
        problems.push(Problem::new("collector.receive.listen", message).hint(hint));
    }
    if config.forward.is_on() && config.delta.enabled {
        let message = "a collector that forwards has no table of its own";
        let hint = "switch the log on where the rows are stored";
        problems.push(Problem::new("collector.delta.enabled", message).hint(hint));
    }
    if problems.is_empty() {
        Ok(Plan { config: config.clone(), bucket: None, spool_bytes_max: None })
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_all_mistakes_are_named_at_once() {
        assert!(validate(&CollectorConfig::default()).is_ok());
        let mut wrong = CollectorConfig { flush_interval_ms: 251, ..CollectorConfig::default() };
        wrong.parquet.zstd_level = 0;
        wrong.retention.age_h = Some(0);
        let paths: Vec<_> = validate(&wrong).unwrap_err().into_iter().map(|problem| problem.path).collect();
        assert_eq!(
            paths,
            ["collector.flush_interval_ms", "collector.parquet.zstd_level", "collector.retention.age_h"]
        );
    }

    #[test]
    fn roll_ups_do_not_go_before_their_rows() {
        let mut config = CollectorConfig::default();
        config.retention.age_h = Some(48);
        config.retention.rollup_minute_age_h = Some(47);
        config.retention.rollup_hour_age_h = Some(48);
        let problems = validate(&config).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].path, "collector.retention.rollup_minute_age_h");
        config.retention.age_h = None;
        assert!(validate(&config).is_ok());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<CollectorConfig>(r#"{"seal": {"intervall_s": 1}}"#).is_err());
    }
}
