//! The texts of a column from all batches: one sorted dictionary, and each batch's codes in it.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt8Type, UInt16Type, UInt32Type};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::ops::Range;

use super::rows::Places;
use super::source::{Column, Columns};
use event::hot::packed::one_value;

/// Texts, each once, in the order of their bytes: codes compare as texts do.
pub(crate) struct Texts {
    batches: Vec<Option<Batch>>,
    /// Where each text of the dictionary stands in the batches' dictionaries.
    sources: Vec<(u32, u32)>,
}

/// The column of one batch.
struct Batch {
    column: ArrayRef,
    dictionary: StringArray,
    /// The code in all batches of each code in this one.
    codes: Vec<u32>,
}

impl Texts {
    /// Unites the dictionaries of the batches; only texts are looked at that a batch has, however often it has them.
    ///
    /// # Errors
    /// When a column cannot be seen as a dictionary of text.
    pub(crate) fn unite(columns: &Columns) -> Result<Self, ArrowError> {
        let plain = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
        let batch = |Column { field, array: column }: &Column| {
            if let Some(value) = one_value(field) {
                let dictionary = StringArray::from(vec![value]);
                return Ok(Batch { column: column.clone(), dictionary, codes: Vec::new() });
            }
            let column = match column.data_type() {
                DataType::Dictionary(key, value)
                    if **value == DataType::Utf8
                        && matches!(**key, DataType::UInt8 | DataType::UInt16 | DataType::UInt32) =>
                {
                    column.clone()
                }
                _ => cast(column, &plain)?,
            };
            let dictionary = column.as_any_dictionary().values().as_string::<i32>().clone();
            Ok(Batch { column, dictionary, codes: Vec::new() })
        };
        let batches = columns.iter().map(|column| column.as_ref().map(batch).transpose());
        let mut texts = Self { batches: batches.collect::<Result<_, ArrowError>>()?, sources: Vec::new() };
        texts.number();
        Ok(texts)
    }

    /// Gives each text its code.
    fn number(&mut self) {
        let mut places: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut firsts: Vec<(&str, (u32, u32))> = Vec::new();
        // The place of each local text among those met so far.
        let locals: Vec<Vec<u32>> = (0_u32..)
            .zip(&self.batches)
            .map(|(batch, column)| {
                let Some(Batch { dictionary: values, .. }) = column else { return Vec::new() };
                let place = |index: usize| {
                    let text = values.value(index);
                    *places.entry(text).or_insert_with(|| {
                        firsts.push((text, (batch, index as u32)));
                        firsts.len() as u32 - 1
                    })
                };
                (0..values.len()).map(place).collect()
            })
            .collect();
        let mut sorted: Vec<u32> = (0..firsts.len() as u32).collect();
        sorted.sort_unstable_by_key(|place| firsts[*place as usize].0);
        let mut code_of = vec![0; sorted.len()];
        (0_u32..).zip(&sorted).for_each(|(code, place)| code_of[*place as usize] = code);
        let sources = sorted.iter().map(|place| firsts[*place as usize].1).collect();
        drop(places);
        for (batch, local) in self.batches.iter_mut().zip(locals) {
            if let Some(batch) = batch {
                batch.codes = local.iter().map(|place| code_of[*place as usize]).collect();
            }
        }
        self.sources = sources;
    }

    /// How many texts there are.
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// A text by its code.
    pub(super) fn text(&self, code: u32) -> &str {
        let (batch, index) = self.sources[code as usize];
        self.batches[batch as usize].as_ref().map_or("", |batch| batch.dictionary.value(index as usize))
    }

    /// The codes where they stand, batch by batch.
    pub(crate) fn codes(&self) -> Codes<'_> {
        let batches: Vec<_> = self.batches.iter().map(|batch| batch.as_ref().map(Batch::keys)).collect();
        let whole = |batch: &Option<Keys<'_>>| batch.as_ref().is_some_and(|keys| keys.nulls.is_none());
        let same = self.sources.len() == 1 && batches.iter().all(whole);
        Codes { batches, same }
    }
}

