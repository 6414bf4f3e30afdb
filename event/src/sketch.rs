//! A quantile sketch with fixed buckets: DDSketch with the linearly interpolated logarithmic mapping.
//!
//! A bucket is the exponent and the first six bits of the mantissa of an IEEE 754 double, so that finding it is one
//! shift. The widest bucket spans a ratio of 65/64; its harmonic middle is within 1/129 (0.78 %) of each value in
//! it. Two sketches merge by adding counts, hence any order of merging gives the same answer.
//! (Masson, Rim, Lee: DDSketch, VLDB 2019, section 2.)
//!
//! As bytes, which roll-ups keep on disk: a byte with the version, 1; the first bucket, 16 bits, little endian; then the
//! count of each bucket from there to the last one that holds something, as LEB128. A count of 0 stands for a run of
//! empty buckets and is followed by how many there are, as LEB128 too. Without values it is the version and two zeros.
//! Equal counts give equal bytes.

use std::collections::BTreeMap;

const MANTISSA_BITS: u32 = 6;
const EXPONENT_MIN: u64 = 1023 - 20;
const BUCKETS: u16 = (84 << MANTISSA_BITS) + 1;

/// The form of the bytes.
const VERSION: u8 = 1;

/// No bucket: the value is not counted.
pub const NO_BUCKET: u16 = u16::MAX;
/// Room is made for a whole doubling of the value at a time.
const STEP: u16 = 1 << MANTISSA_BITS;

/// Counts of values per bucket, held densely between the least and the greatest doubling seen.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    start: u16,
    counts: Vec<u32>,
    /// What 32 bits do not hold, per bucket.
    carries: BTreeMap<u16, u64>,
}

/// The bytes are not a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a latency sketch of a version that is known")]
pub struct NotASketch;

