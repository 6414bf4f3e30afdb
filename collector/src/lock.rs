//! One collector per data folder: two would both store every event.

use std::fs::{File, TryLockError};

use event::layout::DataFolder;

use crate::StartError;

/// Name of the file in the state folder whose lock says that a collector is at work. The system gives the lock back
/// however the process ends.
const FILE: &str = "collector.lock";

/// The lock of a data folder, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another collector has it, or the disk refuses.
    pub(crate) fn take(folder: &DataFolder) -> Result<Self, StartError> {
        let path = folder.state().join(FILE);
        let refused = |source| StartError::Lock { path: path.clone(), source };
        let file = File::create(&path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { folder: folder.root().to_owned() }),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }
}

impl Drop for Lock {
    /// Closing the file would do, were it not for a child process that is just being made and has it open too.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the collector's lock is given back only with the end of the process");
        }
    }
}
