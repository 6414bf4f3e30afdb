//! Which addresses are fit: failures and successes counted as Kong's health checks count them. Both traffic and the
//! prober count here; whoever reaches a bound turns the state.

use super::peer::{By, Peer};
use crate::accept::ProxyVersion;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What one try at an address showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Status(u16),
    /// A connection that was refused or broke.
    Broken,
    TimedOut,
    /// As good as a good status, or as bad as a bad one.
    Serving(bool),
}

/// When an address turns. A bound of 0 is never reached.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub successes: u32,
    pub good: Vec<u16>,
    pub tcp_failures: u32,
    pub timeouts: u32,
    pub http_failures: u32,
    pub bad: Vec<u16>,
}

impl Rules {
    /// Whether nothing could come of counting.
    pub fn is_off(&self) -> bool {
        [self.successes, self.tcp_failures, self.timeouts, self.http_failures] == [0; 4]
    }
}

/// The health checks of an upstream.
#[derive(Debug)]
pub(crate) struct HealthPlan {
    pub passive: Option<Rules>,
    pub active: Option<ActivePlan>,
    /// Least share of the weight that must be fit, percent.
    pub threshold: f64,
}

/// Checks that the prober makes.
#[derive(Debug)]
pub(crate) struct ActivePlan {
    pub rules: Rules,
    pub probe: Probe,
    pub timeout: Duration,
    pub concurrency: usize,
    /// The header of the PROXY protocol that a check begins with, as one of the gateway's own.
    pub proxy: Option<ProxyVersion>,
    /// Of a fit address; none for no checks.
    pub healthy_interval: Option<Duration>,
    pub unhealthy_interval: Option<Duration>,
}

/// What a check sends.
#[derive(Debug)]
pub(crate) enum Probe {
    Tcp,
    /// The lines after `GET path`, without Host.
    Http {
        path: String,
        lines: String,
        tls: Option<ProbeTls>,
    },
    Grpc {
        tls: Option<ProbeTls>,
    },
}

/// How a check speaks TLS.
#[derive(Debug)]
pub(crate) struct ProbeTls {
    pub config: Arc<ClientConfig>,
    /// By default the target's name.
    pub server_name: Option<ServerName<'static>>,
}

/// Reasons why an address is out.
const UNHEALTHY: u8 = 1;
pub(super) const EJECTED: u8 = 2;

/// What was counted of an address.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The reasons why it is out; 0 for one that is in.
    out: AtomicU8,
    /// When that last changed, microseconds since 1970.
    pub since_us: AtomicI64,
    pub successes: AtomicU32,
    pub tcp_failures: AtomicU32,
    pub timeouts: AtomicU32,
    pub http_failures: AtomicU32,
    /// Active checks: good, bad, neither.
    pub checks: [AtomicU64; 3],
    /// When the last one ended, microseconds since 1970; 0 for never.
    pub last_check_us: AtomicI64,
}

impl Peer {
    /// Whether it may be given requests.
    pub fn is_fit(&self) -> bool {
        self.health.out.load(Relaxed) == 0
    }

    /// Whether health checks have nothing against it.
    pub fn is_healthy(&self) -> bool {
        self.health.out.load(Relaxed) & UNHEALTHY == 0
    }

    /// Whether outlier detection has taken it out.
    pub fn is_ejected(&self) -> bool {
        self.health.out.load(Relaxed) & EJECTED != 0
    }

    /// Counts what a try showed.
    pub fn shown(&self, rules: &Rules, shown: Shown) {
        let health = &self.health;
        let (counter, bound) = match shown {
            Shown::Status(status) if rules.good.contains(&status) => return self.success(rules),
            Shown::Status(status) if rules.bad.contains(&status) => {
                (&health.http_failures, rules.http_failures)
            }
            Shown::Status(_) => return,
            Shown::Serving(true) => return self.success(rules),
            Shown::Serving(false) => (&health.http_failures, rules.http_failures),
            Shown::Broken => (&health.tcp_failures, rules.tcp_failures),
            Shown::TimedOut => (&health.timeouts, rules.timeouts),
        };
        if bound == 0 {
            return;
        }
        health.successes.store(0, Relaxed);
        // Not beyond its bound: it would wrap in the course of years.
        if counter.load(Relaxed) < bound && counter.fetch_add(1, Relaxed) + 1 >= bound {
            self.turn_unhealthy(true);
        }
    }

