//! Rows into groups, a batch of a hot file at a time.
//!
//! A group is found by the codes of its names: each text of a batch's dictionaries gets a number once, and a row's key is
//! put together from these numbers column by column, with one look-up for each row.
//!
//! Groups by fewer names are made of those by all names, at the end. Only when a minute has too many of these, and names
//! are lost, are the rows from there on counted by fewer names too.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use event::Outcome;
use event::distinct::hash;
use event::hot::unpack_column;
use event::rollup::{ANY_CLASS, Grouping, HOUR_US, MINUTE_US, NAMES, OVERFLOW, Resolution, status_class};
use event::sketch::{NO_BUCKET, Sketch, bucket};
use foldhash::fast::RandomState;

use super::Kind;
use super::codes::Texts;
use super::totals::{Groups, Key, Totals};
use crate::config::RollupConfig;

/// Rows that are looked at together: what is noted of them stays in the processor's cache.
const PIECE: usize = 1_024;
/// Bits of a key for the number of a name, and the greatest such number.
const NAME_BITS: u32 = 24;
const NAME_MAX: u32 = (1 << NAME_BITS) - 1;
/// Numbers of names: none, and those that are too many.
const ABSENT: u32 = 0;
const TOO_MANY: u32 = 1;
/// Places for pairs of group and client that were seen lately. A power of two.
const SEEN: usize = 1 << 13;

/// The groups of one file in the making.
pub(super) struct Grouper {
    config: RollupConfig,
    /// The numbers of names, by column.
    names: [Names; NAMES.len()],
    all: Set,
    /// Those by fewer names, once some of all names are too many.
    fewer: Option<[Set; FEWER.len()]>,
    piece: Piece,
}

/// Groupings by fewer names than all.
const FEWER: [Grouping; 3] = [Grouping::Services, Grouping::Consumers, Grouping::Workspaces];

/// Groups that differ by the same names.
struct Set {
    grouping: Grouping,
    groups_max: usize,
    /// The bits of keys that count.
    mask: u128,
    minutes: Vec<Minute>,
    by_begin: HashMap<i64, u32, RandomState>,
    groups: Vec<Group>,
    seen: Vec<u64>,
    overflowed: u64,
}

/// What is noted of the rows at hand.
#[derive(Default)]
struct Piece {
    keys: Vec<u128>,
    of_row: Vec<u32>,
    errors: Vec<bool>,
    clients: Vec<u64>,
    buckets: Vec<u16>,
}

/// The names of one column, each with a number.
struct Names {
    numbers: HashMap<Arc<str>, u32, RandomState>,
    all: Vec<Option<Arc<str>>>,
}

/// The groups of a minute by their keys: the numbers of the names, the class of status lowest.
struct Minute {
    begin_us: i64,
    by_key: HashMap<u128, u32, RandomState>,
    /// How many have names of their own.
    named: usize,
}

struct Group {
    minute: u32,
    key: u128,
    totals: Totals,
}

impl Names {
    fn new() -> Self {
        let overflow: Arc<str> = OVERFLOW.into();
        Self {
            numbers: HashMap::from_iter([(Arc::clone(&overflow), TOO_MANY)]),
            all: vec![None, Some(overflow)],
        }
    }

    fn number(&mut self, name: Option<&str>) -> u32 {
        let Some(name) = name else { return ABSENT };
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // A file has no more rows than there are numbers, but for a handful.
        let number = u32::try_from(self.all.len()).unwrap_or(NAME_MAX);
        if number >= NAME_MAX {
            return TOO_MANY;
        }
        let name: Arc<str> = name.into();
        self.all.push(Some(Arc::clone(&name)));
        self.numbers.insert(name, number);
        number
    }
}

