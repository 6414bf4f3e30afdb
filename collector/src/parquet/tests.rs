//! What was packed is what is read back, by a reader that knows nothing of how it was written.

use super::*;
use crate::columns::Rows;
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use ::parquet::file::metadata::PageIndexPolicy;
use ::parquet::file::properties::ReaderProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::serialized_reader::ReadOptionsBuilder;
use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use event::{Attempt, AttemptError, Draft, RequestEvent, Text};
use std::fs::File;
use std::sync::Arc;

/// Spread without a generator's state.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

/// Every field now absent, now there, now the same, now always another.
fn fill(draft: &mut Draft, number: u64) {
    let random = mix(number);
    let one_of = |shift: u32, among: u64| (random >> shift) % among;
    draft.reset(10_000_000 + 1_000 * number as i64 - one_of(3, 9_000_000) as i64);
    let head = &mut draft.head;
    if one_of(5, 3) > 0 {
        head.request_id[..8].copy_from_slice(&random.to_le_bytes());
        head.parent_span_id = random.to_le_bytes();
    }
    head.trace_id = [one_of(7, 255) as u8 + 1; 16];
    head.request_bytes = random;
    head.response_bytes = one_of(9, 700);
    head.duration_us = random as u32;
    head.gateway_us = one_of(11, 90) as u32;
    if one_of(13, 5) == 0 {
        head.queue_us = (random >> 20) as u32;
        head.limit_remaining = -(one_of(15, 4_000) as i64);
        head.status = 100 + one_of(17, 500) as u16;
    }
    head.sampled = one_of(19, 2) as u8;
    draft.text(Text::Path, format!("/items/{random}/\u{e9}").as_bytes());
    draft.text(Text::Host, b"always the same");
    if one_of(21, 4) > 0 {
        draft.text(Text::Consumer, format!("consumer-{}", one_of(23, 300)).as_bytes());
        draft.text(Text::UserAgent, &b"a long one \xff ".repeat(1 + one_of(25, 12) as usize));
    }
    for attempt in 0..[0, 1, 1, 1, 2, 16][one_of(27, 6) as usize] {
        draft.attempt(&Attempt {
            addr: format!("10.0.0.{attempt}:80").as_bytes(),
            status: if one_of(29, 3) == 0 { event::ABSENT_U16 } else { 200 + attempt },
            error: if attempt == 1 { AttemptError::Reset } else { AttemptError::None },
            start_us: random as u32 >> 7,
            duration_us: u32::from(attempt),
            reused: attempt % 2 == 0,
            span_id: if attempt == 2 { [0; 8] } else { random.to_le_bytes() },
        });
    }
    for pair in 0..[0, 0, 3][one_of(31, 3) as usize] {
        draft.extra(format!("key-{pair}").as_bytes(), &random.to_le_bytes()[..pair as usize]);
    }
}

/// Batches of these many rows; `first` is the number of the first.
fn batches(sizes: &[u64], mut first: u64, fill: impl Fn(&mut Draft, u64)) -> Vec<RecordBatch> {
    let (mut rows, mut draft, mut made) = (Rows::new(), Draft::new(), Vec::new());
    for size in sizes {
        for number in first..first + size {
            fill(&mut draft, number);
            rows.append(&RequestEvent::of_draft("node", 1, number << 3, &draft));
        }
        first += size;
        made.push(rows.finish().unwrap());
    }
    made
}

/// Writes, reads, compares; gives the file.
fn round_trip(batches: &[RecordBatch], config: &ParquetConfig) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day/hour/file.parquet");
    let (hour, rows) = order(batches).unwrap().pop_first().unwrap();
    assert_eq!((hour, rows.len()), (0, batches.iter().map(RecordBatch::num_rows).sum()));
    let written = write(&path, config, batches, &rows).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((written.bytes, written.checksum), (bytes.len() as u64, event::layout::checksum(&bytes)));

    let schema = event::columns::schema();
    let unpacked: Vec<_> = batches.iter().map(|batch| event::hot::unpack(batch, None).unwrap()).collect();
    let begins: Vec<u32> = unpacked
        .iter()
        .scan(0, |begin, batch| Some(std::mem::replace(begin, *begin + batch.num_rows() as u32)))
        .collect();
    let places: UInt32Array = rows.iter().map(|row| begins[row.batch()] + row.at() as u32).collect();
    let expected = take_record_batch(&concat_batches(&schema, &unpacked).unwrap(), &places).unwrap();
    let options = ArrowReaderOptions::new()
        .with_schema(schema.clone())
        .with_page_index_policy(PageIndexPolicy::Required);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(&path).unwrap(), options);
    let read: Vec<_> = reader.unwrap().build().unwrap().map(Result::unwrap).collect();
    let read = concat_batches(&schema, &read).unwrap();
    assert_eq!(read.num_rows(), expected.num_rows());
    for (index, field) in schema.fields().iter().enumerate() {
        assert_eq!(read.column(index), expected.column(index), "{}", field.name());
    }
    (folder, path)
}

