//! Every file of a data folder against what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use event::hot::HotReader;
use event::layout::{DataFolder, FileEntry, Manifest};
use event::spool::LaneReader;
use serde::Serialize;

use super::{Kind, Problem, Progress, StorageError, identities, sealed};
use crate::lock::Lock;
use crate::parquet::{HOUR_US, TEMPORARY};
use crate::{StartError, seal::under};

/// Events of the spool that are looked at in one go.
const EVENTS: usize = 4_096;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What is wrong; nothing if all is well.
    pub problems: Vec<Problem>,
    /// Sealed files of the table, their rows and bytes.
    pub files: u64,
    /// Rows of the sealed files, whole or not.
    pub rows: u64,
    /// Bytes of the sealed files.
    pub bytes: u64,
    /// Files of roll-ups.
    pub rollups: u64,
    /// Hot files that are not sealed yet, and their rows.
    pub hot_files: u64,
    /// Rows in hot files.
    pub hot_rows: u64,
    /// Events in the spool that are in no file yet.
    pub spool_events: u64,
    /// Files that left the table and wait for their end.
    pub removed: u64,
    /// Rows of files that were set aside earlier, in quarantine.
    pub rows_set_aside: u64,
    /// Whether identities were looked at.
    pub deep: bool,
    /// Whether a collector was at work: what it was just writing is no problem then.
    pub at_work: bool,
}

/// Looks at everything; at the identity of every row only if it is to be `deep`.
///
/// # Errors
/// When folders cannot be listed. What is wrong with files is no error but a finding.
pub fn check(folder: &DataFolder, deep: bool, progress: Progress<'_>) -> Result<Checked, StorageError> {
    let at_work = is_at_work(folder)?;
    let mut checked = Checked { deep, at_work, ..Checked::default() };
    let manifest = match Manifest::load(folder) {
        Ok(manifest) => manifest,
        Err(error) => {
            let what = error.to_string();
            checked.problems.push(Problem::new(Kind::Manifest, "state/manifest.json", what, None));
            return Ok(checked);
        }
    };
    checked.files = manifest.files.len() as u64;
    checked.rows = manifest.files.iter().map(|file| file.rows).sum();
    checked.bytes = manifest.files.iter().map(|file| file.bytes).sum();
    checked.removed = manifest.removed.len() as u64;
    checked.rows_set_aside = manifest.set_aside.iter().map(|aside| aside.file.rows).sum();
    checked.rollups = manifest.rollups.len() as u64;
    let rollup_bytes: u64 = manifest.rollups.iter().map(|entry| entry.file.bytes).sum();
    let mut bytes = 0;
    let mut passed = |more| {
        bytes += more;
        progress(bytes, checked.bytes + rollup_bytes);
    };
    let mut problems: Vec<Problem> =
        on_disk(&manifest.files).filter_map(|entry| sealed::judge(folder, entry, &mut passed)).collect();
    let rollups = manifest.rollups.iter().filter(|entry| entry.file.place.is_on_disk());
    problems.extend(rollups.filter_map(|entry| sealed::judge_rollup(folder, entry, &mut passed)));
    checked.problems.extend(problems);
    let unseen = manifest.set_aside.iter().filter(|aside| aside.is_unseen);
    checked.problems.extend(
        unseen.map(|aside| {
            Problem::new(Kind::SetAside, &aside.kept, aside.reason.clone(), Some(aside.file.rows))
        }),
    );
    let mut hot_hours = identities::HotHours::new();
    hot(folder, &manifest, deep.then_some(&mut hot_hours), &mut checked)?;
    spool(folder, &manifest, &mut checked)?;
    if !at_work {
        checked.problems.extend(strays(folder, &manifest)?);
    }
    if deep {
        for (hour, files) in by_hour(on_disk(&manifest.files)) {
            let hot = hot_hours.remove(&hour).unwrap_or_default();
            checked.problems.extend(identities::duplicates(folder, &files, hot));
        }
    }
    if at_work {
        // What left the table while it was looked at may be gone by now.
        let now = Manifest::load(folder)?;
        let there: BTreeSet<&str> = files(&now).map(|file| file.path.as_str()).collect();
        let may_be_gone = |problem: &Problem| matches!(problem.kind, Kind::Missing | Kind::Rollup);
        checked.problems.retain(|problem| !may_be_gone(problem) || there.contains(problem.file.as_str()));
    }
    Ok(checked)
}

/// The files that a manifest names, of rows and of roll-ups.
fn files(manifest: &Manifest) -> impl Iterator<Item = &FileEntry> {
    manifest.files.iter().chain(manifest.rollups.iter().map(|entry| &entry.file))
}

