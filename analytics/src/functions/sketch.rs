//! A quantile sketch with fixed buckets: DDSketch with the linearly interpolated logarithmic mapping.
//!
//! A bucket is the exponent and the first six bits of the mantissa of an IEEE 754 double, so that finding it is one
//! shift. The widest bucket spans a ratio of 65/64; its harmonic middle is within 1/129 (0.78 %) of each value in
//! it. Two sketches merge by adding counts, hence any order of merging gives the same answer.
//! (Masson, Rim, Lee: DDSketch, VLDB 2019, section 2.)

const MANTISSA_BITS: u32 = 6;
const EXPONENT_MIN: u64 = 1023 - 20;
const BUCKETS: u64 = (84 << MANTISSA_BITS) + 1;

/// Counts of values per bucket, held densely between the least and the greatest bucket seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    start: u16,
    counts: Vec<u64>,
}

/// The bytes are not a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a latency sketch")]
pub struct NotASketch;

impl Sketch {
    /// Adds one value. Values below 2^-20 (negative ones too) count as 0, those of 2^64 and above as 2^64; NaN is
    /// not counted.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if !value.is_nan() {
            self.add_count(bucket(value), 1);
        }
    }

    /// Adds every value of another sketch.
    pub fn merge(&mut self, other: &Self) {
        for (offset, &count) in other.counts.iter().enumerate() {
            if count > 0 {
                self.add_count(other.start + offset as u16, count);
            }
        }
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The value of rank floor(p * (n - 1)), within 1 % of the true one; `None` without values.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (p.clamp(0.0, 1.0) * (count - 1) as f64) as u64;
        let mut below = 0;
        for (offset, &here) in self.counts.iter().enumerate() {
            below += here;
            if below > rank {
                return Some(middle(self.start + offset as u16));
            }
        }
        None
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u64>()
    }

    /// First bucket (u16, little endian), then each count as LEB128.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.counts.len());
        bytes.extend(self.start.to_le_bytes());
        for &count in &self.counts {
            let mut rest = count;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotASketch> {
        let (start, mut rest) = bytes.split_first_chunk::<2>().ok_or(NotASketch)?;
        let start = u16::from_le_bytes(*start);
        let mut counts = Vec::new();
        while !rest.is_empty() {
            let mut count = 0_u64;
            let mut shift = 0;
            loop {
                let (&byte, tail) = rest.split_first().ok_or(NotASketch)?;
                rest = tail;
                if shift > 63 {
                    return Err(NotASketch);
                }
                count |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                shift += 7;
            }
            counts.push(count);
            if u64::from(start) + counts.len() as u64 > BUCKETS {
                return Err(NotASketch);
            }
        }
        Ok(Self { start, counts })
    }

    #[inline]
    fn add_count(&mut self, bucket: u16, count: u64) {
        if self.counts.is_empty() {
            self.start = bucket;
            self.counts.push(count);
            return;
        }
        if bucket < self.start {
            let more = usize::from(self.start - bucket);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.start = bucket;
        }
        let offset = usize::from(bucket - self.start);
        if offset >= self.counts.len() {
            self.counts.resize(offset + 1, 0);
        }
        self.counts[offset] = self.counts[offset].saturating_add(count);
    }
}

#[inline]
fn bucket(value: f64) -> u16 {
    let least = EXPONENT_MIN << MANTISSA_BITS;
    if value <= 0.0 {
        return 0;
    }
    let index = value.to_bits() >> (52 - MANTISSA_BITS);
    if index < least { 0 } else { (index - least + 1).min(BUCKETS - 1) as u16 }
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
        for bytes in [&[][..], &[1], &[0xff, 0xff, 1], &[0, 0, 0x80], &[0; 6000]] {
            assert_eq!(Sketch::from_bytes(bytes), Err(NotASketch));
        }
    }
}
