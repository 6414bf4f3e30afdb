//! One segment: a header of 128 bytes, then records, each `[commit u64][hash u64][lengths u64][body]` at a multiple of 8
//! bytes. A commit mark is the record's sequence + 1; zeros mean that nothing is there yet. Segments of the version before,
//! whose bodies are others, are read as well.

use super::record::{self, Body};
use crate::{Head, Run};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use twox_hash::XxHash3_64;

const MAGIC: u64 = u64::from_le_bytes(*b"TOLLSPL3");
/// Of the version before.
const MAGIC_OF_ONE_RUN: u64 = u64::from_le_bytes(*b"TOLLSPL2");
const HEADER_BYTES: usize = 128;
pub(super) const FIRST_RECORD: usize = HEADER_BYTES;
pub(super) const RECORD_FIXED_BYTES: usize = 24;
const NODE_BYTES_MAX: usize = 63;
/// Ends the name of a segment, and of one that is stored whole and waits to be taken into use again.
const SEGMENT: &str = "seg";
pub(super) const FREE: &str = "free";
/// What the system gives back at a time, at least: the page of most machines.
const PAGE_BYTES: usize = 4096;
/// The unit of a file's blocks (stat(2)).
const BLOCK_BYTES: u64 = 512;
/// What a segment counts as at least, however little is left of it: bounds how many there are.
const HELD_BYTES_MIN: u64 = 64 << 10;
/// Bytes of zeros that are written at a time.
const ZEROS_BYTES: usize = 1 << 20;
const END: u64 = u64::MAX;
pub(super) const INDEX_BITS: u32 = 24;

// Offsets in the header.
const AT_MAGIC: usize = 0;
const AT_NUMBER: usize = 8;
const AT_LIFE: usize = 16;
const AT_FIRST_ORDINAL: usize = 24;
const AT_ACTIVE: usize = 32;
const AT_CORE: usize = 36;
const AT_HASH: usize = 40;
const AT_NODE: usize = 48;

/// A mapped segment. Its one writer and its readers meet only in the commit marks.
#[derive(Debug)]
pub(super) struct Segment {
    map: MmapRaw,
    file: File,
    pub path: PathBuf,
    pub number: u64,
    pub life_us: i64,
    pub node: String,
    /// Whether its records are those of the version before.
    of_one_run: bool,
    /// Whether the name of its file is on the disk, too.
    named: AtomicBool,
    /// Its folder, open from the time when it was made: its name is to become durable though no descriptor is left by then.
    folder: Option<File>,
    /// Set when making it durable failed: nothing more may be written here.
    pub failed: AtomicBool,
}