impl Sketch {
    /// Adds one value. Values below 2^-20 (negative ones too) count as 0, those of 2^64 and above as 2^64; NaN is
    /// not counted.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let bucket = bucket(value);
        if bucket != NO_BUCKET && !self.count_in_place(bucket) {
            self.add_count(bucket, 1);
        }
    }

    /// Counts one value of a bucket if there is room for it already: the usual case, kept short.
    #[inline]
    pub fn count_in_place(&mut self, bucket: u16) -> bool {
        self.add_in_place(bucket, 1)
    }

    #[inline]
    fn add_in_place(&mut self, bucket: u16, more: u32) -> bool {
        // A bucket before the start wraps to an offset that no sketch reaches.
        let place = self.counts.get_mut(usize::from(bucket.wrapping_sub(self.start)));
        let sum = place.as_ref().and_then(|count| count.checked_add(more));
        match (place, sum) {
            (Some(count), Some(sum)) => {
                *count = sum;
                true
            }
            _ => false,
        }
    }

    /// Adds every value of another sketch.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add_count(bucket, count);
        }
    }

    /// Adds every value of a sketch in the form of [`Self::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are anything else; some of their counts may then have been added.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), NotASketch> {
        let (&[version, low, high], mut rest) = bytes.split_first_chunk::<3>().ok_or(NotASketch)?;
        if version != VERSION {
            return Err(NotASketch);
        }
        let mut bucket = u64::from(u16::from_le_bytes([low, high]));
        if self.counts.is_empty() {
            // A bucket takes a byte at least: room for all of them is made once.
            self.counts.reserve_exact(rest.len().min(BUCKETS.into()));
        }
        while !rest.is_empty() {
            if let Some((next, behind)) = self.merge_short(bucket, rest) {
                (bucket, rest) = (next, behind);
                continue;
            }
            let count = read_number(&mut rest)?;
            if bucket >= BUCKETS.into() {
                return Err(NotASketch);
            }
            if count == 0 {
                bucket = bucket.saturating_add(read_number(&mut rest)?);
                continue;
            }
            self.add_count(bucket as u16, count);
            bucket += 1;
        }
        Ok(())
    }

    /// Forgets all values, and keeps the room that they had.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.carries.clear();
    }

    /// Takes one step of the bytes, for which there is room and whose numbers have at most two bytes, as nearly all do: the
    /// bucket behind it, and the rest. Whether a bucket is empty is a coin toss, so no branch asks that.
    #[inline]
    fn merge_short<'a>(&mut self, bucket: u64, rest: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let &[first, second, ..] = rest else { return None };
        if bucket >= BUCKETS.into() {
            return None;
        }
        let (count, step, taken) = if first < 0x80 {
            let is_empty = first == 0;
            let step = if is_empty { second } else { 1 };
            (u32::from(first), step, 1 + usize::from(is_empty))
        } else {
            (u32::from(first & 0x7f) | u32::from(second) << 7, 1, 2)
        };
        let is_long = taken == 2 && (second >= 0x80 || (first >= 0x80 && second == 0));
        let place = self.counts.get_mut((bucket as usize).wrapping_sub(self.start.into()))?;
        let (sum, overflows) = place.overflowing_add(count);
        if is_long || overflows {
            return None;
        }
        *place = sum;
        Some((bucket + u64::from(step), &rest[taken..]))
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        let carried: u64 = self.carries.values().sum();
        self.counts.iter().map(|&count| u64::from(count)).sum::<u64>().saturating_add(carried)
    }

    /// The value of rank floor(p * (n - 1)), within 1 % of the true one; `None` without values.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (p.clamp(0.0, 1.0) * (count - 1) as f64) as u64;
        let mut below = 0_u64;
        for (bucket, here) in self.buckets() {
            below = below.saturating_add(here);
            if below > rank {
                return Some(middle(bucket));
            }
        }
        None
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u32>() + self.carries.len() * 32
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
        bytes.reserve(self.counts.len() + 3);
        bytes.push(VERSION);
        let mut next = None;
        for (bucket, count) in self.buckets() {
            match next {
                None => bytes.extend(bucket.to_le_bytes()),
                Some(next) if next < bucket => {
                    bytes.push(0);
                    write_number(bytes, u64::from(bucket - next));
                }
                Some(_) => {}
            }
            write_number(bytes, count);
            next = Some(bucket + 1);
        }
        if next.is_none() {
            bytes.extend([0, 0]);
        }
    }

    /// What [`Self::to_bytes`] gives for a sketch of one value, by its bucket; of none for [`NO_BUCKET`].
    #[must_use]
    pub fn bytes_of_one(bucket: u16) -> ([u8; 4], usize) {
        let [low, high] = bucket.to_le_bytes();
        if bucket == NO_BUCKET { ([VERSION, 0, 0, 0], 3) } else { ([VERSION, low, high, 1], 4) }
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotASketch> {
        let mut sketch = Self::default();
        sketch.merge_bytes(bytes)?;
        Ok(sketch)
    }

    /// The buckets that hold something, rising.
    fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        (self.start..).zip(&self.counts).filter_map(|(bucket, &count)| {
            let carried = match self.carries.is_empty() {
                true => 0,
                false => self.carries.get(&bucket).copied().unwrap_or(0),
            };
            let count = carried.saturating_add(count.into());
            (count > 0).then_some((bucket, count))
        })
    }

    /// Adds values of a bucket, which [`bucket`] gave.
    pub fn add_count(&mut self, bucket: u16, count: u64) {
        self.reach(bucket);
        let place = &mut self.counts[usize::from(bucket - self.start)];
        let sum = count.saturating_add((*place).into());
        *place = sum as u32;
        let carried = sum - u64::from(*place);
        if carried > 0 {
            let carry = self.carries.entry(bucket).or_default();
            *carry = carry.saturating_add(carried);
        }
    }

    /// Makes room for a bucket.
    fn reach(&mut self, bucket: u16) {
        let low = bucket - bucket % STEP;
        if self.counts.is_empty() {
            self.start = low;
        }
        if low < self.start {
            let more = usize::from(self.start - low);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.start = low;
        }
        let wanted = usize::from(low + STEP - self.start);
        if wanted > self.counts.len() {
            self.counts.reserve_exact(wanted - self.counts.len());
            self.counts.resize(wanted, 0);
        }
    }
}

/// Appends a number as LEB128.
pub(crate) fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes one LEB128 number off the front.
pub(crate) fn read_number(rest: &mut &[u8]) -> Result<u64, NotASketch> {
    let (mut count, mut shift) = (0_u64, 0);
    loop {
        let (&byte, tail) = rest.split_first().ok_or(NotASketch)?;
        *rest = tail;
        if shift > 63 {
            return Err(NotASketch);
        }
        count |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(count);
        }
        shift += 7;
    }
}

/// The bucket of a value; [`NO_BUCKET`] of NaN.
#[must_use]
#[inline]
pub fn bucket(value: f64) -> u16 {
    const LEAST: u64 = EXPONENT_MIN << MANTISSA_BITS;
    if value.is_nan() {
        return NO_BUCKET;
    }
    if value <= 0.0 {
        return 0;
    }
    let index = value.to_bits() >> (52 - MANTISSA_BITS);
    (index + 1).saturating_sub(LEAST).min(u64::from(BUCKETS) - 1) as u16
}

