//! A metric family as the intake thread owns it: label values to a row, rows to numbers, with a budget.
//!
//! A label set is looked up by the bytes the event holds, without allocating: first against the row used last,
//! then by hash. A label set not seen before becomes a new row until `series_max` rows exist; from then on its
//! events land in row 0, whose label values are all [`OVERFLOW`], and are counted. Numbers are plain memory of
//! one thread; [`Family::publish`] copies the rows that changed into the [`Snapshot`] that scrapes read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::compare::is_same;

/// The label value of the one series that takes what the budget refuses.
pub(crate) const OVERFLOW: &str = event::rollup::OVERFLOW;

/// The row that takes what the budget refuses; it exists in every family.
pub(super) const OVERFLOW_ROW: usize = 0;

/// No further row of this hash.
const NO_ROW: u32 = u32::MAX;

/// Label values of one series, ready to be written: UTF-8 without control characters other than line feed.
pub(super) type Labels<const N: usize> = [Box<str>; N];

/// Numbers of one series, copied row by row from the intake thread to the scrape side.
pub(super) trait Row: Clone {
    /// Makes `published` equal to `self`, reusing its memory.
    fn copy_to(&self, published: &mut Self);
}

/// What scrapes read: the rows as of the last publish.
#[derive(Debug)]
pub(super) struct Snapshot<const N: usize, V> {
    /// Label values, by row.
    pub(super) labels: Vec<Arc<Labels<N>>>,
    /// Numbers, by row.
    pub(super) rows: Vec<V>,
    /// Events that went to the overflow row.
    pub(super) overflowed: u64,
}

impl<const N: usize, V> Default for Snapshot<N, V> {
    fn default() -> Self {
        Self { labels: Vec::new(), rows: Vec::new(), overflowed: 0 }
    }
}

/// One family on the intake thread.
#[derive(Debug)]
pub(super) struct Family<const N: usize, V> {
    hasher: RandomState,
    /// Hash of the label values to the first row that has it.
    heads: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    /// The next row with the same hash, by row.
    next: Vec<u32>,
    labels: Vec<Arc<Labels<N>>>,
    rows: Vec<V>,
    /// Whether the row is in `dirty`, by row.
    changed: Vec<bool>,
    dirty: Vec<u32>,
    blank: V,
    last: usize,
    series_max: usize,
    overflowed: u64,
}

impl<const N: usize, V: Row> Family<N, V> {
    /// An empty family whose new rows start as `blank`.
    pub(super) fn new(series_max: usize, blank: V) -> Self {
        Self {
            hasher: RandomState::default(),
            heads: HashMap::default(),
            next: vec![NO_ROW],
            labels: vec![Arc::new(std::array::from_fn(|_| OVERFLOW.into()))],
            rows: vec![blank.clone()],
            changed: vec![false],
            dirty: Vec::new(),
            blank,
            last: OVERFLOW_ROW,
            series_max,
            overflowed: 0,
        }
    }

    /// The row of these label values, made if need be and if the budget allows.
    pub(super) fn row_of(&mut self, values: [&[u8]; N]) -> usize {
        if self.is(self.last, values) {
            return self.last;
        }
        let hash = self.hash(values);
        let row = match self.find(hash, values) {
            Some(row) => row,
            None => self.admit(values),
        };
        if row == OVERFLOW_ROW {
            self.overflowed += 1;
        } else {
            self.last = row;
        }
        row
    }

    /// Whether a row has exactly these label values. Never true of the overflow row, so that each event that
    /// goes there is counted.
    pub(super) fn is(&self, row: usize, values: [&[u8]; N]) -> bool {
        row != OVERFLOW_ROW && matches(&self.labels[row], values)
    }

    /// The numbers of a row, to be changed and published.
    pub(super) fn touch(&mut self, row: usize) -> &mut V {
        if !self.changed[row] {
            self.changed[row] = true;
            self.dirty.push(row as u32);
        }
        &mut self.rows[row]
    }

    /// Copies new and changed rows.
    pub(super) fn publish(&mut self, snapshot: &mut Snapshot<N, V>) {
        snapshot.overflowed = self.overflowed;
        for row in snapshot.rows.len()..self.rows.len() {
            snapshot.labels.push(Arc::clone(&self.labels[row]));
            snapshot.rows.push(self.blank.clone());
        }
        for row in self.dirty.drain(..) {
            let row = row as usize;
            self.changed[row] = false;
            self.rows[row].copy_to(&mut snapshot.rows[row]);
        }
    }