/// What stands at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    /// Nothing has been committed here yet.
    Empty,
    /// The writer has left for the next segment.
    End,
    /// A whole record, and where the next begins.
    Record { body: Body<'a>, next: usize },
    /// Bytes that no writer committed.
    Corrupt,
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> io::Result<File> {
    File::open(path.parent().unwrap_or(Path::new(".")))
}

impl Segment {
    /// Makes a segment of which every block exists on disk and in memory.
    pub fn create(
        path: &Path,
        bytes: u64,
        number: u64,
        life_us: i64,
        core: u16,
        node: &str,
    ) -> io::Result<Self> {
        let folder = folder_of(path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        match Self::prepare(file, path, bytes, number, life_us, core, node) {
            Ok(made) => Ok(Self { folder: Some(folder), ..made }),
            Err(error) => {
                // The file holds no event yet; leaving it would only take the room that was missing.
                std::fs::remove_file(path)?;
                Err(error)
            }
        }
    }

    fn prepare(
        file: File,
        path: &Path,
        bytes: u64,
        number: u64,
        life_us: i64,
        core: u16,
        node: &str,
    ) -> io::Result<Self> {
        let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: a plain call on a descriptor that `file` keeps open.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => {}
            code => return Err(io::Error::from_raw_os_error(code)),
        }
        let mut end = node.len().min(NODE_BYTES_MAX);
        while !node.is_char_boundary(end) {
            end -= 1;
        }
        let node = node[..end].to_owned();
        let header = header(number, life_us, core, &node);
        // One write, so a reader in another process sees a whole header or none.
        file.write_all_at(&header, 0)?;
        // Zeros are what is there already, but written in large pieces they come into memory in large folios: a third
        // of what faulting in page by page costs, and a third when the file goes.
        let zeros = vec![0; ZEROS_BYTES];
        let mut offset = HEADER_BYTES as u64;
        while offset < bytes {
            let piece = zeros.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
            file.write_all_at(&zeros[..piece], offset)?;
            offset += piece as u64;
        }
        let map = MmapOptions::new().map_raw(&file)?;
        // Faults every page in for writing: the gateway's thread then meets no page fault. A kernel before 5.14 refuses,
        // and costs it one per page.
        if map.advise(Advice::PopulateWrite).is_err() {
            map.advise(Advice::WillNeed)?;
        }
        let path = path.to_owned();
        Ok(Self {
            map,
            file,
            path,
            number,
            life_us,
            node,
            of_one_run: false,
            named: AtomicBool::new(false),
            folder: None,
            failed: AtomicBool::new(false),
        })
    }

    /// Takes a segment into use again, under another name and number: its memory and its blocks are there already, which
    /// costs a fraction of a new one. What it held is stored, and no reader looks at it any more: its file is the one at
    /// `from`. Records that are still in it have sequences of the old number, so none of them is ever taken for one of
    /// the new.
    pub fn reuse(
        mut self,
        from: &Path,
        path: &Path,
        number: u64,
        life_us: i64,
        core: u16,
    ) -> io::Result<Self> {
        let header = header(number, life_us, core, &self.node);
        self.word(FIRST_RECORD).store(0, Ordering::Relaxed);
        // SAFETY: the map is longer than a header, and nobody else has it.
        unsafe { std::ptr::copy_nonoverlapping(header.as_ptr(), self.map.as_mut_ptr(), HEADER_BYTES) };
        // Pages that the system wrote to the disk meanwhile are to be written to again.
        if self.map.advise(Advice::PopulateWrite).is_err() {
            self.map.advise(Advice::WillNeed)?;
        }
        std::fs::rename(from, path)?;
        (self.number, self.life_us) = (number, life_us);
        self.named = AtomicBool::new(false);
        path.clone_into(&mut self.path);
        Ok(self)
    }

    /// Opens a segment of this or another process; `InvalidData` when its header is none of ours.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (file, header) = read_header(path)?;
        Self::map(path, file, &header)
    }

    /// The same if a writer has taken it into use. Those that wait are asked often, so they are not mapped.
    pub fn open_active(path: &Path) -> io::Result<Option<Self>> {
        let (file, header) = read_header(path)?;
        let active = header[AT_ACTIVE..AT_ACTIVE + 4] == 1u32.to_ne_bytes();
        active.then(|| Self::map(path, file, &header)).transpose()
    }

    fn map(path: &Path, file: File, header: &[u8; HEADER_BYTES]) -> io::Result<Self> {
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a spool segment");
        // A file that was taken into use again may, after a power loss, still have the header of its time before.
        let named = number_of(path).is_none_or(|named| named == u64_at(AT_NUMBER));
        let of_one_run = u64_at(AT_MAGIC) == MAGIC_OF_ONE_RUN;
        let known = of_one_run || u64_at(AT_MAGIC) == MAGIC;
        if !known || u64_at(AT_HASH) != header_hash(header) || !named {
            return Err(bad());
        }
        let node = header[AT_NODE + 1..].get(..usize::from(header[AT_NODE])).ok_or_else(bad)?;
        let map = MmapOptions::new().map_raw(&file)?;
        if map.len() < HEADER_BYTES + RECORD_FIXED_BYTES {
            return Err(bad());
        }
        Ok(Self {
            number: u64_at(AT_NUMBER),
            life_us: u64_at(AT_LIFE).cast_signed(),
            node: String::from_utf8_lossy(node).into_owned(),
            map,
            file,
            path: path.to_owned(),
            of_one_run,
            named: AtomicBool::new(true),
            folder: None,
            failed: AtomicBool::new(false),
        })
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The sequence of the record of an index.
    pub fn sequence(&self, index: u64) -> u64 {
        self.number << INDEX_BITS | index
    }

    /// Whether a writer has taken it into use.
    pub fn is_active(&self) -> bool {
        self.active_mark().load(Ordering::Acquire) == 1
    }

    /// Records that this life of the core wrote before this segment.
    pub fn first_ordinal(&self) -> u64 {
        self.word(AT_FIRST_ORDINAL).load(Ordering::Acquire)
    }

    /// Takes it into use.
    pub fn activate(&self, first_ordinal: u64) {
        self.word(AT_FIRST_ORDINAL).store(first_ordinal, Ordering::Release);
        self.active_mark().store(1, Ordering::Release);
    }

    /// Whether a record of a body's size, and the end mark after it, fit at an offset.
    pub fn fits(&self, offset: usize, body_bytes: usize) -> bool {
        offset + record_bytes(body_bytes) + RECORD_FIXED_BYTES <= self.len()
    }

    /// Commits one record and says where the next begins. Only the segment's one writer may call it, and only where
    /// [`Self::fits`] said yes.
    pub fn write(&self, offset: usize, sequence: u64, head: &Head, runs: [&[u8]; Run::COUNT]) -> usize {
        let [client, route, own] = runs;
        let body_bytes = size_of::<Head>() + client.len() + route.len() + own.len();
        debug_assert!(self.fits(offset, body_bytes) && !self.of_one_run);
        // SAFETY: the room was checked; until the commit mark below nobody else looks at it.
        let body = unsafe {
            std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(offset + RECORD_FIXED_BYTES), body_bytes)
        };
        let head = bytemuck::bytes_of(head);
        let mut to = body;
        for piece in [head, client, route, own] {
            let (here, rest) = to.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            to = rest;
        }
        // Of where they came from: what was written this moment is slow to read.
        let body = Body { head, runs, apart: true };
        let (hash, lengths) = (body.hash(sequence), body.lengths());
        let next = offset + record_bytes(body_bytes);
        self.word(offset + 8).store(hash, Ordering::Relaxed);
        self.word(offset + 16).store(lengths, Ordering::Relaxed);
        // Nothing comes next yet, whatever an earlier use of the file left there.
        self.word(next).store(0, Ordering::Relaxed);
        self.word(offset).store(sequence + 1, Ordering::Release);
        // With the mark that is cleared behind the next record.
        self.warm(next, record_bytes(body_bytes) + RECORD_FIXED_BYTES);
        next
    }

    /// Asks for the cache lines that the next record will go to: by then they are here, not in memory far away.
    fn warm(&self, offset: usize, bytes: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in (offset..(offset + bytes).min(self.len())).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: a hint about an address inside the map; it reads and writes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(self.map.as_ptr().add(line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (offset, bytes);
    }

    /// The same for the record after the one at an offset, if it is as long as the one before it was.
    pub fn warm_next(&self, offset: usize, bytes: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in (offset + bytes..(offset + 2 * bytes).min(self.len())).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.map.as_ptr().add(line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (offset, bytes);
    }

    /// Marks that nothing more comes here.
    pub fn end(&self, offset: usize, index: u64) {
        self.word(offset + 8).store(self.end_hash(index), Ordering::Relaxed);
        self.word(offset + 16).store(index, Ordering::Relaxed);
        self.word(offset).store(END, Ordering::Release);
    }

    /// What stands at an offset where the record of `index` should.
    pub fn slot(&self, offset: usize, index: u64) -> Slot<'_> {
        if offset + RECORD_FIXED_BYTES > self.len() {
            return Slot::Corrupt;
        }
        let commit = self.word(offset).load(Ordering::Acquire);
        let hash = self.word(offset + 8).load(Ordering::Relaxed);
        let lengths = self.word(offset + 16).load(Ordering::Relaxed);
        match commit {
            0 => return Slot::Empty,
            END if lengths == index && hash == self.end_hash(index) => return Slot::End,
            _ if commit != self.sequence(index) + 1 => return Slot::Corrupt,
            _ => {}
        }
        let length = record::body_bytes(lengths);
        if !self.fits(offset, length) {
            return Slot::Corrupt;
        }
        // SAFETY: inside the map, and a committed record is never written again.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(offset + RECORD_FIXED_BYTES), length) };
        let body = match self.of_one_run {
            true => Body::of_one_run(bytes),
            false => Body::of_runs(bytes, lengths),
        };
        let Some(body) = body.filter(|body| body.hash(self.sequence(index)) == hash) else {
            return Slot::Corrupt;
        };
        Slot::Record { body, next: offset + record_bytes(length) }
    }

    /// The next offset after a corrupt one where a whole record or the end stands, with its index.
    pub fn resync(&self, offset: usize, index: u64) -> Option<(usize, u64)> {
        let mut at = offset + 8;
        while at + RECORD_FIXED_BYTES <= self.len() {
            let commit = self.word(at).load(Ordering::Acquire);
            let found = match commit {
                END => self.word(at + 16).load(Ordering::Relaxed),
                _ => commit.wrapping_sub(1) & ((1 << INDEX_BITS) - 1),
            };
            let possible = (index..1 << INDEX_BITS).contains(&found);
            if possible && !matches!(self.slot(at, found), Slot::Empty | Slot::Corrupt) {
                return Some((at, found));
            }
            at += 8;
        }
        None
    }

    /// Makes all that is committed durable, and at the first time the file's name: a disk may take seconds for either,
    /// and nobody who needs a segment is to wait for that.
    pub fn sync(&self) -> io::Result<()> {
        // Dirty pages of a shared mapping belong to the file: fdatasync writes them (POSIX leaves it to msync, Linux
        // treats both alike).
        self.file.sync_data()?;
        if !self.named.load(Ordering::Relaxed) {
            match &self.folder {
                Some(folder) => folder.sync_all()?,
                None => folder_of(&self.path)?.sync_all()?,
            }
            self.named.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives the room behind the end mark at an offset back to the disk. The file keeps its length: who has it mapped finds
    /// zeros there.
    pub fn give_back_behind(&self, end: usize) -> io::Result<()> {
        let from = (end + RECORD_FIXED_BYTES).next_multiple_of(PAGE_BYTES);
        if from >= self.len() {
            return Ok(());
        }
        let offset = |at: usize| libc::off_t::try_from(at).map_err(io::Error::other);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a plain call on a descriptor that `file` keeps open.
        match unsafe {
            libc::fallocate(self.file.as_raw_fd(), mode, offset(from)?, offset(self.len() - from)?)
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.map.len() && offset.is_multiple_of(8));
        // SAFETY: in bounds and aligned by the assertion, since a map begins at a page.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    fn active_mark(&self) -> &AtomicU32 {
        // SAFETY: the header is inside the map, and the offset a multiple of 4.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(AT_ACTIVE).cast()) }
    }

    fn end_hash(&self, index: u64) -> u64 {
        XxHash3_64::oneshot_with_seed(self.number, &index.to_le_bytes())
    }
}

/// Bytes that a record takes, with its fixed part and rounded up to 8.
fn record_bytes(body_bytes: usize) -> usize {
    (RECORD_FIXED_BYTES + body_bytes).next_multiple_of(8)
}

/// A file that may be a segment, and its first bytes.
fn read_header(path: &Path) -> io::Result<(File, [u8; HEADER_BYTES])> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut header = [0; HEADER_BYTES];
    match file.read_exact_at(&mut header, 0) {
        // Being made this moment.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "shorter than the header of a spool segment"))
        }
        read => read.map(|()| (file, header)),
    }
}

/// The header of a segment that is not in use yet.
fn header(number: u64, life_us: i64, core: u16, node: &str) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    header[AT_MAGIC..AT_MAGIC + 8].copy_from_slice(&MAGIC.to_le_bytes());
    header[AT_NUMBER..AT_NUMBER + 8].copy_from_slice(&number.to_le_bytes());
    header[AT_LIFE..AT_LIFE + 8].copy_from_slice(&life_us.to_le_bytes());
    header[AT_CORE..AT_CORE + 2].copy_from_slice(&core.to_le_bytes());
    header[AT_NODE] = u8::try_from(node.len()).expect("at most 63");
    header[AT_NODE + 1..AT_NODE + 1 + node.len()].copy_from_slice(node.as_bytes());
    let hash = header_hash(&header);
    header[AT_HASH..AT_HASH + 8].copy_from_slice(&hash.to_le_bytes());
    header
}

/// Hash of what never changes in a header.
fn header_hash(header: &[u8; HEADER_BYTES]) -> u64 {
    let mut fixed = *header;
    fixed[AT_MAGIC..AT_MAGIC + 8].fill(0);
    fixed[AT_FIRST_ORDINAL..AT_FIRST_ORDINAL + 8].fill(0);
    fixed[AT_ACTIVE..AT_ACTIVE + 4].fill(0);
    fixed[AT_HASH..AT_HASH + 8].fill(0);
    XxHash3_64::oneshot(&fixed)
}

/// The files of a lane, each kind in order of its numbers.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub segments: Vec<(u64, PathBuf)>,
    /// Those that are stored whole and wait to be taken into use again.
    pub free: Vec<(u64, PathBuf)>,
}

