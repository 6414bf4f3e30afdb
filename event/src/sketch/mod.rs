//! A quantile sketch with fixed buckets: DDSketch with the linearly interpolated logarithmic mapping.
//!
//! A bucket is the exponent and the first six bits of the mantissa of an IEEE 754 double, so that finding it is one
//! shift. The widest bucket spans a ratio of 65/64; its harmonic middle is within 1/129 (0.78 %) of each value in
//! it. Two sketches merge by adding counts, hence any order of merging gives the same answer.
//! (Masson, Rim, Lee: DDSketch, VLDB 2019, section 2.)

mod bytes;

use std::collections::BTreeMap;

pub use bytes::NotASketch;
pub(crate) use bytes::{read_number, write_number};

const MANTISSA_BITS: u32 = 6;
const EXPONENT_MIN: u64 = 1023 - 20;
const BUCKETS: u16 = (84 << MANTISSA_BITS) + 1;

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

    /// Forgets all values, and keeps the room that they had.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.carries.clear();
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
        let mut buckets = self.start..;
        if self.carries.is_empty() {
            // Whole doublings first, which the processor adds up many at a time.
            let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
            for here in self.counts.chunks(STEP.into()).map(sum) {
                if below + here > rank {
                    break;
                }
                below += here;
                buckets.start += STEP;
            }
        }
        let from = usize::from(buckets.start - self.start);
        for (bucket, &count) in buckets.zip(&self.counts[from..]) {
            below = below.saturating_add(self.carried(bucket).saturating_add(count.into()));
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

    /// The buckets that hold something, rising.
    fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        (self.start..).zip(&self.counts).filter_map(|(bucket, &count)| {
            let count = self.carried(bucket).saturating_add(count.into());
            (count > 0).then_some((bucket, count))
        })
    }

    /// What is counted of a bucket beyond its 32 bits.
    fn carried(&self, bucket: u16) -> u64 {
        match self.carries.is_empty() {
            true => 0,
            false => self.carries.get(&bucket).copied().unwrap_or(0),
        }
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
