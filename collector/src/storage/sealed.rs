//! One Parquet file of the table against its entry in the manifest.

use std::fs::File;
use std::io;

use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::statistics::Statistics;
use event::layout::{DataFolder, FileEntry, RollupEntry};

use super::{Kind, Problem};
use crate::compact::sum;
use crate::parquet::HOUR_US;
use crate::seal::hour_folder;

/// What is wrong with a file of rows; none if it is what the manifest says. `passed` is told of each piece that was read.
pub(super) fn judge(folder: &DataFolder, entry: &FileEntry, passed: impl FnMut(u64)) -> Option<Problem> {
    let problem = |kind, what: String| Some(Problem::new(kind, &entry.path, what, Some(entry.rows)));
    if let Some((is_there, what)) = compare(folder, entry, passed) {
        return problem(if is_there { Kind::Damaged } else { Kind::Missing }, what);
    }
    // From here on it is as it was written; what is wrong now was written so.
    match footer(folder, entry) {
        Ok(None) => None,
        Ok(Some(what)) | Err(what) => problem(Kind::Damaged, what),
    }
}

/// The same of a file of roll-ups.
pub(super) fn judge_rollup(
    folder: &DataFolder,
    entry: &RollupEntry,
    passed: impl FnMut(u64),
) -> Option<Problem> {
    let wrong = compare(folder, &entry.file, passed).map(|(_, what)| what);
    let wrong = wrong.or_else(|| match rows(folder, &entry.file) {
        Ok((_, wrong)) => wrong,
        Err(what) => Some(what),
    });
    wrong.map(|what| Problem::new(Kind::Rollup, &entry.file.path, what, None))
}

/// Whether a file has the bytes that the manifest says: if not, whether it is there, and what is wrong.
fn compare(folder: &DataFolder, entry: &FileEntry, passed: impl FnMut(u64)) -> Option<(bool, String)> {
    match sum(&folder.root().join(&entry.path), passed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some((false, "it is not there".into())),
        Err(error) => Some((true, format!("it cannot be read: {error}"))),
        Ok((bytes, _)) if bytes != entry.bytes => {
            Some((true, format!("it has {bytes} bytes, the manifest says {}", entry.bytes)))
        }
        Ok((_, checksum)) if checksum != entry.checksum => {
            Some((true, format!("its checksum is {checksum}, the manifest says {}", entry.checksum)))
        }
        Ok(_) => None,
    }
}

/// The footer, and what is wrong with the number of its rows.
fn rows(folder: &DataFolder, entry: &FileEntry) -> Result<(ParquetMetaData, Option<String>), String> {
    let file = File::open(folder.root().join(&entry.path)).map_err(|error| error.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|error| format!("its footer: {error}"))?;
    let metadata = reader.metadata().clone();
    let rows = metadata.file_metadata().num_rows();
    let wrong = (u64::try_from(rows) != Ok(entry.rows))
        .then(|| format!("it has {rows} rows, the manifest says {}", entry.rows));
    Ok((metadata, wrong))
}

/// What the footer says that the manifest does not.
fn footer(folder: &DataFolder, entry: &FileEntry) -> Result<Option<String>, String> {
    let (metadata, wrong) = rows(folder, entry)?;
    if wrong.is_some() {
        return Ok(wrong);
    }
    let said = (entry.time_min_us, entry.time_max_us);
    if let Some(found) = times(&metadata).filter(|found| *found != said) {
        return Ok(Some(format!("its times are {found:?}, the manifest says {said:?}")));
    }
    let hour = hour_folder(entry.time_min_us.div_euclid(HOUR_US));
    if !entry.path.contains(&hour) {
        return Ok(Some(format!("its rows belong to {hour}")));
    }
    Ok(None)
}

/// Least and greatest time by the statistics; none if they do not say.
fn times(metadata: &ParquetMetaData) -> Option<(i64, i64)> {
    let mut range: Option<(i64, i64)> = None;
    for group in metadata.row_groups() {
        let column = group.columns().iter().find(|column| column.column_path().string() == "time")?;
        let Some(Statistics::Int64(found)) = column.statistics() else { return None };
        let (low, high) = (*found.min_opt()?, *found.max_opt()?);
        range = Some(range.map_or((low, high), |(least, most)| (least.min(low), most.max(high))));
    }
    range
}
