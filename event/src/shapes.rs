//! Runs of texts that were met before: most requests of a client, and of a route, have the same ones.
//!
//! A run that is known is compared as one piece, and stands for what was made of its texts before: a reader looks at the
//! texts of an event only when it has no [`Shape`], or one that is new to it. What is remembered is bounded; where hardly
//! anything repeats, nothing is looked for during a while.

use crate::draft::Run;
use crate::request::is_whole;
use std::hash::{BuildHasher, RandomState};
use twox_hash::XxHash3_64;

/// Most runs of a kind that are remembered; with one more, memory begins anew.
const KNOWN_MAX: usize = 4_096;
/// Most bytes of them.
const BYTES_MAX: usize = 1 << 20;
/// Places of a table. At most half of them are taken. A power of two.
const PLACES: usize = 2 * KNOWN_MAX;
/// A free place.
const FREE: u32 = u32::MAX;
/// Places that are looked at before a run is taken for unknown.
const STEPS_MAX: usize = 32;
/// After so many looks it is decided whether looking is worth it: at least half of them have to find something.
const TRIAL: u32 = 1_024;
/// Looks that are left out if it is not.
const REST: u32 = 16_384;

/// A combination of texts that was met before. Equal shapes of one kind have equal texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rises when memory begins anew; then `index` names other texts.
    pub generation: u32,
    /// Counts from 0.
    pub index: u32,
}

/// What was met.
#[derive(Debug)]
pub struct Shapes {
    clients: Table,
    routes: Table,
}

impl Default for Shapes {
    fn default() -> Self {
        Self::new()
    }
}

impl Shapes {
    /// Nothing was met yet.
    pub fn new() -> Self {
        Self { clients: Table::new(), routes: Table::new() }
    }

    /// The shape of a run, none where it is not remembered; `None` outside for a run whose lengths do not add up.
    #[inline]
    pub(crate) fn find(&mut self, kind: Run, run: &[u8]) -> Option<Option<Shape>> {
        match kind {
            Run::Client => self.clients.find(run),
            _ => self.routes.find(run),
        }
    }
}

#[derive(Debug)]
struct Table {
    seed: u64,
    generation: u32,
    places: Vec<u32>,
    known: Vec<Known>,
    bytes: Vec<u8>,
    /// The one found last.
    last: usize,
    looks: u32,
    misses: u32,
    rest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    hash: u64,
    begin: usize,
    end: usize,
}

impl Table {
    fn new() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
            generation: 0,
            places: vec![FREE; PLACES],
            known: Vec::new(),
            bytes: Vec::new(),
            last: 0,
            looks: 0,
            misses: 0,
            rest: 0,
        }
    }

    #[inline]
    fn find(&mut self, run: &[u8]) -> Option<Option<Shape>> {
        if self.known.get(self.last).is_some_and(|last| is_same(&self.bytes[last.begin..last.end], run)) {
            return Some(Some(self.shape(self.last)));
        }
        if self.rest > 0 {
            self.rest -= 1;
            return is_whole(run).then_some(None);
        }
        self.search(run)
    }

    fn shape(&self, index: usize) -> Shape {
        Shape { generation: self.generation, index: index as u32 }
    }

    fn search(&mut self, run: &[u8]) -> Option<Option<Shape>> {
        self.looks += 1;
        let hash = XxHash3_64::oneshot_with_seed(self.seed, run);
        let mut place = hash as usize % PLACES;
        for _ in 0..STEPS_MAX {
            let index = self.places[place] as usize;
            let Some(known) = self.known.get(index) else { break };
            if known.hash == hash && is_same(&self.bytes[known.begin..known.end], run) {
                self.last = index;
                return Some(Some(self.shape(index)));
            }
            place = (place + 1) % PLACES;
        }
        if !is_whole(run) {
            return None;
        }
        self.misses += 1;
        if self.looks >= TRIAL {
            self.rest = if self.misses > self.looks / 2 { REST } else { 0 };
            (self.looks, self.misses) = (0, 0);
        }
        Some(self.learn(hash, run))
    }

    /// Remembers a run, if there is a place for it.
    fn learn(&mut self, hash: u64, run: &[u8]) -> Option<Shape> {
        if self.known.len() == KNOWN_MAX || self.bytes.len() + run.len() > BYTES_MAX {
            self.generation += 1;
            self.places.fill(FREE);
            self.known.clear();
            self.bytes.clear();
        }
        let places = (0..STEPS_MAX).map(|step| (hash as usize).wrapping_add(step) % PLACES);
        let place = places.into_iter().find(|place| self.places[*place] == FREE)?;
        let (index, begin) = (self.known.len(), self.bytes.len());
        self.places[place] = index as u32;
        self.bytes.extend_from_slice(run);
        self.known.push(Known { hash, begin, end: self.bytes.len() });
        self.last = index;
        Some(self.shape(index))
    }
}

/// Whether two runs are the same. Empty ones are not handed to `memcmp`: where a masked load of no bytes meets an address
/// that is not mapped, as that of an empty vector, the processor takes as long as for a hundred comparisons.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of one text.
    fn run(number: u64) -> Vec<u8> {
        let text = number.to_string();
        let mut run = vec![1, 0, text.len() as u8, 0];
        run.extend_from_slice(text.as_bytes());
        run
    }

    #[test]
    fn equal_runs_have_one_shape_and_others_another() {
        let mut table = Table::new();
        let shapes: Vec<Shape> = (0..100).map(|number| table.find(&run(number)).unwrap().unwrap()).collect();
        for (index, shape) in (0..).zip(&shapes) {
            assert_eq!((shape.generation, shape.index), (0, index));
            assert_eq!(table.find(&run(index.into())), Some(Some(*shape)));
        }
        assert_eq!(table.find(&[1, 0, 9, 0]), None, "a run that does not add up has no shape");
        assert!(table.find(b"").unwrap().is_some(), "no text is a shape too");
    }

    #[test]
    fn memory_is_bounded_and_begins_anew() {
        let mut table = Table::new();
        let mut found = std::collections::HashSet::new();
        // Each of some again and again, so that it is worth it.
        for first in (0..3 * KNOWN_MAX as u64).step_by(256) {
            for number in (0..3).flat_map(|_| first..first + 256) {
                if let Some(shape) = table.find(&run(number)).unwrap() {
                    found.insert((shape.generation, shape.index));
                    let known = table.known[shape.index as usize];
                    assert_eq!(table.bytes[known.begin..known.end], run(number));
                }
            }
            assert!(table.known.len() <= KNOWN_MAX);
        }
        assert!(table.generation >= 1 && found.len() > KNOWN_MAX, "{} {}", table.generation, found.len());
    }

    #[test]
    fn where_nothing_repeats_nothing_is_looked_for_during_a_while() {
        let mut table = Table::new();
        let found = (0..20_000).filter(|number| table.find(&run(*number)).unwrap().is_some()).count();
        assert!(found < 5_000, "{found}");
        let again = (0..40_000).filter(|number| table.find(&run(number % 50)).unwrap().is_some()).count();
        assert!(again > 20_000, "what repeats later is found again: {again}");
    }
}
