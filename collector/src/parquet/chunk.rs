//! One column of one row group as bytes: pages with their levels, and what the footer says of them.

use super::bits::{hybrid, run, width};
use super::rows::{Places, Span};
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
use std::ops::Range;
use zstd::bulk::Compressor;

/// Least and greatest value of a page, as a page index has them.
pub(super) type Bounds = (Vec<u8>, Vec<u8>);

/// A chunk in the making.
pub(super) struct Chunk<'a> {
    descr: ColumnDescPtr,
    compressor: Option<&'a mut Compressor<'static>>,
    codec: Compression,
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
    /// An empty chunk of a column whose data pages all have one encoding; compressed if there is a compressor. `memory`
    /// is what to write to.
    pub(super) fn new(
        descr: &ColumnDescPtr,
        encoding: Encoding,
        codec: Compression,
        compressor: Option<&'a mut Compressor<'static>>,
        mut memory: Vec<u8>,
    ) -> Self {
        memory.clear();
        let codec = if compressor.is_some() { codec } else { Compression::UNCOMPRESSED };
        // Of ids the bounds of a page say nothing: they are random.
        let indexed = descr.physical_type() != Type::FIXED_LEN_BYTE_ARRAY;
        Self {
            descr: descr.clone(),
            compressor,
            codec,
            sink: TrackedWrite::new(memory),
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
    pub(super) fn dictionary(&mut self, plain: Vec<u8>, values: usize) -> Result<(), ParquetError> {
        let uncompressed = plain.len();
        let page = Page::DictionaryPage {
            buf: self.compress(plain)?,
            num_values: values as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.dictionary_bytes = self.put(page, uncompressed)?.1;
        Ok(())
    }

    /// Writes the pages of all rows. `values` appends the values of some places, those that are valid, and gives
    /// their bounds, or none if there are no values.
    pub(super) fn pages(
        &mut self,
        places: &Places,
        valid: Option<&[bool]>,
        mut values: impl FnMut(Range<usize>, &mut Vec<u8>) -> Option<Bounds>,
    ) -> Result<(), ParquetError> {
        for span in &places.pages {
            let mut raw = Vec::new();
            let valid = valid.map(|valid| &valid[span.places.clone()]);
            let (entries, nulls) = self.levels(span, valid, &mut raw);
            let bounds = values(span.places.clone(), &mut raw);
            self.page(span.rows, entries, nulls, raw, bounds)?;
        }
        Ok(())
    }

    /// Writes one page for `rows` rows that have no value, nor an item in their lists.
    pub(super) fn blank(&mut self, rows: usize) -> Result<(), ParquetError> {
        let (max_repetition, max_definition) = (self.descr.max_rep_level(), self.descr.max_def_level());
        let mut raw = Vec::new();
        if max_repetition > 0 {
            prefixed(&mut raw, |raw| run(0, rows, 1, raw));
        }
        // A list that is there and empty has level 1.
        let level = u32::from(max_repetition > 0);
        prefixed(&mut raw, |raw| run(level, rows, width(max_definition as u32), raw));
        self.page(rows, rows, rows, raw, None)
    }

    /// Appends the levels of a page; gives the number of its entries, and of those without a value.
    fn levels(&self, span: &Span, valid: Option<&[bool]>, raw: &mut Vec<u8>) -> (usize, usize) {
        let absent = valid.map_or(0, |valid| valid.iter().filter(|valid| !**valid).count());
        let max = self.descr.max_def_level() as u32;
        let bits = width(max);
        let Some(lists) = &span.lists else {
            match valid {
                _ if max == 0 => {}
                Some(valid) => {
                    let levels: Vec<u32> = valid.iter().map(|valid| u32::from(*valid)).collect();
                    prefixed(raw, |raw| hybrid(&levels, bits, raw));
                }
                None => prefixed(raw, |raw| run(1, span.rows, bits, raw)),
            }
            return (span.rows, absent);
        };
        prefixed(raw, |raw| hybrid(&lists.repetition, 1, raw));
        if max == 2 {
            prefixed(raw, |raw| hybrid(&lists.definition, bits, raw));
        } else {
            let mut place = 0;
            let level = |level: &u32| match level {
                2 => {
                    place += 1;
                    2 + u32::from(valid.is_none_or(|valid| valid[place - 1]))
                }
                level => *level,
            };
            let levels: Vec<u32> = lists.definition.iter().map(level).collect();
            prefixed(raw, |raw| hybrid(&levels, bits, raw));
        }
        let entries = lists.definition.len();
        (entries, entries - span.places.len() + absent)
    }

    fn page(
        &mut self,
        rows: usize,
        entries: usize,
        nulls: usize,
        raw: Vec<u8>,
        bounds: Option<Bounds>,
    ) -> Result<(), ParquetError> {
        if let Some(index) = &mut self.index {
            let empty = bounds.is_none();
            let (least, greatest) = bounds.unwrap_or_default();
            index.append(empty, least, greatest, nulls as i64);
        }
        let uncompressed = raw.len();
        let page = Page::DataPage {
            buf: self.compress(raw)?,
            num_values: entries as u32,
            encoding: self.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (offset, bytes) = self.put(page, uncompressed)?;
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(offset as i64, bytes as i32);
        self.pages += 1;
        self.rows += rows as u64;
        self.entries += entries as u64;
        self.nulls += nulls as u64;
        Ok(())
    }

    fn compress(&mut self, raw: Vec<u8>) -> Result<Bytes, ParquetError> {
        match &mut self.compressor {
            Some(compressor) => Ok(compressor.compress(&raw)?.into()),
            None => Ok(raw.into()),
        }
    }

    /// Gives where the page begins, and its length with its header.
    fn put(&mut self, page: Page, uncompressed: usize) -> Result<(u64, usize), ParquetError> {
        let page = CompressedPage::new(page, uncompressed);
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += spec.uncompressed_size;
        Ok((spec.offset, spec.compressed_size))
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

/// Levels with their length in front, as data pages of version 1 have them.
fn prefixed(raw: &mut Vec<u8>, levels: impl FnOnce(&mut Vec<u8>)) {
    let begin = raw.len();
    raw.extend_from_slice(&[0; 4]);
    levels(raw);
    let length = (raw.len() - begin - 4) as u32;
    raw[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}