/// The columns of a batch that count.
struct Columns {
    time: PrimitiveArray<TimestampMicrosecondType>,
    status: Option<PrimitiveArray<UInt16Type>>,
    request_bytes: Option<PrimitiveArray<UInt64Type>>,
    response_bytes: Option<PrimitiveArray<UInt64Type>>,
    duration: Option<PrimitiveArray<UInt32Type>>,
    gateway: Option<PrimitiveArray<UInt32Type>>,
    names: [Texts; NAMES.len()],
    outcome: Texts,
    client: Texts,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let time = numbers(batch, "time")?;
        let time = time.ok_or_else(|| ArrowError::SchemaError("rows without times".into()))?;
        let [workspace, service, route, consumer, source_service] = NAMES.map(|name| Texts::of(batch, name));
        Ok(Self {
            time,
            status: numbers(batch, "status")?,
            request_bytes: numbers(batch, "request_bytes")?,
            response_bytes: numbers(batch, "response_bytes")?,
            duration: numbers(batch, "duration_us")?,
            gateway: numbers(batch, "gateway_us")?,
            names: [workspace?, service?, route?, consumer?, source_service?],
            outcome: Texts::of(batch, "outcome")?,
            client: Texts::of(batch, "client_ip")?,
        })
    }
}

fn numbers<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<Option<PrimitiveArray<T>>, ArrowError> {
    let Some(column) = unpack_column(batch, name)? else { return Ok(None) };
    let numbers = column.as_primitive_opt::<T>().cloned();
    numbers.map(Some).ok_or_else(|| ArrowError::CastError(format!("column {name} holds other numbers")))
}

impl Grouper {
    /// No groups; of each minute there may be a number of them.
    pub(super) fn new(config: &RollupConfig) -> Self {
        Self {
            config: config.clone(),
            names: std::array::from_fn(|_| Names::new()),
            all: Set::new(Grouping::All, config),
            fewer: None,
            piece: Piece::default(),
        }
    }

    /// Adds the rows of a batch, packed or not.
    ///
    /// # Errors
    /// When a column is not what the schema says.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = Columns::of(batch)?;
        let mut numbers: [Vec<u32>; NAMES.len()] = Default::default();
        for ((numbers, texts), names) in numbers.iter_mut().zip(&columns.names).zip(&mut self.names) {
            *numbers = texts.map(|text| names.number(text));
        }
        let failed = columns.outcome.map(is_failure);
        // No hash says that there is no client: one in 2^64 that has it is not counted.
        let hashes = columns.client.map(|client| client.map_or(0, |client| hash(client.as_bytes())));
        for begin in (0..batch.num_rows()).step_by(PIECE) {
            let rows = begin..batch.num_rows().min(begin + PIECE);
            let piece = &mut self.piece;
            piece.errors.clear();
            piece.errors.resize(rows.len(), false);
            columns.outcome.each(rows.clone(), &failed, |place, failed| piece.errors[place] = failed);
            piece.clients.clear();
            piece.clients.resize(rows.len(), 0);
            columns.client.each(rows.clone(), &hashes, |place, hash| piece.clients[place] = hash);
            piece.find_keys(&columns, &numbers, rows.clone());
            let times = &columns.time.values()[rows.clone()];
            self.all.find(piece, times);
            if self.all.overflowed > 0 {
                // What was counted before has all of its names.
                let by_fewer = || FEWER.map(|grouping| self.all.by(grouping, &self.config));
                let fewer = self.fewer.get_or_insert_with(by_fewer);
                self.all.count(piece, &columns, rows.clone());
                for set in fewer {
                    set.find(piece, times);
                    set.count(piece, &columns, rows.clone());
                }
            } else {
                self.all.count(piece, &columns, rows);
            }
        }
        Ok(())
    }

    /// The groups of each kind, each in the order of their keys.
    pub(super) fn finish(self) -> Vec<Rolled> {
        let Self { config, names, all, fewer, .. } = self;
        let fewer = fewer.unwrap_or_else(|| FEWER.map(|grouping| all.by(grouping, &config)));
        let rolled = [all].into_iter().chain(fewer).flat_map(|set| {
            let grouping = set.grouping;
            let minutes = set.into_sorted(&names);
            let mut hours = Groups::new(config.most(grouping));
            for (key, totals) in &minutes {
                let time_us = key.time_us.div_euclid(HOUR_US) * HOUR_US;
                hours.add(Key { time_us, ..key.clone() }, totals);
            }
            let hours = hours.into_sorted();
            [
                Rolled { kind: (Resolution::Minute, grouping), groups: minutes },
                Rolled { kind: (Resolution::Hour, grouping), groups: hours },
            ]
        });
        rolled.collect()
    }
}

