//! Sketches of groups that wait, as bytes, until all of a group are merged at once.
//!
//! Thousands of groups with a few kilobytes of counts each are more than a cache holds, and to merge each sketch as it comes
//! waits for memory at nearly every bucket. Bytes are some hundred per sketch and are only copied when they come; a group's
//! are then merged into one sketch that stays in the cache.

use datafusion::common::{DataFusionError, Result};
use event::sketch::{NotASketch, Sketch};

/// Bytes that may wait before those of each group are merged; then as many more as that left.
const WAITING_BYTES_MIN: usize = 32 << 20;
/// Sketches of a group, on average, that are handed on as they are: to merge them here is no less work than where they go.
const HANDED_ON_MAX: usize = 8;
/// What several sketches in one state begin with, each behind its length of four bytes; a sketch begins with its version.
const SEVERAL: u8 = 0;

/// Sketches in the order of their coming.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// What was left of them by the last merging.
    merged_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    group: usize,
    from: usize,
    to: usize,
}

pub(super) fn not_a_sketch(error: NotASketch) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The sketches of a state: the one that it is, or those of [`Held::states`].
pub(super) fn sketches_of(state: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let Some(mut several) = state.strip_prefix(&[SEVERAL]) else { return each(state) };
    while !several.is_empty() {
        let (length, rest) = several.split_first_chunk().ok_or_else(|| not_a_sketch(NotASketch))?;
        let sketch = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
        let (sketch, rest) = sketch.ok_or_else(|| not_a_sketch(NotASketch))?;
        each(sketch)?;
        several = rest;
    }
    Ok(())
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds the sketches of a state to a group.
    pub(super) fn add_state(&mut self, group: usize, state: &[u8]) -> Result<()> {
        sketches_of(state, |sketch| self.add(group, sketch))
    }

    /// Adds a sketch to a group.
    pub(super) fn add(&mut self, group: usize, sketch: &[u8]) -> Result<()> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(sketch);
        self.parts.push(Part { group, from, to: self.bytes.len() });
        if self.waiting_bytes() > WAITING_BYTES_MIN + 2 * self.merged_bytes {
            self.merge()?;
        }
        Ok(())
    }

    /// Takes the groups before `end` out, rising, those without a sketch left out; those behind move up.
    pub(super) fn take(&mut self, end: usize, mut each: impl FnMut(usize, &Sketch)) -> Result<()> {
        let Self { bytes, parts, .. } = std::mem::take(self);
        let (mut taken, left): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.group < end);
        taken.sort_unstable_by_key(|part| (part.group, part.from));
        let mut sketch = Sketch::default();
        for group in taken.chunk_by(|one, other| one.group == other.group) {
            sketch.clear();
            for part in group {
                sketch.merge_bytes(&bytes[part.from..part.to]).map_err(not_a_sketch)?;
            }
            each(group[0].group, &sketch);
        }
        for part in left {
            self.add(part.group - end, &bytes[part.from..part.to])?;
        }
        Ok(())
    }

    /// Takes all groups out, if few sketches wait for each: a state of each of `count` groups. None if they are to be
    /// merged.
    pub(super) fn states(&mut self, count: usize) -> Option<Vec<Vec<u8>>> {
        if self.parts.len() > count * HANDED_ON_MAX {
            return None;
        }
        let Self { bytes, mut parts, .. } = std::mem::take(self);
        parts.sort_unstable_by_key(|part| (part.group, part.from));
        let mut states = vec![vec![SEVERAL]; count];
        for part in parts {
            let (state, sketch) = (&mut states[part.group], &bytes[part.from..part.to]);
            state.extend((sketch.len() as u32).to_le_bytes());
            state.extend_from_slice(sketch);
        }
        Some(states)
    }

    /// Leaves one sketch of each group.
    fn merge(&mut self) -> Result<()> {
        let mut merged = Self::default();
        self.take(usize::MAX, |group, sketch| {
            let from = merged.bytes.len();
            sketch.write(&mut merged.bytes);
            merged.parts.push(Part { group, from, to: merged.bytes.len() });
        })?;
        merged.merged_bytes = merged.waiting_bytes();
        *self = merged;
        Ok(())
    }

    fn waiting_bytes(&self) -> usize {
        self.bytes.len() + self.parts.len() * size_of::<Part>()
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.parts.capacity() * size_of::<Part>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.add(value.into()));
        sketch.to_bytes()
    }

    fn taken(held: &mut Held, end: usize) -> Vec<(usize, Vec<u8>)> {
        let mut all = Vec::new();
        held.take(end, |group, sketch| all.push((group, sketch.to_bytes()))).unwrap();
        all
    }

    #[test]
    fn groups_come_out_whole_and_the_rest_moves_up() {
        let mut held = Held::default();
        for (group, value) in [(3, 7), (0, 5), (3, 9), (1, 1), (0, 5), (5, 2)] {
            held.add(group, &of([value])).unwrap();
        }
        assert_eq!(taken(&mut held, 2), [(0, of([5, 5])), (1, of([1]))]);
        assert_eq!(taken(&mut held, 2), [(1, of([7, 9]))]);
        assert_eq!(taken(&mut held, usize::MAX), [(1, of([2]))]);
        assert!(held.is_empty() && held.add(0, &[9, 9]).is_ok());
        assert!(held.take(1, |_, _| {}).is_err(), "bytes that are no sketch");
    }

    #[test]
    fn few_sketches_of_a_group_are_handed_on_as_they_are() {
        let mut held = Held::default();
        for (group, value) in [(2, 7), (0, 5), (2, 9)] {
            held.add(group, &of([value])).unwrap();
        }
        let states = held.states(3).unwrap();
        assert!(held.is_empty());
        for (group, state) in states.iter().enumerate() {
            held.add_state(group, state).unwrap();
        }
        assert_eq!(taken(&mut held, 3), [(0, of([5])), (2, of([7, 9]))]);
        for broken in [&states[2][..6], &states[2][..states[2].len() - 1]] {
            assert!(held.add_state(0, broken).is_err(), "{broken:?}");
        }
        (0..9).for_each(|value| held.add(0, &of([value])).unwrap());
        assert!(held.states(1).is_none(), "many of a group");
    }

    #[test]
    fn what_waits_is_bounded_by_what_there_is() {
        let states: Vec<_> = (0..40).map(|turn| of((0..60).map(|value| value * 37 + turn))).collect();
        let mut held = Held::default();
        for turn in 0..1_000_000 {
            held.add(turn % 7, &states[turn % 40]).unwrap();
        }
        assert!(held.heap_bytes() < 3 * WAITING_BYTES_MIN, "{}", held.heap_bytes());
        let counts: u64 = {
            let mut sum = 0;
            held.take(7, |_, sketch| sum += sketch.count()).unwrap();
            sum
        };
        assert_eq!(counts, 1_000_000 * 60);
    }
}
