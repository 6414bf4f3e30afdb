//! The values of each kind of column as chunks: which encoding, which statistics.

use super::bits::{deltas, hybrid, run, width};
use super::chunk::{Buffers, Chunk};
use super::few::Few;
use super::rows::Places;
use super::source::{Bools, Ids, Numbers, Source};
use super::text::Texts;
use ::parquet::basic::{Compression, Encoding};
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::statistics::Statistics;
use ::parquet::schema::types::ColumnDescPtr;
use bytes::Bytes;
use std::ops::Range;
use zstd::bulk::Compressor;

/// Most bytes of a dictionary of text; a bigger one is not worth its page.
const DICTIONARY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a bound of text.
const BOUND_BYTES_MAX: usize = 64;
/// More than what a page of ids has besides its ids: header and levels of rows that have one.
const PAGE_OVERHEAD_BYTES: usize = 128;
/// Share of look-ups by id that read a file in vain.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// A finished column.
pub(super) type Column = Result<(Bytes, ColumnCloseResult), ParquetError>;

/// What the columns of a file share.
pub(super) struct Encoder {
    codec: Compression,
    compressor: Compressor<'static>,
    buffers: Buffers,
    /// The values of a page, and which of its places have one.
    numbers: Vec<u64>,
    codes: Vec<u32>,
    valid: Vec<bool>,
}

/// What numbers are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    /// 4 or 8 in the file.
    pub(super) bytes: usize,
    pub(super) signed: bool,
    /// Rising, or nearly so: stored as deltas.
    pub(super) rising: bool,
}

impl Encoder {
    pub(super) fn new(codec: Compression, level: i32) -> Result<Self, ParquetError> {
        Ok(Self {
            codec,
            compressor: Compressor::new(level)?,
            buffers: Buffers::default(),
            numbers: Vec::new(),
            codes: Vec::new(),
            valid: Vec::new(),
        })
    }

    /// Takes the bytes of a column back, once they are written.
    pub(super) fn recycle(&mut self, column: Bytes) {
        self.buffers.recycle(column);
    }

    /// A column without a value.
    pub(super) fn blank(&mut self, descr: &ColumnDescPtr, rows: usize, statistics: Statistics) -> Column {
        if descr.max_def_level() == 0 {
            return Err(ParquetError::General(format!("column {} has no values", descr.path())));
        }
        let mut chunk = plain(descr, &mut self.buffers);
        chunk.blank(rows)?;
        chunk.close(statistics, None)
    }

