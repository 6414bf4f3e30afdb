//! The doors of the gateway: how many connections are open, in all and of each client, over all threads, and how many
//! were turned away or ended early, by reason. Touched when a connection begins and ends, never by a request.

use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Clients are counted in so many tables, so that threads seldom wait for one another.
const SHARDS: usize = 64;

/// Why a connection was turned away, or ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    /// `connections_max`.
    Full,
    /// `connections_per_client_max`.
    Client,
    /// A header of the PROXY protocol from a peer that is not trusted, where one is required.
    ProxyUntrusted,
    /// No such header, one that is malformed, or not in time.
    ProxyHeader,
    /// A TLS handshake that failed or took too long.
    Handshake,
    /// `h2_resets_max`.
    Resets,
    /// `h2_control_frames_max`.
    Frames,
    /// `requests_per_connection_max`: it ended in order.
    Requests,
}

impl Away {
    const ALL: [Self; 8] = [
        Self::Full,
        Self::Client,
        Self::ProxyUntrusted,
        Self::ProxyHeader,
        Self::Handshake,
        Self::Resets,
        Self::Frames,
        Self::Requests,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "connections_max",
            Self::Client => "connections_per_client_max",
            Self::ProxyUntrusted => "proxy_untrusted",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "tls_handshake",
            Self::Resets => "h2_resets_max",
            Self::Frames => "h2_control_frames_max",
            Self::Requests => "requests_per_connection_max",
        }
    }
}

/// What became of client connections, since the gateway started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Open now.
    pub open: u64,
    /// Accepted in all.
    pub accepted: u64,
    /// Requests that were answered 503 because `requests_max` were under way.
    pub overloaded: u64,
    /// Turned away or ended early, by the name of the bound or the reason.
    pub ended: Vec<(&'static str, u64)>,
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Doors {
    open: AtomicUsize,
    accepted: AtomicU64,
    pub overloaded: AtomicU64,
    away: [AtomicU64; Away::ALL.len()],
    /// Connections of each client that has one: never more entries than connections.
    clients: [Mutex<HashMap<u128, u32, RandomState>>; SHARDS],
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            away: [const { AtomicU64::new(0) }; Away::ALL.len()],
            clients: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

/// A connection that is open.
pub(crate) struct Open(Arc<Doors>);

/// A client's place.
pub(crate) struct Place {
    doors: Arc<Doors>,
    client: u128,
}

impl Doors {
    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Counts a connection for as long as what is returned lives.
    pub fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Relaxed);
        self.accepted.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    /// A place for one more connection of a client; none when it has as many as it may have.
    pub fn place(self: &Arc<Self>, client: IpAddr, most: u32) -> Option<Place> {
        let client = key(client);
        let mut table = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(table);
        Some(Place { doors: Arc::clone(self), client })
    }

    pub fn count(&self, away: Away) {
        self.away[away as usize].fetch_add(1, Relaxed);
    }

    pub fn counts(&self) -> ConnectionCounts {
        let ended = Away::ALL.map(|away| (away.as_str(), self.away[away as usize].load(Relaxed)));
        ConnectionCounts {
            open: self.open() as u64,
            accepted: self.accepted.load(Relaxed),
            overloaded: self.overloaded.load(Relaxed),
            ended: ended.into(),
        }
    }

    fn shard(&self, client: u128) -> &Mutex<HashMap<u128, u32, RandomState>> {
        let folded = client ^ (client >> 64);
        &self.clients[(folded ^ (folded >> 16) ^ (folded >> 32)) as usize % SHARDS]
    }
}

/// One client: an address of IPv4, or a network of 64 bits of IPv6, which is the least that a subscriber is given.
fn key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u128::from_be_bytes(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) if v6 == Ipv6Addr::LOCALHOST => 1,
        IpAddr::V6(v6) => u128::from(v6) & !u128::from(u64::MAX),
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.doors.shard(self.client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_places_and_gives_them_back() {
        let doors = Arc::new(Doors::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let held: Vec<_> = (0..2).map(|_| doors.place(ip("10.0.0.1"), 2).unwrap()).collect();
        assert!(doors.place(ip("10.0.0.1"), 2).is_none());
        assert!(doors.place(ip("::ffff:10.0.0.1"), 2).is_none(), "the same client");
        assert!(doors.place(ip("10.0.0.2"), 2).is_some());
        drop(held);
        assert!(doors.place(ip("10.0.0.1"), 1).is_some());
        let _one = doors.place(ip("2001:db8::1"), 1).unwrap();
        assert!(doors.place(ip("2001:db8::ffff:1"), 1).is_none(), "one network is one client");
        assert!(doors.place(ip("2001:db8:0:1::1"), 1).is_some());
        assert_eq!(doors.clients.iter().map(|table| table.lock().unwrap().len()).sum::<usize>(), 1);
    }

    #[test]
    fn reasons_stand_in_their_order() {
        for (at, away) in Away::ALL.into_iter().enumerate() {
            assert_eq!(away as usize, at);
        }
    }
}
