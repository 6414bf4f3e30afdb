//! Fixed-bucket histograms of microseconds, with an exemplar per bucket.

use std::sync::Arc;

use super::family::Row;

/// The last sampled request that fell into a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exemplar {
    /// The trace of that request; all zero for no exemplar.
    pub(super) trace_id: [u8; 16],
    /// What was measured, in microseconds.
    pub(super) value_us: u32,
    /// When the request ended, UTC microseconds.
    pub(super) time_us: i64,
}

impl Exemplar {
    /// Whether the bucket has one.
    pub(super) fn is_set(&self) -> bool {
        self.trace_id != [0; 16]
    }
}

/// One histogram: counts per bucket (not cumulative), the last one unbounded.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds_us: Arc<[u32]>,
    /// By the number of bits of a value: the first bucket that it may be in. Of that many bits there are few bounds.
    firsts: Arc<[u8; 33]>,
    /// Observations per bucket; one more than there are bounds.
    pub(super) buckets: Box<[u64]>,
    /// Sum of all observations, in microseconds.
    pub(super) sum_us: u64,
    /// By bucket; empty until the first sampled request.
    pub(super) exemplars: Vec<Exemplar>,
}

impl Histogram {
    /// An empty histogram with these inclusive upper bounds, ascending.
    pub(super) fn new(bounds_us: Arc<[u32]>) -> Self {
        let buckets = vec![0; bounds_us.len() + 1].into_boxed_slice();
        let least = |bits: usize| if bits == 0 { 0 } else { 1_u32 << (bits - 1) };
        let first = |bits| bounds_us.iter().filter(|bound| **bound < least(bits)).count();
        let firsts = Arc::new(std::array::from_fn(|bits| u8::try_from(first(bits)).unwrap_or(u8::MAX)));
        Self { bounds_us, firsts, buckets, sum_us: 0, exemplars: Vec::new() }
    }

    /// Counts one value and returns its bucket.
    pub(super) fn observe(&mut self, value_us: u32) -> usize {
        let first = usize::from(self.firsts[(u32::BITS - value_us.leading_zeros()) as usize]);
        let below = self.bounds_us[first..].iter().take_while(|bound| **bound < value_us).count();
        let bucket = first + below;
        self.buckets[bucket] += 1;
        self.sum_us = self.sum_us.wrapping_add(u64::from(value_us));
        bucket
    }

    /// Remembers the request as its bucket's exemplar.
    pub(super) fn exemplify(&mut self, bucket: usize, exemplar: Exemplar) {
        if self.exemplars.is_empty() {
            self.exemplars.resize(self.buckets.len(), Exemplar::default());
        }
        self.exemplars[bucket] = exemplar;
    }

    /// All observations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Row for Histogram {
    fn copy_to(&self, published: &mut Self) {
        published.buckets.copy_from_slice(&self.buckets);
        published.sum_us = self.sum_us;
        published.exemplars.clone_from(&self.exemplars);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_of_its_bound() {
        let bounds: Vec<u32> = (0..70).map(|number: u32| number.pow(4) * 19 + number).collect();
        for bounds in [bounds.clone(), vec![], vec![0], vec![u32::MAX], (0..300).collect()] {
            let mut histogram = Histogram::new(bounds.clone().into());
            let near =
                bounds.iter().flat_map(|bound| [bound.saturating_sub(1), *bound, bound.saturating_add(1)]);
            for value in near.chain((0..32).map(|bits| 1 << bits)).chain([0, u32::MAX]) {
                let below = bounds.iter().filter(|bound| **bound < value).count();
                assert_eq!(histogram.observe(value), below, "{value}");
            }
        }
    }

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_has_none() {
        let mut histogram = Histogram::new(vec![10, 20].into());
        for value_us in [0, 10, 11, 20, 21, u32::MAX] {
            histogram.observe(value_us);
        }
        assert_eq!(&*histogram.buckets, [2, 2, 2]);
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum_us, 62 + u64::from(u32::MAX));
    }
}