fn middle(bucket: u16) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let low = (u64::from(bucket) - 1) + (EXPONENT_MIN << MANTISSA_BITS);
    let [low, high] = [low, low + 1].map(|index| f64::from_bits(index << (52 - MANTISSA_BITS)));
    2.0 * low * high / (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent_of_exact() {
        let mut seed = 7_u64;
        let mut values: Vec<f64> = (0..50_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let unit = (seed >> 11) as f64 / (1_u64 << 53) as f64;
                (unit * 14.0).exp().floor()
            })
            .collect();
        let mut whole = Sketch::default();
        let mut parts = [Sketch::default(), Sketch::default()];
        for (index, &value) in values.iter().enumerate() {
            whole.add(value);
            parts[index % 2].add(value);
        }
        let [mut merged, odd] = parts;
        merged.merge(&Sketch::from_bytes(&odd.to_bytes()).unwrap());
        values.sort_by(f64::total_cmp);
        for p in [0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let exact = values[(p * (values.len() - 1) as f64) as usize];
            let found = whole.quantile(p).unwrap();
            assert!((found - exact).abs() <= exact * 0.01, "p {p}: {found} against {exact}");
            assert_eq!(Some(found), merged.quantile(p));
        }
        assert_eq!(whole.count(), 50_000);
    }

    #[test]
    fn odd_values_have_a_place() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), None);
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            sketch.add(value);
        }
        assert_eq!(sketch.count(), 3);
        assert_eq!(sketch.quantile(0.0), Some(0.0));
        assert!(sketch.quantile(1.0).unwrap() > 1e19);
    }

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        let long = [&[1, 0, 0][..], &[1; 6000]].concat();
        let none: [&[u8]; 8] =
            [&[], &[1], &[1, 0], &[1, 0xff, 0xff, 1], &[1, 0, 0, 0x80], &[1, 0, 0, 0], &[2, 0, 0, 1], &long];
        // A bucket that there is room for, and that is none.
        let mut greatest = Sketch::default();
        greatest.add(1e30);
        assert_eq!(greatest.merge_bytes(&[1, 0x01, 0x15, 1, 0, 5]), Err(NotASketch));
        for bytes in none.into_iter().chain([&[1, 0, 0, 0, 0xff, 0xff, 0x7f, 1][..]]) {
            assert_eq!(Sketch::from_bytes(bytes).err(), Some(NotASketch), "{bytes:?}");
        }
    }

    /// What is on disk stays readable: this test may get further versions, and keeps these.
    #[test]
    fn the_bytes_of_version_1_are_these() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.to_bytes(), [1, 0, 0]);
        sketch.add(1.0);
        assert_eq!(sketch.to_bytes(), [1, 0x01, 0x05, 1]);
        assert_eq!(Sketch::bytes_of_one(bucket(1.0)), ([1, 0x01, 0x05, 1], 4));
        (0..300).for_each(|_| sketch.add(2.0));
        sketch.add(2.04);
        assert_eq!(sketch.to_bytes(), [1, 0x01, 0x05, 1, 0, 63, 0xac, 0x02, 1]);
        let back = Sketch::from_bytes(&sketch.to_bytes()).unwrap();
        assert_eq!((back.count(), back.to_bytes()), (302, sketch.to_bytes()));
        assert_eq!((bucket(0.0), bucket(1e30), bucket(f64::NAN)), (0, BUCKETS - 1, NO_BUCKET));
    }

    #[test]
    fn counts_of_more_than_32_bits_are_kept() {
        let mut sketch = Sketch::default();
        sketch.add_count(bucket(5.0), u32::MAX.into());
        sketch.add(5.0);
        sketch.add_count(bucket(9.0), 1 << 40);
        let back = Sketch::from_bytes(&sketch.to_bytes()).unwrap();
        for sketch in [&sketch, &back] {
            assert_eq!(sketch.count(), (1 << 32) + (1 << 40));
            assert!((sketch.quantile(0.003).unwrap() - 5.0).abs() < 0.05);
            assert!((sketch.quantile(0.005).unwrap() - 9.0).abs() < 0.09);
        }
        assert_eq!(sketch.to_bytes(), back.to_bytes());
    }

    #[test]
    fn the_bytes_of_a_sketch_do_not_depend_on_how_it_came_about() {
        let (mut up, mut down) = (Sketch::default(), Sketch::default());
        (1..2_000).for_each(|value| up.add(value.into()));
        (1..2_000).rev().for_each(|value| down.add(value.into()));
        assert_eq!(up.to_bytes(), down.to_bytes());
        assert_eq!(Sketch::default().to_bytes(), Sketch::from_bytes(&[1, 0, 0]).unwrap().to_bytes());
    }
}
