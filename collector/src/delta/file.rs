//! The objects of a log: commits, checkpoints, and the one that names the last checkpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use event::bucket::{Bucket, BucketError, Cause};
use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions};
use serde_json::json;

use super::action::{Action, Protocol};
use super::state::State;
use super::{DeltaError, checkpoint};

/// Where a log lies under its table. (Protocol: "File Types".)
pub(super) const FOLDER: &str = "_delta_log";
const LAST_CHECKPOINT: &str = "_delta_log/_last_checkpoint";

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
    let objects = list(bucket).await?;
    for ((version, kind), _) in objects.iter().rev() {
        match kind {
            Kind::Commit => commits.push(*version),
            Kind::Checkpoint => match sum(bucket, *version).await {
                Ok(sum) => {
                    state = sum;
                    break;
                }
                // A power loss took it; the commits that it sums up are still there.
                Err(DeltaError::Damaged { object, reason }) if bucket.is_folder() => {
                    tracing::warn!(object, reason, "a checkpoint of the Delta log is not whole, and removed");
                    delete(bucket, &object).await?;
                }
                Err(error) => return Err(error),
            },
        }
    }
    let first = state.version.map_or(0, |version| version + 1);
    for version in commits.into_iter().rev().filter(|version| *version >= first) {
        let next = state.version.map_or(0, |version| version + 1);
        if version != next {
            let reason = format!("commit {next} is missing before it");
            return Err(DeltaError::Damaged { object: commit_name(version), reason });
        }
        match commit(bucket, version).await {
            Ok(Some(actions)) => take_in(&mut state, version, actions)?,
            Ok(None) => break,
            // The last thing that a folder took before a power loss: nobody has read it, as nobody can.
            Err(DeltaError::Damaged { object, reason })
                if bucket.is_folder() && !objects.contains_key(&(version + 1, Kind::Commit)) =>
            {
                tracing::warn!(object, reason, "the last commit of the Delta log is not whole, and removed");
                delete(bucket, &object).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(state)
}

/// Takes in what others have written since.
pub(super) async fn read_on(bucket: &Bucket, state: &mut State) -> Result<(), DeltaError> {
    loop {
        let next = state.version.map_or(0, |version| version + 1);
        match commit(bucket, next).await? {
            Some(actions) => take_in(state, next, actions)?,
            None => return Ok(()),
        }
    }
}

/// Puts a commit where none is; false if there is one.
pub(super) async fn create(bucket: &Bucket, version: u64, actions: &[Action]) -> Result<bool, DeltaError> {
    let object = commit_name(version);
    let mut lines = Vec::new();
    for action in actions {
        let line = serde_json::to_writer(&mut lines, action);
        line.map_err(|error| damaged(&object, &error))?;
        lines.push(b'\n');
    }
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match bucket.store().put_opts(&ObjectPath::from(object.as_str()), lines.into(), options).await {
        Ok(_) => {}
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            return Ok(false);
        }
        Err(error) => return Err(bucket.error("write", &object, &error).into()),
    }
    bucket.settle(&object)?;
    Ok(true)
}

/// Writes what the log says at its last commit, and names it.
pub(super) async fn checkpoint(bucket: &Bucket, state: &State) -> Result<(), DeltaError> {
    let Some(version) = state.version else { return Ok(()) };
    let object = checkpoint_name(version);
    let actions: Vec<Action> = state.actions().collect();
    let bytes = checkpoint::encode(&actions).map_err(|error| damaged(&object, &error))?;
    put(bucket, &object, bytes.into()).await?;
    let last = json!({"version": version, "size": actions.len()});
    put(bucket, LAST_CHECKPOINT, last.to_string().into()).await
}

/// Deletes what is older than the last checkpoint of before a time: all that is left can be read.
pub(super) async fn clean(bucket: &Bucket, before_ms: i64) -> Result<(), DeltaError> {
    let objects = list(bucket).await?;
    let is_old = |meta: &ObjectMeta| meta.last_modified.timestamp_millis() < before_ms;
    let sums = objects.iter().filter(|((_, kind), meta)| *kind == Kind::Checkpoint && is_old(meta));
    let Some(oldest) = sums.map(|((version, _), _)| *version).max() else { return Ok(()) };
    for ((version, _), meta) in &objects {
        if *version < oldest {
            delete(bucket, meta.location.as_ref()).await?;
        }
    }
    Ok(())
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
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let actions: Result<Vec<Action>, _> = lines.map(serde_json::from_slice).collect();
    let actions = actions.map_err(|error| damaged(&object, &error))?;
    if actions.is_empty() {
        return Err(damaged(&object, &"it is empty"));
    }
    Ok(Some(actions))
}

/// What a checkpoint says.
async fn sum(bucket: &Bucket, version: u64) -> Result<State, DeltaError> {
    let object = checkpoint_name(version);
    let bytes = get(bucket, &object).await?.ok_or_else(|| damaged(&object, &"it is gone"))?;
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
        Err(error) => match bucket.error("read", object, &error) {
            BucketError { cause: Cause::Missing, .. } => Ok(None),
            error => Err(error),
        },
    }
}

async fn put(bucket: &Bucket, object: &str, bytes: Bytes) -> Result<(), DeltaError> {
    let put = bucket.store().put(&ObjectPath::from(object), bytes.into()).await;
    put.map_err(|error| bucket.error("write", object, &error))?;
    Ok(bucket.settle(object)?)
}

async fn delete(bucket: &Bucket, object: &str) -> Result<(), BucketError> {
    match bucket.store().delete(&ObjectPath::from(object)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(bucket.error("delete", object, &error)),
    }
}

fn damaged(object: &str, reason: &dyn std::fmt::Display) -> DeltaError {
    DeltaError::Damaged { object: object.to_owned(), reason: reason.to_string() }
}
