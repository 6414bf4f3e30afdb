//! Opens a spool and keeps it: lays spare segments ready, recovers after a crash, hands the folder over.

use super::bank::{self, Bank, CORES_MAX, Found, Others, lane_of};
use super::counters::{Counters, DropReason};
use super::segment::{self, FIRST_RECORD, Listing, Segment, Slot};
use super::syncer::{self, Live};
use super::writer::Writer;
use super::{SpoolConfig, SpoolError, lane_folder};
use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the keeper looks for a core that took its spare: the bigger the segments, the longer the spares at hand last.
/// A core fills a MiB in no less than ten milliseconds.
const SPARE_INTERVAL_PER_MIB: Duration = Duration::from_millis(5);
const SPARE_INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(40));
/// Spares at hand for each core, besides one in the making: making one takes as long as a busy disk takes for a sync,
/// and the gateway fills those at hand meanwhile.
pub(super) const SPARES: usize = 2;

/// An open spool: holds its folder's lock, that of its bank, and its threads.
#[derive(Debug)]
pub struct Spool {
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Says who serves; given up when another process takes over.
    lock: Option<File>,
    _bank: Bank,
}

impl Spool {
    /// Opens the spool in `folder` (made when it is missing), ends what a crash left open, and gives each of `cores`
    /// its writer.
    ///
    /// # Errors
    /// When another process has it, or the disk refuses.
    pub fn open(
        config: &SpoolConfig,
        folder: &Path,
        node: &str,
        cores: u16,
    ) -> Result<(Self, Vec<Writer>), SpoolError> {
        std::fs::create_dir_all(folder).map_err(SpoolError::io("create", folder))?;
        let lock = lock(folder)?;
        Self::take_over(config, folder, node, cores, lock)
    }

