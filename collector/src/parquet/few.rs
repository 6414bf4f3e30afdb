//! A dictionary of numbers, for columns that have few different ones.

use super::bits::{hybrid, width};

/// Most numbers in a dictionary.
const NUMBERS_MAX: usize = 1_024;
/// Places of the table that finds them. A power of two.
const NUMBER_PLACES: usize = 4_096;

/// The different numbers of a column in the order of their coming, and the code of each value.
pub(super) struct Few {
    pub(super) values: Vec<u64>,
    codes: Vec<u16>,
    /// Where the codes of each page end, and the bounds of its values.
    pages: Vec<(usize, Option<(u64, u64)>)>,
    table: Vec<(u64, u16)>,
}

impl Few {
    /// A free place of the table.
    const FREE: u16 = u16::MAX;

    pub(super) fn new(values_max: usize) -> Self {
        Self {
            values: Vec::new(),
            codes: Vec::with_capacity(values_max),
            pages: Vec::new(),
            table: vec![(0, Self::FREE); NUMBER_PLACES],
        }
    }

    /// Adds the values of a page; false once they are too many.
    pub(super) fn add(&mut self, numbers: &[u64], bounds: Option<(u64, u64)>) -> bool {
        let mut last = (0, Self::FREE);
        for value in numbers {
            if last.0 != *value || last.1 == Self::FREE {
                let mut place = (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
                // At most a quarter of the places are taken, so a free one comes.
                while self.table[place].1 != Self::FREE && self.table[place].0 != *value {
                    place = (place + 1) % NUMBER_PLACES;
                }
                if self.table[place].1 == Self::FREE {
                    if self.values.len() == NUMBERS_MAX {
                        return false;
                    }
                    self.table[place] = (*value, self.values.len() as u16);
                    self.values.push(*value);
                }
                last = self.table[place];
            }
            self.codes.push(last.1);
        }
        self.pages.push((self.codes.len(), bounds));
        true
    }

    /// Appends the codes of a page; gives its bounds.
    pub(super) fn page(&self, page: usize, raw: &mut Vec<u8>) -> Option<(u64, u64)> {
        let begin = page.checked_sub(1).map_or(0, |before| self.pages[before].0);
        let (end, bounds) = self.pages[page];
        let bits = width(self.values.len().saturating_sub(1) as u32);
        raw.push(bits);
        hybrid(&self.codes[begin..end], bits, raw);
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_numbers_have_no_dictionary() {
        let numbers: Vec<u64> = (0..=NUMBERS_MAX as u64).collect();
        let mut few = Few::new(0);
        assert!(few.add(&numbers[1..], None));
        assert!(few.add(&numbers[1..], None));
        assert!(!few.add(&numbers[..1], None));
        let mut few = Few::new(3);
        assert!(few.add(&[7, 7], None) && few.add(&[9, 7, 0], None));
        assert_eq!((few.values, few.codes), (vec![7, 9, 0], vec![0, 0, 1, 0, 2]));
    }
}
