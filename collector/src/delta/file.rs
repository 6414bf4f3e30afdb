//! The objects of a log: commits, checkpoints, and the one that names the last checkpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use event::bucket::{Bucket, BucketError};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde_json::json;

use super::DeltaError;
use super::action::{self, Action, Protocol};
use super::checkpoint::{self, CheckpointError};
use super::state::State;

/// Where a log lies under its table. (Protocol: "File Types".)
pub(super) const FOLDER: &str = "_delta_log";
const LAST_CHECKPOINT: &str = "_delta_log/_last_checkpoint";
/// Most objects that are deleted after one checkpoint, and at one time.
const CLEANED_MAX: usize = 1_000;
const DELETES_MAX: usize = 8;

/// What an object of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Commit,
    Checkpoint,
}

fn commit_name(version: u64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

fn checkpoint_name(version: u64) -> String {
    format!("{FOLDER}/{version:020}.checkpoint.parquet")
}

/// Version and kind of an object, if it is one of a log.
fn parse(path: &ObjectPath) -> Option<(u64, Kind)> {
    let name = path.filename()?;
    let (digits, kind) = name.split_once('.')?;
    let kind = match kind {
        "json" => Kind::Commit,
        "checkpoint.parquet" => Kind::Checkpoint,
        _ => return None,
    };
    (digits.len() == 20).then(|| digits.parse().ok().map(|version| (version, kind)))?
}

/// What the log says, from its last checkpoint on.
pub(super) async fn read(bucket: &Bucket) -> Result<State, DeltaError> {
    let (mut state, mut commits) = (State::default(), Vec::new());
    for (version, kind) in list(bucket).await?.into_keys().rev() {
        if kind == Kind::Checkpoint {
            state = sum(bucket, version).await?;
            break;
        }
        commits.push(version);
    }
    let first = state.next();
    for version in commits.into_iter().rev().filter(|version| *version >= first) {
        let next = state.next();
        if version != next {
            let reason = format!("commit {next} is missing before it");
            return Err(DeltaError::Damaged { object: commit_name(version), reason });
        }
        let actions = commit(bucket, version).await?.ok_or(DeltaError::Changing)?;
        take_in(&mut state, version, actions)?;
    }
    Ok(state)
}

/// Takes in what others have written since.
pub(super) async fn read_on(bucket: &Bucket, state: &mut State) -> Result<(), DeltaError> {
    loop {
        let next = state.next();
        match commit(bucket, next).await? {
            Some(actions) => take_in(state, next, actions)?,
            None => return Ok(()),
        }
    }
}

/// Whether a commit is there. One that a checkpoint summed up long ago is not, nor any of a log that was removed.
pub(super) async fn is_there(bucket: &Bucket, version: u64) -> Result<bool, BucketError> {
    let object = commit_name(version);
    match bucket.store().head(&ObjectPath::from(object.as_str())).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(bucket.error("look for", &object, &error)),
    }
}

/// Puts a commit where none is; false if there is one.
pub(super) async fn create(bucket: &Bucket, version: u64, actions: &[Action]) -> Result<bool, DeltaError> {
    let mut lines = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut lines, action).map_err(CheckpointError::from)?;
        lines.push(b'\n');
    }
    Ok(bucket.create(&commit_name(version), lines).await?)
}

/// Writes what the log says at its last commit, and names it.
pub(super) async fn checkpoint(bucket: &Bucket, state: &State) -> Result<(), DeltaError> {
    let Some(version) = state.version else { return Ok(()) };
    let (bytes, size) = checkpoint::encode(state.actions())?;
    bucket.replace(&checkpoint_name(version), bytes).await?;
    let last = json!({"version": version, "size": size});
    Ok(bucket.replace(LAST_CHECKPOINT, last.to_string().into()).await?)
}

/// Deletes what is older than the last checkpoint of before a time, at most so much: all that is left can be read.
pub(super) async fn clean(bucket: &Bucket, before_ms: i64) -> Result<(), DeltaError> {
    let objects = list(bucket).await?;
    let is_old = |meta: &ObjectMeta| meta.last_modified.timestamp_millis() < before_ms;
    let sums = objects.iter().filter(|((_, kind), meta)| *kind == Kind::Checkpoint && is_old(meta));
    let Some(oldest) = sums.map(|((version, _), _)| *version).max() else { return Ok(()) };
    let old = objects.into_iter().filter(|((version, _), _)| *version < oldest).take(CLEANED_MAX);
    let deletes = old.map(|(_, meta)| delete(bucket, meta.location));
    futures::stream::iter(deletes).buffer_unordered(DELETES_MAX).try_collect().await
}

/// Commits and checkpoints of a log, in order.
async fn list(bucket: &Bucket) -> Result<BTreeMap<(u64, Kind), ObjectMeta>, BucketError> {
    let refused = |error: object_store::Error| bucket.error("list", FOLDER, &error);
    let objects = bucket.store().list(Some(&ObjectPath::from(FOLDER)));
    let found = objects.try_filter_map(|meta| async { Ok(parse(&meta.location).map(|key| (key, meta))) });
    found.try_collect().await.map_err(refused)
}

/// What a commit says; none where there is none.
async fn commit(bucket: &Bucket, version: u64) -> Result<Option<Vec<Action>>, DeltaError> {
    let object = commit_name(version);
    let Some(bytes) = get(bucket, &object).await? else { return Ok(None) };
    let actions = action::parse(&bytes).map_err(|error| damaged(&object, &error))?;
    if actions.is_empty() {
        return Err(damaged(&object, &"it is empty"));
    }
    Ok(Some(actions))
}

/// What a checkpoint says.
async fn sum(bucket: &Bucket, version: u64) -> Result<State, DeltaError> {
    let object = checkpoint_name(version);
    let bytes = get(bucket, &object).await?.ok_or(DeltaError::Changing)?;
    let actions = checkpoint::decode(bytes).map_err(|reason| damaged(&object, &reason))?;
    let mut state = State::default();
    take_in(&mut state, version, actions)?;
    Ok(state)
}

fn take_in(state: &mut State, version: u64, actions: Vec<Action>) -> Result<(), DeltaError> {
    actions.into_iter().for_each(|action| state.apply(action));
    state.version = Some(version);
    if state.protocol != Some(Protocol::ours()) {
        return Err(DeltaError::Foreign);
    }
    Ok(())
}

async fn get(bucket: &Bucket, object: &str) -> Result<Option<Bytes>, BucketError> {
    let read = async { bucket.store().get(&ObjectPath::from(object)).await?.bytes().await };
    match read.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(bucket.error("read", object, &error)),
    }
}

async fn delete(bucket: &Bucket, object: ObjectPath) -> Result<(), DeltaError> {
    match bucket.store().delete(&object).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(bucket.error("delete", object.as_ref(), &error).into()),
    }
}

fn damaged(object: &str, reason: &dyn std::fmt::Display) -> DeltaError {
    DeltaError::Damaged { object: object.to_owned(), reason: reason.to_string() }
}
