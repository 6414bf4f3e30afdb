//! Messages and open files between two processes, over a UNIX stream socket: a length of four bytes and as much JSON;
//! files come with single bytes after the message that names them (SCM_RIGHTS of unix(7)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::Message;

/// Longest message: a hundred bytes for each of ten thousand sockets.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Files that come with one byte; Linux takes no more than 253.
const FILES_MAX: usize = 64;
/// Room for their numbers and the head before them, in words, so that it is aligned for it.
const CONTROL_WORDS: usize = (FILES_MAX * size_of::<RawFd>() + 64) / size_of::<u64>();

/// Why the other side is not heard.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It has closed the connection, or ended.
    #[error("the other process has closed the connection")]
    Closed,
    /// It says nothing.
    #[error("the other process has not answered within {0:?} (upgrade.timeout_ms)")]
    Silent(Duration),
    /// It says what this one does not understand.
    #[error("the other process speaks another language: {0}")]
    Strange(String),
    /// The socket fails.
    #[error("cannot speak to the other process: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// A connection to the other process.
#[derive(Debug)]
pub struct Wire {
    stream: UnixStream,
    /// How long each word may take.
    patience: Duration,
}

impl Wire {
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Self {
        Self { stream, patience }
    }

    pub(super) async fn send(&mut self, message: &Message) -> Result<(), WireError> {
        let json = serde_json::to_vec(message).map_err(io::Error::other)?;
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        let patience = self.patience;
        within(patience, async {
            self.stream.write_all(&length.to_le_bytes()).await?;
            Ok(self.stream.write_all(&json).await?)
        })
        .await
    }

    pub(super) async fn receive(&mut self) -> Result<Message, WireError> {
        let patience = self.patience;
        within(patience, self.receive_sometime()).await
    }

    /// The same however long it takes.
    pub(super) async fn receive_sometime(&mut self) -> Result<Message, WireError> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(WireError::Strange(format!("a message of {length} bytes")));
        }
        let mut json = vec![0; length];
        self.stream.read_exact(&mut json).await?;
        serde_json::from_slice(&json).map_err(|error| WireError::Strange(error.to_string()))
    }

    pub(super) async fn send_files(&self, files: &[OwnedFd]) -> Result<(), WireError> {
        let fd = self.stream.as_raw_fd();
        let all = async {
            for some in files.chunks(FILES_MAX) {
                self.stream.async_io(Interest::WRITABLE, || send_some(fd, some)).await?;
            }
            Ok(())
        };
        within(self.patience, all).await
    }

    pub(super) async fn receive_files(&self, count: usize) -> Result<Vec<OwnedFd>, WireError> {
        let fd = self.stream.as_raw_fd();
        let all = async {
            let mut files = Vec::with_capacity(count);
            while files.len() < count {
                files.append(&mut self.stream.async_io(Interest::READABLE, || receive_some(fd)).await?);
            }
            Ok(files)
        };
        within(self.patience, all).await
    }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    tokio::time::timeout(patience, work).await.unwrap_or(Err(WireError::Silent(patience)))
}

/// One byte, and files with it.
fn send_some(socket: RawFd, files: &[OwnedFd]) -> io::Result<()> {
    let mut byte = 0_u8;
    let mut piece = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0_u64; CONTROL_WORDS];
    let bytes = size_of_val(files);
    let length = libc::c_uint::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: a header of zeros is a valid one without anything; the macros compute with lengths.
    let (mut message, space, own) =
        unsafe { (std::mem::zeroed::<libc::msghdr>(), libc::CMSG_SPACE(length), libc::CMSG_LEN(length)) };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = space as _;
    assert!(space as usize <= size_of_val(&control), "no more files than there is room for");
    // SAFETY: `control` is aligned, alive, and long enough for one head and the numbers of these files, as was asserted;
    // so the first head and the data behind it lie inside. All that the call reads lives until it returns.
    let sent = unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = own as _;
        let mut at = libc::CMSG_DATA(head).cast::<RawFd>();
        for file in files {
            at.write_unaligned(file.as_raw_fd());
            at = at.add(1);
        }
        libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One byte, and the files that come with it. Each is closed when the process executes another program.
#[allow(clippy::unnecessary_cast, reason = "the lengths of a head have other types with other C libraries")]
fn receive_some(socket: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut byte = 0_u8;
    let mut piece = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0_u64; CONTROL_WORDS];
    // SAFETY: a header of zeros is a valid one without anything.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header points at a byte and at aligned room, both alive, with their lengths.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut files = Vec::new();
    // SAFETY: the system has written whole heads and data into `control` and said how long they are, which is what the
    // macros go by. The numbers are of files that are open from this call on and that nobody else has.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(head).cast::<RawFd>();
                for at in 0..bytes / size_of::<RawFd>() {
                    files.push(OwnedFd::from_raw_fd(data.add(at).read_unaligned()));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 || files.is_empty() {
        return Err(io::Error::other("open files were lost on the way: is the limit of open files too low?"));
    }
    Ok(files)
}

/// A further descriptor of an open file.
pub(super) fn again(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    file.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn files_and_messages_arrive_in_order_and_are_the_same_open_files() {
        let (one, other) = UnixStream::pair().unwrap();
        let patience = Duration::from_secs(10);
        let (mut one, mut other) = (Wire::new(one, patience), Wire::new(other, patience));
        let mut files: Vec<File> = (0..150).map(|_| tempfile::tempfile().unwrap()).collect();
        for (number, file) in files.iter_mut().enumerate() {
            write!(file, "{number}").unwrap();
        }
        let sent: Vec<OwnedFd> = files.iter().map(|file| again(file.as_fd()).unwrap()).collect();
        one.send(&Message::Ready).await.unwrap();
        one.send_files(&sent).await.unwrap();
        one.send(&Message::Failed { reason: "x".repeat(100_000) }).await.unwrap();
        drop(one);
        assert!(matches!(other.receive().await, Ok(Message::Ready)));
        for (number, file) in other.receive_files(150).await.unwrap().into_iter().enumerate() {
            let mut file = File::from(file);
            // The place is shared with the file that was sent: it is at the end.
            assert_eq!(file.stream_position().unwrap(), number.to_string().len() as u64);
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, number.to_string());
        }
        let last = other.receive().await.unwrap();
        assert!(matches!(last, Message::Failed { reason } if reason.len() == 100_000));
        assert!(matches!(other.receive().await, Err(WireError::Closed)));
    }

    #[tokio::test]
    async fn who_says_nothing_or_nonsense_is_given_up() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let mut one = Wire::new(one, Duration::from_millis(20));
        assert!(matches!(one.receive().await, Err(WireError::Silent(_))));
        other.write_all(&[9, 0, 0, 0]).await.unwrap();
        other.write_all(b"\"nothing\"").await.unwrap();
        assert!(matches!(one.receive().await, Err(WireError::Strange(_))));
        other.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        assert!(matches!(one.receive().await, Err(WireError::Strange(_))));
    }
}
