//! What files are made of: columns with their encodings, bytes and bounds, and the table as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::basic::Encoding;
use ::parquet::data_type::AsBytes;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::statistics::Statistics;
use event::layout::{DataFolder, Manifest};
use serde::Serialize;

use super::StorageError;

/// Some files, seen as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FileView {
    /// Their names, under the data folder where they are in it.
    pub files: Vec<String>,
    /// Rows of all.
    pub rows: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Row groups of all.
    pub row_groups: u64,
    /// Who wrote them.
    pub created_by: Vec<String>,
    /// What their footers say besides, as `key=value`.
    pub said: Vec<String>,
    /// The columns, in the order of the schema.
    pub columns: Vec<ColumnView>,
}

/// One column of some files.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ColumnView {
    /// Its path, with dots.
    pub name: String,
    /// Encodings of its data pages, and its compression.
    pub encodings: Vec<String>,
    /// Bytes in the files.
    pub bytes: u64,
    /// Bytes before compression.
    pub bytes_raw: u64,
    /// Bytes of its bloom filters.
    pub bloom_bytes: u64,
    /// Values that are absent.
    pub nulls: u64,
    /// Least and greatest value, as text; none if no file says.
    pub bounds: Option<(String, String)>,
    /// The same as they compare.
    #[serde(skip)]
    keys: Option<(Key, Key)>,
}

/// A bound that compares as its column does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Bytes(Vec<u8>),
}

impl Key {
    fn show(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// The table: its files by level, and by hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableView {
    /// Of each level.
    pub levels: BTreeMap<u8, Part>,
    /// Of each hour, by its folder.
    pub hours: BTreeMap<String, Part>,
    /// Of all.
    pub all: Part,
    /// Files that left the table and wait for their end.
    pub removed: u64,
    /// Rows that were set aside with damaged files.
    pub rows_set_aside: u64,
}

/// Some files of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// How many.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Earliest time, microseconds since 1970 (UTC).
    pub time_min_us: i64,
    /// Latest time.
    pub time_max_us: i64,
}

/// The table as its manifest says.
///
/// # Errors
/// When the manifest cannot be read.
pub fn inspect_table(folder: &DataFolder) -> Result<TableView, StorageError> {
    let manifest = Manifest::load(folder)?;
    let mut view = TableView { removed: manifest.removed.len() as u64, ..TableView::default() };
    view.rows_set_aside = manifest.set_aside.iter().map(|aside| aside.file.rows).sum();
    for file in &manifest.files {
        let hour = hour_of(&file.path);
        for part in
            [view.levels.entry(file.level).or_default(), view.hours.entry(hour).or_default(), &mut view.all]
        {
            let first = part.files == 0;
            part.time_min_us = if first { file.time_min_us } else { part.time_min_us.min(file.time_min_us) };
            part.time_max_us = if first { file.time_max_us } else { part.time_max_us.max(file.time_max_us) };
            part.files += 1;
            part.rows += file.rows;
            part.bytes += file.bytes;
        }
    }
    Ok(view)
}

/// `date=YYYY-MM-DD/hour=HH` of a path.
fn hour_of(path: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    folder.strip_prefix("requests/").unwrap_or(folder).to_owned()
}

/// A Parquet file by its path, below the data folder or not; or all files of an hour, as `date=2026-01-31/hour=07`.
///
/// # Errors
/// When there is nothing of that name, or it cannot be read.
pub fn inspect_files(folder: &DataFolder, what: &str) -> Result<FileView, StorageError> {
    let hour = what.trim_end_matches('/');
    let hour = hour.rsplit_once("requests/").map_or(hour, |(_, hour)| hour);
    let manifest = Manifest::load(folder)?;
    let of_hour = manifest.files.iter().filter(|file| hour_of(&file.path) == hour && file.place.is_on_disk());
    let mut names: Vec<String> = of_hour.map(|file| file.path.clone()).collect();
    if names.is_empty() {
        let there = |path: &Path| path.is_file();
        names = match what {
            _ if there(&folder.root().join(what)) || there(Path::new(what)) => vec![what.to_owned()],
            _ => return Err(StorageError::Unknown(what.to_owned())),
        };
    }
    let mut view = FileView::default();
    for name in names {
        let mut path = folder.root().join(&name);
        if !path.is_file() {
            path = PathBuf::from(&name);
        }
        add(&path, &mut view)?;
        view.files.push(name);
    }
    Ok(view)
}

fn add(path: &Path, view: &mut FileView) -> Result<(), StorageError> {
    let unreadable = |reason: String| StorageError::Unreadable { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    view.bytes += file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
    let reader = SerializedFileReader::new(file).map_err(|error| unreadable(error.to_string()))?;
    let metadata = reader.metadata();
    view.rows += u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    view.row_groups += metadata.num_row_groups() as u64;
    let created = metadata.file_metadata().created_by().unwrap_or("nobody says");
    once(&mut view.created_by, created.to_owned());
    for pair in metadata.file_metadata().key_value_metadata().into_iter().flatten() {
        if pair.key != "ARROW:schema" {
            once(&mut view.said, format!("{}={}", pair.key, pair.value.as_deref().unwrap_or_default()));
        }
    }
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let name = column.column_path().string();
        let at = view.columns.iter().position(|known| known.name == name).unwrap_or_else(|| {
            view.columns.push(ColumnView { name, ..ColumnView::default() });
            view.columns.len() - 1
        });
        let known = &mut view.columns[at];
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        known.bytes += size(column.compressed_size());
        known.bytes_raw += size(column.uncompressed_size());
        known.bloom_bytes += column.bloom_filter_length().map_or(0, |bytes| size(bytes.into()));
        for encoding in data_encodings(column) {
            once(&mut known.encodings, encoding);
        }
        let codec = column.compression().to_string();
        once(&mut known.encodings, codec.split('(').next().unwrap_or(&codec).to_owned());
        let Some(statistics) = column.statistics() else { continue };
        known.nulls += statistics.null_count_opt().unwrap_or_default();
        if let Some((low, high)) = keys(statistics) {
            known.keys = Some(match known.keys.take() {
                Some((least, most)) => (least.min(low), most.max(high)),
                None => (low, high),
            });
            known.bounds = known.keys.as_ref().map(|(low, high)| (low.show(), high.show()));
        }
    }
    Ok(())
}

/// Encodings of the values; levels and dictionaries have theirs too, which say nothing.
pub(crate) fn data_encodings(column: &ColumnChunkMetaData) -> Vec<String> {
    let all = match column.page_encoding_stats_mask() {
        Some(pages) => pages.encodings().collect::<Vec<_>>(),
        None => column.encodings().filter(|encoding| *encoding != Encoding::RLE).collect(),
    };
    all.into_iter().map(|encoding| encoding.to_string()).collect()
}

fn once(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

fn keys(statistics: &Statistics) -> Option<(Key, Key)> {
    Some(match statistics {
        Statistics::Boolean(found) => {
            (Key::Number((*found.min_opt()?).into()), Key::Number((*found.max_opt()?).into()))
        }
        Statistics::Int32(found) => {
            (Key::Number((*found.min_opt()?).into()), Key::Number((*found.max_opt()?).into()))
        }
        Statistics::Int64(found) => (Key::Number(*found.min_opt()?), Key::Number(*found.max_opt()?)),
        Statistics::ByteArray(found) => (
            Key::Bytes(found.min_opt()?.as_bytes().to_vec()),
            Key::Bytes(found.max_opt()?.as_bytes().to_vec()),
        ),
        _ => return None,
    })
}