    /// The same beside a process that has the spool and hands it over: `lock` is its [`Self::lock`]. Until that process
    /// gives its own up, both may write, each to lanes of its own.
    ///
    /// # Errors
    /// When too many processes still write there, or the disk refuses.
    pub fn take_over(
        config: &SpoolConfig,
        folder: &Path,
        node: &str,
        cores: u16,
        lock: File,
    ) -> Result<(Self, Vec<Writer>), SpoolError> {
        if cores > CORES_MAX {
            return Err(SpoolError::Cores { cores });
        }
        let Found { own, mut others } = bank::take(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let life_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let counters = Counters::create(folder, own.number, life_us, cores)?;
        let foreign = others.bytes();
        let segment_bytes = usize::try_from(config.segment_bytes).unwrap_or(usize::MAX);
        let lane_bytes_max = (config.bytes_max / u64::from(cores.max(1))).max(2 * config.segment_bytes);
        let (mut lanes, mut unsynced, mut writers) = (Vec::new(), Vec::new(), Vec::new());
        for core in 0..cores {
            let number = lane_of(own.number, core);
            let path = lane_folder(folder, number);
            std::fs::create_dir_all(&path).map_err(SpoolError::io("create", &path))?;
            let known = segment::list(&path).map_err(SpoolError::io("list", &path))?;
            let newest = known.segments.last().map(|(number, _)| *number);
            let (spare, spares) = sync_channel(SPARES);
            let no_spare = Arc::new(AtomicU8::new(DropReason::DiskError as u8));
            let mut lane = Lane {
                path,
                number,
                node: node.to_owned(),
                life_us,
                segment_bytes: config.segment_bytes,
                bytes_max: lane_bytes_max,
                foreign_bytes: foreign.div_ceil(u64::from(cores.max(1))),
                // An emptied folder must not give numbers out again: time is ahead of any number given before.
                next_number: newest.map_or(0, |newest| newest + 1).max(now.as_secs()),
                spare,
                waiting: None,
                made: VecDeque::new(),
                no_spare: Arc::clone(&no_spare),
                live: Live::default(),
            };
            unsynced.push(syncer::Lane::new(core, lane.live.clone()));
            lane.lay_spares().map_err(SpoolError::io("create a segment in", &lane.path))?;
            writers.push(Writer {
                core,
                current: None,
                ordinal: 0,
                spares,
                segment_bytes,
                counters: Arc::clone(&counters),
                no_spare,
            });
            lanes.push(lane);
        }
        // The lanes' names; those of segments come with the first sync of each.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(SpoolError::io("sync", folder))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut spool = Self {
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
            threads: Vec::new(),
            lock: Some(lock),
            _bank: own,
        };
        let mut start = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
            thread
                .map(|thread| spool.threads.push(thread))
                .map_err(SpoolError::io("start a thread of", folder))
        };
        let keeper_stop = Arc::clone(&stop);
        let mib = u32::try_from(config.segment_bytes >> 20).unwrap_or(u32::MAX);
        let interval = SPARE_INTERVAL_PER_MIB.saturating_mul(mib).clamp(SPARE_INTERVALS.0, SPARE_INTERVALS.1);
        start("spool-keeper", Box::new(move || keep(lanes, others, interval, &keeper_stop)))?;
        let sync_interval = Duration::from_millis(config.sync_interval_ms);
        start("spool-sync", Box::new(move || syncer::run(unsynced, &counters, sync_interval, &stop)))?;
        Ok((spool, writers))
    }

    /// What the cores produced and dropped.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What keeps other gateways from the folder, for a process that is to take over: a lock that is shared is free once
    /// the last who has it lets go.
    ///
    /// # Errors
    /// When the system gives no further descriptor.
    pub fn lock(&self) -> io::Result<Option<File>> {
        self.lock.as_ref().map(File::try_clone).transpose()
    }

    /// Another process has taken over: the folder is no longer this one's, but the lanes of its bank are until it ends.
    pub fn hand_over(&mut self) {
        self.lock = None;
    }

    /// Whether its threads still work. Without them no core gets a further segment, and nothing is made durable.
    pub fn is_kept(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Makes everything durable and stops the threads. The writers should be gone by then.
    pub fn close(mut self) {
        self.stop_threads();
    }

    fn stop_threads(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // One that panicked has said so on stderr; the records are in the page cache all the same.
            drop(thread.join());
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

#[derive(Debug)]
struct Lane {
    path: PathBuf,
    /// The lane's.
    number: u16,
    node: String,
    life_us: i64,
    segment_bytes: u64,
    bytes_max: u64,
    /// Its share of what other banks hold.
    foreign_bytes: u64,
    next_number: u64,
    spare: SyncSender<Arc<Segment>>,
    waiting: Option<Arc<Segment>>,
    /// Those that were made and may come back.
    made: VecDeque<Arc<Segment>>,
    no_spare: Arc<AtomicU8>,
    live: Live,
}

impl Lane {
    /// Lays spares ready until there are enough, within the lane's share of `bytes_max`.
    fn lay_spares(&mut self) -> io::Result<()> {
        loop {
            let segment = match self.waiting.take() {
                Some(segment) => segment,
                None => match self.next()? {
                    Some(segment) => segment,
                    None => {
                        self.no_spare.store(DropReason::SpoolFull as u8, Ordering::Relaxed);
                        return Ok(());
                    }
                },
            };
            self.live.add(&segment);
            match self.spare.try_send(Arc::clone(&segment)) {
                Ok(()) => {}
                Err(TrySendError::Full(segment)) => {
                    self.live.remove(&segment);
                    self.waiting = Some(segment);
                    return Ok(());
                }
                Err(TrySendError::Disconnected(segment)) => {
                    self.live.remove(&segment);
                    return std::fs::remove_file(&segment.path);
                }
            }
        }
    }

    /// A further segment: one that came back, else a new one; none when the lane has its share of the disk.
    fn next(&mut self) -> io::Result<Option<Arc<Segment>>> {
        let mut listing = segment::list(&self.path)?;
        let held_bytes = listing.held_bytes();
        let Listing { segments, free } = &mut listing;
        let listed = |list: &[(u64, PathBuf)], number| list.iter().any(|(listed, _)| *listed == number);
        self.made.retain(|made| listed(segments, made.number) || listed(free, made.number));
        let usable = |made: &Arc<Segment>| !made.failed.load(Ordering::Relaxed);
        // Of those that nobody will take the room is given back.
        for (_, path) in free.extract_if(.., |(number, _)| {
            !self.made.iter().any(|made| made.number == *number && usable(made))
        }) {
            std::fs::remove_file(path)?;
        }
        // One that the syncer still holds comes at a later round.
        let idle = |made: &Arc<Segment>| Arc::strong_count(made) == 1;
        let back = self.made.iter().position(|made| listed(free, made.number) && idle(made));
        let old = back.and_then(|place| self.made.remove(place)).and_then(Arc::into_inner);
        // What others hold is part of the same disk share; two segments are left to each whatever they do.
        let bytes_max = self.bytes_max.saturating_sub(self.foreign_bytes).max(2 * self.segment_bytes);
        if old.is_none() && held_bytes + self.segment_bytes > bytes_max {
            return Ok(None);
        }
        // Whoever finds no spare from here on waits for the disk.
        self.no_spare.store(DropReason::DiskError as u8, Ordering::Relaxed);
        let number = self.next_number;
        // Also when it fails: a file of this number may be there then.
        self.next_number += 1;
        let path = self.path.join(segment::file_name(number));
        let (life_us, core) = (self.life_us, self.number);
        let segment = match old {
            Some(old) => {
                let from = old.path.with_extension(segment::FREE);
                old.reuse(&from, &path, number, life_us, core)?
            }
            None => Segment::create(&path, self.segment_bytes, number, life_us, core, &self.node)?,
        };
        let segment = Arc::new(segment);
        self.made.push_back(Arc::clone(&segment));
        Ok(Some(segment))
    }
}

fn keep(mut lanes: Vec<Lane>, mut others: Others, interval: Duration, stop: &AtomicBool) {
    let cores = lanes.len().max(1) as u64;
    while !stop.load(Ordering::Acquire) {
        let foreign_bytes = others.bytes().div_ceil(cores);
        for lane in &mut lanes {
            lane.foreign_bytes = foreign_bytes;
            // A failure is told by its counter, `disk_error`, and tried again at the next round.
            drop(lane.lay_spares());
        }
        std::thread::park_timeout(interval);
    }
}

fn lock(folder: &Path) -> Result<File, SpoolError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(SpoolError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(SpoolError::io("lock", &path)(error)),
    }
}

/// Ends the segments of a gateway that died, and removes spares that it never used.
pub(super) fn recover(lane: &Path) -> io::Result<()> {
    let Listing { segments, free } = segment::list(lane)?;
    // Only who has a segment in memory takes it into use again.
    for (_, path) in free {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    let newest = segments.last().map(|(number, _)| *number);
    for (number, path) in segments {
        match put_in_order(&path, Some(number) == newest) {
            // The collector has given it back meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// Ends one of those segments, or removes it. The newest stays as the mark of numbers given out; it is ended, so readers pass
/// it.
fn put_in_order(path: &Path, is_newest: bool) -> io::Result<()> {
    let segment = match Segment::open(path) {
        Ok(segment) => segment,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // Blank where the power failed before anything in it was durable.
            return match segment::is_blank(path)? {
                true => std::fs::remove_file(path),
                false => std::fs::rename(path, path.with_extension("bad")),
            };
        }
        Err(error) => return Err(error),
    };
    if !segment.is_active() {
        if !is_newest {
            return std::fs::remove_file(path);
        }
        segment.activate(0);
        segment.end(FIRST_RECORD, 0);
    }
    let end = end_at_tail(&segment);
    // A life that was short leaves little, and is to take no more room than that. Where the disk cannot give it back, or
    // has no room to write down that it did, the file counts with all it has.
    drop(segment.give_back_behind(end));
    Ok(())
}

/// Ends a segment that is open behind its last record; says where the end mark stands.
fn end_at_tail(segment: &Segment) -> usize {
    let (mut offset, mut index) = (FIRST_RECORD, 0);
    loop {
        match segment.slot(offset, index) {
            Slot::End => return offset,
            Slot::Record { next, .. } => (offset, index) = (next, index + 1),
            Slot::Empty | Slot::Corrupt => match segment.resync(offset, index) {
                Some(found) => (offset, index) = found,
                None => {
                    segment.end(offset, index);
                    return offset;
                }
            },
        }
    }
}