impl Piece {
    /// Notes the key of each of some rows, and which of them failed by their status.
    fn find_keys(&mut self, columns: &Columns, numbers: &[Vec<u32>; NAMES.len()], rows: Range<usize>) {
        let mut base = 0;
        self.keys.clear();
        self.keys.resize(rows.len(), 0);
        let mut shift = CLASS_BITS;
        for (texts, numbers) in columns.names.iter().zip(numbers) {
            if texts.is_same() {
                base |= u128::from(numbers[0]) << shift;
            } else {
                texts.each(rows.clone(), numbers, |place, number| {
                    self.keys[place] |= u128::from(number) << shift;
                });
            }
            shift += NAME_BITS;
        }
        if let Some(status) = &columns.status {
            let statuses = &status.values()[rows.clone()];
            let there = |place: usize| status.nulls().is_none_or(|nulls| nulls.is_valid(rows.start + place));
            for (place, status) in statuses.iter().enumerate().filter(|(place, _)| there(*place)) {
                self.keys[place] |= u128::from(status_class(*status));
                self.errors[place] |= *status >= 500;
            }
        }
        if base != 0 {
            self.keys.iter_mut().for_each(|key| *key |= base);
        }
    }
}

impl Set {
    fn new(grouping: Grouping, config: &RollupConfig) -> Self {
        let names = (0..).zip(grouping.keeps()).filter(|(_, keeps)| *keeps);
        let class = if grouping.keeps_class() { CLASS } else { 0 };
        let mask = names.fold(class, |mask, (column, _)| {
            mask | u128::from(NAME_MAX) << (CLASS_BITS + NAME_BITS * column)
        });
        Self {
            grouping,
            groups_max: config.most(grouping),
            mask,
            minutes: Vec::new(),
            by_begin: HashMap::default(),
            groups: Vec::new(),
            seen: vec![0; SEEN],
            overflowed: 0,
        }
    }

    /// The same requests by other names, of which there are fewer.
    fn by(&self, grouping: Grouping, config: &RollupConfig) -> Self {
        let mut fewer = Self::new(grouping, config);
        for Group { minute, key, totals } in self.groups.iter().filter(|group| group.totals.requests > 0) {
            let (minute, _) = fewer.minute(self.minutes[*minute as usize].begin_us);
            let group = fewer.group(minute, *key);
            fewer.groups[group as usize].totals.merge(totals);
        }
        fewer
    }

    /// Notes the group of each row of a piece.
    fn find(&mut self, piece: &mut Piece, times: &[i64]) {
        piece.of_row.clear();
        // Nearly always rows that follow each other are of one minute.
        let (mut minute, mut begin_us) = (0, i64::MAX);
        for (key, time_us) in piece.keys.iter().zip(times) {
            if !(0..MINUTE_US).contains(&time_us.wrapping_sub(begin_us)) {
                (minute, begin_us) = self.minute(*time_us);
            }
            piece.of_row.push(self.group(minute, *key));
        }
    }

    fn group(&mut self, minute: u32, key: u128) -> u32 {
        let key = key & self.mask;
        let known = self.minutes[minute as usize].by_key.get(&key).copied();
        known.unwrap_or_else(|| self.begin(minute, key))
    }

    /// The minute of a time, and when it begins.
    #[cold]
    fn minute(&mut self, time_us: i64) -> (u32, i64) {
        let begin_us = time_us.div_euclid(MINUTE_US) * MINUTE_US;
        let next = u32::try_from(self.minutes.len()).expect("a file has no more minutes than rows");
        let minute = *self.by_begin.entry(begin_us).or_insert(next);
        if minute == next {
            self.minutes.push(Minute { begin_us, by_key: HashMap::default(), named: 0 });
        }
        (minute, begin_us)
    }

    /// The group of a key that is new in its minute.
    #[cold]
    fn begin(&mut self, index: u32, key: u128) -> u32 {
        let minute = &mut self.minutes[index as usize];
        let is_full = minute.named >= self.groups_max && key & !CLASS != OVERFLOW_NAMES;
        let key = if is_full { OVERFLOW_NAMES | key & CLASS } else { key };
        self.overflowed += u64::from(is_full);
        let next = u32::try_from(self.groups.len()).expect("a file has no more groups than rows");
        let group = *minute.by_key.entry(key).or_insert(next);
        if group == next {
            minute.named += usize::from(key & !CLASS != OVERFLOW_NAMES);
            self.groups.push(Group { minute: index, key, totals: Totals::default() });
        }
        group
    }

