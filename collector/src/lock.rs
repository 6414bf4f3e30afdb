//! One collector per data folder: two would both store every event. A process that takes over from another gets the
//! lock as an open file, so that between the two nobody else can have it.

use std::fs::{File, TryLockError};

use event::layout::DataFolder;

use crate::StartError;

/// Name of the file in the state folder whose lock says that a collector is at work. The system gives the lock back
/// however the process ends.
const FILE: &str = "collector.lock";

/// The lock of a data folder, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(Option<File>);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another collector has it, or the disk refuses.
    pub(crate) fn take(folder: &DataFolder) -> Result<Self, StartError> {
        let path = folder.state().join(FILE);
        let refused = |source| StartError::Lock { path: path.clone(), source };
        let file = File::create(&path).map_err(refused)?;
        Self::of(file, folder)
    }

    /// The lock that another process had, and may have let go of.
    ///
    /// # Errors
    /// As of [`Self::take`].
    pub(crate) fn of(file: File, folder: &DataFolder) -> Result<Self, StartError> {
        let refused = |source| StartError::Lock { path: folder.state().join(FILE), source };
        match file.try_lock() {
            Ok(()) => Ok(Self(Some(file))),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { folder: folder.root().to_owned() }),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }

    /// A further descriptor of the same lock, for another process.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn share(&self) -> std::io::Result<Option<File>> {
        self.0.as_ref().map(File::try_clone).transpose()
    }

    /// Lets go of it without giving it back: another process has it by now.
    pub(crate) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Lock {
    /// Closing the file would do, were it not for a child process that is just being made and has it open too.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(File::unlock) {
            tracing::warn!(%error, "the collector's lock is given back only with the end of the process");
        }
    }
}