    /// Counts an active check, and what it showed.
    pub fn checked(&self, rules: &Rules, shown: Shown) {
        let result = match shown {
            Shown::Serving(true) => 0,
            Shown::Status(status) if rules.good.contains(&status) => 0,
            Shown::Status(status) if !rules.bad.contains(&status) => 2,
            _ => 1,
        };
        self.health.checks[result].fetch_add(1, Relaxed);
        if result == 1 {
            self.met_failure(By::Check, shown.into());
        }
        self.health.last_check_us.store(crate::clock::wall_us(), Relaxed);
        self.shown(rules, shown);
    }

    fn success(&self, rules: &Rules) {
        let health = &self.health;
        let failures = [&health.tcp_failures, &health.timeouts, &health.http_failures];
        if rules.successes == 0
            || (self.is_healthy() && failures.iter().all(|count| count.load(Relaxed) == 0))
        {
            return;
        }
        if self.is_healthy() || health.successes.fetch_add(1, Relaxed) + 1 >= rules.successes {
            failures.iter().for_each(|count| count.store(0, Relaxed));
            health.successes.store(0, Relaxed);
            self.turn_unhealthy(false);
        }
    }

    fn turn_unhealthy(&self, out: bool) {
        match (self.turn(UNHEALTHY, out), out) {
            (true, true) => tracing::warn!(addr = %self.addr, "the target is unhealthy"),
            (true, false) => tracing::info!(addr = %self.addr, "the target is healthy again"),
            (false, _) => {}
        }
    }

    /// Adds a reason why it is out, or takes one away; whether that changed anything.
    pub(super) fn turn(&self, reason: u8, out: bool) -> bool {
        let before = match out {
            true => self.health.out.fetch_or(reason, Relaxed),
            false => self.health.out.fetch_and(!reason, Relaxed),
        };
        let changed = (before & reason != 0) != out;
        if changed {
            self.health.since_us.store(crate::clock::wall_us(), Relaxed);
            if self.is_fit() {
                self.fit_since_ms.store(self.now_ms(), Relaxed);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new(0, "127.0.0.1:1".parse().unwrap())
    }

    fn rules(successes: u32) -> Rules {
        let (good, bad) = (vec![200], vec![500]);
        Rules { successes, good, tcp_failures: 2, timeouts: 3, http_failures: 3, bad }
    }

    #[test]
    fn each_kind_of_failure_has_its_own_bound() {
        for (shown, bound) in
            [(Shown::Broken, 2), (Shown::TimedOut, 3), (Shown::Status(500), 3), (Shown::Serving(false), 3)]
        {
            let peer = peer();
            for count in 1..=bound + 2 {
                // What is neither good nor bad counts for nothing.
                peer.shown(&rules(0), Shown::Status(404));
                peer.shown(&rules(0), Shown::Status(200));
                peer.shown(&rules(0), shown);
                assert_eq!(peer.is_fit(), count < bound, "{shown:?} {count}");
            }
        }
        let peer = peer();
        for _ in 0..100 {
            peer.shown(&Rules { bad: vec![500], ..Rules::default() }, Shown::Status(500));
        }
        assert!(peer.is_fit(), "a bound of 0 is never reached");
    }

    #[test]
    fn successes_forget_failures_and_heal() {
        let peer = peer();
        for _ in 0..10 {
            peer.shown(&rules(2), Shown::Broken);
            peer.shown(&rules(2), Shown::Status(200));
        }
        assert!(peer.is_fit());
        peer.shown(&rules(2), Shown::Broken);
        peer.shown(&rules(2), Shown::Broken);
        assert!(!peer.is_fit());
        for shown in [Shown::Status(200), Shown::Broken, Shown::Status(200)] {
            peer.shown(&rules(2), shown);
            assert!(!peer.is_fit(), "only successes in a row heal");
        }
        peer.shown(&rules(2), Shown::Status(200));
        assert!(peer.is_fit());
        peer.shown(&rules(2), Shown::Broken);
        assert!(peer.is_fit(), "it begins anew");
    }
}
