//! The values of a column where they stand, batch by batch, as they are packed there. What is taken out of them is taken
//! page by page, so that it stays in the processor's cache and no memory is needed for a whole column.

use super::rows::{Piece, Places};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;
use event::hot::packed::{base, one_value};
use std::ops::Range;

/// The column of one batch.
#[derive(Clone)]
pub(crate) struct Column {
    pub(super) field: FieldRef,
    pub(super) array: ArrayRef,
}

/// The column of each batch, if it has it.
pub(crate) type Columns = Vec<Option<Column>>;

impl Column {
    /// Whether it is a column of lists that each have one item.
    pub(super) fn is_list_of_one(&self) -> bool {
        matches!(self.array.data_type(), DataType::FixedSizeList(_, 1)) && self.array.null_count() == 0
    }

    /// Whether it has no value.
    fn is_blank(&self) -> bool {
        let empty = self.array.is_empty() || self.array.null_count() == self.array.len();
        empty || matches!(self.array.data_type(), DataType::Null) && one_value(&self.field).is_none()
    }
}

/// Whether no batch has a value of a column.
pub(super) fn is_blank(columns: &Columns) -> bool {
    columns.iter().flatten().all(Column::is_blank)
}

/// Which values of a batch are there.
#[derive(Clone, Copy)]
pub(super) enum Presence<'a> {
    All,
    Some(&'a NullBuffer),
    None,
}

impl<'a> Presence<'a> {
    pub(super) fn of(column: &'a Column) -> Self {
        if column.is_blank() {
            return Self::None;
        }
        column.array.nulls().filter(|nulls| nulls.null_count() > 0).map_or(Self::All, Self::Some)
    }

    #[inline]
    fn has(self, at: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(nulls) => nulls.is_valid(at),
            Self::None => false,
        }
    }
}

/// The values of a column: those of each batch, and which of them are there.
pub(super) struct Source<V> {
    batches: Vec<V>,
    /// Whether all are there.
    whole: bool,
}

/// The values of one batch.
pub(super) trait Values<'a> {
    /// What they are.
    type Item;

    /// Which are there.
    fn presence(&self) -> Presence<'a>;

    /// The value of a place, which is there.
    fn value(&self, at: usize) -> Self::Item;

    /// Appends the values of some places, all of which are there, in their order.
    fn extend(&self, piece: Piece<'_>, out: &mut Vec<Self::Item>);
}

impl<'a, V: Values<'a>> Source<V> {
    /// The values of each batch; of the first there is at least one.
    pub(super) fn new(batches: Vec<V>) -> Self {
        let whole = batches.iter().all(|batch| matches!(batch.presence(), Presence::All));
        Self { batches, whole }
    }

    /// Which values of some places are there; none if all are. `valid` is memory to use.
    pub(super) fn valid<'m>(
        &self,
        places: &Places<'_>,
        range: Range<usize>,
        valid: &'m mut Vec<bool>,
    ) -> Option<&'m [bool]> {
        if self.whole {
            return None;
        }
        valid.clear();
        valid.reserve(range.len());
        places.pieces(range, |piece| {
            let presence = self.batches[piece.batch()].presence();
            piece.extend(valid, |at| presence.has(at));
        });
        valid.contains(&false).then_some(&valid[..])
    }

    /// Appends the values of some places in their order, without those that are not there.
    pub(super) fn extend(&self, places: &Places<'_>, range: Range<usize>, out: &mut Vec<V::Item>) {
        out.reserve(range.len());
        places.pieces(range, |piece| {
            let batch = &self.batches[piece.batch()];
            match batch.presence() {
                Presence::All => batch.extend(piece, out),
                Presence::None => {}
                presence @ Presence::Some(_) => piece.each(|at| {
                    if presence.has(at) {
                        out.push(batch.value(at));
                    }
                }),
            }
        });
    }

    /// Shows the values of some places in their order, without those that are not there.
    pub(super) fn each(&self, places: &Places<'_>, range: Range<usize>, mut visit: impl FnMut(V::Item)) {
        places.pieces(range, |piece| {
            let batch = &self.batches[piece.batch()];
            match batch.presence() {
                Presence::All => piece.each(|at| visit(batch.value(at))),
                Presence::None => {}
                presence @ Presence::Some(_) => piece.each(|at| {
                    if presence.has(at) {
                        visit(batch.value(at));
                    }
                }),
            }
        });
    }
}

