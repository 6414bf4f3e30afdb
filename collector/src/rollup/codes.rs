//! The texts of a column of one batch as codes, where the batch has them so: a text is then looked at once, not once for
//! each of its rows.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt8Type, UInt16Type, UInt32Type};
use arrow::error::ArrowError;
use event::hot::packed::one_value;

/// The texts of one column.
pub(super) enum Texts {
    /// All rows have this one, or none.
    Same(Option<String>),
    /// A code for each row, and what the codes stand for.
    Each { codes: ArrayRef, dictionary: StringArray, nulls: Option<NullBuffer> },
}

impl Texts {
    /// Those of a column that may be absent.
    ///
    /// # Errors
    /// When it holds no texts.
    pub(super) fn of(batch: &RecordBatch, name: &str) -> Result<Self, ArrowError> {
        let Some((index, field)) = batch.schema_ref().column_with_name(name) else {
            return Ok(Self::Same(None));
        };
        if let Some(value) = one_value(field) {
            return Ok(Self::Same(Some(value.to_owned())));
        }
        let column = batch.column(index);
        let codes = match column.data_type() {
            DataType::Null => return Ok(Self::Same(None)),
            DataType::Dictionary(key, value)
                if **value == DataType::Utf8
                    && matches!(**key, DataType::UInt8 | DataType::UInt16 | DataType::UInt32) =>
            {
                column.clone()
            }
            _ => {
                let plain = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
                cast(column, &plain)?
            }
        };
        let dictionary = codes.as_any_dictionary().values().as_string::<i32>().clone();
        let nulls = codes.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        Ok(Self::Each { codes, dictionary, nulls })
    }

    /// What is made of each text, by its code; of the absence of one last. Of texts that are all the same there are two.
    pub(super) fn map<T>(&self, mut of: impl FnMut(Option<&str>) -> T) -> Vec<T> {
        match self {
            Self::Same(text) => vec![of(text.as_deref()), of(None)],
            Self::Each { dictionary, .. } => {
                let mut all: Vec<T> =
                    (0..dictionary.len()).map(|code| of(Some(dictionary.value(code)))).collect();
                all.push(of(None));
                all
            }
        }
    }

    /// Shows what [`Self::map`] made of the text of each of some rows, with the place of the row among them.
    #[inline]
    pub(super) fn each<T: Copy>(&self, rows: Range<usize>, made: &[T], mut visit: impl FnMut(usize, T)) {
        let Self::Each { codes, nulls, .. } = self else {
            return (0..rows.len()).for_each(|place| visit(place, made[0]));
        };
        macro_rules! show {
            ($key:ty) => {{
                let codes = codes.as_dictionary::<$key>().keys().values();
                match nulls {
                    None => {
                        codes[rows].iter().enumerate().for_each(|(at, code)| visit(at, made[*code as usize]))
                    }
                    Some(nulls) => {
                        let absent = made[made.len() - 1];
                        for (place, row) in rows.enumerate() {
                            let there = nulls.is_valid(row);
                            visit(place, if there { made[codes[row] as usize] } else { absent });
                        }
                    }
                }
            }};
        }
        match codes.data_type() {
            DataType::Dictionary(key, _) if **key == DataType::UInt8 => show!(UInt8Type),
            DataType::Dictionary(key, _) if **key == DataType::UInt16 => show!(UInt16Type),
            _ => show!(UInt32Type),
        }
    }

    /// Whether all rows have the same.
    pub(super) fn is_same(&self) -> bool {
        matches!(self, Self::Same(_))
    }
}
