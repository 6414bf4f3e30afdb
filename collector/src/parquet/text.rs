//! The texts of a column from all batches: one sorted dictionary, and each batch's codes in it.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, UInt8Type, UInt16Type, UInt32Type,
};
use arrow::error::ArrowError;
use std::collections::HashMap;

use super::rows::{Gathered, Place};

/// Texts, each once, in the order of their bytes: codes compare as texts do.
pub(super) struct Texts {
    dictionaries: Vec<Option<(StringArray, Vec<u32>)>>,
    codes: Vec<Vec<u32>>,
    /// Where each text of the dictionary stands in the batches' dictionaries.
    sources: Vec<(u32, u32)>,
}

/// Code of a null.
const NULL: u32 = u32::MAX;

impl Texts {
    /// Unites the dictionaries of the batches; only texts are looked at that a batch has, however often it has them.
    ///
    /// # Errors
    /// When a column cannot be seen as a dictionary of text.
    pub(super) fn unite(columns: &[Option<ArrayRef>]) -> Result<Self, ArrowError> {
        let plain = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
        let coded = |column: &ArrayRef| match column.data_type() {
            DataType::Dictionary(key, value)
                if **value == DataType::Utf8
                    && matches!(**key, DataType::UInt8 | DataType::UInt16 | DataType::UInt32) =>
            {
                Ok(column.clone())
            }
            _ => cast(column, &plain),
        };
        let (mut dictionaries, mut codes) = (Vec::with_capacity(columns.len()), Vec::new());
        for column in columns {
            let Some(column) = column else {
                dictionaries.push(None);
                codes.push(Vec::new());
                continue;
            };
            let column = coded(column)?;
            let values = column.as_any_dictionary().values().as_string::<i32>().clone();
            codes.push(match column.data_type() {
                DataType::Dictionary(key, _) if **key == DataType::UInt8 => keys::<UInt8Type>(&column),
                DataType::Dictionary(key, _) if **key == DataType::UInt16 => keys::<UInt16Type>(&column),
                _ => keys::<UInt32Type>(&column),
            });
            dictionaries.push(Some((values, Vec::new())));
        }
        let mut texts = Self { dictionaries, codes, sources: Vec::new() };
        texts.number();
        Ok(texts)
    }

    /// Gives each text its code.
    fn number(&mut self) {
        let mut places: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut firsts: Vec<(&str, (u32, u32))> = Vec::new();
        // The place of each local text among those met so far.
        let locals: Vec<Vec<u32>> = (0_u32..)
            .zip(&self.dictionaries)
            .map(|(batch, dictionary)| {
                let Some((values, _)) = dictionary else { return Vec::new() };
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
        for (dictionary, local) in self.dictionaries.iter_mut().zip(locals) {
            if let Some((_, codes)) = dictionary {
                *codes = local.iter().map(|place| code_of[*place as usize]).collect();
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
        self.dictionaries[batch as usize].as_ref().map_or("", |(values, _)| values.value(index as usize))
    }

    /// The codes of values in the order of their places.
    pub(super) fn gather(&self, places: &[Place]) -> Gathered<u32> {
        let mut absent = false;
        let values: Vec<u32> = places
            .iter()
            .map(|(batch, at)| {
                let local = match &self.codes[*batch as usize][..] {
                    [] => NULL,
                    codes => codes[*at as usize],
                };
                match &self.dictionaries[*batch as usize] {
                    Some((_, codes)) if local != NULL => codes[local as usize],
                    _ => {
                        absent = true;
                        NULL
                    }
                }
            })
            .collect();
        let valid = absent.then(|| values.iter().map(|code| *code != NULL).collect());
        Gathered { values, valid }
    }
}

/// The codes of one batch, those of nulls as [`NULL`].
fn keys<K: ArrowDictionaryKeyType>(column: &ArrayRef) -> Vec<u32> {
    let keys = column.as_dictionary::<K>().keys();
    let code = |key: &K::Native| key.as_usize() as u32;
    match keys.nulls() {
        None => keys.values().iter().map(code).collect(),
        Some(nulls) => {
            let one = |(key, valid)| if valid { code(key) } else { NULL };
            keys.values().iter().zip(nulls.iter()).map(one).collect()
        }
    }
}
