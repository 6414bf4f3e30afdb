//! One address that answers for an upstream, as all threads see it.

use super::health::{Health, Shown};
use super::outlier::Outlier;
use event::AttemptError;
use http::HeaderValue;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How fast an old latency loses its weight.
const DECAY_MS: f32 = 10_000.0;
/// What a peer costs that has a request and was never seen to answer, in microseconds: more than any that has answered.
const UNKNOWN_US: f32 = 1e12;

/// An address of a target.
#[derive(Debug)]
pub(crate) struct Peer {
    pub target: usize,
    pub addr: SocketAddr,
    /// What names it in a cookie.
    pub token: u64,
    /// The host of its SRV record, where that is sent.
    pub srv: Option<SrvName>,
    /// The address as text, for events.
    pub addr_text: Box<str>,
    /// Requests under way, of all threads; counted where an algorithm asks for it.
    pub active: AtomicU32,
    /// Peak EWMA of the latency: its microseconds as `f32` above, the millisecond of its last change below.
    latency: AtomicU64,
    /// Where its own clock begins.
    begun: Instant,
    /// When it became fit, on that clock.
    pub fit_since_ms: AtomicU64,
    pub traffic: Traffic,
    /// When a health check was last begun, in milliseconds as the upstreams count them, plus 1; 0 for never.
    pub(super) checked_ms: AtomicU64,
    pub(super) health: Health,
    pub(super) outlier: Outlier,
    pub(super) failure: LastFailure,
}

/// The host that an SRV record names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SrvName {
    pub host: String,
    /// With the port, as the Host header has it.
    pub authority: HeaderValue,
}

impl SrvName {
    /// None for one that cannot be sent.
    pub fn new(host: &str, addr: SocketAddr) -> Option<Self> {
        let host = host.trim_end_matches('.');
        Some(Self { host: host.to_owned(), authority: crate::plan::authority(host, addr.port())? })
    }
}

/// What the threads have counted, each handed over by the thread once a second.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub requests: AtomicU64,
    pub failures: AtomicU64,
    pub under_way: AtomicU32,
    pub connections: AtomicU32,
}

/// Who met with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Request,
    Check,
}

/// Why a try is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Status(u16),
    /// The status of a call of gRPC.
    Grpc(u16),
    Error(AttemptError),
    /// The health service says that it does not serve.
    NotServing,
}

impl From<Shown> for Failure {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Status(status) => Self::Status(status),
            Shown::Broken => Self::Error(AttemptError::Reset),
            Shown::TimedOut => Self::Error(AttemptError::ReadTimeout),
            Shown::Serving(_) => Self::NotServing,
        }
    }
}

/// The last failure of an address, for people. Two at the same moment may mix, which harms nobody.
#[derive(Debug, Default)]
pub(super) struct LastFailure {
    /// Who in the highest byte, which kind in the next, its number below.
    what: AtomicU32,
    /// Microseconds since 1970; 0 for none yet.
    at_us: AtomicI64,
}

impl LastFailure {
    /// Who met with it, why it was one, and when.
    pub fn read(&self) -> Option<(By, Failure, i64)> {
        let (what, at_us) = (self.what.load(Relaxed), self.at_us.load(Relaxed));
        let by = if what >> 24 == 0 { By::Request } else { By::Check };
        let failure = match what >> 16 & 0xff {
            0 => Failure::Status(what as u16),
            1 => Failure::Error(AttemptError::from_u8(what as u8)),
            3 => Failure::Grpc(what as u16),
            _ => Failure::NotServing,
        };
        (at_us > 0).then_some((by, failure, at_us))
    }
}

impl Peer {
    pub fn new(target: usize, addr: SocketAddr) -> Self {
        let health = Health::default();
        health.since_us.store(crate::clock::wall_us(), Relaxed);
        Self {
            target,
            addr,
            token: 0,
            srv: None,
            addr_text: addr.to_string().into(),
            active: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            checked_ms: AtomicU64::new(0),
            begun: Instant::now(),
            fit_since_ms: AtomicU64::new(0),
            traffic: Traffic::default(),
            health,
            outlier: Outlier::default(),
            failure: LastFailure::default(),
        }
    }

