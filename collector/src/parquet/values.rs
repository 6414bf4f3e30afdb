//! The values of each kind of column as chunks: which encoding, which statistics.

use super::bits::{deltas, hybrid, width};
use super::chunk::Chunk;
use super::rows::{Gathered, Places};
use super::text::Texts;
use ::parquet::basic::{Compression, Encoding};
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::data_type::{ByteArray, FixedLenByteArray};
use ::parquet::errors::ParquetError;
use ::parquet::file::statistics::Statistics;
use ::parquet::schema::types::ColumnDescPtr;
use bytes::Bytes;
use std::ops::Range;
use zstd::bulk::Compressor;

/// Most bytes of a dictionary of text; a bigger one is not worth its page.
const DICTIONARY_BYTES_MAX: usize = 1 << 20;
/// Most numbers in a dictionary.
const NUMBERS_MAX: usize = 1_024;
/// Places of the table that finds them. A power of two.
const NUMBER_PLACES: usize = 4_096;
/// Most bytes of a bound of text.
const BOUND_BYTES_MAX: usize = 64;
/// Share of look-ups by id that read a file in vain.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// A finished column.
pub(super) type Column = Result<(Bytes, ColumnCloseResult), ParquetError>;

/// What the columns of a file share.
pub(super) struct Encoder {
    codec: Compression,
    compressor: Compressor<'static>,
    memory: Memory,
}

