//! Which parts of files may hold an id, by their bloom filters.
//!
//! A question for one id out of a hundred million rows is answered from the one row group that has it. The engine would read
//! each filter whole, a megabyte for a million rows; of a split block filter only the block that the id's hash names
//! needs to be read, which is 32 bytes (Parquet format, BloomFilter.md).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use parquet::file::metadata::ParquetMetaDataReader;
use twox_hash::XxHash64;

/// Files of which it is remembered where their filters are; beyond, all is forgotten.
const FILES_MAX: usize = 100_000;
/// Most ids of one question that are looked up; with more, rows are read.
const IDS_MAX: usize = 256;
const BLOCK_BYTES: u64 = 32;
/// What is read of a filter's header: more than it has.
const HEADER_BYTES: usize = 32;
/// A header behind its first field: the algorithm is BLOCK, the hash XXHASH, nothing is compressed (Thrift's compact
/// protocol).
const HEADER_REST: [u8; 13] = [0x1c, 0x1c, 0, 0, 0x1c, 0x1c, 0, 0, 0x1c, 0x1c, 0, 0, 0];
/// The salts of the eight words of a block.
const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// An id that rows must have: one of some values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sought {
    column: String,
    hashes: Vec<u64>,
}

/// The ids that conditions ask for.
pub(crate) fn sought(filters: &[Expr]) -> Vec<Sought> {
    filters.iter().flat_map(split_conjunction).filter_map(one).collect()
}

fn one(condition: &Expr) -> Option<Sought> {
    let (column, values) = match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), value) | (value, Expr::Column(column)) => (column, vec![value]),
                _ => return None,
            }
        }
        Expr::InList(InList { expr, list, negated: false }) if list.len() <= IDS_MAX => match expr.as_ref() {
            Expr::Column(column) => (column, list.iter().collect()),
            _ => return None,
        },
        // What the engine makes of a short list.
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, left, right }) => {
            let (mut left, right) = (one(left)?, one(right)?);
            left.hashes.extend(right.hashes);
            return (left.column == right.column && left.hashes.len() <= IDS_MAX).then_some(left);
        }
        _ => return None,
    };
    let hash = |value: &Expr| match value {
        Expr::Literal(ScalarValue::FixedSizeBinary(_, Some(bytes)), _) => Some(XxHash64::oneshot(0, bytes)),
        _ => None,
    };
    let hashes = values.into_iter().map(hash).collect::<Option<Vec<_>>>()?;
    Some(Sought { column: column.name.clone(), hashes })
}

/// A filter's blocks.
#[derive(Debug, Clone, Copy)]
struct Filter {
    offset: u64,
    blocks: u64,
}

/// The filters of a file: for each column that has any, one for each row group, none where it cannot be used.
#[derive(Debug)]
struct Filters {
    row_groups: usize,
    columns: HashMap<String, Vec<Option<Filter>>>,
}

/// Where the filters of files are, as far as anybody asked.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    known: Mutex<HashMap<PathBuf, Arc<Filters>>>,
}

impl Lookup {
    /// For each row group of a file, whether it may hold what is sought. A file under a name never changes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn row_groups(&self, path: &Path, sought: &[Sought]) -> io::Result<Vec<bool>> {
        let file = File::open(path)?;
        let filters = self.filters(path, &file)?;
        let mut may = vec![true; filters.row_groups];
        for one in sought {
            let Some(column) = filters.columns.get(&one.column) else { continue };
            for (may, filter) in may.iter_mut().zip(column) {
                if let (true, Some(filter)) = (*may, filter) {
                    *may = filter.may_hold(&file, &one.hashes)?;
                }
            }
        }
        Ok(may)
    }

    fn filters(&self, path: &Path, file: &File) -> io::Result<Arc<Filters>> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(path) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(Filters::read(file)?);
        let mut known = lock();
        if known.len() >= FILES_MAX {
            known.clear();
        }
        known.insert(path.to_owned(), Arc::clone(&found));
        Ok(found)
    }
}

impl Filters {
    fn read(file: &File) -> io::Result<Self> {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(file).map_err(io::Error::other)?;
        let mut columns: HashMap<String, Vec<Option<Filter>>> = HashMap::new();
        for (place, group) in metadata.row_groups().iter().enumerate() {
            for column in group.columns() {
                let Some(offset) = column.bloom_filter_offset().and_then(|offset| u64::try_from(offset).ok())
                else {
                    continue;
                };
                let name = column.column_path().string();
                let filters = columns.entry(name).or_insert_with(|| vec![None; metadata.num_row_groups()]);
                filters[place] = Filter::read(file, offset)?;
            }
        }
        Ok(Self { row_groups: metadata.num_row_groups(), columns })
    }
}

