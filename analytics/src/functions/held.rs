//! Sketches of groups that wait, as bytes, until all of a group are merged at once.
//!
//! Thousands of groups with a few kilobytes of counts each are more than a cache holds, and to merge each sketch as it comes
//! waits for memory at nearly every bucket. Bytes are some hundred per sketch, and stay where they came; a group's are then
//! merged into one sketch that stays in the cache.

use std::io::Write;

use arrow::array::{Array, BinaryArray, BinaryBuilder, BooleanArray};
use arrow::buffer::Buffer;
use datafusion::common::{DataFusionError, Result};
use event::sketch::{NotASketch, Sketch};

use super::aggregate::passes;

/// Bytes that may wait before those of each group are merged; then as many more as that left.
const WAITING_BYTES_MIN: usize = 32 << 20;
/// Sketches of a group, on average, that are handed on as they are: to merge them here is no less work than where they go.
const HANDED_ON_MAX: usize = 8;
/// What several sketches in one state begin with, each behind its length of four bytes; a sketch begins with its version.
const SEVERAL: u8 = 0;

/// Sketches in the order of their coming, where they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What batches brought, which are not copied.
    buffers: Vec<Buffer>,
    /// Sketches that were made here.
    own: Vec<u8>,
    parts: Vec<Part>,
    /// Bytes of the parts.
    bytes: usize,
    /// What was left of them by the last merging.
    merged_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    group: usize,
    /// Which buffer; [`OWN`] for none of them.
    buffer: u32,
    from: usize,
    to: usize,
}

const OWN: u32 = u32::MAX;

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

    /// Adds the sketches of a column to the groups of their rows, those that a filter lets through; of a column of states
    /// each may be several.
    pub(super) fn add_column(
        &mut self,
        states: &BinaryArray,
        filter: Option<&BooleanArray>,
        groups: &[usize],
        several: bool,
    ) -> Result<()> {
        let (first, mut passed) = (self.parts.len(), 0);
        let is_new = self.buffers.last().is_none_or(|last| !last.ptr_eq(states.values()));
        if is_new {
            self.buffers.push(states.values().clone());
        }
        let buffer = (self.buffers.len() - 1) as u32;
        for row in (0..states.len()).filter(|&row| states.is_valid(row) && passes(filter, row)) {
            let (state, at) = (states.value(row), states.value_offsets()[row] as usize);
            passed += state.len();
            let mut part = |sketch: &[u8]| {
                let from = at + (sketch.as_ptr().addr() - state.as_ptr().addr());
                self.parts.push(Part { group: groups[row], buffer, from, to: from + sketch.len() });
                self.bytes += sketch.len();
                Ok(())
            };
            if several { sketches_of(state, part)? } else { part(state)? }
        }
        let offsets = states.value_offsets();
        let brought = (offsets[states.len()] - offsets[0]) as usize;
        if 2 * passed < brought {
            // A few of many: the rest is not kept for them.
            self.copy(first);
            if is_new {
                self.buffers.pop();
            }
        }
        self.bound()
    }

    /// Copies the bytes of all parts from one on.
    fn copy(&mut self, first: usize) {
        for part in self.parts[first..].iter_mut().filter(|part| part.buffer != OWN) {
            let from = self.own.len();
            self.own.extend_from_slice(&self.buffers[part.buffer as usize][part.from..part.to]);
            *part = Part { buffer: OWN, from, to: self.own.len(), ..*part };
        }
    }

    /// Adds a sketch that was made here to a group.
    pub(super) fn add(&mut self, group: usize, sketch: &[u8]) -> Result<()> {
        let from = self.own.len();
        self.own.extend_from_slice(sketch);
        self.parts.push(Part { group, buffer: OWN, from, to: self.own.len() });
        self.bytes += sketch.len();
        self.bound()
    }

    /// Takes the groups before `end` out, rising, those without a sketch left out; those behind move up.
    pub(super) fn take(&mut self, end: usize, mut each: impl FnMut(usize, &Sketch)) -> Result<()> {
        let Self { buffers, own, parts, .. } = std::mem::take(self);
        let (mut taken, left): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.group < end);
        taken.sort_unstable_by_key(|part| (part.group, part.buffer, part.from));
        let mut sketch = Sketch::default();
        for group in taken.chunk_by(|one, other| one.group == other.group) {
            sketch.clear();
            for part in group {
                sketch.merge_bytes(part.of(&buffers, &own)).map_err(not_a_sketch)?;
            }
            each(group[0].group, &sketch);
        }
        // What stays is copied, so that what went is not kept for it.
        for part in left {
            self.add(part.group - end, part.of(&buffers, &own))?;
        }
        Ok(())
    }

    /// Takes all groups out, if few sketches wait for each: a state of each of `count` groups. None if they are to be
    /// merged.
    pub(super) fn states(&mut self, count: usize) -> Result<Option<BinaryArray>> {
        if self.parts.len() > count * HANDED_ON_MAX {
            return Ok(None);
        }
        let Self { buffers, own, mut parts, bytes, .. } = std::mem::take(self);
        parts.sort_unstable_by_key(|part| (part.group, part.buffer, part.from));
        let mut states = BinaryBuilder::with_capacity(count, bytes + count + 4 * parts.len());
        let mut parts = parts.into_iter().peekable();
        for group in 0..count {
            states.write_all(&[SEVERAL])?;
            while let Some(part) = parts.next_if(|part| part.group == group) {
                let sketch = part.of(&buffers, &own);
                states.write_all(&(sketch.len() as u32).to_le_bytes())?;
                states.write_all(sketch)?;
            }
            states.append_value([]);
        }
        Ok(Some(states.finish()))
    }

    /// Leaves one sketch of each group when too much waits.
    fn bound(&mut self) -> Result<()> {
        if self.waiting_bytes() <= WAITING_BYTES_MIN + 2 * self.merged_bytes {
            return Ok(());
        }
        let mut merged = Self::default();
        self.take(usize::MAX, |group, sketch| {
            let from = merged.own.len();
            sketch.write(&mut merged.own);
            merged.parts.push(Part { group, buffer: OWN, from, to: merged.own.len() });
        })?;
        merged.bytes = merged.own.len();
        merged.merged_bytes = merged.waiting_bytes();
        *self = merged;
        Ok(())
    }

    fn waiting_bytes(&self) -> usize {
        self.bytes + self.parts.len() * size_of::<Part>()
    }

    /// Bytes that are held, those of batches too.
    pub(super) fn heap_bytes(&self) -> usize {
        let made = self.own.capacity().saturating_sub(self.own.len());
        self.bytes + made + self.parts.capacity() * size_of::<Part>()
    }
}

