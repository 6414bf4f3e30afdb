//! What is kept of roll-ups in memory: columns of files, those longest ago asked for left out first.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::ArrayRef;
use event::layout::FileEntry;
use lru::LruCache;

use crate::sealed::{Sealed, Source};

/// Most groups of a file whose columns are kept.
const GROUPS_MAX: u64 = 1 << 16;
/// Of all that is kept a file may take one part in so many.
const SHARES: usize = 4;

/// The columns that are kept.
#[derive(Debug)]
pub(crate) struct GroupCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// By the name of the file: its columns, by their place in the schema of roll-ups.
    files: LruCache<String, Vec<Option<ArrayRef>>>,
    bytes: usize,
    /// The files of the table when those that left it were last forgotten.
    of: Weak<Sealed>,
}

impl GroupCache {
    /// One that keeps at most so many bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { bytes_max, kept: Mutex::new(Kept { files: LruCache::unbounded(), bytes: 0, of: Weak::new() }) }
    }

    /// Whether the columns of a file are kept.
    pub(crate) fn takes(&self, file: &FileEntry) -> bool {
        file.rows <= GROUPS_MAX && file.bytes <= (self.bytes_max / SHARES) as u64
    }

    /// Some columns of a file, those that are kept.
    pub(super) fn get(&self, file: &str, columns: &[usize]) -> Vec<Option<ArrayRef>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.files.get(file) {
            Some(known) => columns.iter().map(|column| known[*column].clone()).collect(),
            None => vec![None; columns.len()],
        }
    }

    /// Whether some columns of a file are kept, all of them.
    pub(super) fn has(&self, file: &str, columns: &[usize]) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.files.peek(file);
        known.is_some_and(|known| columns.iter().all(|column| known[*column].is_some()))
    }

    /// Keeps columns of a file, by their places in the schema, which a question over `sealed` files has read. Of what may
    /// have left the table since nothing is kept.
    pub(super) fn put(
        &self,
        sealed: &Arc<Sealed>,
        file: &str,
        columns: impl Iterator<Item = (usize, ArrayRef)>,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.of.as_ptr() != Arc::as_ptr(sealed) {
            return;
        }
        let Kept { files, bytes, .. } = &mut *kept;
        let fields = event::rollup::schema().fields().len();
        let known = files.get_or_insert_mut_ref(file, || vec![None; fields]);
        for (column, values) in columns {
            let size = values.get_array_memory_size();
            if size <= self.bytes_max / SHARES && known[column].is_none() {
                *bytes += size;
                known[column] = Some(values);
            }
        }
        while *bytes > self.bytes_max
            && let Some((_, columns)) = files.pop_lru()
        {
            *bytes -= size_of_columns(&columns);
        }
    }

    /// Forgets files that left the table: what was erased is to stay nowhere.
    pub(crate) fn follow(&self, sealed: &Arc<Sealed>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.of.as_ptr() == Arc::as_ptr(sealed) {
            return;
        }
        let Kept { files, bytes, of } = &mut *kept;
        *of = Arc::downgrade(sealed);
        let there: HashSet<String> =
            sealed.rollups.iter().map(|(source, entry)| name(source, &entry.file)).collect();
        files.retain(|file, columns| {
            let stays = there.contains(file);
            if !stays {
                *bytes -= size_of_columns(columns);
            }
            stays
        });
    }
}

/// What a file is called here: what is read of the bucket may be whole where what the disk has of the same file is not.
pub(crate) fn name(source: &Source, file: &FileEntry) -> String {
    match source {
        Source::Disk(_) => file.path.clone(),
        Source::Bucket(object) => format!("bucket: {object}"),
    }
}

fn size_of_columns(columns: &[Option<ArrayRef>]) -> usize {
    columns.iter().flatten().map(|column| column.get_array_memory_size()).sum()
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt64Array;
    use event::layout::{Place, RollupEntry};
    use event::rollup::{Grouping, Resolution};

    use super::*;

    fn column(numbers: usize) -> ArrayRef {
        Arc::new(UInt64Array::from(vec![7; numbers]))
    }

    fn kept(cache: &GroupCache, file: &str) -> usize {
        cache.get(file, &[0, 1]).iter().flatten().count()
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest() {
        let (cache, of) = (GroupCache::new(80_000), Arc::new(Sealed::default()));
        cache.follow(&of);
        for file in ["a", "b", "c"] {
            cache.put(&of, file, [(0, column(1_000)), (1, column(1_000))].into_iter());
        }
        assert_eq!([kept(&cache, "a"), kept(&cache, "b"), kept(&cache, "c")], [2, 2, 2]);
        // A column that takes more than its share is not kept at all.
        cache.put(&of, "d", [(0, column(3_000))].into_iter());
        assert_eq!(kept(&cache, "d"), 0);
        assert_eq!(kept(&cache, "a"), 2);
        for file in ["e", "f"] {
            cache.put(&of, file, [(0, column(1_000)), (1, column(1_000))].into_iter());
        }
        assert_eq!(["a", "b", "c", "e", "f"].map(|file| kept(&cache, file)), [2, 0, 2, 2, 2]);
        assert!(cache.kept.lock().unwrap().bytes <= 80_000);
        // Twice the same is once.
        let before = cache.kept.lock().unwrap().bytes;
        cache.put(&of, "f", [(0, column(1_000))].into_iter());
        assert_eq!(cache.kept.lock().unwrap().bytes, before);
        let none = GroupCache::new(0);
        none.follow(&of);
        none.put(&of, "a", [(0, column(1))].into_iter());
        assert_eq!(kept(&none, "a"), 0);
    }

    #[test]
    fn files_that_left_the_table_are_forgotten() {
        let entry = |path: &str| RollupEntry {
            file: FileEntry {
                path: path.into(),
                rows: 1,
                bytes: 1,
                checksum: String::new(),
                time_min_us: 0,
                time_max_us: 0,
                hot: 0,
                level: 0,
                place: Place::Local,
            },
            resolution: Resolution::Hour,
            grouping: Grouping::All,
            requests: 1,
            overflowed: 0,
        };
        let sealed = |paths: &[&str]| {
            let rollups = paths.iter().map(|path| (Source::Disk((*path).into()), entry(path))).collect();
            Arc::new(Sealed { rollups, ..Sealed::default() })
        };
        let (cache, before) = (GroupCache::new(1 << 20), sealed(&["a", "b"]));
        cache.follow(&before);
        for file in ["a", "b"] {
            cache.put(&before, file, [(0, column(10))].into_iter());
        }
        cache.follow(&before);
        assert_eq!([kept(&cache, "a"), kept(&cache, "b")], [1, 1]);
        let after = sealed(&["b"]);
        cache.follow(&after);
        assert_eq!([kept(&cache, "a"), kept(&cache, "b")], [0, 1]);
        assert_eq!(cache.kept.lock().unwrap().bytes, size_of_columns(&[Some(column(10))]));
        // A question that still goes on over the files of before.
        cache.put(&before, "a", [(0, column(10))].into_iter());
        assert_eq!(kept(&cache, "a"), 0);
    }
}
