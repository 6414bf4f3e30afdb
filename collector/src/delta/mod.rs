//! A Delta Lake log over the sealed files, for engines that ask for a table rather than for files.
//!
//! The manifest is what counts, and the log is made equal to it: what the log lacks is added, what it has too much is
//! removed, in as few commits as that takes. It lies in `_delta_log`, in the data folder under `requests/`, or at the top of
//! the bucket, where all collectors write one log: a commit is an object that must not be there yet, so whoever comes second
//! reads what the first one wrote and tries the next number. Nothing but the log says what is in it, so an answer that was
//! lost, or a kill at any step, costs one more look. A stream that follows the table gets each row once: commits that only
//! put rows elsewhere say so (`dataChange`), and files are merged once the log knows them. Nobody else can write: the table
//! asks writers for a feature that none of them has.
//!
//! `action` is what a commit is made of, `schema` the columns, `change` the difference of table and log, `state` what a log
//! says, `file` its objects, `checkpoint` the sum of a log as Parquet, `keeper` the thread of a data folder.
//!
//! The format: "Delta Transaction Log Protocol", <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

mod action;

mod schema;

mod change;

mod state;

mod file;

mod checkpoint;

mod keeper;

mod account;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::bucket::{Bucket, BucketError};
use event::layout::FileEntry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random;
pub(crate) use account::{Account, Counts};
pub(crate) use keeper::Keeper;
use state::State;

/// Most times that others may be quicker, one after another.
const CONFLICTS_MAX: u32 = 100;
/// Longest wait after the first of these times; it grows with each further one.
const CONFLICT_PAUSE: Duration = Duration::from_millis(20);
/// How long it waits after a failure: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A Delta Lake log over the Parquet files, for engines that read tables of that kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeltaConfig {
    /// Whether it is written: in `requests/_delta_log` of the data folder, or, with `object_store.url`, in `_delta_log` of
    /// the bucket, for all collectors of it.
    pub enabled: bool,
    /// Commits from one checkpoint to the next. A reader reads the checkpoint, and each commit since.
    pub checkpoint_commits: u32,
    /// How long commits stay that a checkpoint sums up, in hours: so far back goes the table's history. Files that are not of
    /// the table any more go after `collector.retention.grace_s`.
    pub log_retention_h: u32,
}

impl Default for DeltaConfig {
    fn default() -> Self {
        Self { enabled: false, checkpoint_commits: 100, log_retention_h: 168 }
    }
}

/// Why a log is not as the table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeltaError {
    /// Where it lies.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It is not as it was written.
    #[error(
        "{object} is damaged: {reason}. Stop the collectors that write there, remove the folder _delta_log, and start them: \
         the log is made anew"
    )]
    Damaged {
        /// Which part.
        object: String,
        /// How that shows.
        reason: String,
    },
    /// There is a log that is not of this kind.
    #[error("there is a Delta table of somebody else: move its folder _delta_log away")]
    Foreign,
    /// It became another one while it was read.
    #[error("the log changed while it was read")]
    Changing,
    /// What is to be written cannot be put into bytes: a mistake of this program.
    #[error("cannot encode: {0}")]
    Encode(#[from] checkpoint::CheckpointError),
    /// No random number.
    #[error("cannot read /dev/urandom: {0}")]
    Random(#[source] std::io::Error),
    /// Others were quicker, time and again.
    #[error("{0} commits of other collectors came first; this one is tried again later")]
    Conflicts(u32),
}

impl DeltaError {
    /// Why, whatever was being done.
    fn cause(&self) -> String {
        match self {
            Self::Bucket(error) => error.cause.to_string(),
            error => error.to_string(),
        }
    }
}

/// Whether a folder is that of a log, in which nothing is of the table.
pub(crate) fn is_log(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == file::FOLDER)
}

/// One table's log, of which one collector keeps its part.
pub(crate) struct Log {
    bucket: Bucket,
    /// What the names of this collector's files begin with.
    prefix: String,
    config: DeltaConfig,
    /// How long files stay that were removed.
    grace_s: u32,
    /// What the log says, while that is known.
    known: Option<State>,
    account: Arc<Account>,
    said: Option<String>,
    /// After a failure, how long it waits, and until when.
    pause: Duration,
    not_before: Option<Instant>,
}