    /// Text: codes of a dictionary, or plain where nearly every value is another one.
    pub(super) fn text(&mut self, descr: &ColumnDescPtr, places: &Places<'_>, texts: &Texts) -> Column {
        let Self { codec, compressor, buffers, codes, valid, .. } = self;
        let length: usize = (0..texts.len() as u32).map(|code| 4 + texts.text(code).len()).sum();
        let few = length <= DICTIONARY_BYTES_MAX && (1..=places.len() / 2 + 16).contains(&texts.len());
        let encoding = if few { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
        let mut chunk = Chunk::new(descr, encoding, *codec, Some(compressor), buffers);
        if few {
            chunk.dictionary(texts.len(), |plain| {
                (0..texts.len() as u32).for_each(|code| plain_text(texts.text(code), plain));
            })?;
        }
        let bits = width(texts.len().saturating_sub(1) as u32);
        let all_codes = texts.codes();
        let mut all: Option<(u32, u32)> = None;
        for span in &places.pages {
            if all_codes.is_one() && few {
                let bounds = || Some((lower(texts.text(0)).into(), upper(texts.text(0)).into()));
                chunk.page(span, None, |raw| {
                    raw.push(bits);
                    run(0, span.places.len(), bits, raw);
                    bounds().filter(|_| !span.places.is_empty())
                })?;
                all = Some((0, 0));
                continue;
            }
            let valid = all_codes.page(places, span.places.clone(), codes, valid);
            chunk.page(span, valid, |raw| {
                match few {
                    true => {
                        raw.push(bits);
                        hybrid(codes, bits, raw);
                    }
                    false => codes.iter().for_each(|code| plain_text(texts.text(*code), raw)),
                }
                let (least, greatest) = (*codes.iter().min()?, *codes.iter().max()?);
                all = Some(all.map_or((least, greatest), |(low, high)| (low.min(least), high.max(greatest))));
                Some((lower(texts.text(least)).into(), upper(texts.text(greatest)).into()))
            })?;
        }
        let bound = |text: String| Some(ByteArray::from(text.into_bytes()));
        let least = all.and_then(|(code, _)| bound(lower(texts.text(code))));
        let greatest = all.and_then(|(_, code)| bound(upper(texts.text(code))));
        let nulls = Some(chunk.nulls());
        chunk.close(Statistics::byte_array(least, greatest, None, nulls, false), None)
    }

    /// Ids, as they are: random, so neither a dictionary nor compression makes them smaller, and bounds say nothing.
    pub(super) fn ids<const N: usize>(
        &mut self,
        descr: &ColumnDescPtr,
        places: &Places<'_>,
        ids: &Source<Ids<'_, N>>,
        bloom: bool,
    ) -> Column {
        let mut filter = None;
        if bloom {
            filter = Some(Sbbf::new_with_ndv_fpp(places.len().max(1) as u64, BLOOM_FALSE_POSITIVES)?);
        }
        let mut chunk = plain(descr, &mut self.buffers);
        chunk.reserve(N * places.len() + PAGE_OVERHEAD_BYTES * places.pages.len());
        for span in &places.pages {
            let valid = ids.valid(places, span.places.clone(), &mut self.valid);
            chunk.page(span, valid, |raw| {
                raw.reserve(N * span.places.len());
                ids.each(places, span.places.clone(), |id| {
                    raw.extend_from_slice(id);
                    if let Some(filter) = &mut filter {
                        filter.insert(&id[..]);
                    }
                });
                None
            })?;
        }
        if let Some(filter) = &mut filter {
            filter.fold_to_target_fpp(BLOOM_FALSE_POSITIVES);
        }
        let nulls = Some(chunk.nulls());
        chunk.close(Statistics::fixed_len_byte_array(None, None, None, nulls, false), filter)
    }

    /// Truth values, one bit each.
    pub(super) fn bools(
        &mut self,
        descr: &ColumnDescPtr,
        places: &Places<'_>,
        source: &Source<Bools<'_>>,
    ) -> Column {
        let Self { codec, compressor, buffers, valid, .. } = self;
        let mut chunk = Chunk::new(descr, Encoding::PLAIN, *codec, Some(compressor), buffers);
        let mut all: Option<(bool, bool)> = None;
        let mut there = Vec::new();
        for span in &places.pages {
            there.clear();
            source.extend(places, span.places.clone(), &mut there);
            let valid = source.valid(places, span.places.clone(), valid);
            chunk.page(span, valid, |raw| {
                raw.extend(there.chunks(8).map(|eight| {
                    (0..).zip(eight).fold(0_u8, |byte, (bit, value)| byte | u8::from(*value) << bit)
                }));
                let (least, greatest) = (*there.iter().min()?, *there.iter().max()?);
                all = Some(all.map_or((least, greatest), |(low, high)| (low.min(least), high.max(greatest))));
                Some((vec![u8::from(least)], vec![u8::from(greatest)]))
            })?;
        }
        let (least, greatest) = all.unzip();
        let nulls = Some(chunk.nulls());
        chunk.close(Statistics::boolean(least, greatest, None, nulls, false), None)
    }

    /// Numbers: a dictionary where they are few, deltas where they rise, else their bytes of like weight beside each
    /// other, of which compression drops the high ones.
    pub(super) fn numbers(
        &mut self,
        descr: &ColumnDescPtr,
        places: &Places<'_>,
        source: &Source<Numbers<'_>>,
        kind: Number,
    ) -> Column {
        if let Some(only) = source.only().filter(|_| places.len() > 0 && !kind.rising) {
            return self.one_number(descr, places, only, kind);
        }
        let Self { codec, compressor, buffers, numbers, valid, .. } = self;
        let gather = |range: Range<usize>, numbers: &mut Vec<u64>| {
            numbers.clear();
            source.extend(places, range, numbers);
        };
        let mut few = if kind.rising { None } else { Some(Few::new(places.len())) };
        for span in &places.pages {
            let Some(found) = &mut few else { break };
            gather(span.places.clone(), numbers);
            if !found.add(numbers, kind.bounds(numbers)) {
                few = None;
            }
        }
        let nothing = few.as_ref().is_some_and(|few| few.values.is_empty());
        let few = few.filter(|_| !nothing);
        let encoding = match few {
            _ if nothing => Encoding::PLAIN,
            Some(_) => Encoding::RLE_DICTIONARY,
            None if kind.rising => Encoding::DELTA_BINARY_PACKED,
            None => Encoding::BYTE_STREAM_SPLIT,
        };
        let mut chunk = Chunk::new(descr, encoding, *codec, Some(compressor), buffers);
        let plain = |value: u64| value.to_le_bytes().into_iter().take(kind.bytes);
        if let Some(few) = &few {
            chunk
                .dictionary(few.values.len(), |raw| raw.extend(few.values.iter().copied().flat_map(plain)))?;
        }
        let mut all: Option<(u64, u64)> = None;
        for (page, span) in places.pages.iter().enumerate() {
            let valid = source.valid(places, span.places.clone(), valid);
            chunk.page(span, valid, |raw| {
                let bounds = match &few {
                    Some(few) => few.page(page, raw),
                    None => {
                        gather(span.places.clone(), numbers);
                        match kind.rising {
                            true => deltas(numbers, raw),
                            false => (0..kind.bytes).for_each(|byte| {
                                raw.extend(numbers.iter().map(|value| (value >> (8 * byte)) as u8));
                            }),
                        }
                        kind.bounds(numbers)
                    }
                };
                let (least, greatest) = bounds?;
                let wider = |(low, high): (u64, u64)| kind.bounds(&[low, high, least, greatest]);
                all = all.map_or(bounds, wider);
                Some((plain(least).collect(), plain(greatest).collect()))
            })?;
        }
        let nulls = Some(chunk.nulls());
        chunk.close(kind.statistics(all, nulls), None)
    }

    /// The same number everywhere: a dictionary of one, and codes of no bits.
    fn one_number(&mut self, descr: &ColumnDescPtr, places: &Places<'_>, only: u64, kind: Number) -> Column {
        let Self { codec, compressor, buffers, .. } = self;
        let mut chunk = Chunk::new(descr, Encoding::RLE_DICTIONARY, *codec, Some(compressor), buffers);
        let plain = || only.to_le_bytes()[..kind.bytes].to_vec();
        chunk.dictionary(1, |raw| raw.extend(plain()))?;
        for span in &places.pages {
            chunk.page(span, None, |raw| {
                raw.push(0);
                run(0, span.places.len(), 0, raw);
                (!span.places.is_empty()).then(|| (plain(), plain()))
            })?;
        }
        let nulls = Some(chunk.nulls());
        chunk.close(kind.statistics(Some((only, only)), nulls), None)
    }
}

/// A chunk that is not compressed.
fn plain<'a>(descr: &ColumnDescPtr, buffers: &'a mut Buffers) -> Chunk<'a> {
    Chunk::new(descr, Encoding::PLAIN, Compression::UNCOMPRESSED, None, buffers)
}

