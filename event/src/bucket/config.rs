//! What an operator can say about the bucket, and the check that turns it into a plan.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::open;
use crate::Problem;

/// A bucket for sealed files: S3, Google Cloud Storage, Azure, or a folder that several hosts share. Collectors upload to
/// it, analytics read from it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BucketConfig {
    /// Where it is: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`; none for no
    /// bucket. The prefix may be empty; several collectors share one bucket by sharing the URL.
    pub url: Option<String>,
    /// What the store needs to know, by the names of the crate `object_store`: `endpoint`, `region`, `access_key_id`,
    /// `secret_access_key` and `allow_http` for S3, `service_account` for Google, `account_name` and `account_key` for
    /// Azure. Write secrets as `${NAME}`.
    pub options: BTreeMap<String, String>,
    /// How often what is new is uploaded, in seconds.
    pub sync_interval_s: u32,
    /// How often objects that nothing names are looked for and deleted, in seconds. A start does it too.
    pub sweep_interval_s: u32,
    /// How long one request may take, in milliseconds.
    pub timeout_ms: u32,
    /// Pause before a request that failed is tried again, in milliseconds; it doubles with each try.
    pub retry_initial_ms: u32,
    /// Longest pause between two tries, in milliseconds; those of a whole upload too.
    pub retry_max_ms: u32,
    /// How long one request is tried, in milliseconds. What was not uploaded by then is tried again with all that is due,
    /// for ever.
    pub retry_elapsed_max_ms: u32,
    /// Uploads at one time.
    pub uploads_max: u16,
    /// Files above this size are uploaded in parts of it, in bytes. Each upload holds one part in memory.
    pub part_bytes: u64,
    /// Most bytes of uploaded files that stay on the local disk; beyond it the oldest leave it.
    pub local_bytes_max: Option<u64>,
    /// Uploaded files whose last row is older than this leave the local disk, in hours.
    pub local_age_h: Option<u32>,
    /// Most bytes of sealed files that are not uploaded. Beyond it the collector leaves events in the spool, which is
    /// bounded too.
    pub backlog_bytes_max: u64,
    /// How often analytics look for what other collectors have uploaded, in seconds.
    pub poll_interval_s: u32,
}

impl Default for BucketConfig {
    fn default() -> Self {
        Self {
            url: None,
            options: BTreeMap::new(),
            sync_interval_s: 10,
            sweep_interval_s: 3_600,
            timeout_ms: 30_000,
            retry_initial_ms: 200,
            retry_max_ms: 15_000,
            retry_elapsed_max_ms: 30_000,
            uploads_max: 4,
            part_bytes: 16 << 20,
            local_bytes_max: None,
            local_age_h: None,
            backlog_bytes_max: 32 << 30,
            poll_interval_s: 10,
        }
    }
}

/// Values of options may be secrets: only their names are shown.
impl fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("BucketConfig")
            .field("url", &self.url)
            .field("options", &names)
            .finish_non_exhaustive()
    }
}

/// A bucket whose configuration has been found right.
#[derive(Clone, Debug)]
pub struct BucketPlan {
    config: Arc<BucketConfig>,
    url: Arc<str>,
}

impl BucketPlan {
    /// What was configured.
    #[must_use]
    pub fn config(&self) -> &BucketConfig {
        &self.config
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often what is new is uploaded.
    #[must_use]
    pub fn sync_interval(&self) -> Duration {
        Duration::from_secs(self.config.sync_interval_s.into())
    }

    /// How often analytics look for what is new.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        Duration::from_secs(self.config.poll_interval_s.into())
    }
}

