//! What each core produced and dropped, in a small mapped file that every process of the data folder can read.

use super::{BANKS_MAX, SpoolError};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FILE: &str = "counters";
/// Begins the names of those of banks behind the first.
const PREFIX: &str = "counters-";
const MAGIC: u64 = u64::from_le_bytes(*b"TOLLCNT1");
const LINE_BYTES: usize = 64;
/// The word of a core's line that the collector writes, the others being the gateway's.
const STORED: usize = 5;

/// Why an event was dropped instead of recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// The spool holds `bytes_max` bytes that the collector has not stored yet.
    SpoolFull,
    /// The disk had no room for a segment, or an error, or took too long to make one.
    DiskError,
    /// Larger than a segment.
    TooLarge,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::SpoolFull, Self::DiskError, Self::TooLarge];

    /// The word in metrics and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool_full",
            Self::DiskError => "disk_error",
            Self::TooLarge => "too_large",
        }
    }
}

/// What one core did in this life of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CoreCounts {
    /// Events that ended: written + dropped.
    pub produced: u64,
    /// Events in the spool.
    pub written: u64,
    /// Events dropped, by [`DropReason::ALL`].
    pub dropped: [u64; 3],
}

/// The counters of all cores of one life of the gateway.
#[derive(Debug)]
pub struct Counters {
    map: MmapRaw,
    life_us: i64,
    cores: u16,
    bank: u16,
    /// The file's number in its file system.
    inode: u64,
}

/// The banks that have counters in a spool folder, in order; none when there is no folder.
pub(super) fn banks(folder: &Path) -> io::Result<Vec<u16>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut banks = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| match name {
            FILE => Some(0),
            name => name.strip_prefix(PREFIX)?.parse().ok(),
        });
        banks.extend(number.filter(|bank| *bank < BANKS_MAX));
    }
    banks.sort_unstable();
    Ok(banks)
}

/// Forgets the counters of a life that is over.
pub(super) fn remove(folder: &Path, bank: u16) -> Result<(), SpoolError> {
    let path = folder.join(file_name(bank));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn file_name(bank: u16) -> String {
    if bank == 0 { FILE.to_owned() } else { format!("{PREFIX}{bank}") }
}

impl Counters {
    /// Whether the file of the folder is still the one that was opened: a new life of the gateway begins a new one.
    pub fn is_current(&self, folder: &Path) -> bool {
        std::fs::metadata(folder.join(file_name(self.bank))).is_ok_and(|file| file.ino() == self.inode)
    }

    /// The banks of a spool folder that have counters: that of the gateway that serves, and those of others that handed
    /// over to it and still end, or ended since.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn banks(folder: &Path) -> io::Result<Vec<u16>> {
        banks(folder)
    }

    /// Opens the counters of a bank's life over a spool folder.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn open(folder: &Path, bank: u16) -> Result<Self, SpoolError> {
        let path = folder.join(file_name(bank));
        let fail = SpoolError::io("open", &path);
        let map = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .and_then(|file| Ok((MmapOptions::new().map_raw(&file)?, file.metadata()?.ino())))
            .and_then(|(map, inode)| {
                let counters = Self { map, life_us: 0, cores: 0, bank, inode };
                let whole =
                    counters.map.len() >= LINE_BYTES && counters.word(0, 0).load(Ordering::Acquire) == MAGIC;
                let cores = if whole { counters.word(0, 2).load(Ordering::Acquire) } else { 0 };
                match u16::try_from(cores) {
                    Ok(cores) if whole && counters.map.len() >= LINE_BYTES * (1 + usize::from(cores)) => {
                        let life_us = counters.word(0, 1).load(Ordering::Acquire).cast_signed();
                        Ok(Self { life_us, cores, ..counters })
                    }
                    _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a counters file")),
                }
            });
        map.map_err(fail)
    }

    /// Begins the counters of a new life; older readers keep the file that they have.
    pub(super) fn create(
        folder: &Path,
        bank: u16,
        life_us: i64,
        cores: u16,
    ) -> Result<Arc<Self>, SpoolError> {
        let path = folder.join(file_name(bank));
        let temporary = path.with_extension("tmp");
        let (map, inode) = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .and_then(|file| {
                // Written, not only sized: a store into a hole of a full disk would be a SIGBUS.
                file.write_all_at(&vec![0; LINE_BYTES * (1 + usize::from(cores))], 0)?;
                Ok((MmapOptions::new().populate().map_raw(&file)?, file.metadata()?.ino()))
            })
            .map_err(SpoolError::io("create", &temporary))?;
        let counters = Self { map, life_us, cores, bank, inode };
        counters.word(0, 1).store(life_us.cast_unsigned(), Ordering::Release);
        counters.word(0, 2).store(u64::from(cores), Ordering::Release);
        counters.word(0, 0).store(MAGIC, Ordering::Release);
        std::fs::rename(&temporary, &path).map_err(SpoolError::io("rename", &temporary))?;
        Ok(Arc::new(counters))
    }

    /// Start of this life of the gateway, in microseconds since 1970 (UTC).
    pub fn life_us(&self) -> i64 {
        self.life_us
    }

    /// Which bank's they are.
    pub fn bank(&self) -> u16 {
        self.bank
    }

    /// How many cores count.
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// What a core did. `produced` is the sum of its parts, so it never disagrees with them.
    pub fn core(&self, core: u16) -> CoreCounts {
        let line = usize::from(core) + 1;
        let load = |at| self.word(line, at).load(Ordering::Acquire);
        let (written, dropped) = (load(0), [load(1), load(2), load(3)]);
        CoreCounts { produced: written + dropped.iter().sum::<u64>(), written, dropped }
    }

    /// The collector's word that the first `records` of this life of a core are on its disk: the spool need not be.
    pub fn set_stored(&self, core: u16, records: u64) {
        if core < self.cores {
            self.word(usize::from(core) + 1, STORED).store(records, Ordering::Release);
        }
    }

    /// What the collector said last.
    pub(super) fn stored(&self, core: u16) -> u64 {
        self.word(usize::from(core) + 1, STORED).load(Ordering::Acquire)
    }

    pub(super) fn wrote(&self, core: u16, written: u64) {
        self.word(usize::from(core) + 1, 0).store(written, Ordering::Release);
    }

    pub(super) fn dropped(&self, core: u16, reason: DropReason) {
        let word = self.word(usize::from(core) + 1, 1 + reason as usize);
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn word(&self, line: usize, at: usize) -> &AtomicU64 {
        let offset = line * LINE_BYTES + at * 8;
        assert!(offset + 8 <= self.map.len());
        // SAFETY: in bounds by the assertion, aligned since a map begins at a page.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }
}