    /// Adds some rows to their groups. What is counted is counted in a loop of its own, so that the processor waits for
    /// the memory of many groups at once.
    fn count(&mut self, piece: &mut Piece, columns: &Columns, rows: Range<usize>) {
        let number = |column: &Option<PrimitiveArray<UInt64Type>>, row: usize| {
            column.as_ref().map_or(0, |column| column.values()[row])
        };
        for (place, row) in rows.clone().enumerate() {
            let totals = &mut self.groups[piece.of_row[place] as usize].totals;
            totals.requests += 1;
            totals.errors += u64::from(piece.errors[place]);
            totals.request_bytes = totals.request_bytes.saturating_add(number(&columns.request_bytes, row));
            totals.response_bytes =
                totals.response_bytes.saturating_add(number(&columns.response_bytes, row));
        }
        self.sketch(piece, &columns.duration, rows.clone(), |totals| &mut totals.duration);
        self.sketch(piece, &columns.gateway, rows, |totals| &mut totals.gateway);
        for (group, client) in piece.of_row.iter().zip(&piece.clients).filter(|(_, client)| **client != 0) {
            // What was added lately need not be added again.
            let pair = client ^ u64::from(group + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = &mut self.seen[(pair >> 32) as usize % SEEN];
            if *place != pair {
                *place = pair;
                self.groups[*group as usize].totals.clients.add(*client);
            }
        }
    }

    /// Adds the numbers of a column, for some rows, to a sketch of their groups.
    fn sketch(
        &mut self,
        piece: &mut Piece,
        column: &Option<PrimitiveArray<UInt32Type>>,
        rows: Range<usize>,
        of: impl Fn(&mut Totals) -> &mut Sketch,
    ) {
        let Some(column) = column else { return };
        piece.buckets.clear();
        piece.buckets.extend(column.values()[rows.clone()].iter().map(|number| bucket((*number).into())));
        if let Some(nulls) = column.nulls() {
            for (place, row) in rows.enumerate() {
                if nulls.is_null(row) {
                    piece.buckets[place] = NO_BUCKET;
                }
            }
        }
        for (group, bucket) in piece.of_row.iter().zip(&piece.buckets) {
            let sketch = of(&mut self.groups[*group as usize].totals);
            if !sketch.count_in_place(*bucket) && *bucket != NO_BUCKET {
                sketch.add_count(*bucket, 1);
            }
        }
    }

    /// The groups by the minute in the order of their keys.
    fn into_sorted(self, names: &[Names; NAMES.len()]) -> Vec<(Key, Totals)> {
        let of_key = |key: u128| {
            std::array::from_fn(|column| {
                let number = key >> (CLASS_BITS + NAME_BITS * column as u32) & u128::from(NAME_MAX);
                names[column].all[number as usize].clone()
            })
        };
        let class = |key: u128| if self.grouping.keeps_class() { (key & CLASS) as u8 } else { ANY_CLASS };
        let mut minutes: Vec<(Key, Totals)> = Vec::with_capacity(self.groups.len());
        for Group { minute, key, totals } in self.groups {
            let time_us = self.minutes[minute as usize].begin_us;
            minutes.push((Key { time_us, names: of_key(key), class: class(key) }, totals));
        }
        minutes.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        minutes
    }
}

/// Groups of one kind, in the order of their keys.
pub(super) struct Rolled {
    pub(super) kind: Kind,
    pub(super) groups: Vec<(Key, Totals)>,
}

/// Bits of a key for the class of status.
const CLASS_BITS: u32 = 3;
const CLASS: u128 = (1 << CLASS_BITS) - 1;
/// The names of a key that stands for those that are too many.
const OVERFLOW_NAMES: u128 = {
    let (mut names, mut column) = (0, 0);
    while column < NAMES.len() as u32 {
        names |= (TOO_MANY as u128) << (CLASS_BITS + NAME_BITS * column);
        column += 1;
    }
    names
};

/// Whether an outcome, by its word, is an error.
fn is_failure(outcome: Option<&str>) -> bool {
    Outcome::ALL.iter().any(|known| outcome == Some(known.as_str()) && known.is_failure())
}
