//! Banks: ranges of lanes, one for each life of a gateway that still writes.
//!
//! While a process hands over to the next, both write: the old one what it still answers, the new one all that is new. A
//! bank is a range of lanes with counters and a lock of its own, which its writer holds for as long as it lives, however
//! that ends. So whoever gets the lock of a bank knows that nobody writes there, and may put its lanes in order; and
//! nobody ever touches the lanes of a process that lives. The lowest free bank is taken, so that lanes do not grow in
//! number with each hand-over.

use super::keeper::recover;
use super::{LaneReader, SpoolError, counters, lane_folder, segment};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most processes that may write to a spool at a time: one that serves, the others having handed over to the next.
pub const BANKS_MAX: u16 = 8;
/// Lanes of a bank: the most cores that a gateway may have.
pub const CORES_MAX: u16 = 4096;
/// How often the other banks are looked after.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The lane of a core in a bank.
pub(super) const fn lane_of(bank: u16, core: u16) -> u16 {
    bank * CORES_MAX + core
}

/// The bank of a lane, and the core there.
pub const fn place_of(lane: u16) -> (u16, u16) {
    (lane / CORES_MAX, lane % CORES_MAX)
}

/// The right to write to the lanes of a bank, for as long as it lives.
#[derive(Debug)]
pub(super) struct Bank {
    pub number: u16,
    _lock: File,
}

/// What a start finds: the bank that is its own from now on, and those of others.
#[derive(Debug)]
pub(super) struct Found {
    pub own: Bank,
    pub others: Others,
}

/// Takes the lowest free bank, puts in order what no living process writes to, and forgets the counters of lives that
/// are over.
pub(super) fn take(folder: &Path) -> Result<Found, SpoolError> {
    let used = used(folder).map_err(SpoolError::io("list", folder))?;
    let mut own = None;
    let mut others = Others::new(folder.to_owned());
    for number in 0..BANKS_MAX {
        if own.is_some() && !used.contains(&number) {
            continue;
        }
        match try_lock(folder, number)? {
            None => others.add(number, false),
            Some(bank) => {
                put_in_order(folder, number)?;
                if own.is_none() {
                    own = Some(bank);
                } else {
                    counters::remove(folder, number)?;
                    others.add(number, true);
                }
            }
        }
    }
    match own {
        Some(own) => Ok(Found { own, others }),
        None => Err(SpoolError::Banks { folder: folder.to_owned() }),
    }
}

/// The banks that have left something in a folder.
fn used(folder: &Path) -> io::Result<BTreeSet<u16>> {
    let lanes = LaneReader::lanes(folder)?.into_iter().map(|lane| place_of(lane).0);
    Ok(lanes.chain(counters::banks(folder)?).collect())
}

fn try_lock(folder: &Path, number: u16) -> Result<Option<Bank>, SpoolError> {
    let path = folder.join(format!("bank-{number}.lock"));
    let lock = File::create(&path).map_err(SpoolError::io("create", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Bank { number, _lock: lock })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(SpoolError::io("lock", &path)(error)),
    }
}

/// Ends what a writer that is gone left open. To be called by who has the bank's lock.
fn put_in_order(folder: &Path, number: u16) -> Result<(), SpoolError> {
    for lane in lanes(folder, number).map_err(SpoolError::io("list", folder))? {
        recover(&lane).map_err(SpoolError::io("recover", &lane))?;
    }
    Ok(())
}

fn lanes(folder: &Path, number: u16) -> io::Result<Vec<PathBuf>> {
    let lanes = LaneReader::lanes(folder)?.into_iter().filter(|lane| place_of(*lane).0 == number);
    Ok(lanes.map(|lane| lane_folder(folder, lane)).collect())
}

/// The banks of others: their room counts, and what a process leaves there when it ends is put in order.
#[derive(Debug)]
pub(super) struct Others {
    folder: PathBuf,
    /// Each with whether it was put in order since its writer ended.
    banks: Vec<(u16, bool)>,
    bytes: u64,
    looked: Option<Instant>,
}

impl Others {
    fn new(folder: PathBuf) -> Self {
        Self { folder, banks: Vec::new(), bytes: 0, looked: None }
    }

    fn add(&mut self, number: u16, in_order: bool) {
        self.banks.push((number, in_order));
    }

    /// How much of the disk the segments of the other banks take, as of a moment ago.
    pub fn bytes(&mut self) -> u64 {
        if self.banks.is_empty() || self.looked.is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL) {
            return self.bytes;
        }
        self.looked = Some(Instant::now());
        let mut bytes = 0;
        for (number, in_order) in &mut self.banks {
            // A bank that cannot be looked at now is looked at again.
            let Ok((held, idle)) = count(&self.folder, *number) else { continue };
            bytes += held;
            if !*in_order || idle > 0 {
                *in_order = matches!(tidy(&self.folder, *number), Ok(true));
            }
        }
        self.bytes = bytes;
        bytes
    }
}

/// Bytes that the segments of a bank take, and how many of them wait to be written to again.
fn count(folder: &Path, number: u16) -> io::Result<(u64, usize)> {
    let (mut held, mut idle) = (0, 0);
    for lane in lanes(folder, number)? {
        let listed = segment::list(&lane)?;
        held += listed.held_bytes();
        idle += listed.free.len();
    }
    Ok((held, idle))
}

/// Puts a bank in order whose writer is gone; false while it lives. Its counters stay: the books of a life that has just
/// ended are closed by the next start.
fn tidy(folder: &Path, number: u16) -> Result<bool, SpoolError> {
    let Some(_bank) = try_lock(folder, number)? else { return Ok(false) };
    put_in_order(folder, number)?;
    Ok(true)
}