/// The codes of a column.
pub(crate) struct Codes<'a> {
    batches: Vec<Option<Keys<'a>>>,
    /// Whether every value is the same text, as in many columns of most files.
    same: bool,
}

/// The codes of one batch, and what they are in all batches.
struct Keys<'a> {
    local: Local<'a>,
    nulls: Option<&'a NullBuffer>,
    codes: &'a [u32],
}

#[derive(Clone, Copy)]
enum Local<'a> {
    /// All have the one text that there is.
    Zero,
    One(&'a [u8]),
    Two(&'a [u16]),
    Four(&'a [u32]),
}

impl Codes<'_> {
    /// Whether every value is the same text.
    pub(super) fn is_one(&self) -> bool {
        self.same
    }

    /// The code of a place, from 1 in the order of the texts; 0 where there is no text.
    #[inline]
    pub(crate) fn rank(&self, batch: usize, at: usize) -> u32 {
        match &self.batches[batch] {
            Some(keys) if keys.nulls.is_none_or(|nulls| nulls.is_valid(at)) => {
                keys.codes[keys.local.at(at)] + 1
            }
            _ => 0,
        }
    }

    /// The codes of some places, without those that have no text, and which have one; none if all have. `codes` and
    /// `valid` are memory to use.
    pub(super) fn page<'m>(
        &self,
        places: &Places<'_>,
        range: Range<usize>,
        codes: &mut Vec<u32>,
        valid: &'m mut Vec<bool>,
    ) -> Option<&'m [bool]> {
        codes.clear();
        if self.same {
            codes.resize(range.len(), 0);
            return None;
        }
        valid.clear();
        let mut absent = false;
        places.pieces(range, |piece| match &self.batches[piece.batch()] {
            None => {
                absent = true;
                valid.resize(valid.len() + piece.len(), false);
            }
            Some(Keys { local, nulls: None, codes: all }) => {
                valid.resize(valid.len() + piece.len(), true);
                match local {
                    Local::Zero => codes.resize(codes.len() + piece.len(), all[0]),
                    Local::One(local) => piece.extend(codes, |at| all[usize::from(local[at])]),
                    Local::Two(local) => piece.extend(codes, |at| all[usize::from(local[at])]),
                    Local::Four(local) => piece.extend(codes, |at| all[local[at] as usize]),
                }
            }
            Some(Keys { local, nulls: Some(nulls), codes: all }) => piece.each(|at| {
                let there = nulls.is_valid(at);
                valid.push(there);
                absent |= !there;
                if there {
                    codes.push(all[local.at(at)]);
                }
            }),
        });
        absent.then_some(&valid[..])
    }
}

impl Local<'_> {
    #[inline]
    fn at(&self, at: usize) -> usize {
        match self {
            Self::Zero => 0,
            Self::One(codes) => usize::from(codes[at]),
            Self::Two(codes) => usize::from(codes[at]),
            Self::Four(codes) => codes[at] as usize,
        }
    }
}

impl Batch {
    fn keys(&self) -> Keys<'_> {
        let local = match self.column.data_type() {
            DataType::Null => Local::Zero,
            DataType::Dictionary(key, _) if **key == DataType::UInt8 => {
                Local::One(self.column.as_dictionary::<UInt8Type>().keys().values())
            }
            DataType::Dictionary(key, _) if **key == DataType::UInt16 => {
                Local::Two(self.column.as_dictionary::<UInt16Type>().keys().values())
            }
            _ => Local::Four(self.column.as_dictionary::<UInt32Type>().keys().values()),
        };
        let nulls = self.column.nulls().filter(|nulls| nulls.null_count() > 0);
        Keys { local, nulls, codes: &self.codes }
    }
}
