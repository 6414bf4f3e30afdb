//! Whom a connection is between: the socket's two ends, or those that a trusted balancer names by the PROXY protocol.

use super::cut_or_drained;
use super::doors::Away;
use super::proxy_protocol::{self, Said};
use super::socket::Socket;
use crate::clock::Deadline;
use crate::config::ProxyProtocol;
use crate::core::Core;
use std::net::{IpAddr, SocketAddr};

/// The ends of a client's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The client.
    pub from: SocketAddr,
    /// Where it has connected to.
    pub to: SocketAddr,
    /// The other end of the socket: the balancer, where there is one.
    pub socket: IpAddr,
    /// Whether all of this comes from one client, rather than from a proxy that speaks for many.
    pub is_client: bool,
}

impl Ends {
    /// Finds them out, before anything else is read.
    pub async fn find(
        core: &Core,
        listener: usize,
        socket: &mut Socket,
        (peer, own): (SocketAddr, SocketAddr),
        deadline: &Deadline,
    ) -> Result<Self, Away> {
        let ip = peer.ip().to_canonical();
        let trusted = core.plan.trusted.contains(ip);
        let plain = Self { from: canonical(peer), to: canonical(own), socket: ip, is_client: !trusted };
        match (core.plan.listeners[listener].proxy_protocol, trusted) {
            (ProxyProtocol::Off, _) | (ProxyProtocol::Accept, false) => return Ok(plain),
            (ProxyProtocol::Require, false) => return Err(Away::ProxyUntrusted),
            (ProxyProtocol::Accept | ProxyProtocol::Require, true) => {}
        }
        let reading = async {
            tokio::select! {
                biased;
                said = header(core, listener, socket) => said,
                () = cut_or_drained(core) => Err(()),
            }
        };
        let header = deadline.within(core.plan.timeouts.header_timeout_ms, reading).await;
        match header {
            Some(Ok(Some(Said::Proxied { from, to }))) => {
                Ok(Self { from: canonical(from), to: canonical(to), socket: ip, is_client: true })
            }
            Some(Ok(Some(Said::Local) | None)) => Ok(plain),
            Some(Err(())) | None => Err(Away::ProxyHeader),
        }
    }
}

/// Reads the header and nothing behind it; none where there is none and need not be.
async fn header(core: &Core, listener: usize, socket: &mut Socket) -> Result<Option<Said>, ()> {
    let bytes_max = core.plan.limits.proxy_header_bytes_max;
    let required = core.plan.listeners[listener].proxy_protocol == ProxyProtocol::Require;
    loop {
        let ahead = socket.ahead();
        if !required && !proxy_protocol::may_begin(ahead) {
            return Ok(None);
        }
        match proxy_protocol::read(ahead, bytes_max) {
            Ok(Some((said, length))) => {
                socket.take_off(length);
                return Ok(Some(said));
            }
            Ok(None) => {}
            Err(_malformed) => return Err(()),
        }
        if socket.read_ahead(&core.scratch).await.unwrap_or(0) == 0 {
            return Err(());
        }
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