/// Checks the whole section; none if there is to be no bucket.
///
/// # Errors
/// All problems at once, each with its path from the top of the file (`object_store.url`).
pub fn validate(config: &BucketConfig) -> Result<Option<BucketPlan>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut range = |field: &str, value: u64, low: u64, high: u64| {
        if value < low || value > high {
            let message = format!("must be between {low} and {high}, is {value}");
            problems.push(Problem::new(format!("object_store.{field}"), message));
        }
    };
    range("sync_interval_s", config.sync_interval_s.into(), 1, 86_400);
    range("sweep_interval_s", config.sweep_interval_s.into(), 1, 604_800);
    range("timeout_ms", config.timeout_ms.into(), 10, 3_600_000);
    range("retry_initial_ms", config.retry_initial_ms.into(), 10, 60_000);
    range("retry_max_ms", config.retry_max_ms.into(), config.retry_initial_ms.into(), 3_600_000);
    range("retry_elapsed_max_ms", config.retry_elapsed_max_ms.into(), 10, 240_000);
    range("uploads_max", config.uploads_max.into(), 1, 64);
    range("part_bytes", config.part_bytes, 5 << 20, 1 << 30);
    range("backlog_bytes_max", config.backlog_bytes_max, 1 << 20, 1 << 50);
    range("poll_interval_s", config.poll_interval_s.into(), 1, 86_400);
    if let Some(age_h) = config.local_age_h {
        range("local_age_h", age_h.into(), 1, 1_000_000);
    }
    let Some(url) = config.url.as_deref() else {
        if !config.options.is_empty() {
            let problem = Problem::new("object_store.options", "there is no bucket that they are for");
            problems.push(problem.hint("set object_store.url, as in s3://bucket/prefix"));
        }
        return if problems.is_empty() { Ok(None) } else { Err(problems) };
    };
    problems.extend(open::problems(url, config));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Some(BucketPlan { config: Arc::new(config.clone()), url: url.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> BucketConfig {
        let options = [("endpoint", "http://127.0.0.1:1"), ("allow_http", "true")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        BucketConfig { url: Some("s3://logs/a/b".into()), options: options.into(), ..Default::default() }
    }

    fn paths(config: &BucketConfig) -> Vec<String> {
        let problems = validate(config).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn nothing_is_no_bucket_and_all_mistakes_are_named_at_once() {
        assert!(validate(&BucketConfig::default()).unwrap().is_none());
        assert_eq!(validate(&s3()).unwrap().unwrap().url(), "s3://logs/a/b");
        let mut wrong = BucketConfig { part_bytes: 1, uploads_max: 0, ..s3() };
        wrong.options.insert("acess_key_id".into(), "x".into());
        wrong.options.insert("timeout".into(), "1s".into());
        assert_eq!(
            paths(&wrong),
            [
                "object_store.uploads_max",
                "object_store.part_bytes",
                "object_store.options.acess_key_id",
                "object_store.options.timeout"
            ]
        );
        let options = BucketConfig { url: None, ..s3() };
        assert_eq!(paths(&options), ["object_store.options"]);
    }

    #[test]
    fn urls_that_lead_nowhere_are_refused() {
        for url in
            ["", "s3://", "s3:///a", "ftp://host/a", "file://host/a", "file:///", "/folder", "s3://b/../a"]
        {
            let config = BucketConfig { url: Some(url.into()), ..Default::default() };
            assert_eq!(paths(&config), ["object_store.url"], "{url}");
        }
        for url in ["s3://b", "s3://b/", "gs://b/p", "az://c/p", "file:///mnt/share"] {
            let mut config = BucketConfig { url: Some(url.into()), ..Default::default() };
            if url.starts_with("az") {
                config.options.insert("account_name".into(), "a".into());
            }
            assert_eq!(paths(&config), Vec::<String>::new(), "{url}");
        }
    }

    #[test]
    fn values_of_options_are_not_shown() {
        let mut config = s3();
        config.options.insert("access_key_id".into(), "one".into());
        config.options.insert("secret_access_key".into(), "hush".into());
        let shown = format!("{:?} {:?}", config, validate(&config).unwrap());
        assert!(shown.contains("secret_access_key") && !shown.contains("hush"), "{shown}");
    }
}
