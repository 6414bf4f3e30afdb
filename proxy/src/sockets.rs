//! The sockets that clients connect to: one for each thread and listener, bound here or taken over from another process.

use crate::core::Sockets;
use crate::plan::{ListenPlan, StreamKinds};
use crate::start::{Bound, StartError};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel may hold before they are accepted, per thread and listener.
const BACKLOG: i32 = 4096;

/// A socket that listens, on its way from one process to the next: connections that wait in its queue wait for either.
#[derive(Debug)]
pub struct OpenSocket {
    /// Name of its listener.
    pub name: String,
    /// The address as configured: with port 0, where any will do.
    pub configured: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

impl OpenSocket {
    /// Whether it is one that a listener would bind. Where any port will do, the name says which one is meant.
    pub(crate) fn serves(&self, listen: &ListenPlan) -> bool {
        if listen.addr.port() == 0 {
            return self.name == listen.name && self.configured == listen.addr;
        }
        self.socket.local_addr().is_ok_and(|addr| addr == listen.addr)
    }
}

/// Binds a listener once for each thread, beginning with the sockets that are there already. Threads may be fewer than
/// those: then one takes from several, since each has a queue of its own. `open` gets a further descriptor of each.
pub(crate) fn bind_all(
    at: usize,
    listen: &ListenPlan,
    inherited: Vec<TcpListener>,
    sockets: &mut [Sockets],
    open: &mut Sockets,
) -> Result<Bound, StartError> {
    let mut addr = listen.addr;
    let failed = |source| StartError::Bind { name: listen.name.clone(), addr: listen.addr, source };
    if inherited.is_empty() {
        refuse_shared(addr).map_err(failed)?;
    }
    let threads = sockets.len().max(1);
    let bound = inherited.len();
    let all = inherited.into_iter().map(Some).chain((bound..threads).map(|_| None));
    for (number, inherited) in all.enumerate() {
        let socket = match inherited {
            Some(socket) => socket.set_nonblocking(true).map(|()| socket).map_err(failed)?,
            None => bind(addr).map_err(failed)?,
        };
        // Port 0 is resolved by the first socket and shared by the others.
        addr = socket.local_addr().map_err(failed)?;
        open.push((at, socket.try_clone().map_err(failed)?));
        sockets[number % threads].push((at, socket));
    }
    let stream = listen.streams.is_some();
    let tls = listen.tls.is_some() || listen.streams == Some(StreamKinds::Tls);
    Ok(Bound { name: listen.name.clone(), addr, tls, stream })
}

/// The threads share their address by SO_REUSEPORT, and so could another process, which would then take half of the
/// connections without anybody being told. A socket that does not share finds it out.
fn refuse_shared(addr: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())
}

fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_share_is_refused() {
        let shared = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = shared.local_addr().unwrap();
        assert!(bind(addr).is_ok(), "the kernel would share it");
        assert_eq!(refuse_shared(addr).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        drop(shared);
        refuse_shared(addr).unwrap();
    }
}