/// What one column leaves to the next: fresh memory is paid for page by page.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) numbers: Vec<u64>,
    pub(super) long_ids: Vec<[u8; 16]>,
    pub(super) short_ids: Vec<[u8; 8]>,
    pub(super) bytes: Vec<u8>,
    codes: Vec<u32>,
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
        Ok(Self { codec, compressor: Compressor::new(level)?, memory: Memory::default() })
    }

    /// Memory to use, and to leave to the next column.
    pub(super) fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn chunk(&mut self, descr: &ColumnDescPtr, encoding: Encoding) -> Chunk<'_> {
        let bytes = std::mem::take(&mut self.memory.bytes);
        Chunk::new(descr, encoding, self.codec, Some(&mut self.compressor), bytes)
    }

    /// A chunk that is not compressed.
    fn plain(&mut self, descr: &ColumnDescPtr) -> Chunk<'static> {
        let bytes = std::mem::take(&mut self.memory.bytes);
        Chunk::new(descr, Encoding::PLAIN, Compression::UNCOMPRESSED, None, bytes)
    }

    /// A column without a value.
    pub(super) fn blank(&mut self, descr: &ColumnDescPtr, rows: usize, statistics: Statistics) -> Column {
        if descr.max_def_level() == 0 {
            return Err(ParquetError::General(format!("column {} has no values", descr.path())));
        }
        let mut chunk = self.plain(descr);
        chunk.blank(rows)?;
        chunk.close(statistics, None)
    }

    /// Text: codes of a dictionary, or plain where nearly every value is another one.
    pub(super) fn text(&mut self, descr: &ColumnDescPtr, places: &Places, texts: &Texts) -> Column {
        let memory = std::mem::take(&mut self.memory.codes);
        let Gathered { values: gathered, valid } = texts.gather(&places.all, memory);
        let codes = &gathered[..];
        let length: usize = (0..texts.len() as u32).map(|code| 4 + texts.text(code).len()).sum();
        let few = length <= DICTIONARY_BYTES_MAX && (1..=codes.len() / 2 + 16).contains(&texts.len());
        let encoding = if few { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
        let mut chunk = self.chunk(descr, encoding);
        if few {
            let mut plain = Vec::with_capacity(length);
            (0..texts.len() as u32).for_each(|code| plain_text(texts.text(code), &mut plain));
            chunk.dictionary(plain, texts.len())?;
        }
        let bits = width(texts.len().saturating_sub(1) as u32);
        let mut all: Option<(u32, u32)> = None;
        let mut there = Vec::new();
        chunk.pages(places, valid.as_deref(), |range, raw| {
            let codes = present(codes, valid.as_deref(), range, &mut there);
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
        let bound = |text: String| Some(ByteArray::from(text.into_bytes()));
        let least = all.and_then(|(code, _)| bound(lower(texts.text(code))));
        let greatest = all.and_then(|(_, code)| bound(upper(texts.text(code))));
        let nulls = Some(chunk.nulls());
        let column = chunk.close(Statistics::byte_array(least, greatest, None, nulls, false), None);
        self.memory.codes = gathered;
        column
    }

    /// Ids, as they are: random, so neither a dictionary nor compression makes them smaller.
    pub(super) fn ids<const N: usize>(
        &mut self,
        descr: &ColumnDescPtr,
        places: &Places,
        ids: &Gathered<[u8; N]>,
        bloom: bool,
    ) -> Column {
        let mut chunk = self.plain(descr);
        let valid = ids.valid.as_deref();
        let mut all: Option<([u8; N], [u8; N])> = None;
        let mut there = Vec::new();
        chunk.pages(places, valid, |range, raw| {
            let ids = present(&ids.values, valid, range, &mut there);
            raw.extend_from_slice(ids.as_flattened());
            let (least, greatest) = (*ids.iter().min()?, *ids.iter().max()?);
            all = Some(all.map_or((least, greatest), |(low, high)| (low.min(least), high.max(greatest))));
            Some((least.into(), greatest.into()))
        })?;
        let mut filter = None;
        if bloom {
            let count = ids.values.len() as u64 - valid.map_or(0, absent);
            let mut made = Sbbf::new_with_ndv_fpp(count.max(1), BLOOM_FALSE_POSITIVES)?;
            match valid {
                None => ids.values.iter().for_each(|id| made.insert(&id[..])),
                Some(valid) => ids
                    .values
                    .iter()
                    .zip(valid)
                    .filter(|(_, valid)| **valid)
                    .for_each(|(id, _)| made.insert(&id[..])),
            }
            made.fold_to_target_fpp(BLOOM_FALSE_POSITIVES);
            filter = Some(made);
        }
        let bound = |id: [u8; N]| FixedLenByteArray::from(id.to_vec());
        let (least, greatest) = all.map(|(low, high)| (bound(low), bound(high))).unzip();
        let nulls = Some(chunk.nulls());
        chunk.close(Statistics::fixed_len_byte_array(least, greatest, None, nulls, false), filter)
    }

    /// Truth values, one bit each.
    pub(super) fn bools(&mut self, descr: &ColumnDescPtr, places: &Places, bools: &Gathered<bool>) -> Column {
        let mut chunk = self.chunk(descr, Encoding::PLAIN);
        let valid = bools.valid.as_deref();
        let mut all: Option<(bool, bool)> = None;
        let mut there = Vec::new();
        chunk.pages(places, valid, |range, raw| {
            let bools = present(&bools.values, valid, range, &mut there);
            raw.extend(bools.chunks(8).map(|eight| {
                (0..).zip(eight).fold(0_u8, |byte, (bit, value)| byte | u8::from(*value) << bit)
            }));
            let (least, greatest) = (*bools.iter().min()?, *bools.iter().max()?);
            all = Some(all.map_or((least, greatest), |(low, high)| (low.min(least), high.max(greatest))));
            Some((vec![u8::from(least)], vec![u8::from(greatest)]))
        })?;
        let (least, greatest) = all.unzip();
        let nulls = Some(chunk.nulls());
        chunk.close(Statistics::boolean(least, greatest, None, nulls, false), None)
    }

    /// Numbers: a dictionary where they are few, deltas where they rise, else their bytes of like weight beside each
    /// other, of which compression drops the high ones.
    pub(super) fn numbers(
        &mut self,
        descr: &ColumnDescPtr,
        places: &Places,
        numbers: &Gathered<u64>,
        kind: Number,
    ) -> Column {
        let valid = numbers.valid.as_deref();
        let memory = std::mem::take(&mut self.memory.codes);
        let few = if kind.rising { Err(memory) } else { dictionary(numbers, memory) };
        let (few, memory) = few.map_or_else(|memory| (None, memory), |few| (Some(few), Vec::new()));
        let nothing = few.as_ref().is_some_and(|(values, _)| values.is_empty());
        let dictionary = few.as_ref().filter(|_| !nothing);
        let encoding = match dictionary {
            _ if nothing => Encoding::PLAIN,
            Some(_) => Encoding::RLE_DICTIONARY,
            None if kind.rising => Encoding::DELTA_BINARY_PACKED,
            None => Encoding::BYTE_STREAM_SPLIT,
        };
        let mut chunk = self.chunk(descr, encoding);
        if let Some((values, _)) = dictionary {
            let plain = values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(kind.bytes));
            chunk.dictionary(plain.collect(), values.len())?;
        }
        let (mut there, mut codes_there) = (Vec::new(), Vec::new());
        let mut all: Option<(u64, u64)> = None;
        chunk.pages(places, valid, |range, raw| {
            let values = present(&numbers.values, valid, range.clone(), &mut there);
            match dictionary {
                Some((values, codes)) => {
                    let bits = width(values.len().saturating_sub(1) as u32);
                    raw.push(bits);
                    hybrid(present(codes, valid, range, &mut codes_there), bits, raw);
                }
                None if kind.rising => deltas(values, raw),
                None => (0..kind.bytes).for_each(|byte| {
                    raw.extend(values.iter().map(|value| (value >> (8 * byte)) as u8));
                }),
            }
            let (least, greatest) = kind.bounds(values)?;
            let wider = |(low, high): (u64, u64)| kind.bounds(&[low, high, least, greatest]);
            all = all.map_or(Some((least, greatest)), wider);
            let bytes = |value: u64| value.to_le_bytes()[..kind.bytes].to_vec();
            Some((bytes(least), bytes(greatest)))
        })?;
        let nulls = Some(chunk.nulls());
        let column = chunk.close(kind.statistics(all, nulls), None);
        self.memory.codes = few.map_or(memory, |(_, codes)| codes);
        column
    }
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

/// The values of some places that are there; copied only where some are not.
fn present<'a, T: Copy>(
    values: &'a [T],
    valid: Option<&[bool]>,
    range: Range<usize>,
    copy: &'a mut Vec<T>,
) -> &'a [T] {
    let Some(valid) = valid else { return &values[range] };
    copy.clear();
    let there = values[range.clone()].iter().zip(&valid[range]).filter(|(_, valid)| **valid);
    copy.extend(there.map(|(value, _)| *value));
    copy
}

