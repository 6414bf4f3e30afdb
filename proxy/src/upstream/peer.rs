//! One address that answers for an upstream, as all threads see it.

use super::health::Health;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How fast an old latency loses its weight.
const DECAY_MS: f32 = 10_000.0;
/// What a peer costs that has a request and was never seen to answer, in microseconds: more than any that has answered.
const UNKNOWN_US: f32 = 1e12;

/// An address of a target.
#[derive(Debug)]
pub(crate) struct Peer {
    pub target: usize,
    pub addr: SocketAddr,
    /// The address as text, for events.
    pub addr_text: Box<str>,
    /// When it came, milliseconds.
    #[expect(dead_code, reason = "read by the slow start")]
    pub since_ms: AtomicU64,
    /// Requests under way, of all threads; counted where an algorithm asks for it.
    pub active: AtomicU32,
    /// Peak EWMA of the latency: its microseconds as `f32` above, the millisecond of its last change below.
    latency: AtomicU64,
    pub(super) health: Health,
}

impl Peer {
    pub fn new(target: usize, addr: SocketAddr, now_ms: u64) -> Self {
        Self {
            target,
            addr,
            addr_text: addr.to_string().into(),
            since_ms: AtomicU64::new(now_ms),
            active: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            health: Health::default(),
        }
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
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let peer = Peer::new(0, "127.0.0.1:1".parse().unwrap(), 0);
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
