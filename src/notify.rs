//! What a service manager is told, if it asked for it by `NOTIFY_SOCKET`: that this process is ready, and which process
//! takes its place (the protocol of sd_notify(3), which systemd and others speak).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// This process serves.
pub fn ready() {
    tell(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// Another process serves in its place: that one is to be watched from now on.
pub fn handed_over(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

/// This process ends.
pub fn stopping() {
    tell("STOPPING=1");
}

/// A manager that is not there, or does not listen, changes nothing.
fn tell(words: &str) {
    let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&name, words) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn send(name: &OsStr, words: &str) -> io::Result<()> {
    let addr = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // Its queue may be full: that must not hold a gateway up.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(words.as_bytes(), &addr).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_by_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let abstract_name = format!("tollhouse-test-{}", std::process::id());
        let abstract_addr = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (socket, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().to_owned()),
            (UnixDatagram::bind_addr(&abstract_addr).unwrap(), format!("@{abstract_name}").into()),
        ] {
            send(&name, "READY=1").unwrap();
            let mut words = [0; 100];
            let length = socket.recv(&mut words).unwrap();
            assert_eq!(&words[..length], b"READY=1");
        }
        assert!(send(folder.path().join("nobody").as_os_str(), "READY=1").is_err());
    }
}
