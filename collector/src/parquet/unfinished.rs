//! A file on its way to the disk: temporary name, fsync, rename, fsync of the folder. It is there under its name once it is
//! whole; one that is not finished leaves nothing.

use super::{ParquetFileError, Written, temporary};
use event::layout::sync_folder;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

/// Bytes that go to the file at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// Where the bytes of a file go.
pub(crate) type Sink = BufWriter<Summed>;

/// A file that is being written.
pub(crate) struct Unfinished {
    path: PathBuf,
    temporary: PathBuf,
    /// Whether it has its name.
    named: bool,
}

impl Unfinished {
    /// Begins the file `path` under a temporary name, in a folder that is made if it is missing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn create(path: &Path) -> Result<(Self, Sink), ParquetFileError> {
        let this = Self { path: path.to_owned(), temporary: temporary(path), named: false };
        let folder = this.folder();
        create_folders(folder).map_err(io_error(folder))?;
        let file = File::create(&this.temporary).map_err(io_error(&this.temporary))?;
        Ok((this, BufWriter::with_capacity(BUFFER_BYTES, Summed::new(file))))
    }

    /// The name that it will have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts on disk what went through the sink, so that the end is not a flood.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&self, sink: &Sink) -> Result<(), ParquetFileError> {
        sink.get_ref().file.sync_data().map_err(io_error(&self.temporary))
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// When the disk refuses; nothing is left then of what was begun.
    pub(crate) fn finish(mut self, sink: Sink) -> Result<Written, ParquetFileError> {
        let summed = sink.into_inner().map_err(|error| io_error(&self.temporary)(error.into_error()))?;
        summed.file.sync_all().map_err(io_error(&self.temporary))?;
        let written = Written { bytes: summed.bytes, checksum: summed.checksum() };
        drop(summed);
        std::fs::rename(&self.temporary, &self.path).map_err(io_error(&self.path))?;
        self.named = true;
        let folder = self.folder();
        sync_folder(folder).map_err(io_error(folder))?;
        Ok(written)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

impl Drop for Unfinished {
    /// A full disk is not to be kept full by half a file. The next start removes what cannot be removed now.
    fn drop(&mut self) {
        if self.named {
            return;
        }
        match std::fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.temporary.display(), %error, "cannot remove half a file");
            }
            _ => {}
        }
    }
}

fn io_error(at: &Path) -> impl FnOnce(io::Error) -> ParquetFileError {
    let path = at.to_owned();
    move |source| ParquetFileError::Io { path, source }
}

/// Makes a folder and those above it; each new one is durable in its parent.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else { return Ok(()) };
    create_folders(parent)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(parent),
    }
}

/// A file that sums what is written to it.
pub(crate) struct Summed {
    file: File,
    bytes: u64,
    hasher: XxHash3_64,
}

impl Summed {
    fn new(file: File) -> Self {
        Self { file, bytes: 0, hasher: XxHash3_64::new() }
    }

    /// XXH3-64 of all bytes so far, as hex.
    fn checksum(&self) -> String {
        format!("{:016x}", self.hasher.finish())
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.write(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