impl Part {
    fn of<'a>(&self, buffers: &'a [Buffer], own: &'a [u8]) -> &'a [u8] {
        let bytes = if self.buffer == OWN { own } else { buffers[self.buffer as usize].as_slice() };
        &bytes[self.from..self.to]
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
        let states = held.states(3).unwrap().unwrap();
        assert!(held.is_empty());
        held.add_column(&states, None, &[0, 1, 2], true).unwrap();
        assert_eq!(taken(&mut held, 3), [(0, of([5])), (2, of([7, 9]))]);
        // A part of a batch, through a filter, beside what was made here.
        let filter = BooleanArray::from(vec![Some(true), Some(false), Some(true)]);
        held.add(0, &of([5])).unwrap();
        held.add_column(&states.slice(1, 2), Some(&filter.slice(1, 2)), &[0, 1], true).unwrap();
        held.add_column(&states, Some(&filter), &[1, 1, 1], true).unwrap();
        assert_eq!(taken(&mut held, 1), [(0, of([5]))]);
        assert_eq!(taken(&mut held, 1), [(0, of([5, 7, 7, 9, 9]))]);
        let whole = states.value(2);
        for broken in [&whole[..6], &whole[..whole.len() - 1]] {
            let broken = BinaryArray::from(vec![broken]);
            assert!(held.add_column(&broken, None, &[0], true).is_err(), "{broken:?}");
        }
        // A few of many are copied, and keep nothing else.
        held = Held::default();
        let many = BinaryArray::from_iter_values((0..100).map(|value| of([value])));
        let few = BooleanArray::from_iter((0..100).map(|row| Some(row % 50 == 7)));
        held.add_column(&many, Some(&few), &[0; 100], false).unwrap();
        assert!(held.buffers.is_empty() && held.parts.len() == 2);
        assert_eq!(taken(&mut held, 1), [(0, of([7, 57]))]);
        // States are none of the sketches that a question may name.
        held.add_column(&states, None, &[0; 3], false).unwrap();
        assert!(held.take(1, |_, _| {}).is_err());
        held = Held::default();
        (0..9).for_each(|value| held.add(0, &of([value])).unwrap());
        assert!(held.states(1).unwrap().is_none(), "many of a group");
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
