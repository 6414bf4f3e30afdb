//! Chance for the demo: log-normal working times with a slow tail, Zipf's law, arrivals of a Poisson process.

use std::time::Duration;

use rand::Rng;
use rand::rngs::ThreadRng;

/// No sample service works longer than this.
const WORK_MS_MAX: f64 = 3_000.0;
/// One call in so many meets the slow tail and takes ten times as long.
const SLOW_ONE_IN: u32 = 150;

/// A source of chance for one task; not kept across an `await`.
#[derive(Default)]
pub struct Chance;

impl Chance {
    /// Chance of the current thread.
    pub fn new() -> Self {
        Self
    }

    fn rng(&self) -> ThreadRng {
        rand::rng()
    }

    /// True once in `n` times on average; `n` is at least 1.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng().random_ratio(1, n.max(1))
    }

    /// Evenly between `low` and `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng().random_range(low..=high.max(low))
    }

    /// A log-normal time with the given median and spread (standard deviation of its logarithm), in ms.
    pub fn log_normal_ms(&mut self, median_ms: f64, sigma: f64) -> f64 {
        // Box-Muller; 1 - u is never zero.
        let (u, v): (f64, f64) = (1.0 - self.rng().random::<f64>(), self.rng().random());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        (median_ms * (sigma * normal).exp()).min(WORK_MS_MAX)
    }

    /// Works, that is waits, for a log-normal time, now and then ten times as long.
    pub async fn work(&mut self, median_ms: f64, sigma: f64) {
        let slow = if self.one_in(SLOW_ONE_IN) { 10.0 } else { 1.0 };
        let ms = (self.log_normal_ms(median_ms, sigma) * slow).min(WORK_MS_MAX);
        tokio::time::sleep(Duration::from_secs_f64(ms / 1_000.0)).await;
    }

    /// Time to the next arrival at `rate` arrivals per second, which is above zero.
    pub fn gap(&mut self, rate: f64) -> Duration {
        let u = 1.0 - self.rng().random::<f64>();
        Duration::from_secs_f64((-u.ln() / rate).min(1.0))
    }

    /// An index below `count` by Zipf's law: the n-th is chosen 1/n times as often as the first.
    pub fn zipf(&mut self, count: usize) -> usize {
        let total: f64 = (1..=count).map(|n| 1.0 / n as f64).sum();
        let mut left = self.rng().random::<f64>() * total;
        for n in 1..count {
            left -= 1.0 / n as f64;
            if left <= 0.0 {
                return n - 1;
            }
        }
        count.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_their_laws() {
        let mut chance = Chance::new();
        let mut seen = [0_u32; 4];
        let mut above_median = 0;
        let mut gaps = Duration::ZERO;
        for _ in 0..20_000 {
            seen[chance.zipf(4)] += 1;
            above_median += u32::from(chance.log_normal_ms(10.0, 0.7) > 10.0);
            gaps += chance.gap(100.0);
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        assert!((9_000..11_000).contains(&above_median), "{above_median}");
        assert!((180.0..220.0).contains(&gaps.as_secs_f64()), "{gaps:?}");
        assert_eq!(chance.zipf(1), 0);
        assert!((5..=9).contains(&chance.between(5, 9)));
    }
}
