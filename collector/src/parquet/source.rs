//! The values of a column where they stand, batch by batch, as they are packed there. What is taken out of them is taken
//! page by page, so that it stays in the processor's cache and no memory is needed for a whole column.

use super::rows::{Place, Places};
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
pub(super) struct Piece {
    pub(super) field: FieldRef,
    pub(super) array: ArrayRef,
}

/// The column of each batch, if it has it.
pub(super) type Pieces = Vec<Option<Piece>>;

impl Piece {
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
pub(super) fn is_blank(pieces: &Pieces) -> bool {
    pieces.iter().flatten().all(Piece::is_blank)
}

/// Which values of a batch are there.
#[derive(Clone, Copy)]
pub(super) enum Presence<'a> {
    All,
    Some(&'a NullBuffer),
    None,
}

impl<'a> Presence<'a> {
    pub(super) fn of(piece: &'a Piece) -> Self {
        if piece.is_blank() {
            return Self::None;
        }
        piece.array.nulls().filter(|nulls| nulls.null_count() > 0).map_or(Self::All, Self::Some)
    }

    #[inline]
    fn has(self, at: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(nulls) => nulls.is_valid(at as usize),
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

    /// Shows the values of some places, all of which are there, in their order.
    fn each(&self, places: &[Place], visit: &mut impl FnMut(Self::Item));
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
        for piece in places.pieces(range) {
            let presence = self.batches[batch_of(piece)].presence();
            valid.extend(piece.iter().map(|(_, at)| presence.has(*at)));
        }
        valid.contains(&false).then_some(&valid[..])
    }

    /// Shows the values of some places in their order, without those that are not there.
    #[inline]
    pub(super) fn each(&self, places: &Places<'_>, range: Range<usize>, mut visit: impl FnMut(V::Item)) {
        for piece in places.pieces(range) {
            let batch = &self.batches[batch_of(piece)];
            match batch.presence() {
                Presence::All => batch.each(piece, &mut visit),
                Presence::None => {}
                presence @ Presence::Some(_) => {
                    for place in piece.iter().filter(|(_, at)| presence.has(*at)) {
                        batch.each(std::slice::from_ref(place), &mut visit);
                    }
                }
            }
        }
    }
}

/// The batch of places that are all in one.
fn batch_of(piece: &[Place]) -> usize {
    piece.first().map_or(0, |(batch, _)| *batch as usize)
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
    pub(super) fn of(pieces: &'a Pieces) -> Result<Source<Self>, ArrowError> {
        let batches = pieces.iter().map(|piece| match piece {
            None => Ok(Self { presence: Presence::None, base: 0, width: Width::Zero }),
            Some(piece) => Self::of_piece(piece),
        });
        Ok(Source::new(batches.collect::<Result<_, ArrowError>>()?))
    }

    fn of_piece(piece: &'a Piece) -> Result<Self, ArrowError> {
        let presence = Presence::of(piece);
        if let Some(value) = one_value(&piece.field) {
            let base = value.parse().map_err(|_| no_numbers(piece))?;
            return Ok(Self { presence, base, width: Width::Zero });
        }
        let array = &piece.array;
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
            _ => return Err(no_numbers(piece)),
        };
        Ok(Self { presence, base: base(&piece.field)?, width })
    }
}

fn values<T: ArrowPrimitiveType>(array: &ArrayRef) -> &[T::Native] {
    array.as_primitive::<T>().values()
}

fn no_numbers(piece: &Piece) -> ArrowError {
    ArrowError::CastError(format!("column {} holds no numbers", piece.field.name()))
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
    fn each(&self, places: &[Place], visit: &mut impl FnMut(u64)) {
        let base = self.base;
        let at = |place: &Place| place.1 as usize;
        match self.width {
            Width::Zero => places.iter().for_each(|_| visit(base)),
            Width::One(all) => places.iter().for_each(|p| visit(u64::from(all[at(p)]).wrapping_add(base))),
            Width::Two(all) => places.iter().for_each(|p| visit(u64::from(all[at(p)]).wrapping_add(base))),
            Width::Four(all) => places.iter().for_each(|p| visit(u64::from(all[at(p)]).wrapping_add(base))),
            Width::Eight(all) => places.iter().for_each(|p| visit(all[at(p)].wrapping_add(base))),
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
    pub(super) fn of(pieces: &'a Pieces) -> Result<Source<Self>, ArrowError> {
        let batches = pieces.iter().map(|piece| match piece {
            None => Ok(Self { presence: Presence::None, all: &[] }),
            Some(piece) => {
                let array = piece.array.as_fixed_size_binary_opt();
                let array = array.filter(|array| usize::try_from(array.value_length()) == Ok(N));
                let array = array.ok_or_else(|| {
                    ArrowError::CastError(format!("column {} holds no ids of {N} bytes", piece.field.name()))
                })?;
                Ok(Self { presence: Presence::of(piece), all: array.value_data().as_chunks().0 })
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
    fn each(&self, places: &[Place], visit: &mut impl FnMut(&'a [u8; N])) {
        places.iter().for_each(|(_, at)| visit(&self.all[*at as usize]));
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
    pub(super) fn of(pieces: &'a Pieces) -> Result<Source<Self>, ArrowError> {
        let batches = pieces.iter().map(|piece| match piece {
            None => Ok(Self { presence: Presence::None, bits: None, same: false }),
            Some(piece) => match (one_value(&piece.field), piece.array.as_boolean_opt()) {
                (Some(value), _) => {
                    Ok(Self { presence: Presence::of(piece), bits: None, same: value == "true" })
                }
                (None, Some(array)) => {
                    Ok(Self { presence: Presence::of(piece), bits: Some(array.values()), same: false })
                }
                (None, None) => {
                    Err(ArrowError::CastError(format!("column {} holds no truth values", piece.field.name())))
                }
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
    fn each(&self, places: &[Place], visit: &mut impl FnMut(bool)) {
        match self.bits {
            None => places.iter().for_each(|_| visit(self.same)),
            Some(bits) => places.iter().for_each(|(_, at)| visit(bits.value(*at as usize))),
        }
    }
}

/// The columns of another version of the schema in the type that is wanted.
pub(super) fn cast_all(pieces: Pieces, to: &DataType) -> Result<Pieces, ArrowError> {
    let one = |piece: Piece| match piece.array.data_type() {
        // Packed, or a number as it is.
        DataType::Null => Ok(piece),
        from if from == to || from.is_unsigned_integer() => Ok(piece),
        _ => Ok(Piece { array: cast(&piece.array, to)?, field: piece.field }),
    };
    pieces.into_iter().map(|piece| piece.map(one).transpose()).collect()
}
