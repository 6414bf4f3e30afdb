//! Slow start: an address that is new or fit again gets its share little by little, as Envoy has it.

use super::peer::Peer;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// How the share rises.
#[derive(Debug)]
pub(crate) struct SlowStartPlan {
    pub window_ms: u64,
    /// 1 divided by the aggression.
    pub exponent: f64,
    pub least_percent: u32,
}

/// A whole share.
const WHOLE: u64 = 1000;

impl SlowStartPlan {
    /// The share of its weight that an address has now, in thousandths.
    pub fn share(&self, peer: &Peer, now: Instant) -> u64 {
        let fit_ms = peer.ms_at(now).saturating_sub(peer.fit_since_ms.load(Relaxed));
        if fit_ms >= self.window_ms {
            return WHOLE;
        }
        let rising = (fit_ms as f64 / self.window_ms as f64).powf(self.exponent);
        ((rising * WHOLE as f64) as u64).max(u64::from(self.least_percent) * WHOLE / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_share_rises_from_the_least_to_the_whole() {
        let peer = Peer::new(0, "127.0.0.1:1".parse().unwrap());
        let begun = Instant::now();
        let at = |plan: &SlowStartPlan, ms| plan.share(&peer, begun + Duration::from_millis(ms)) as i64;
        let even = SlowStartPlan { window_ms: 10_000, exponent: 1.0, least_percent: 10 };
        for (ms, share) in [(0, 100), (500, 100), (2_500, 250), (5_000, 500), (10_000, 1000), (99_000, 1000)]
        {
            assert!((at(&even, ms) - share).abs() <= 5, "{ms}: {}", at(&even, ms));
        }
        let eager = SlowStartPlan { exponent: 0.5, ..even };
        assert!((at(&eager, 2_500) - 500).abs() <= 5, "the root of a quarter");
        peer.fit_since_ms.store(20_000, Relaxed);
        assert_eq!(at(&eager, 20_000), 100, "it begins anew");
    }
}