#[test]
fn a_row_group_looks_at_no_more_batches_than_it_has_rows_of() {
    let varied = batches(&[8_192; 6], 0, fill);
    let (_, rows) = order(&varied).unwrap().pop_first().unwrap();
    let (few, there) = rows::within(&varied, &rows[30_000..35_000]);
    assert!(few.len() < 4, "{} batches", few.len());
    let (_, all) = rows::within(&varied, &rows);
    assert_eq!(*all, *rows);
    let begin = varied.len() - few.len();
    let moved = (0..=begin).find(|first| few.first() == varied.get(*first)).unwrap();
    for (row, same) in rows[30_000..35_000].iter().zip(&*there) {
        assert_eq!((row.batch(), row.at(), row.us()), (same.batch() + moved, same.at(), same.us()));
    }
    round_trip(&varied, &ParquetConfig { row_group_rows: 5_000, ..ParquetConfig::default() });
}

#[test]
fn rows_of_every_kind_come_back_in_order_of_time() {
    let config = ParquetConfig { row_group_rows: 27_000, ..ParquetConfig::default() };
    let varied = batches(&[8_192, 1, 40_000, 300], 0, fill);
    let (_folder, path) = round_trip(&varied, &config);
    let options = ReadOptionsBuilder::new()
        .with_reader_properties(ReaderProperties::builder().set_read_bloom_filter(true).build())
        .build();
    let reader = SerializedFileReader::new_with_options(File::open(path).unwrap(), options).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 2);
    let all: usize = varied.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(reader.metadata().file_metadata().num_rows(), all as i64);
    for batch in &varied {
        let ids = batch["request_id"].as_fixed_size_binary();
        for id in (0..ids.len()).filter(|row| ids.is_valid(*row)).take(1_000).map(|row| ids.value(row)) {
            let in_group = |group| {
                let group = reader.get_row_group(group).unwrap();
                group.get_column_bloom_filter(4).unwrap().check(id)
            };
            assert!((0..2).any(in_group), "an id is in no bloom filter");
        }
    }
    for group in reader.metadata().row_groups() {
        let column =
            |name: &str| group.columns().iter().find(|column| column.column_path().string() == name).unwrap();
        assert!(column("workspace").statistics().unwrap().null_count_opt() == Some(group.num_rows() as u64));
        assert_eq!(column("path").statistics().unwrap().null_count_opt(), Some(0));
        let time = column("time").statistics().unwrap();
        assert!(time.min_bytes_opt().is_some() && time.max_bytes_opt().is_some());
        assert_eq!(group.sorting_columns().unwrap().len(), 1);
    }
}

#[test]
fn rows_that_lack_nearly_everything_come_back() {
    let blank = |draft: &mut Draft, number: u64| draft.reset(number as i64);
    round_trip(&batches(&[3, 30_000], 0, blank), &ParquetConfig::default());
    // A batch with and one without tries, pairs and texts.
    let mut mixed = batches(&[100], 0, blank);
    mixed.extend(batches(&[100], 100, fill));
    round_trip(&mixed, &ParquetConfig::default());
    // Tries of which none has a status, an error or a span.
    let bare = |draft: &mut Draft, number: u64| {
        draft.reset(number as i64);
        draft.attempt(&Attempt {
            addr: b"a",
            status: event::ABSENT_U16,
            error: AttemptError::None,
            start_us: 1,
            duration_us: 1,
            reused: false,
            span_id: [0; 8],
        });
    };
    round_trip(&batches(&[100, 25_000], 0, bare), &ParquetConfig::default());
}

#[test]
fn batches_that_are_not_packed_are_taken_too() {
    let unpacked: Vec<_> =
        batches(&[500], 0, fill).iter().map(|batch| event::hot::unpack(batch, None).unwrap()).collect();
    round_trip(&unpacked, &ParquetConfig::default());
}

#[test]
fn too_many_batches_and_too_large_ones_are_made_bounded() {
    let few = batches(&[3, 5], 0, fill);
    assert!(matches!(rows::bounded_by(&few, 5).unwrap(), std::borrow::Cow::Borrowed(_)));
    let many = batches(&[1, 2, 3, 40, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 0, fill);
    let bounded = rows::bounded_by(&many, 16).unwrap();
    assert!(bounded.len() <= 16 && bounded.iter().all(|batch| batch.num_rows() <= 16));
    let unpack = |batches: &[RecordBatch]| {
        let all: Vec<_> = batches.iter().map(|batch| event::hot::unpack(batch, None).unwrap()).collect();
        concat_batches(&event::columns::schema(), &all).unwrap()
    };
    assert_eq!(unpack(&bounded), unpack(&many));
    round_trip(&bounded, &ParquetConfig::default());
}

/// Text as codes, numbers as wide as in the table, columns without a value left out: as hot files were packed before.
#[test]
fn batches_of_the_version_before_are_taken() {
    let old = |batch: &RecordBatch| {
        let batch = event::hot::unpack(batch, None).unwrap();
        let coded = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
        let (fields, columns): (Vec<Field>, Vec<_>) = (batch.schema().fields().iter().zip(batch.columns()))
            .filter(|(_, column)| column.null_count() < column.len())
            .map(|(field, column)| {
                let column = match column.data_type() {
                    DataType::Utf8View => cast(column, &coded).unwrap(),
                    _ => Arc::clone(column),
                };
                (Field::new(field.name(), column.data_type().clone(), field.is_nullable()), column)
            })
            .unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let mut mixed: Vec<_> = batches(&[500, 3], 0, fill).iter().map(old).collect();
    mixed.extend(batches(&[400], 503, fill));
    round_trip(&mixed, &ParquetConfig::default());
}