/// Whole numbers and times as 64 bits.
pub(super) struct Numbers<'a> {
    presence: Presence<'a>,
    base: u64,
    width: Width<'a>,
}

#[derive(Clone, Copy)]
enum Width<'a> {
    /// All are the base.
    Zero,
    One(&'a [u8]),
    Two(&'a [u16]),
    Four(&'a [u32]),
    Eight(&'a [u64]),
}

impl<'a> Numbers<'a> {
    /// The numbers of a column.
    ///
    /// # Errors
    /// When it holds none.
    pub(super) fn of(columns: &'a Columns) -> Result<Source<Self>, ArrowError> {
        let batches = columns.iter().map(|column| match column {
            None => Ok(Self { presence: Presence::None, base: 0, width: Width::Zero }),
            Some(column) => Self::of_batch(column),
        });
        Ok(Source::new(batches.collect::<Result<_, ArrowError>>()?))
    }

    fn of_batch(column: &'a Column) -> Result<Self, ArrowError> {
        let presence = Presence::of(column);
        if let Some(value) = one_value(&column.field) {
            let base = value.parse().map_err(|_| no_numbers(column))?;
            return Ok(Self { presence, base, width: Width::Zero });
        }
        let array = &column.array;
        let width = match array.data_type() {
            DataType::Null => Width::Zero,
            DataType::UInt8 => Width::One(values::<UInt8Type>(array)),
            DataType::UInt16 => Width::Two(values::<UInt16Type>(array)),
            DataType::UInt32 => Width::Four(values::<UInt32Type>(array)),
            DataType::UInt64 => Width::Eight(values::<UInt64Type>(array)),
            DataType::Int64 => Width::Eight(array.as_primitive::<Int64Type>().values().inner().typed_data()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Width::Eight(array.as_primitive::<TimestampMicrosecondType>().values().inner().typed_data())
            }
            _ => return Err(no_numbers(column)),
        };
        Ok(Self { presence, base: base(&column.field)?, width })
    }
}

fn values<T: ArrowPrimitiveType>(array: &ArrayRef) -> &[T::Native] {
    array.as_primitive::<T>().values()
}

fn no_numbers(column: &Column) -> ArrowError {
    ArrowError::CastError(format!("column {} holds no numbers", column.field.name()))
}

impl Source<Numbers<'_>> {
    /// The number that every value is, if all are there and the same.
    pub(super) fn only(&self) -> Option<u64> {
        let first = self.batches.first()?;
        let same = |batch: &Numbers<'_>| {
            matches!(batch.width, Width::Zero) && batch.base == first.base && self.whole
        };
        self.batches.iter().all(same).then_some(first.base)
    }
}

impl<'a> Values<'a> for Numbers<'a> {
    type Item = u64;

    fn presence(&self) -> Presence<'a> {
        self.presence
    }

    #[inline]
    fn value(&self, at: usize) -> u64 {
        let above = match self.width {
            Width::Zero => 0,
            Width::One(all) => all[at].into(),
            Width::Two(all) => all[at].into(),
            Width::Four(all) => all[at].into(),
            Width::Eight(all) => all[at],
        };
        above.wrapping_add(self.base)
    }

    fn extend(&self, piece: Piece<'_>, out: &mut Vec<u64>) {
        let base = self.base;
        match self.width {
            Width::Zero => out.resize(out.len() + piece.len(), base),
            Width::One(all) => piece.extend(out, |at| u64::from(all[at]).wrapping_add(base)),
            Width::Two(all) => piece.extend(out, |at| u64::from(all[at]).wrapping_add(base)),
            Width::Four(all) => piece.extend(out, |at| u64::from(all[at]).wrapping_add(base)),
            Width::Eight(all) => piece.extend(out, |at| all[at].wrapping_add(base)),
        }
    }
}