/// Lists a lane.
pub(super) fn list(lane: &Path) -> io::Result<Listing> {
    let mut found = Listing::default();
    for entry in std::fs::read_dir(lane)? {
        let path = entry?.path();
        let Some(number) = number_of(&path) else { continue };
        match path.extension() {
            Some(end) if end == SEGMENT => found.segments.push((number, path)),
            Some(end) if end == FREE => found.free.push((number, path)),
            _ => {}
        }
    }
    found.segments.sort_unstable();
    found.free.sort_unstable();
    Ok(found)
}

impl Listing {
    /// Bytes that the files take on the disk.
    pub fn held_bytes(&self) -> u64 {
        let held = |(_, path): &(u64, PathBuf)| match std::fs::metadata(path) {
            // No more than its length: blocks that describe blocks are the file system's own.
            Ok(file) => (file.blocks() * BLOCK_BYTES).min(file.len()).max(HELD_BYTES_MIN),
            // Given back this moment.
            Err(_) => 0,
        };
        self.segments.iter().chain(&self.free).map(held).sum()
    }
}

/// Whether nothing was ever written to a file that should be a segment, as far as the disk knows.
pub(super) fn is_blank(path: &Path) -> io::Result<bool> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(header.iter().all(|byte| *byte == 0))
}

/// The number that a file's name says.
fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Name of a segment in its lane.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.{SEGMENT}")
}
