//! Opens a spool and keeps it: lays spare segments ready, makes what was written durable, recovers after a crash.

use super::counters::{Counters, DropReason};
use super::segment::{self, FIRST_RECORD, Segment, Slot};
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
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the keeper looks for a core that took its spare.
const SPARE_INTERVAL: Duration = Duration::from_millis(10);

/// An open spool: holds its folder's lock and its keeper thread.
#[derive(Debug)]
pub struct Spool {
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
    _lock: File,
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let life_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let counters = Counters::create(folder, life_us, cores)?;
        for core in super::LaneReader::lanes(folder).map_err(SpoolError::io("list", folder))? {
            let lane = lane_folder(folder, core);
            recover(&lane).map_err(SpoolError::io("recover", &lane))?;
        }
        let segment_bytes = usize::try_from(config.segment_bytes).unwrap_or(usize::MAX);
        let lane_bytes_max = (config.bytes_max / u64::from(cores.max(1))).max(2 * config.segment_bytes);
        let (mut lanes, mut writers) = (Vec::new(), Vec::new());
        for core in 0..cores {
            let path = lane_folder(folder, core);
            std::fs::create_dir_all(&path).map_err(SpoolError::io("create", &path))?;
            let newest = segment::list(&path).map_err(SpoolError::io("list", &path))?.last().map(|(n, _)| *n);
            let (spare, spares) = sync_channel(1);
            let no_spare = Arc::new(AtomicU8::new(0));
            let mut lane = Lane {
                path,
                core,
                node: node.to_owned(),
                life_us,
                segment_bytes: config.segment_bytes,
                segments_max: usize::try_from(lane_bytes_max / config.segment_bytes).unwrap_or(usize::MAX),
                // An emptied folder must not give numbers out again: time is ahead of any number given before.
                next_number: newest.map_or(0, |newest| newest + 1).max(now.as_secs()),
                spare,
                waiting: None,
                no_spare: Arc::clone(&no_spare),
                live: Vec::new(),
                synced_at: 0,
                unsynced: VecDeque::new(),
            };
            lane.lay_spare().map_err(SpoolError::io("create a segment in", &lane.path))?;
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
        let stop = Arc::new(AtomicBool::new(false));
        let keeper = std::thread::Builder::new()
            .name("spool-keeper".into())
            .spawn({
                let (stop, counters) = (Arc::clone(&stop), Arc::clone(&counters));
                let sync_interval = Duration::from_millis(config.sync_interval_ms);
                move || keep(lanes, &counters, sync_interval, &stop)
            })
            .map_err(SpoolError::io("start the keeper of", folder))?;
        Ok((Self { counters, stop, keeper: Some(keeper), _lock: lock }, writers))
    }

    /// What the cores produced and dropped.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether the keeper still works. Without it no core gets a further segment.
    pub fn is_kept(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| !keeper.is_finished())
    }

    /// Makes everything durable and stops the keeper. The writers should be gone by then.
    pub fn close(mut self) {
        self.stop_keeper();
    }

    fn stop_keeper(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            // A keeper that panicked has said so on stderr; the records are in the page cache all the same.
            drop(keeper.join());
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.stop_keeper();
    }
}

#[derive(Debug)]
struct Lane {
    path: PathBuf,
    core: u16,
    node: String,
    life_us: i64,
    segment_bytes: u64,
    segments_max: usize,
    next_number: u64,
    spare: SyncSender<Arc<Segment>>,
    waiting: Option<Arc<Segment>>,
    no_spare: Arc<AtomicU8>,
    /// Segments that may hold records which are not durable yet.
    live: Vec<Arc<Segment>>,
    /// How many records of this core this keeper made durable.
    synced_at: u64,
    /// How many records there were at what time, as long as those are not durable; at most one per round of an interval.
    unsynced: VecDeque<(Instant, u64)>,
}

