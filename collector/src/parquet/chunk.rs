//! One column of one row group as bytes: pages with their levels, and what the footer says of them.

use super::bits::{hybrid, run, width};
use super::rows::Span;
use ::parquet::basic::EncodingMask;
use ::parquet::basic::{Compression, Encoding, PageType, Type};
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::page::{CompressedPage, Page, PageWriter};
use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use ::parquet::file::statistics::Statistics;
use ::parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use ::parquet::schema::types::ColumnDescPtr;
use bytes::Bytes;
use zstd::bulk::Compressor;

/// Least and greatest value of a page, as a page index has them.
pub(super) type Bounds = (Vec<u8>, Vec<u8>);

/// Memory that one page, and one column, leaves to the next: fresh memory is paid for page by page.
#[derive(Default)]
pub(super) struct Buffers {
    raw: Vec<u8>,
    packed: Vec<u8>,
    chunk: Vec<u8>,
}

impl Buffers {
    /// Takes the bytes of a finished chunk back, once they are written.
    pub(super) fn recycle(&mut self, chunk: Bytes) {
        self.chunk = emptied(chunk);
    }
}

/// A chunk in the making.
pub(super) struct Chunk<'a> {
    descr: ColumnDescPtr,
    compressor: Option<&'a mut Compressor<'static>>,
    codec: Compression,
    raw: &'a mut Vec<u8>,
    packed: &'a mut Vec<u8>,
    sink: TrackedWrite<Vec<u8>>,
    dictionary_bytes: usize,
    encoding: Encoding,
    pages: i32,
    uncompressed: usize,
    index: Option<ColumnIndexBuilder>,
    offsets: OffsetIndexBuilder,
    rows: u64,
    entries: u64,
    nulls: u64,
}

impl<'a> Chunk<'a> {
    /// An empty chunk of a column whose data pages all have one encoding; compressed if there is a compressor.
    pub(super) fn new(
        descr: &ColumnDescPtr,
        encoding: Encoding,
        codec: Compression,
        compressor: Option<&'a mut Compressor<'static>>,
        buffers: &'a mut Buffers,
    ) -> Self {
        let Buffers { raw, packed, chunk } = buffers;
        let codec = if compressor.is_some() { codec } else { Compression::UNCOMPRESSED };
        // Of ids the bounds of a page say nothing: they are random.
        let indexed = descr.physical_type() != Type::FIXED_LEN_BYTE_ARRAY;
        Self {
            descr: descr.clone(),
            compressor,
            codec,
            raw,
            packed,
            sink: TrackedWrite::new(std::mem::take(chunk)),
            dictionary_bytes: 0,
            encoding,
            pages: 0,
            uncompressed: 0,
            index: indexed.then(|| ColumnIndexBuilder::new(descr.physical_type())),
            offsets: OffsetIndexBuilder::new(),
            rows: 0,
            entries: 0,
            nulls: 0,
        }
    }

