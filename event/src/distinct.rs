//! How many different values there were, from a few bytes: HyperLogLog with 4,096 registers.
//!
//! A value is known by the XXH3-64 of its bytes: the first twelve bits choose a register, which keeps the greatest number
//! of leading zeros, plus one, that it met in the others. Two sketches merge by the greater of each register, hence any
//! order of adding and merging gives the same registers, and equal registers give equal bytes. The estimate is Ertl's
//! ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, section 3), which needs no tables and holds
//! from none to 2^64; its standard error is 1.04 / sqrt(4096) = 1.6 %, and few values are nearly always counted exactly.
//!
//! As bytes, which roll-ups keep on disk: a byte with the version, 1; a byte with the form; the registers. In form 0, for
//! at most 1,024 registers that hold something, these follow each other as the number of registers left out before it,
//! in LEB128, and its value in a byte. In form 1 all registers follow each other with six bits each, the first in the
//! lowest bits of the first byte.

use crate::sketch::{read_number, write_number};
use twox_hash::XxHash3_64;

const INDEX_BITS: u32 = 12;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Greatest value of a register.
const RANK_MAX: u8 = (64 - INDEX_BITS + 1) as u8;
/// Beyond this many registers all of them take less room.
const FEW_MAX: usize = 1_024;
/// Beyond this many registers to hold in memory one after the other, all are held.
const SORTED_MAX: usize = 256;
/// Bytes of all registers with six bits each.
const PACKED: usize = REGISTERS * 6 / 8;

/// The form of the bytes.
const VERSION: u8 = 1;
const FEW: u8 = 0;
const ALL: u8 = 1;

/// Registers of the values that were added.
#[derive(Debug, Clone)]
pub enum Distinct {
    /// Those that hold something, `[index][rank]` with the rank in the low eight bits, rising.
    Sorted(Vec<u32>),
    /// Each of them.
    Full(Box<[u8; REGISTERS]>),
}

/// The bytes are not such registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sketch of distinct values of a version that is known")]
pub struct NotADistinct;

impl Default for Distinct {
    fn default() -> Self {
        Self::Sorted(Vec::new())
    }
}

/// What is kept of a value.
#[must_use]
#[inline]
pub fn hash(value: &[u8]) -> u64 {
    XxHash3_64::oneshot(value)
}

impl Distinct {
    /// Adds a value by its [`hash`].
    #[inline]
    pub fn add(&mut self, hash: u64) {
        let index = (hash >> (64 - INDEX_BITS)) as usize;
        // The bit behind the hash ends the run of zeros.
        let rank = ((hash << INDEX_BITS) | (1 << (INDEX_BITS - 1))).leading_zeros() as u8 + 1;
        self.raise(index, rank);
    }

    #[inline]
    fn raise(&mut self, index: usize, rank: u8) {
        match self {
            Self::Full(all) => all[index] = all[index].max(rank),
            Self::Sorted(few) => {
                let new = (index as u32) << 8 | u32::from(rank);
                // Where the next index begins: the register, if it is there, stands before.
                let end = few.partition_point(|one| *one >> 8 <= index as u32);
                match end.checked_sub(1).map(|before| &mut few[before]) {
                    Some(known) if *known >> 8 == index as u32 => *known = new.max(*known),
                    _ => {
                        few.insert(end, new);
                        if few.len() > SORTED_MAX {
                            self.spread();
                        }
                    }
                }
            }
        }
    }

    /// From the registers that hold something to all of them.
    fn spread(&mut self) {
        let mut all = Box::new([0; REGISTERS]);
        self.held().for_each(|(index, rank)| all[index] = rank);
        *self = Self::Full(all);
    }

    /// The registers that hold something, rising.
    fn held(&self) -> impl Iterator<Item = (usize, u8)> {
        let (few, all): (&[u32], &[u8]) = match self {
            Self::Sorted(few) => (few, &[]),
            Self::Full(all) => (&[], &all[..]),
        };
        let few = few.iter().map(|one| ((*one >> 8) as usize, *one as u8));
        few.chain(all.iter().copied().enumerate().filter(|(_, rank)| *rank > 0))
    }

    /// Adds every value of another one.
    pub fn merge(&mut self, other: &Self) {
        other.held().for_each(|(index, rank)| self.raise(index, rank));
    }

    /// Adds every value of one in the form of [`Self::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are anything else; some may then have been added.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), NotADistinct> {
        match bytes {
            [VERSION, FEW, rest @ ..] => {
                let (mut rest, mut next) = (rest, 0_u64);
                while !rest.is_empty() {
                    let skipped = read_number(&mut rest).map_err(|_| NotADistinct)?;
                    let (&rank, tail) = rest.split_first().ok_or(NotADistinct)?;
                    rest = tail;
                    let index = next.saturating_add(skipped);
                    if index >= REGISTERS as u64 || !(1..=RANK_MAX).contains(&rank) {
                        return Err(NotADistinct);
                    }
                    self.raise(index as usize, rank);
                    next = index + 1;
                }
                Ok(())
            }
            [VERSION, ALL, rest @ ..] if rest.len() == PACKED => {
                for (four, packed) in rest.as_chunks::<3>().0.iter().enumerate() {
                    let bits = u32::from_le_bytes([packed[0], packed[1], packed[2], 0]);
                    for place in 0..4 {
                        let rank = (bits >> (6 * place)) as u8 & 0x3f;
                        if rank > RANK_MAX {
                            return Err(NotADistinct);
                        }
                        if rank > 0 {
                            self.raise(4 * four + place, rank);
                        }
                    }
                }
                Ok(())
            }
            _ => Err(NotADistinct),
        }
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotADistinct> {
        let mut distinct = Self::default();
        distinct.merge_bytes(bytes)?;
        Ok(distinct)
    }