impl Lane {
    /// Lays a spare ready if the writer took the last one, within the lane's share of `bytes_max`.
    fn lay_spare(&mut self) -> io::Result<()> {
        if self.waiting.is_none() {
            if segment::list(&self.path)?.len() >= self.segments_max {
                self.no_spare.store(DropReason::SpoolFull as u8, Ordering::Relaxed);
                return Ok(());
            }
            let path = self.path.join(segment::file_name(self.next_number));
            let made = Segment::create(
                &path,
                self.segment_bytes,
                self.next_number,
                self.life_us,
                self.core,
                &self.node,
            )
            .and_then(|made| File::open(&self.path)?.sync_all().map(|()| made));
            let made =
                made.inspect_err(|_| self.no_spare.store(DropReason::DiskError as u8, Ordering::Relaxed))?;
            self.next_number += 1;
            self.waiting = Some(Arc::new(made));
        }
        if let Some(segment) = self.waiting.take() {
            match self.spare.try_send(Arc::clone(&segment)) {
                Ok(()) => self.live.push(segment),
                Err(TrySendError::Full(segment)) => self.waiting = Some(segment),
                Err(TrySendError::Disconnected(segment)) => std::fs::remove_file(&segment.path)?,
            }
        }
        Ok(())
    }

    /// Makes what was written durable, once the oldest of it has waited for `patience` and the collector has not stored
    /// it by then: what is in its files need not be on disk twice.
    fn sync_if_due(&mut self, counters: &Counters, patience: Duration) {
        let (written, stored) = (counters.core(self.core).written, counters.stored(self.core));
        let durable = stored.max(self.synced_at);
        while self.unsynced.front().is_some_and(|(_, written)| *written <= durable) {
            self.unsynced.pop_front();
        }
        if written > self.unsynced.back().map_or(durable, |(_, written)| *written) {
            self.unsynced.push_back((Instant::now(), written));
        }
        if self.unsynced.front().is_some_and(|(since, _)| since.elapsed() >= patience) {
            self.sync(written);
            self.unsynced.clear();
        }
        // A segment whose records are all stored will never be synced.
        let ends = self.live.iter().skip(1).map(|next| next.is_active().then(|| next.first_ordinal()));
        let over = ends.take_while(|end| end.is_some_and(|end| end <= stored)).count();
        self.live.drain(..over);
    }

    /// Makes what was written durable. A segment whose fdatasync failed is given up: what it holds stays readable,
    /// and the writer goes on in another.
    fn sync(&mut self, written: u64) {
        if written == self.synced_at {
            return;
        }
        self.synced_at = written;
        // A segment that is followed by a newer active one was ended before: after this sync it is done.
        let newest =
            self.live.iter().filter(|segment| segment.is_active()).map(|segment| segment.number).max();
        self.live.retain(|segment| {
            if !segment.is_active() {
                return true;
            }
            let synced = segment.sync();
            if synced.is_err() {
                segment.failed.store(true, Ordering::Relaxed);
            }
            synced.is_ok() && Some(segment.number) == newest
        });
    }
}

fn keep(mut lanes: Vec<Lane>, counters: &Counters, sync_interval: Duration, stop: &AtomicBool) {
    // A round and the sync itself are part of what a record may wait.
    let patience = sync_interval.saturating_sub(2 * SPARE_INTERVAL).max(SPARE_INTERVAL);
    loop {
        let stopping = stop.load(Ordering::Acquire);
        for lane in &mut lanes {
            // A failure is told by its counter, `disk_error`, and tried again at the next round.
            drop(lane.lay_spare());
            lane.sync_if_due(counters, patience);
            if stopping {
                lane.sync(counters.core(lane.core).written);
            }
        }
        if stopping {
            return;
        }
        std::thread::park_timeout(SPARE_INTERVAL);
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
fn recover(lane: &Path) -> io::Result<()> {
    let segments = segment::list(lane)?;
    let newest = segments.last().map(|(number, _)| *number);
    for (number, path) in segments {
        let segment = match Segment::open(&path) {
            Ok(segment) => segment,
            // A header that was never finished: the file was being made.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                std::fs::rename(&path, path.with_extension("bad"))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !segment.is_active() {
            // The newest stays as the mark of numbers given out; it is ended, so readers pass it.
            if Some(number) == newest {
                segment.activate(0);
                segment.end(FIRST_RECORD, 0);
            } else {
                std::fs::remove_file(&path)?;
            }
            continue;
        }
        end_at_tail(&segment);
    }
    Ok(())
}

fn end_at_tail(segment: &Segment) {
    let (mut offset, mut index) = (FIRST_RECORD, 0);
    loop {
        match segment.slot(offset, index) {
            Slot::End => return,
            Slot::Record { next, .. } => (offset, index) = (next, index + 1),
            Slot::Empty | Slot::Corrupt => match segment.resync(offset, index) {
                Some(found) => (offset, index) = found,
                None => return segment.end(offset, index),
            },
        }
    }
}
