//! One Parquet file of the table against its entry in the manifest.

use std::fs::File;
use std::io;

use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::statistics::Statistics;
use event::layout::{DataFolder, FileEntry};

use super::{Kind, Problem};
use crate::compact::sum;
use crate::parquet::HOUR_US;
use crate::seal::hour_folder;

/// What is wrong with a file; none if it is what the manifest says. `passed` is told of each piece that was read.
pub(super) fn judge(folder: &DataFolder, entry: &FileEntry, passed: impl FnMut(u64)) -> Option<Problem> {
    let problem = |kind, what: String| Some(Problem::new(kind, &entry.path, what, Some(entry.rows)));
    let path = folder.root().join(&entry.path);
    match sum(&path, passed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return problem(Kind::Missing, "it is not there".into());
        }
        Err(error) => return problem(Kind::Damaged, format!("it cannot be read: {error}")),
        Ok((bytes, _)) if bytes != entry.bytes => {
            let what = format!("it has {bytes} bytes, the manifest says {}", entry.bytes);
            return problem(Kind::Damaged, what);
        }
        Ok((_, checksum)) if checksum != entry.checksum => {
            let what = format!("its checksum is {checksum}, the manifest says {}", entry.checksum);
            return problem(Kind::Damaged, what);
        }
        Ok(_) => {}
    }
    // From here on it is as it was written; what is wrong now was written so.
    match footer(folder, entry) {
        Ok(None) => None,
        Ok(Some(what)) | Err(what) => problem(Kind::Damaged, what),
    }
}

/// What the footer says that the manifest does not.
fn footer(folder: &DataFolder, entry: &FileEntry) -> Result<Option<String>, String> {
    let file = File::open(folder.root().join(&entry.path)).map_err(|error| error.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|error| format!("its footer: {error}"))?;
    let metadata = reader.metadata();
    let rows = metadata.file_metadata().num_rows();
    if u64::try_from(rows) != Ok(entry.rows) {
        return Ok(Some(format!("it has {rows} rows, the manifest says {}", entry.rows)));
    }
    let said = (entry.time_min_us, entry.time_max_us);
    if let Some(found) = times(metadata).filter(|found| *found != said) {
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