impl Log {
    pub(crate) fn new(
        bucket: Bucket,
        prefix: String,
        config: DeltaConfig,
        grace_s: u32,
        account: Arc<Account>,
    ) -> Self {
        let (known, said, not_before) = (None, None, None);
        Self { bucket, prefix, config, grace_s, known, account, said, pause: PAUSE_MIN, not_before }
    }

    /// Makes this collector's part of the log equal to its files, by their names; false if that is to be tried again.
    pub(crate) async fn make_equal(&mut self, files: &BTreeMap<String, FileEntry>) -> bool {
        if self.not_before.is_some_and(|then| Instant::now() < then) {
            return false;
        }
        match self.commit(files).await {
            Ok(version) => {
                self.account.succeeded(version, crate::now_us());
                (self.pause, self.not_before) = (PAUSE_MIN, None);
                if self.said.take().is_some() {
                    tracing::info!("the Delta log is written again");
                }
                true
            }
            Err(error) => {
                // What is there by now is looked at anew.
                self.known = None;
                self.account.failed();
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                let cause = error.cause();
                if self.said.as_ref() != Some(&cause) {
                    tracing::error!(%error, "the Delta log stays as it is; what it lacks is tried again");
                    self.said = Some(cause);
                }
                false
            }
        }
    }

    /// The same; the version that the log has then.
    async fn commit(&mut self, files: &BTreeMap<String, FileEntry>) -> Result<u64, DeltaError> {
        // What is known may be long ago: behind a last commit that is gone others would not look for more.
        let (mut state, mut is_fresh) = match self.known.take() {
            Some(state) => (state, false),
            None => (file::read(&self.bucket).await?, true),
        };
        let mut conflicts = 0;
        loop {
            let now_ms = crate::now_us() / 1_000;
            let table = schema::table(state.metadata.as_ref(), &self.config, self.grace_s, now_ms)
                .map_err(DeltaError::Random)?;
            let actions = change::next(&state, files, &self.prefix, table, now_ms);
            if actions.is_empty() {
                state.forget_removed_before(now_ms - i64::from(self.grace_s) * 1_000);
                break;
            }
            if let (false, Some(last)) = (is_fresh, state.version)
                && !file::is_there(&self.bucket, last).await?
            {
                state = file::read(&self.bucket).await?;
                is_fresh = true;
                continue;
            }
            is_fresh = true;
            let next = state.next();
            if file::create(&self.bucket, next, &actions).await? {
                actions.into_iter().for_each(|action| state.apply(action));
                state.version = Some(next);
                self.account.committed();
                if next > 0 && next.is_multiple_of(self.config.checkpoint_commits.into()) {
                    self.sum_up(&mut state, now_ms).await;
                }
                conflicts = 0;
                continue;
            }
            conflicts += 1;
            if conflicts > CONFLICTS_MAX {
                return Err(DeltaError::Conflicts(conflicts));
            }
            // All of them came at one time: they must not do so again.
            let [share] = random::bytes().map_err(DeltaError::Random)?;
            tokio::time::sleep(CONFLICT_PAUSE * conflicts * u32::from(share) / 256).await;
            file::read_on(&self.bucket, &mut state).await?;
        }
        let version = state.version.unwrap_or_default();
        self.known = Some(state);
        Ok(version)
    }

    /// Writes a checkpoint, and deletes what is older than it need be. Without it readers have more to read, and the next
    /// one comes.
    async fn sum_up(&self, state: &mut State, now_ms: i64) {
        state.forget_removed_before(now_ms - i64::from(self.grace_s) * 1_000);
        if let Err(error) = file::checkpoint(&self.bucket, state).await {
            self.account.missed();
            tracing::warn!(%error, "no checkpoint of the Delta log; the next one comes");
            return;
        }
        let old_ms = now_ms - i64::from(self.config.log_retention_h) * 3_600_000;
        if let Err(error) = file::clean(&self.bucket, old_ms).await {
            self.account.missed();
            tracing::warn!(%error, "what is old stays in the Delta log until the next checkpoint");
        }
    }
}

#[cfg(test)]
mod tests;