    /// Writes the dictionary, which comes before the pages.
    pub(super) fn dictionary(
        &mut self,
        values: usize,
        plain: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ParquetError> {
        self.raw.clear();
        plain(self.raw);
        let page = |buf| Page::DictionaryPage {
            buf,
            num_values: values as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.dictionary_bytes = self.put(page)?.1;
        Ok(())
    }

    /// Writes one page. `valid` says which of its places have a value, none that all have; `values` appends those that
    /// there are, and gives their bounds, or none if there are none.
    pub(super) fn page(
        &mut self,
        span: &Span,
        valid: Option<&[bool]>,
        values: impl FnOnce(&mut Vec<u8>) -> Option<Bounds>,
    ) -> Result<(), ParquetError> {
        self.raw.clear();
        let (entries, nulls) = levels(&self.descr, span, valid, self.raw);
        let bounds = values(self.raw);
        self.finish_page(span.rows, entries, nulls, bounds)
    }

    /// Writes one page for `rows` rows that have no value, nor an item in their lists.
    pub(super) fn blank(&mut self, rows: usize) -> Result<(), ParquetError> {
        let (max_repetition, max_definition) = (self.descr.max_rep_level(), self.descr.max_def_level());
        self.raw.clear();
        if max_repetition > 0 {
            prefixed(self.raw, |raw| run(0, rows, 1, raw));
        }
        // A list that is there and empty has level 1.
        let level = u32::from(max_repetition > 0);
        prefixed(self.raw, |raw| run(level, rows, width(max_definition as u32), raw));
        self.finish_page(rows, rows, rows, None)
    }

    fn finish_page(
        &mut self,
        rows: usize,
        entries: usize,
        nulls: usize,
        bounds: Option<Bounds>,
    ) -> Result<(), ParquetError> {
        if let Some(index) = &mut self.index {
            let empty = bounds.is_none();
            let (least, greatest) = bounds.unwrap_or_default();
            index.append(empty, least, greatest, nulls as i64);
        }
        let encoding = self.encoding;
        let page = |buf| Page::DataPage {
            buf,
            num_values: entries as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (offset, bytes) = self.put(page)?;
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(offset as i64, bytes as i32);
        self.pages += 1;
        self.rows += rows as u64;
        self.entries += entries as u64;
        self.nulls += nulls as u64;
        Ok(())
    }

    /// Writes the raw bytes as a page; gives where it begins, and its length with its header.
    fn put(&mut self, page: impl FnOnce(Bytes) -> Page) -> Result<(u64, usize), ParquetError> {
        let uncompressed = self.raw.len();
        let buffer = match &mut self.compressor {
            Some(compressor) => {
                self.packed.clear();
                self.packed.reserve(zstd::zstd_safe::compress_bound(uncompressed));
                compressor.compress_to_buffer(self.raw, self.packed)?;
                &mut *self.packed
            }
            None => &mut *self.raw,
        };
        let bytes = Bytes::from(std::mem::take(buffer));
        let page = CompressedPage::new(page(bytes.clone()), uncompressed);
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        *buffer = emptied(bytes);
        self.uncompressed += spec.uncompressed_size;
        Ok((spec.offset, spec.compressed_size))
    }

    /// Makes room for so many bytes, where it is known: growing copies what is there into fresh memory.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.sink.inner_mut().reserve_exact(bytes);
    }

    /// How many entries have no value.
    pub(super) fn nulls(&self) -> u64 {
        self.nulls
    }

    /// The bytes, and what the footer says of them.
    pub(super) fn close(
        self,
        statistics: Statistics,
        bloom_filter: Option<Sbbf>,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let bytes = Bytes::from(self.sink.into_inner()?);
        let stats = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut encodings = vec![Encoding::RLE, self.encoding];
        let mut page_stats = vec![stats(PageType::DATA_PAGE, self.encoding, self.pages)];
        if self.dictionary_bytes > 0 {
            encodings.push(Encoding::PLAIN);
            page_stats.insert(0, stats(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1));
        }
        let metadata = ColumnChunkMetaData::builder(self.descr)
            .set_compression(self.codec)
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings.iter()))
            .set_page_encoding_stats(page_stats)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(self.entries as i64)
            .set_data_page_offset(self.dictionary_bytes as i64)
            .set_dictionary_page_offset((self.dictionary_bytes > 0).then_some(0))
            .set_statistics(statistics)
            .build()?;
        let result = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows,
            metadata,
            bloom_filter,
            column_index: self.index.map(ColumnIndexBuilder::build).transpose()?,
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes, result))
    }
}

/// Appends the levels of a page; gives the number of its entries, and of those without a value.
fn levels(descr: &ColumnDescPtr, span: &Span, valid: Option<&[bool]>, raw: &mut Vec<u8>) -> (usize, usize) {
    let absent = valid.map_or(0, |valid| valid.iter().filter(|valid| !**valid).count());
    let max = descr.max_def_level() as u32;
    let bits = width(max);
    let Some(lists) = &span.lists else {
        match valid {
            _ if max == 0 => {}
            Some(valid) => {
                let levels: Vec<u8> = valid.iter().map(|valid| u8::from(*valid)).collect();
                prefixed(raw, |raw| hybrid(&levels, bits, raw));
            }
            None => prefixed(raw, |raw| run(1, span.rows, bits, raw)),
        }
        return (span.rows, absent);
    };
    if lists.single {
        prefixed(raw, |raw| run(0, span.rows, 1, raw));
        match valid {
            Some(valid) => {
                let levels: Vec<u8> = valid.iter().map(|valid| 2 + u8::from(*valid)).collect();
                prefixed(raw, |raw| hybrid(&levels, bits, raw));
            }
            None => prefixed(raw, |raw| run(max, span.rows, bits, raw)),
        }
        return (span.rows, absent);
    }
    prefixed(raw, |raw| hybrid(&lists.repetition, 1, raw));
    if max == 2 {
        prefixed(raw, |raw| hybrid(&lists.definition, bits, raw));
    } else {
        let mut place = 0;
        let level = |level: &u8| match level {
            2 => {
                place += 1;
                2 + u8::from(valid.is_none_or(|valid| valid[place - 1]))
            }
            level => *level,
        };
        let levels: Vec<u8> = lists.definition.iter().map(level).collect();
        prefixed(raw, |raw| hybrid(&levels, bits, raw));
    }
    let entries = lists.definition.len();
    (entries, entries - span.places.len() + absent)
}

/// Levels with their length in front, as data pages of version 1 have them.
fn prefixed(raw: &mut Vec<u8>, levels: impl FnOnce(&mut Vec<u8>)) {
    let begin = raw.len();
    raw.extend_from_slice(&[0; 4]);
    levels(raw);
    let length = (raw.len() - begin - 4) as u32;
    raw[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// The memory of bytes that nobody else holds any more, to be written to again.
fn emptied(mut bytes: Bytes) -> Vec<u8> {
    bytes.clear();
    bytes.into()
}