fn absent(valid: &[bool]) -> u64 {
    valid.iter().filter(|valid| !**valid).count() as u64
}

/// The different numbers in the order of their coming, and the code of each; if they are too many, the memory that was
/// given for the codes.
fn dictionary(numbers: &Gathered<u64>, mut codes: Vec<u32>) -> Result<(Vec<u64>, Vec<u32>), Vec<u32>> {
    const FREE: u32 = u32::MAX;
    let mut table = vec![(0_u64, FREE); NUMBER_PLACES];
    let mut values = Vec::new();
    codes.clear();
    codes.reserve(numbers.values.len());
    let mut last = (0, FREE);
    for (row, value) in numbers.values.iter().enumerate() {
        if numbers.valid.as_ref().is_some_and(|valid| !valid[row]) {
            codes.push(0);
            continue;
        }
        if last != (*value, last.1) || last.1 == FREE {
            let mut place = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
            // At most a quarter of the places are taken, so a free one comes.
            while table[place].1 != FREE && table[place].0 != *value {
                place = (place + 1) % NUMBER_PLACES;
            }
            if table[place].1 == FREE {
                if values.len() == NUMBERS_MAX {
                    return Err(codes);
                }
                table[place] = (*value, values.len() as u32);
                values.push(*value);
            }
            last = table[place];
        }
        codes.push(last.1);
    }
    Ok((values, codes))
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

    #[test]
    fn too_many_numbers_have_no_dictionary() {
        let numbers = |count: u64| Gathered { values: (0..count).collect(), valid: None };
        assert!(dictionary(&numbers(NUMBERS_MAX as u64), Vec::new()).is_ok());
        assert!(dictionary(&numbers(NUMBERS_MAX as u64 + 1), Vec::new()).is_err());
        let some = Gathered { values: vec![7, 0, 7, 9], valid: Some(vec![true, false, true, true]) };
        assert_eq!(dictionary(&some, vec![5]), Ok((vec![7, 9], vec![0, 0, 0, 1])));
    }
}
