//! The socket in the data folder at which the process that serves can be found, and who may come in.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use event::layout::DataFolder;
use tokio::net::{UnixListener, UnixStream};

/// Its name in the state folder.
const NAME: &str = "handover.sock";
/// Under which it is made, to be renamed: whoever looks finds the door of before or this one.
const NAME_NEW: &str = "handover.new";
/// Longest path that a UNIX socket's address holds on Linux, without the zero at its end.
const PATH_BYTES_MAX: usize = 107;

/// The door of this process. It is taken away with it, unless another process has put its own there.
#[derive(Debug)]
pub(super) struct Door {
    pub listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Door {
    /// Puts a door up, in the place of what may be there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &DataFolder) -> io::Result<Self> {
        let (path, new) = (folder.state().join(NAME), folder.state().join(NAME_NEW));
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(Short::of(&new)?.path())?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let inode = std::fs::metadata(&new)?.ino();
        std::fs::rename(&new, &path)?;
        Ok(Self { listener, path, inode })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let own = std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the hand-over socket stays behind");
        }
    }
}

/// Knocks at the door of the process that serves; none when nobody is there.
///
/// # Errors
/// What the system says, such as that this user may not.
pub(super) async fn knock(folder: &DataFolder) -> io::Result<Option<UnixStream>> {
    let path = folder.state().join(NAME);
    let short = Short::of(&path)?;
    match UnixStream::connect(short.path()).await {
        Ok(stream) => Ok(Some(stream)),
        // The socket of a process that was killed stays behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether somebody may take this process's place: who could end it as well. Says which process that is, as far as the
/// system knows.
pub(super) fn visitor(stream: &UnixStream) -> io::Result<u32> {
    let peer = stream.peer_cred()?;
    // SAFETY: takes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    if peer.uid() != own && peer.uid() != 0 {
        let text = format!("user {} is neither root nor the user of this process", peer.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0))
}

/// A path that fits into a socket's address: a long one goes by the open folder that it is in.
struct Short {
    path: PathBuf,
    _folder: Option<File>,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let folder = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_door_is_found_under_any_path_and_goes_with_its_process_only() {
        let root = tempfile::tempdir().unwrap();
        for name in ["short".to_owned(), "long".repeat(50)] {
            let folder = DataFolder::open(&root.path().join(name)).unwrap();
            assert!(knock(&folder).await.unwrap().is_none(), "nobody yet");
            let first = Door::open(&folder).unwrap();
            let path = folder.state().join(NAME);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let guest = knock(&folder).await.unwrap().expect("somebody is there");
            let (host, _) = first.listener.accept().await.unwrap();
            assert_eq!(visitor(&host).unwrap(), std::process::id());
            assert_eq!(visitor(&guest).unwrap(), std::process::id());
            let second = Door::open(&folder).unwrap();
            drop(first);
            assert!(knock(&folder).await.unwrap().is_some(), "the door of the next stays");
            drop(second);
            assert!(!path.exists());
            // What a killed process leaves behind.
            drop(std::os::unix::net::UnixListener::bind(Short::of(&path).unwrap().path()).unwrap());
            assert!(path.exists() && knock(&folder).await.unwrap().is_none());
        }
    }
}
