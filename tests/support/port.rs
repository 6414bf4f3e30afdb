//! Addresses that nobody listens on, for programs that cannot say which port they were given and for targets that
//! refuse.
//!
//! A port that the kernel chose and that is let go again is the next one's: any connection that another test opens
//! may take it before it is listened on, and any listener on port 0 may make a refusing target answer. So ports are
//! handed out below those that the kernel gives to whoever names none.
//!
//! This file stands alone, since the tests of other crates and the benchmarks take it in by its path.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below stand the ports that a gateway and its neighbours have by default.
const FIRST: u32 = 10_000;

/// How far apart two processes that were started one after the other begin.
const STRIDE: u32 = 127;

/// An address on which nobody listens, by TCP or UDP. No two calls of a process get the same.
pub fn free_addr() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let ports = outside_of(kernels_own());
    let count = ports.end - ports.start;
    let begin = std::process::id().wrapping_mul(STRIDE) % count;
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(taken < count, "all of the ports {ports:?} were tried");
        let port = u16::try_from(ports.start + (begin + taken) % count).expect("a range of ports");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// The ports that the kernel gives to connections and to listeners on port 0.
fn kernels_own() -> Range<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().map_while(|bound| bound.parse::<u32>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => first..last + 1,
        // What Linux has unless it is told otherwise.
        _ => 32_768..61_000,
    }
}

/// Where there is room beside them.
fn outside_of(kernels: Range<u32>) -> Range<u32> {
    let (below, above) = (FIRST..kernels.start, kernels.end.max(FIRST)..65_536);
    let ports = if below.len() >= above.len() { below } else { above };
    assert!(ports.len() >= 100, "the kernel's ports {kernels:?} leave none for tests");
    ports
}