/// Ids.
pub(super) struct Ids<'a, const N: usize> {
    presence: Presence<'a>,
    all: &'a [[u8; N]],
}

impl<'a, const N: usize> Ids<'a, N> {
    /// The ids of a column.
    ///
    /// # Errors
    /// When it holds none, or others.
    pub(super) fn of(columns: &'a Columns) -> Result<Source<Self>, ArrowError> {
        let batches = columns.iter().map(|column| match column {
            None => Ok(Self { presence: Presence::None, all: &[] }),
            Some(column) => {
                let array = column.array.as_fixed_size_binary_opt();
                let array = array.filter(|array| usize::try_from(array.value_length()) == Ok(N));
                let array = array.ok_or_else(|| {
                    ArrowError::CastError(format!("column {} holds no ids of {N} bytes", column.field.name()))
                })?;
                Ok(Self { presence: Presence::of(column), all: array.value_data().as_chunks().0 })
            }
        });
        Ok(Source::new(batches.collect::<Result<_, ArrowError>>()?))
    }
}

impl<'a, const N: usize> Values<'a> for Ids<'a, N> {
    type Item = &'a [u8; N];

    fn presence(&self) -> Presence<'a> {
        self.presence
    }

    #[inline]
    fn value(&self, at: usize) -> &'a [u8; N] {
        &self.all[at]
    }

    fn extend(&self, piece: Piece<'_>, out: &mut Vec<&'a [u8; N]>) {
        piece.extend(out, |at| &self.all[at]);
    }
}

/// Truth values.
pub(super) struct Bools<'a> {
    presence: Presence<'a>,
    /// None where all are the same.
    bits: Option<&'a BooleanBuffer>,
    same: bool,
}

impl<'a> Bools<'a> {
    /// The truth values of a column.
    ///
    /// # Errors
    /// When it holds none.
    pub(super) fn of(columns: &'a Columns) -> Result<Source<Self>, ArrowError> {
        let batches = columns.iter().map(|column| match column {
            None => Ok(Self { presence: Presence::None, bits: None, same: false }),
            Some(column) => match (one_value(&column.field), column.array.as_boolean_opt()) {
                (Some(value), _) => {
                    Ok(Self { presence: Presence::of(column), bits: None, same: value == "true" })
                }
                (None, Some(array)) => {
                    Ok(Self { presence: Presence::of(column), bits: Some(array.values()), same: false })
                }
                (None, None) => Err(ArrowError::CastError(format!(
                    "column {} holds no truth values",
                    column.field.name()
                ))),
            },
        });
        Ok(Source::new(batches.collect::<Result<_, ArrowError>>()?))
    }
}

impl<'a> Values<'a> for Bools<'a> {
    type Item = bool;

    fn presence(&self) -> Presence<'a> {
        self.presence
    }

    #[inline]
    fn value(&self, at: usize) -> bool {
        self.bits.map_or(self.same, |bits| bits.value(at))
    }

    fn extend(&self, piece: Piece<'_>, out: &mut Vec<bool>) {
        match self.bits {
            None => out.resize(out.len() + piece.len(), self.same),
            Some(bits) => piece.extend(out, |at| bits.value(at)),
        }
    }
}

/// The columns of another version of the schema in the type that is wanted.
pub(super) fn cast_all(columns: Columns, to: &DataType) -> Result<Columns, ArrowError> {
    let one = |column: Column| match column.array.data_type() {
        // Packed, or a number as it is.
        DataType::Null => Ok(column),
        from if from == to || from.is_unsigned_integer() => Ok(column),
        _ => Ok(Column { array: cast(&column.array, to)?, field: column.field }),
    };
    columns.into_iter().map(|column| column.map(one).transpose()).collect()
}