impl Filter {
    /// The filter whose header is at an offset; none if it is of a kind that came after this was written.
    fn read(file: &File, offset: u64) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, offset)?;
        // The first field: a 32-bit number, of which zigzag doubles the value, seven bits a byte.
        let mut bytes = 0_u64;
        let mut at = 1;
        loop {
            let byte = header[at];
            bytes |= u64::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 || at > 5 {
                break;
            }
        }
        let bytes = bytes / 2;
        let ours = header[0] == 0x15
            && header[at..at + HEADER_REST.len()] == HEADER_REST
            && bytes > 0
            && bytes.is_multiple_of(BLOCK_BYTES);
        let offset = offset + (at + HEADER_REST.len()) as u64;
        Ok(ours.then_some(Self { offset, blocks: bytes / BLOCK_BYTES }))
    }

    fn may_hold(&self, file: &File, hashes: &[u64]) -> io::Result<bool> {
        for hash in hashes {
            let block = ((hash >> 32) * self.blocks) >> 32;
            let mut bytes = [0; BLOCK_BYTES as usize];
            file.read_exact_at(&mut bytes, self.offset + block * BLOCK_BYTES)?;
            let words =
                bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
            let set = |(word, salt): (u32, u32)| word & (1 << ((*hash as u32).wrapping_mul(salt) >> 27)) != 0;
            if words.zip(SALT).all(set) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};
    use parquet::basic::Type;
    use parquet::data_type::{ByteArray, FixedLenByteArray, FixedLenByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::types::Type as SchemaType;

    fn id(n: u64) -> [u8; 16] {
        let mut id = [7; 16];
        id[4..12].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        id
    }

    fn literal(n: u64) -> Expr {
        lit(ScalarValue::FixedSizeBinary(16, Some(id(n).into())))
    }

    /// What the filters of the Parquet library say is what is read here.
    #[test]
    fn an_id_is_found_in_its_row_group() {
        let column = SchemaType::primitive_type_builder("trace_id", Type::FIXED_LEN_BYTE_ARRAY)
            .with_length(16)
            .with_repetition(parquet::basic::Repetition::REQUIRED)
            .build()
            .unwrap();
        let schema =
            SchemaType::group_type_builder("rows").with_fields(vec![Arc::new(column)]).build().unwrap();
        let properties = WriterProperties::builder().set_bloom_filter_enabled(true).build();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.parquet");
        let file = File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
        let (groups, each) = (4, 5_000);
        for group in 0..groups {
            let mut rows = writer.next_row_group().unwrap();
            let mut column = rows.next_column().unwrap().unwrap();
            let ids: Vec<FixedLenByteArray> = (group * each..(group + 1) * each)
                .map(|n| FixedLenByteArray::from(ByteArray::from(id(n).to_vec())))
                .collect();
            column.typed::<FixedLenByteArrayType>().write_batch(&ids, None, None).unwrap();
            column.close().unwrap();
            rows.close().unwrap();
        }
        writer.close().unwrap();
        let lookup = Lookup::default();
        let ask = |filter: Expr| lookup.row_groups(&path, &sought(&[filter])).unwrap();
        let mut false_positives = 0;
        for n in (0..groups * each).step_by(7) {
            let may = ask(col("trace_id").eq(literal(n)));
            assert!(may[(n / each) as usize], "{n} is not in its group");
            false_positives += may.iter().filter(|may| **may).count() - 1;
        }
        assert!(false_positives < (groups * each / 7) as usize / 5, "{false_positives}");
        let absent = (100_000..101_000).filter(|n| ask(literal(*n).eq(col("trace_id"))).contains(&true));
        assert!(absent.count() < 200);
        let some = ask(col("trace_id").in_list(vec![literal(1), literal(each)], false));
        assert_eq!(some[..2], [true, true]);
        // A column without filters says nothing.
        assert_eq!(ask(col("request_id").eq(literal(1))), vec![true; 4]);
    }

    #[test]
    fn only_ids_are_sought() {
        let (one, two) = (literal(1), literal(2));
        let of = |filter: Expr| sought(&[filter]).len();
        assert_eq!(of(col("trace_id").eq(one.clone()).and(col("status").eq(lit(200_u16)))), 1);
        assert_eq!(of(col("a").eq(one.clone()).or(col("a").eq(two.clone()))), 1);
        assert_eq!(of(col("a").eq(one.clone()).or(col("b").eq(two.clone()))), 0);
        assert_eq!(of(col("a").eq(one.clone()).or(lit(true))), 0);
        assert_eq!(of(col("a").not_eq(one.clone())), 0);
        assert_eq!(of(col("a").in_list(vec![one, two], true)), 0);
        assert_eq!(of(col("a").eq(lit(ScalarValue::FixedSizeBinary(16, None)))), 0);
    }
}
