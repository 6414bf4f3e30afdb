//! What a check found to be done, done: damaged files out of the table and into `quarantine/`, with a note of what is
//! missing. No row is deleted: a file is renamed first, and only then does the manifest change, so that a crash in between
//! leaves a file that is missing, which the next repair finds in quarantine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use event::layout::{DataFolder, FileEntry, Manifest, Place, SetAside, sync_folder};
use serde::Serialize;

use super::{Checked, Kind, Problem, Progress, StorageError, check};
use crate::damage;
use crate::lock::Lock;
use crate::seal::under;
use crate::table::Table;

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Files that are no part of the table any more, or never were.
    pub set_aside: Vec<SetAsideFile>,
    /// Halves of files, which held nothing whole and are gone.
    pub removed: Vec<String>,
    /// What it could do nothing about.
    pub left: Vec<Problem>,
    /// Rows that the table lacks since then.
    pub rows_missing: u64,
}

/// A file that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAsideFile {
    /// What it was, under the data folder.
    pub file: String,
    /// What was wrong with it.
    pub what: String,
    /// Where it is now, under the data folder; empty if it was not there.
    pub kept: String,
    /// Rows that the table lacks without it; 0 for a file that was no part of it.
    pub rows: u64,
}

/// Checks, and does what can be done.
///
/// # Errors
/// When a collector is at work on the folder, or the disk refuses.
pub fn repair(folder: &DataFolder, progress: Progress<'_>) -> Result<Repaired, StorageError> {
    // Seen before the lock is taken, which a check tries to take as well.
    let Checked { problems, .. } = check::check(folder, false, progress)?;
    let _lock = Lock::take(folder)?;
    let mut repaired = Repaired::default();
    if problems.iter().any(|problem| problem.kind == Kind::Manifest) {
        repaired.left = problems;
        return Ok(repaired);
    }
    let table = Table::new(folder.clone(), Manifest::load(folder)?);
    for problem in problems {
        match problem.kind {
            Kind::Missing | Kind::Damaged => {
                let entry =
                    table.look(|now| now.files.iter().find(|file| file.path == problem.file).cloned());
                // Another repair may have been quicker.
                let Some(entry) = entry else { continue };
                if entry.place == Place::Both {
                    repaired.set_aside.push(elsewhere(folder, &table, problem)?);
                    continue;
                }
                repaired.set_aside.push(sealed(folder, &table, entry, problem)?);
            }
            Kind::Rollup => {
                let is_elsewhere = table.look(|now| {
                    let mut entries = now.rollups.iter().map(|entry| &entry.file);
                    entries.any(|file| file.path == problem.file && file.place == Place::Both)
                });
                let repair = if is_elsewhere { elsewhere } else { rollup };
                repaired.set_aside.push(repair(folder, &table, problem)?);
            }
            Kind::HotDamaged => repaired.set_aside.push(hot(folder, &table, problem)?),
            Kind::SetAside => repaired.set_aside.push(seen(&table, problem)?),
            Kind::Stray => {
                // A merge or a sealing that nobody committed, or rows that an older manifest does not know.
                let kept = keep(folder, &problem.file)?;
                let Problem { file, what, .. } = problem;
                repaired.set_aside.push(SetAsideFile { file, what, kept, rows: 0 });
            }
            Kind::Half => {
                let path = folder.root().join(&problem.file);
                fs::remove_file(&path).map_err(|source| StorageError::Io { path, source })?;
                repaired.removed.push(problem.file);
            }
            Kind::Manifest | Kind::Spool | Kind::Duplicate => repaired.left.push(problem),
        }
    }
    repaired.rows_missing = repaired.set_aside.iter().map(|aside| aside.rows).sum();
    Ok(repaired)
}