    /// The same under these names.
    pub fn named(self, token: u64, srv: Option<SrvName>) -> Self {
        Self { token, srv, ..self }
    }

    /// Milliseconds on its own clock.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// The same at another time.
    pub fn ms_at(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes a failure for people to see.
    pub fn met_failure(&self, by: By, failure: Failure) {
        let (kind, number) = match failure {
            Failure::Status(status) => (0, u32::from(status)),
            Failure::Error(error) => (1, error as u32),
            Failure::NotServing => (2, 0),
            Failure::Grpc(code) => (3, u32::from(code)),
        };
        self.failure.what.store((by as u32) << 24 | kind << 16 | number, Relaxed);
        self.failure.at_us.store(crate::clock::wall_us(), Relaxed);
    }

    /// Notes how long an answer took: a peak counts at once, calm in the course of time. Two at the same moment may
    /// lose one, which the next makes good.
    pub fn took(&self, latency_us: u32, now_ms: u64) {
        let (peak, share) = self.remembered(now_ms);
        let us = latency_us as f32;
        let next = if us >= peak { us } else { peak * share + us * (1.0 - share) };
        let stamp = u64::from(now_ms as u32);
        self.latency.store(u64::from(next.max(1.0).to_bits()) << 32 | stamp, Relaxed);
    }

    /// What one more request costs here: the latency, sinking with time, for each request under way.
    pub fn cost(&self, now_ms: u64) -> f32 {
        let (peak, share) = self.remembered(now_ms);
        let active = self.active.load(Relaxed) as f32;
        if peak == 0.0 && active > 0.0 { UNKNOWN_US + active } else { peak * share * (active + 1.0) }
    }

    /// The latency when it was last seen, and how much of that still counts.
    fn remembered(&self, now_ms: u64) -> (f32, f32) {
        let packed = self.latency.load(Relaxed);
        let age_ms = (now_ms as u32).wrapping_sub(packed as u32);
        // A thread whose clock is a sweep behind sees an age below zero.
        let age_ms = if age_ms > u32::MAX / 2 { 0.0 } else { age_ms as f32 };
        (f32::from_bits((packed >> 32) as u32), (-age_ms / DECAY_MS).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_is_read_as_it_was_met() {
        let peer = Peer::new(0, "127.0.0.1:1".parse().unwrap());
        assert!(peer.failure.read().is_none());
        for (by, failure) in [
            (By::Check, Failure::Status(503)),
            (By::Request, Failure::Error(AttemptError::ConnectTimeout)),
            (By::Check, Failure::NotServing),
            (By::Request, Failure::Status(999)),
            (By::Request, Failure::Grpc(14)),
        ] {
            peer.met_failure(by, failure);
            let (read_by, read, at_us) = peer.failure.read().unwrap();
            assert_eq!((read_by, read), (by, failure));
            assert!(at_us > 1_600_000_000_000_000);
        }
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let peer = Peer::new(0, "127.0.0.1:1".parse().unwrap());
        assert_eq!(peer.cost(5), 0.0, "nothing is known yet: worth a try");
        peer.active.store(1, Relaxed);
        assert!(peer.cost(5) > 1e11, "one try at a time until it has answered");
        peer.active.store(0, Relaxed);
        peer.took(1_000, 1_000);
        peer.took(50_000, 1_010);
        assert!((49_000.0..=50_000.0).contains(&peer.cost(1_010)));
        peer.took(1_000, 1_020);
        assert!(peer.cost(1_020) > 40_000.0, "one fast answer does not make up for a slow one");
        for at in 0..100 {
            peer.took(1_000, 1_020 + at * 1_000);
        }
        assert!((900.0..1_100.0).contains(&peer.cost(100_020)), "{}", peer.cost(100_020));
        peer.active.store(3, Relaxed);
        assert!(peer.cost(100_020) > 3_500.0, "each request under way costs as much");
    }
}