    /// Label sets, without the overflow row.
    #[cfg(test)]
    pub(super) fn series(&self) -> usize {
        self.rows.len() - 1
    }

    fn hash(&self, values: [&[u8]; N]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for value in values {
            hasher.write(value);
            hasher.write_usize(value.len());
        }
        hasher.finish()
    }

    fn find(&self, hash: u64, values: [&[u8]; N]) -> Option<usize> {
        let mut row = *self.heads.get(&hash)?;
        // Rows of one hash form a chain that ends, since each row enters one chain once.
        while row != NO_ROW {
            if matches(&self.labels[row as usize], values) {
                return Some(row as usize);
            }
            row = self.next[row as usize];
        }
        None
    }

    /// The way of a label set not found as it came: cleaned (which may make it equal to one that is known),
    /// then given a row if one is left.
    #[cold]
    fn admit(&mut self, values: [&[u8]; N]) -> usize {
        let clean = values.map(clean);
        let bytes: [&[u8]; N] = std::array::from_fn(|i| clean[i].as_bytes());
        // A name that looks like the overflow series must not make a second series with the same labels.
        if bytes.iter().all(|value| *value == OVERFLOW.as_bytes()) {
            return OVERFLOW_ROW;
        }
        let hash = self.hash(bytes);
        if let Some(row) = self.find(hash, bytes) {
            return row;
        }
        if self.rows.len() > self.series_max {
            return OVERFLOW_ROW;
        }
        let row = self.rows.len();
        let previous = self.heads.insert(hash, row as u32);
        self.next.push(previous.unwrap_or(NO_ROW));
        self.labels.push(Arc::new(std::array::from_fn(|i| clean[i].as_ref().into())));
        self.rows.push(self.blank.clone());
        self.changed.push(false);
        row
    }
}

fn matches<const N: usize>(labels: &Labels<N>, values: [&[u8]; N]) -> bool {
    labels.iter().zip(values).all(|(label, value)| is_same(label.as_bytes(), value))
}

/// Makes any bytes a label value: what is not UTF-8, and control characters (a NUL ends the input of
/// Prometheus' own parser), become U+FFFD. A line feed stays: both formats escape it.
fn clean(value: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(value);
    let unsafe_char = |c: char| c.is_control() && c != '\n';
    if text.contains(unsafe_char) { Cow::Owned(text.replace(unsafe_char, "\u{FFFD}")) } else { text }
}

/// The map's keys are hashes already.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for u64 {
        fn copy_to(&self, published: &mut Self) {
            *published = *self;
        }
    }

    #[test]
    fn beyond_the_budget_everything_lands_in_the_overflow_row_and_is_counted() {
        let mut family = Family::<2, u64>::new(3, 0);
        for i in 0..10u8 {
            let row = family.row_of([b"service", &[b'a' + i]]);
            *family.touch(row) += 1;
        }
        assert_eq!(family.series(), 3);
        let mut snapshot = Snapshot::default();
        family.publish(&mut snapshot);
        assert_eq!(snapshot.rows, [7, 1, 1, 1]);
        assert_eq!(snapshot.overflowed, 7);
        assert_eq!(&*snapshot.labels[OVERFLOW_ROW][1], OVERFLOW);
        let known = family.row_of([b"service", b"b"]);
        *family.touch(known) += 1;
        family.publish(&mut snapshot);
        assert_eq!(snapshot.rows, [7, 1, 2, 1], "a known label set keeps its row when the budget is spent");
    }

    #[test]
    fn bytes_that_clean_to_the_same_text_share_one_row() {
        let mut family = Family::<1, u64>::new(100, 0);
        let first = family.row_of([b"\xff"]);
        assert_eq!(family.row_of([b"\xfe"]), first);
        assert_eq!(family.row_of([b"\0"]), first);
        assert_ne!(family.row_of([b"\n"]), first);
        assert_eq!(family.row_of([OVERFLOW.as_bytes()]), OVERFLOW_ROW);
        assert_eq!(family.series(), 2);
    }

    #[test]
    fn where_one_value_ends_and_the_next_begins_matters() {
        let mut family = Family::<2, u64>::new(100, 0);
        let (ab_c, a_bc) = (family.row_of([b"ab", b"c"]), family.row_of([b"a", b"bc"]));
        assert_ne!(ab_c, a_bc);
    }
}
