//! The collector's side: tails the segments of one core, in order, from any process.

use super::keeper::SPARES;
use super::lane_folder;
use super::segment::{self, FIRST_RECORD, INDEX_BITS, Segment, Slot};
use crate::{RequestEvent, Shapes};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// An empty place is taken for the end of the lane so often before it is asked whether it is a hole.
const EMPTY_LOOKS: u32 = 64;

/// How far a lane has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Sequence of the last record read.
    pub sequence: u64,
    /// Life of the gateway that wrote it: its start in microseconds since 1970 (UTC).
    pub life_us: i64,
    /// Records of that life and core up to and including this one.
    pub ordinal: u64,
}

/// Why a lane could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the spool {path}: {source}")]
pub struct ReadError {
    /// The lane or segment.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Reads the events of one core in the order of their sequence.
#[derive(Debug)]
pub struct LaneReader {
    folder: PathBuf,
    core: u16,
    current: Option<Segment>,
    offset: usize,
    index: u64,
    /// Records up to here are stored already.
    skip_through: Option<u64>,
    position: Option<Position>,
    /// Segments read to their end and not released: number, last sequence, path.
    done: VecDeque<(u64, u64, PathBuf)>,
    corrupt_records: u64,
    corrupt_at: Option<(u64, usize)>,
    /// The empty place that was met last, and how often.
    empty: ((u64, usize), u32),
}

impl LaneReader {
    /// The cores that have a lane in a spool folder, in order; none when there is no folder.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn lanes(folder: &Path) -> io::Result<Vec<u16>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut cores = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(core) = name.to_str().and_then(|name| name.strip_prefix("core-")?.parse().ok()) {
                cores.push(core);
            }
        }
        cores.sort_unstable();
        Ok(cores)
    }

    /// Opens the lane of a core, to read what comes after a sequence (all of it for none).
    ///
    /// # Errors
    /// When the lane cannot be listed.
    pub fn open(folder: &Path, core: u16, after: Option<u64>) -> Result<Self, ReadError> {
        let folder = lane_folder(folder, core);
        let mut reader = Self {
            folder,
            core,
            current: None,
            offset: FIRST_RECORD,
            index: 0,
            skip_through: after,
            position: None,
            done: VecDeque::new(),
            corrupt_records: 0,
            corrupt_at: None,
            empty: ((0, 0), 0),
        };
        let after_number = after.map(|sequence| sequence >> INDEX_BITS);
        for (number, path) in reader.list()? {
            if after_number.is_some_and(|after| number < after) {
                reader.done.push_back((number, (number + 1) << INDEX_BITS, path));
            }
        }
        Ok(reader)
    }

    /// Which core this is.
    pub fn core(&self) -> u16 {
        self.core
    }

    /// Gives up to `max` committed events to `each`, and says how many.
    ///
    /// # Errors
    /// When a segment cannot be opened; what was given before stands.
    pub fn read(&mut self, max: usize, each: impl FnMut(&RequestEvent<'_>)) -> Result<usize, ReadError> {
        self.read_shapes(max, None, each)
    }

    /// The same with the shapes of what was met before: for who reads many.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub fn read_shapes(
        &mut self,
        max: usize,
        mut shapes: Option<&mut Shapes>,
        mut each: impl FnMut(&RequestEvent<'_>),
    ) -> Result<usize, ReadError> {
        let mut given = 0;
        while given < max {
            let Some(segment) = self.current.as_ref() else {
                match self.open_next()? {
                    true => continue,
                    false => break,
                }
            };
            let sequence = segment.sequence(self.index);
            match segment.slot(self.offset, self.index) {
                Slot::Empty => {
                    if !self.is_hole()? || !self.pass_damage()? {
                        break;
                    }
                }
                Slot::End => {
                    if !self.leave()? {
                        break;
                    }
                }
                Slot::Record { body, next } => {
                    segment.warm_next(next, next - self.offset);
                    if self.skip_through.is_none_or(|through| sequence > through) {
                        let head = bytemuck::from_bytes(body.head);
                        let shapes = shapes.as_deref_mut().filter(|_| body.apart);
                        let (node, core) = (&segment.node, self.core);
                        match RequestEvent::decode(node, core, sequence, head, body.runs, shapes) {
                            Some(event) => {
                                each(&event);
                                given += 1;
                            }
                            None => self.corrupt_records += 1,
                        }
                    }
                    (self.offset, self.index) = (next, self.index + 1);
                    let ordinal = segment.first_ordinal() + self.index;
                    self.position = Some(Position { sequence, life_us: segment.life_us, ordinal });
                }
                Slot::Corrupt => {
                    if !self.pass_damage()? {
                        break;
                    }
                }
            }
        }
        Ok(given)
    }

    /// Goes on behind what is damaged, and counts what was lost; false if there is nothing to go on with yet.
    fn pass_damage(&mut self) -> Result<bool, ReadError> {
        let Some(segment) = self.current.as_ref() else { return Ok(false) };
        let place = (segment.number, self.offset);
        if let Some((offset, index)) = segment.resync(self.offset, self.index) {
            // The index tells how many records were lost on the way.
            let counted = u64::from(self.corrupt_at == Some(place));
            let lost = index.max(self.index + 1).saturating_sub(self.index.max(self.stored_in(segment)));
            self.corrupt_records += lost.saturating_sub(counted);
            (self.offset, self.index) = (offset, index);
            return Ok(true);
        }
        if self.corrupt_at != Some(place) {
            self.corrupt_at = Some(place);
            self.corrupt_records += 1;
        }
        // Nothing whole follows yet. If the writer went on elsewhere, nothing will.
        self.leave()
    }

    /// Whether nothing will ever come at this empty place, since the writer has gone on to another segment: a power
    /// loss took it. That is looked at now and then only, for an empty place is nearly always the end.
    fn is_hole(&mut self) -> Result<bool, ReadError> {
        let Some(segment) = self.current.as_ref() else { return Ok(false) };
        let place = (segment.number, self.offset);
        self.empty = if self.empty.0 == place { (place, self.empty.1 + 1) } else { (place, 1) };
        if !self.empty.1.is_multiple_of(EMPTY_LOOKS) {
            return Ok(false);
        }
        let newer = self.list()?.into_iter().filter(|(number, _)| *number > segment.number);
        let left = newer.into_iter().any(|(_, path)| matches!(Segment::open_active(&path), Ok(Some(_))));
        // Looked at again: the writer marks the end of a segment before it takes the next.
        Ok(left && segment.slot(self.offset, self.index) == Slot::Empty)
    }

    /// Records at the beginning of a segment that are stored already. They may be damaged: after a power loss the spool
    /// lacks what the collector had made durable by itself.
    fn stored_in(&self, segment: &Segment) -> u64 {
        match self.skip_through {
            Some(through) if through >> INDEX_BITS == segment.number => {
                (through & ((1 << INDEX_BITS) - 1)) + 1
            }
            _ => 0,
        }
    }

    /// How far this reader has come; none before its first record.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Records that were lost to damage, as far as they could be counted.
    pub fn corrupt_records(&self) -> u64 {
        self.corrupt_records
    }

    /// Whether [`Self::release`] would give a segment back.
    pub fn can_release(&self, through: u64) -> bool {
        self.done.front().is_some_and(|(number, last, _)| is_stored(*number, *last, through))
    }

    /// Gives back the segments of which everything up to `through` is stored, and says how many: a few wait for the
    /// gateway to write to them again, the rest is unlinked. The one being read always stays, so numbers are never given
    /// out again.
    ///
    /// # Errors
    /// When one cannot be given back; it is tried again at the next call.
    pub fn release(&mut self, through: u64) -> io::Result<usize> {
        let mut released = 0;
        while let Some((number, last, path)) = self.done.front() {
            if !is_stored(*number, *last, through) {
                break;
            }
            let given = match segment::list(&self.folder) {
                Ok(known) if known.free.len() < SPARES => {
                    std::fs::rename(path, path.with_extension(segment::FREE))
                }
                _ => std::fs::remove_file(path),
            };
            match given {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.done.pop_front();
            released += 1;
        }
        Ok(released)
    }

    /// Goes to the next segment when there is one in use.
    fn leave(&mut self) -> Result<bool, ReadError> {
        let Some(segment) = self.current.take() else { return self.open_next() };
        let number = segment.number;
        let last = segment.sequence(self.index.saturating_sub(1));
        let path = segment.path.clone();
        if self.open_after(Some(number))? {
            self.done.push_back((number, last, path));
            return Ok(true);
        }
        self.current = Some(segment);
        Ok(false)
    }

    fn open_next(&mut self) -> Result<bool, ReadError> {
        self.open_after(self.done.back().map(|(number, ..)| *number))
    }

    fn open_after(&mut self, after: Option<u64>) -> Result<bool, ReadError> {
        for (number, path) in self.list()? {
            if after.is_some_and(|after| number <= after) {
                continue;
            }
            let opened = match Segment::open_active(&path) {
                // Being made this moment, or set aside by the recovery of a new gateway.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) =>
                {
                    continue;
                }
                opened => opened.map_err(|source| ReadError { path, source })?,
            };
            let Some(opened) = opened else { continue };
            self.current = Some(opened);
            (self.offset, self.index) = (FIRST_RECORD, 0);
            return Ok(true);
        }
        Ok(false)
    }

    fn list(&self) -> Result<Vec<(u64, PathBuf)>, ReadError> {
        match segment::list(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed
                .map(|known| known.segments)
                .map_err(|source| ReadError { path: self.folder.clone(), source }),
        }
    }
}

/// Whether everything of a segment that was read to its end is stored, given that everything up to `through` is.
fn is_stored(number: u64, last: u64, through: u64) -> bool {
    last <= through || number < through >> INDEX_BITS
}
