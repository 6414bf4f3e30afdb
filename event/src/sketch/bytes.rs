//! A sketch as bytes, which roll-ups keep on disk. A byte with the version begins them, and the first bucket, 16 bits, little
//! endian; without values it is version 1 and two zeros. Equal counts give equal bytes.
//!
//! Version 1, of few or scattered buckets: the count of each bucket from there to the last one that holds something, as
//! LEB128. A count of 0 stands for a run of empty buckets and is followed by how many there are, as LEB128 too.
//!
//! Version 2, of more buckets with counts up to 15: half a byte for each from the first to the last one that holds something,
//! the lower half of a byte first. Version 3, up to 255: a byte for each. These are added up many at a time, and compress to
//! no more than runs do.

use super::{BUCKETS, NO_BUCKET, Sketch};

/// The versions.
const RUNS: u8 = 1;
const HALVES: u8 = 2;
const BYTES: u8 = 3;
/// Fewest buckets that hold something in the dense forms, and most buckets for each of them.
const DENSE_HELD_MIN: usize = 16;
const DENSE_SPREAD_MAX: usize = 12;

/// The bytes are not a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a latency sketch of a version that is known")]
pub struct NotASketch;

impl Sketch {
    /// Adds every value of a sketch in the form of [`Self::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are anything else; some of their counts may then have been added.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), NotASketch> {
        let (&[version, low, high], counts) = bytes.split_first_chunk::<3>().ok_or(NotASketch)?;
        let first = u16::from_le_bytes([low, high]);
        match version {
            RUNS => self.merge_runs(first, counts),
            HALVES | BYTES => self.merge_dense(version, first, counts),
            _ => Err(NotASketch),
        }
    }

    fn merge_dense(&mut self, version: u8, first: u16, counts: &[u8]) -> Result<(), NotASketch> {
        let last = *counts.last().ok_or(NotASketch)?;
        let buckets = match version {
            HALVES => 2 * counts.len() - usize::from(last >> 4 == 0),
            _ => counts.len(),
        };
        let end = usize::from(first) + buckets;
        if end > BUCKETS.into() {
            return Err(NotASketch);
        }
        self.reach(first);
        self.reach((end - 1) as u16);
        let from = usize::from(first - self.start);
        let places = &mut self.counts[from..from + buckets];
        if places.iter().fold(0, |bits, count| bits | count) > u32::MAX / 2 {
            // One that is nearly full: each by itself.
            for (index, bucket) in (first..end as u16).enumerate() {
                let count = match version {
                    HALVES => counts[index / 2] >> (index % 2 * 4) & 15,
                    _ => counts[index],
                };
                self.add_count(bucket, count.into());
            }
        } else if version == HALVES {
            let (pairs, odd) = places.as_chunks_mut::<2>();
            for ([low, high], both) in pairs.iter_mut().zip(counts) {
                *low += u32::from(both & 15);
                *high += u32::from(both >> 4);
            }
            odd.iter_mut().for_each(|low| *low += u32::from(last));
        } else {
            places.iter_mut().zip(counts).for_each(|(place, count)| *place += u32::from(*count));
        }
        Ok(())
    }

    fn merge_runs(&mut self, first: u16, mut rest: &[u8]) -> Result<(), NotASketch> {
        let mut bucket = u64::from(first);
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

    /// Its bytes, as this module documents them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Appends what [`Self::to_bytes`] gives.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(self.counts.len() + 3);
        let Some((first, counts)) = self.dense() else { return self.write_runs(bytes) };
        let most = counts.iter().copied().max().unwrap_or_default();
        let version = match most {
            0..16 => HALVES,
            16..256 => BYTES,
            _ => return self.write_runs(bytes),
        };
        bytes.push(version);
        bytes.extend(first.to_le_bytes());
        if version == BYTES {
            bytes.extend(counts.iter().map(|count| *count as u8));
        } else {
            bytes.extend(counts.chunks(2).map(|pair| (pair[0] | pair.get(1).unwrap_or(&0) << 4) as u8));
        }
    }

    /// The first bucket that holds something and the counts up to the last one, if these are many and close together.
    fn dense(&self) -> Option<(u16, &[u32])> {
        let first = self.counts.iter().position(|count| *count > 0)?;
        let last = self.counts.iter().rposition(|count| *count > 0)?;
        let counts = &self.counts[first..=last];
        let held = counts.iter().filter(|count| **count > 0).count();
        let close = held >= DENSE_HELD_MIN && counts.len() <= held * DENSE_SPREAD_MAX;
        (close && self.carries.is_empty()).then_some((self.start + first as u16, counts))
    }

    fn write_runs(&self, bytes: &mut Vec<u8>) {
        bytes.push(RUNS);
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
        if bucket == NO_BUCKET { ([RUNS, 0, 0, 0], 3) } else { ([RUNS, low, high, 1], 4) }
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

#[cfg(test)]
mod tests {
    use super::super::bucket;
    use super::*;

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        let long = [&[1, 0, 0][..], &[1; 6000]].concat();
        let none: [&[u8]; 8] =
            [&[], &[1], &[1, 0], &[1, 0xff, 0xff, 1], &[1, 0, 0, 0x80], &[1, 0, 0, 0], &[9, 0, 0, 1], &long];
        // A bucket that there is room for, and that is none.
        let mut greatest = Sketch::default();
        greatest.add(1e30);
        assert_eq!(greatest.merge_bytes(&[1, 0x01, 0x15, 1, 0, 5]), Err(NotASketch));
        // The last bucket is 0x1500.
        let last = [&[3, 0x00, 0x15, 1][..], &[2, 0x00, 0x15, 1], &[2, 0xff, 0x14, 0x11]];
        last.iter().for_each(|bytes| assert!(Sketch::from_bytes(bytes).is_ok(), "{bytes:?}"));
        let beyond = [
            &[3, 0x01, 0x15, 1][..],
            &[3, 0x00, 0x15, 1, 1],
            &[2, 0x00, 0x15, 0x11],
            &[2, 0xff, 0x14, 1, 1, 1],
        ];
        for bytes in [&[2, 0, 0][..], &[3, 0, 0], &[4, 0, 0, 1]].into_iter().chain(beyond) {
            assert_eq!(Sketch::from_bytes(bytes).err(), Some(NotASketch), "{bytes:?}");
        }
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

    /// A sketch of some buckets behind that of 1.0.
    fn of(buckets: impl IntoIterator<Item = (u16, u64)>) -> Sketch {
        let mut sketch = Sketch::default();
        buckets.into_iter().for_each(|(at, count)| sketch.add_count(bucket(1.0) + at, count));
        sketch
    }

    #[test]
    fn the_bytes_of_versions_2_and_3_are_these() {
        let halves = of((0..16).map(|turn| (3 * turn, u64::from(turn % 15 + 1))));
        let mut expected = vec![2, 0x01, 0x05];
        for turn in 0..8_u8 {
            // Of six buckets the first and the fourth hold something.
            let [one, other] = [2 * turn, 2 * turn + 1].map(|turn| turn % 15 + 1);
            expected.extend([one, other << 4, 0]);
        }
        expected.pop();
        assert_eq!(halves.to_bytes(), expected);
        let bytes = of((0..16).map(|turn| (turn, 15 + u64::from(turn))));
        let mut wide = vec![3, 0x01, 0x05];
        wide.extend(15..31);
        assert_eq!(bytes.to_bytes(), wide);
        for (sketch, bytes) in [(halves, expected), (bytes, wide)] {
            let back = Sketch::from_bytes(&bytes).unwrap();
            assert_eq!((back.count(), back.to_bytes()), (sketch.count(), bytes));
        }
        // A bucket farther, a bucket less, or a count that is no byte: runs.
        let near: Vec<(u16, u64)> = (0..16).map(|turn| (turn * 12, 255)).collect();
        let far = [&near[..15], &[(16 * 12, 1)]].concat();
        let large = [&near[..15], &[(180, 256)]].concat();
        let version = |buckets: &[(u16, u64)]| of(buckets.iter().copied()).to_bytes()[0];
        assert_eq!([version(&near), version(&far), version(&near[..15]), version(&large)], [3, 1, 1, 1]);
    }

    #[test]
    fn all_forms_add_up_to_the_same() {
        let (mut by_bytes, mut by_counts) = (Sketch::default(), Sketch::default());
        for turn in 0..40_u16 {
            let mut part = Sketch::default();
            (0..turn * 5).for_each(|value| part.add(f64::from(value % 97) * f64::from(turn + 1)));
            by_counts.merge(&part);
            by_bytes.merge_bytes(&part.to_bytes()).unwrap();
        }
        // Counts that a byte more does not fit to.
        for sketch in [&mut by_bytes, &mut by_counts] {
            (1..60).for_each(|bucket| sketch.add_count(bucket * 9, u64::from(u32::MAX) - 1));
        }
        for (version, count) in [(RUNS, 256), (HALVES, 3), (BYTES, 200)] {
            let mut dense = Sketch::default();
            (0..599).for_each(|bucket| dense.add_count(bucket, count));
            assert_eq!(dense.to_bytes()[0], version);
            by_counts.merge(&dense);
            by_bytes.merge_bytes(&dense.to_bytes()).unwrap();
        }
        assert_eq!((by_bytes.count(), by_bytes.to_bytes()), (by_counts.count(), by_counts.to_bytes()));
    }
}