/// Whether a collector is at work on the folder.
///
/// # Errors
/// When nobody can say.
pub fn is_at_work(folder: &DataFolder) -> Result<bool, StorageError> {
    match Lock::take(folder) {
        Ok(_) => Ok(false),
        Err(StartError::InUse { .. }) => Ok(true),
        // Of a folder that one may only read, nobody knows.
        Err(StartError::Lock { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Those that can be looked at: what is in the bucket only, its store answers for.
fn on_disk(files: &[FileEntry]) -> impl Iterator<Item = &FileEntry> {
    files.iter().filter(|file| file.place.is_on_disk())
}

fn by_hour<'a>(files: impl Iterator<Item = &'a FileEntry>) -> BTreeMap<i64, Vec<&'a FileEntry>> {
    let mut hours: BTreeMap<i64, Vec<&FileEntry>> = BTreeMap::new();
    for file in files {
        hours.entry(file.time_min_us.div_euclid(HOUR_US)).or_default().push(file);
    }
    hours
}

fn hot(
    folder: &DataFolder,
    manifest: &Manifest,
    mut hours: Option<&mut identities::HotHours>,
    checked: &mut Checked,
) -> Result<(), StorageError> {
    for number in folder.hot_numbers()?.into_iter().filter(|number| *number > manifest.sealed_through) {
        let file = under(folder, &folder.hot_file(number));
        let rows = hot_rows(folder, number);
        checked.hot_files += 1;
        checked.hot_rows += rows.unwrap_or_default();
        let looked = HotReader::open(folder, number).and_then(|reader| {
            if let (Some(reader), Some(hours)) = (reader, hours.as_deref_mut()) {
                identities::add_hot(&reader, hours)?;
            }
            Ok(())
        });
        if let Err(error) = looked {
            let lost = event::hot::damaged_rows(folder, number).ok().flatten().or(rows);
            checked.problems.push(Problem::new(Kind::HotDamaged, file, error.to_string(), lost));
        }
    }
    Ok(())
}

/// Rows of a hot file by its commit log, which may be damaged too.
pub(super) fn hot_rows(folder: &DataFolder, number: u64) -> Option<u64> {
    let text = std::fs::read(folder.hot_commits(number)).ok()?;
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let commits = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    Some(commits.filter_map(|commit| commit["rows"].as_u64()).sum())
}

/// Counts what waits in the spool, and what of it is damaged.
fn spool(folder: &DataFolder, manifest: &Manifest, checked: &mut Checked) -> Result<(), StorageError> {
    let mut marks = manifest.watermarks.clone();
    for number in folder.hot_numbers()? {
        if let Ok(Some(reader)) = HotReader::open_unchecked(folder, number) {
            crate::merge(&mut marks, &reader.watermarks);
        }
    }
    crate::merge(&mut marks, &crate::hosts::marks(folder)?);
    let io = |path: PathBuf| move |source| StorageError::Io { path, source };
    for core in LaneReader::lanes(&folder.spool()).map_err(io(folder.spool()))? {
        let of_core = marks.iter().filter(|(key, _)| key.rsplit('/').next() == Some(&core.to_string()));
        let stored = of_core.map(|(_, position)| position.sequence).max();
        let lane = format!("spool/core-{core:03}");
        let mut reader = match LaneReader::open(&folder.spool(), core, stored) {
            Ok(reader) => reader,
            Err(error) => {
                checked.problems.push(Problem::new(Kind::Spool, lane, error.to_string(), None));
                continue;
            }
        };
        // A gateway may be writing: what it has not written yet is the end.
        loop {
            match reader.read(EVENTS, |_| ()) {
                Ok(0) => break,
                Ok(events) => checked.spool_events += events as u64,
                Err(error) => {
                    checked.problems.push(Problem::new(Kind::Spool, &lane, error.to_string(), None));
                    break;
                }
            }
        }
        let corrupt = reader.corrupt_records();
        if corrupt > 0 {
            let what = format!("{corrupt} records are damaged");
            checked.problems.push(Problem::new(Kind::Spool, lane, what, Some(corrupt)));
        }
    }
    Ok(())
}

/// Files below `requests/` and `rollups/` that are no part of the table.
fn strays(folder: &DataFolder, manifest: &Manifest) -> Result<Vec<Problem>, StorageError> {
    let known = files(manifest).map(|file| &file.path);
    let known: BTreeSet<&String> = known.chain(manifest.removed.iter().map(|file| &file.path)).collect();
    let mut problems = Vec::new();
    for path in walk(&folder.requests())?.into_iter().chain(walk(&folder.rollups())?) {
        let name = under(folder, &path);
        let kind = match path.extension().and_then(|kind| kind.to_str()) {
            Some(TEMPORARY) => Kind::Half,
            Some("parquet") if !known.contains(&name) => Kind::Stray,
            _ => continue,
        };
        let what = match kind {
            Kind::Half => "it was being written when the process ended",
            _ => "the manifest does not name it",
        };
        problems.push(Problem::new(kind, name, what, None));
    }
    Ok(problems)
}

/// All files below a folder, in order of their names; none if there is no such folder.
fn walk(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let io = |source| StorageError::Io { path: folder.to_owned(), source };
    let listed = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(io)?,
    };
    let mut entries: Vec<PathBuf> =
        listed.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(io)?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if crate::delta::is_log(&path) {
            continue;
        }
        if path.is_dir() {
            files.extend(walk(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