impl Number {
    /// Least and greatest; none of nothing.
    fn bounds(self, values: &[u64]) -> Option<(u64, u64)> {
        // The top bit turned around makes signed numbers compare as unsigned ones.
        let turn = u64::from(self.signed) << 63;
        let keys = values.iter().map(|value| value ^ turn);
        Some((keys.clone().min()? ^ turn, keys.max()? ^ turn))
    }

    /// The statistics of a column, of these bounds.
    pub(super) fn statistics(self, bounds: Option<(u64, u64)>, nulls: Option<u64>) -> Statistics {
        let (least, greatest) = bounds.unzip();
        if self.bytes == 4 {
            let int = |value: u64| (value as u32).cast_signed();
            Statistics::int32(least.map(int), greatest.map(int), None, nulls, false)
        } else {
            Statistics::int64(least.map(u64::cast_signed), greatest.map(u64::cast_signed), None, nulls, false)
        }
    }
}

fn plain_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A short text that is not above this one.
fn lower(text: &str) -> String {
    text[..text.floor_char_boundary(BOUND_BYTES_MAX)].to_owned()
}

/// A short text that is not below this one: cut, and its last character that can be made the next one. A text that
/// cannot be bounded so stays whole.
fn upper(text: &str) -> String {
    if text.len() <= BOUND_BYTES_MAX {
        return text.to_owned();
    }
    let mut short = lower(text);
    while let Some(last) = short.pop() {
        // The code points between are surrogates, which no text has.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            short.push(next);
            return short;
        }
    }
    text.to_owned()
}

/// Bounds of nothing, for a column without values.
pub(super) fn no_text(nulls: u64) -> Statistics {
    Statistics::byte_array(None, None, None, Some(nulls), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_long_texts_are_short_and_hold() {
        let long = "é".repeat(100);
        let top = format!("{}\u{10ffff}{}", "a".repeat(60), "b".repeat(60));
        for text in ["", "short", &long, &top, &"\u{d7ff}".repeat(40)] {
            let (low, high) = (lower(text), upper(text));
            assert!(low.as_str() <= text && text <= high.as_str(), "{text}");
            assert!(low.len() <= BOUND_BYTES_MAX && high.len() <= BOUND_BYTES_MAX, "{text}");
        }
        let beyond = "\u{10ffff}".repeat(40);
        assert_eq!(upper(&beyond), beyond);
    }
}