fn sealed(
    folder: &DataFolder,
    table: &Table,
    entry: FileEntry,
    problem: Problem,
) -> Result<SetAsideFile, StorageError> {
    let kept = keep(folder, &entry.path)?;
    let (file, what) = (problem.file, problem.what);
    let aside = SetAsideFile { file, what: what.clone(), kept: kept.clone(), rows: entry.rows };
    table.commit(|next| {
        next.files.retain(|file| file.path != entry.path);
        next.set_aside.push(SetAside {
            file: entry,
            reason: what,
            kept,
            at_us: crate::now_us(),
            is_unseen: false,
        });
        Some(())
    })?;
    Ok(aside)
}

/// A file that is in the bucket too: it stays in the table, and is read there from then on.
fn elsewhere(folder: &DataFolder, table: &Table, problem: Problem) -> Result<SetAsideFile, StorageError> {
    let kept = keep(folder, &problem.file)?;
    let Problem { file, what, .. } = problem;
    table.commit(|next| {
        let rollups = next.rollups.iter_mut().map(|entry| &mut entry.file);
        let found = next.files.iter_mut().chain(rollups).find(|entry| entry.path == file)?;
        found.place = Place::Bucket;
        Some(())
    })?;
    Ok(SetAsideFile { file, what, kept, rows: 0 })
}

/// A file of roll-ups, of which the rows may still be there.
fn rollup(folder: &DataFolder, table: &Table, problem: Problem) -> Result<SetAsideFile, StorageError> {
    let kept = keep(folder, &problem.file)?;
    let Problem { file, what, .. } = problem;
    table.commit(|next| {
        next.rollups.retain(|entry| entry.file.path != file);
        Some(())
    })?;
    Ok(SetAsideFile { file, what, kept, rows: 0 })
}

/// A hot file: what is whole of it stays, and is sealed by the next start.
fn hot(folder: &DataFolder, table: &Table, problem: Problem) -> Result<SetAsideFile, StorageError> {
    let Problem { file, what, .. } = problem;
    let number = Path::new(&file).file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    let number = number.ok_or_else(|| StorageError::Unknown(file.clone()))?;
    let path = folder.hot_file(number);
    let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
    let io = |error| StorageError::Io { path, source: io::Error::other(error) };
    let rows = damage::mend(folder, number, false).map_err(io)?.unwrap_or_default();
    let aside = damage::set_aside(number, bytes, rows, false);
    let kept = aside.kept.clone();
    table.commit(|next| {
        next.set_aside.push(aside);
        Some(())
    })?;
    Ok(SetAsideFile { file, what, kept, rows })
}

/// What the collector has set aside by itself: from now on a person knows of it.
fn seen(table: &Table, problem: Problem) -> Result<SetAsideFile, StorageError> {
    let Problem { file: kept, what, rows, .. } = problem;
    let file = table.commit(|next| {
        let aside = next.set_aside.iter_mut().find(|aside| aside.kept == kept && aside.is_unseen)?;
        aside.is_unseen = false;
        Some(aside.file.path.clone())
    })?;
    Ok(SetAsideFile { file: file.unwrap_or_default(), what, kept, rows: rows.unwrap_or_default() })
}

/// Moves a file to its place in quarantine, which is as it was below the data folder; gives the place. Empty if the file
/// is neither here nor there.
fn keep(folder: &DataFolder, file: &str) -> Result<String, StorageError> {
    let from = folder.root().join(file);
    let mut to = folder.quarantine().join(file);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| StorageError::Io { path, source }
    };
    if !from.exists() {
        return Ok(if to.exists() { under(folder, &to) } else { String::new() });
    }
    for number in 1.. {
        if !to.exists() {
            break;
        }
        // Nothing is overwritten.
        let mut name = folder.quarantine().join(file).into_os_string();
        name.push(format!(".{number}"));
        to = PathBuf::from(name);
    }
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io(parent))?;
    fs::rename(&from, &to).map_err(io(&from))?;
    for changed in [Some(parent), from.parent()].into_iter().flatten() {
        sync_folder(changed).map_err(io(changed))?;
    }
    Ok(under(folder, &to))
}