    /// The bytes that the module documents.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Appends what [`Self::to_bytes`] gives.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        match self {
            Self::Full(all) if all.iter().filter(|rank| **rank > 0).count() > FEW_MAX => {
                bytes.push(ALL);
                for four in all.as_chunks::<4>().0 {
                    let bits = four.iter().rev().fold(0, |bits, rank| bits << 6 | u32::from(*rank));
                    bytes.extend_from_slice(&bits.to_le_bytes()[..3]);
                }
            }
            _ => {
                bytes.push(FEW);
                let mut next = 0;
                for (index, rank) in self.held() {
                    write_number(bytes, (index - next) as u64);
                    bytes.push(rank);
                    next = index + 1;
                }
            }
        }
    }

    /// How many different values were added, as far as can be told.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        let mut counts = [0_u32; RANK_MAX as usize + 1];
        counts[0] = REGISTERS as u32;
        for (_, rank) in self.held() {
            counts[0] -= 1;
            counts[usize::from(rank)] += 1;
        }
        if counts[0] == REGISTERS as u32 {
            return 0;
        }
        let registers = REGISTERS as f64;
        let [first, middle @ .., last] = &counts;
        let mut sum = registers * tau(1.0 - f64::from(*last) / registers);
        for count in middle.iter().rev() {
            sum = 0.5 * (sum + f64::from(*count));
        }
        sum += registers * sigma(f64::from(*first) / registers);
        (registers * registers / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Sorted(few) => few.capacity() * size_of::<u32>(),
            Self::Full(_) => REGISTERS,
        }
    }
}

/// Ertl's correction for registers that hold nothing.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Ertl's correction for registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl Iterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        values.for_each(|value| distinct.add(hash(&value.to_le_bytes())));
        distinct
    }

    #[test]
    fn estimates_are_within_their_error() {
        // Seven standard errors at most, and far less on the whole.
        let (mut worst, mut sum) = (0.0_f64, 0.0);
        let mut trials = 0;
        for count in [1, 2, 5, 20, 100, 1_000, 5_000, 20_000, 200_000] {
            for trial in 0..6_u64 {
                let found = of((0..count).map(|value| trial << 40 | value)).estimate() as f64;
                let error = (found - count as f64).abs() / count as f64;
                assert!(error <= 0.07, "{count}: {found}");
                (worst, sum, trials) = (worst.max(error), sum + error, trials + 1);
            }
        }
        assert!(sum / f64::from(trials) < 0.02, "{} on average, {worst} at worst", sum / f64::from(trials));
        assert_eq!(Distinct::default().estimate(), 0);
        assert_eq!(of(0..5).estimate(), 5);
    }

    #[test]
    fn any_order_and_any_parts_give_the_same_bytes() {
        for count in [0, 1, 100, 300, 1_100, 1_500, 100_000] {
            let whole = of(0..count);
            let mut parts = of((count / 3..count).rev());
            parts.merge(&of(0..count / 2));
            parts.merge_bytes(&whole.to_bytes()).unwrap();
            assert_eq!(parts.to_bytes(), whole.to_bytes(), "{count}");
            let back = Distinct::from_bytes(&whole.to_bytes()).unwrap();
            assert_eq!((back.to_bytes(), back.estimate()), (whole.to_bytes(), whole.estimate()));
        }
    }

    /// What is on disk stays readable: this test may get further versions, and keeps these.
    #[test]
    fn the_bytes_of_version_1_are_these() {
        assert_eq!(Distinct::default().to_bytes(), [1, 0]);
        let mut few = Distinct::default();
        few.add(0x0010_0000_0000_0000);
        assert_eq!(few.to_bytes(), [1, 0, 1, 53]);
        few.add(0x0018_0000_0000_0000);
        few.add(0x0c88_0000_0000_0000);
        few.add(0xfff4_0000_0000_0000);
        assert_eq!(few.to_bytes(), [1, 0, 1, 53, 0xc6, 0x01, 1, 0xb6, 0x1e, 2]);
        assert_eq!(hash(b"192.0.2.1"), 15_416_733_158_586_102_224);
        let mut all = Distinct::default();
        (0..REGISTERS).for_each(|index| all.raise(index, 1 + (index % 4) as u8));
        let bytes = all.to_bytes();
        assert_eq!((bytes.len(), &bytes[..5]), (2 + PACKED, &[1, 1, 0x81, 0x30, 0x10][..]));
    }

    #[test]
    fn bytes_that_are_no_registers_are_refused() {
        let (long, high) = (vec![0; PACKED + 2], [&[1, 1][..], &[0xff; PACKED]].concat());
        let none: [&[u8]; 9] = [
            &[],
            &[1],
            &[2, 0],
            &[1, 2],
            &[1, 0, 5],
            &[1, 0, 5, 0],
            &[1, 0, 5, 54],
            &[1, 0, 0x80, 0x20, 1],
            &long,
        ];
        for bytes in none.into_iter().chain([&high[..]]) {
            assert!(Distinct::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
