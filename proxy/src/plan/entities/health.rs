//! The health checks of an upstream, by Kong's rules.

use super::Checker;
use crate::config::{ActiveChecks, CheckKind, Healthchecks};
use crate::upstream::{ActivePlan, HealthPlan, Probe, ProbeTls, Rules};
use http::{HeaderName, HeaderValue};
use rustls_pki_types::ServerName;
use std::fmt::Write;
use std::time::Duration;

/// Longest interval and time-out, seconds: Kong's own bound.
const SECONDS_MAX: f64 = 65_535.0;

impl Checker<'_> {
    /// What is to be done for the health of an upstream; none when there is nothing.
    pub(super) fn health(&mut self, checks: Option<&Healthchecks>, path: &str) -> Option<Box<HealthPlan>> {
        let checks = checks?;
        let path = format!("{path}.healthchecks");
        if !(0.0..=100.0).contains(&checks.threshold) {
            self.problem(format!("{path}.threshold"), "must be from 0 to 100");
        }
        let (healthy, unhealthy) = (&checks.passive.healthy, &checks.passive.unhealthy);
        let passive = Rules {
            successes: healthy.successes.into(),
            good: healthy.http_statuses.clone(),
            tcp_failures: unhealthy.tcp_failures.into(),
            timeouts: unhealthy.timeouts.into(),
            http_failures: unhealthy.http_failures.into(),
            bad: unhealthy.http_statuses.clone(),
        };
        self.statuses(&passive, &format!("{path}.passive"));
        let passive = Some(passive).filter(|rules| !rules.is_off());
        let active = self.active(&checks.active, &format!("{path}.active"));
        let any = passive.is_some() || active.is_some() || checks.threshold > 0.0;
        any.then(|| Box::new(HealthPlan { passive, active, threshold: checks.threshold }))
    }

    fn active(&mut self, checks: &ActiveChecks, path: &str) -> Option<ActivePlan> {
        let (healthy, unhealthy) = (&checks.healthy, &checks.unhealthy);
        let rules = Rules {
            successes: healthy.successes.into(),
            good: healthy.http_statuses.clone(),
            tcp_failures: unhealthy.tcp_failures.into(),
            timeouts: unhealthy.timeouts.into(),
            http_failures: unhealthy.http_failures.into(),
            bad: unhealthy.http_statuses.clone(),
        };
        self.statuses(&rules, path);
        let timeout = self.seconds(checks.timeout, &format!("{path}.timeout"));
        if timeout.is_none() {
            self.problem(format!("{path}.timeout"), "must be above 0: no check would end in time");
        }
        let healthy_interval = self.seconds(healthy.interval, &format!("{path}.healthy.interval"));
        let unhealthy_interval = self.seconds(unhealthy.interval, &format!("{path}.unhealthy.interval"));
        if !(1..=2_147_483_648).contains(&checks.concurrency) {
            self.problem(format!("{path}.concurrency"), "must be from 1 to 2147483648");
        }
        let probe = self.probe(checks, path);
        if healthy_interval.is_none() && unhealthy_interval.is_none() {
            return None;
        }
        let concurrency = usize::try_from(checks.concurrency).unwrap_or(usize::MAX);
        let timeout = timeout.unwrap_or_default();
        // More would not fit into the semaphore, nor into a machine.
        let concurrency = concurrency.min(1 << 16);
        // Services say so, which are read later.
        let proxy = None;
        Some(ActivePlan { rules, probe, timeout, concurrency, proxy, healthy_interval, unhealthy_interval })
    }

    fn probe(&mut self, checks: &ActiveChecks, path: &str) -> Probe {
        let asks = &checks.http_path;
        if !asks.starts_with('/') || asks.bytes().any(|byte| !byte.is_ascii_graphic()) {
            self.problem_hint(format!("{path}.http_path"), format!("`{asks}` is not a path"), "begin with /");
        }
        let mut lines = String::new();
        for (name, values) in &checks.headers {
            let own = ["host", "connection", "content-length", "transfer-encoding"];
            let lower = name.to_ascii_lowercase();
            if HeaderName::try_from(name.as_str()).is_err() || own.contains(&lower.as_str()) {
                self.problem(
                    format!("{path}.headers.{name}"),
                    "is not the name of a header that can be sent",
                );
            }
            for value in values {
                if HeaderValue::from_str(value).is_err() {
                    self.problem(format!("{path}.headers.{name}"), "holds what cannot be a header value");
                }
                // Writing into a string cannot fail.
                let _written = write!(lines, "{lower}: {value}\r\n");
            }
        }
        let tls = self.probe_tls(checks, path);
        match checks.kind {
            CheckKind::Tcp => Probe::Tcp,
            CheckKind::Grpc => Probe::Grpc { tls: None },
            CheckKind::Grpcs => Probe::Grpc { tls },
            CheckKind::Http => Probe::Http { path: asks.clone(), lines, tls: None },
            CheckKind::Https => Probe::Http { path: asks.clone(), lines, tls },
        }
    }

    fn probe_tls(&mut self, checks: &ActiveChecks, path: &str) -> Option<ProbeTls> {
        let name = checks.https_sni.clone().map(ServerName::try_from).transpose();
        if name.is_err() {
            self.problem(format!("{path}.https_sni"), "is not a host name");
        }
        let http2 = match checks.kind {
            CheckKind::Https => false,
            CheckKind::Grpcs => true,
            CheckKind::Http | CheckKind::Tcp | CheckKind::Grpc => return None,
        };
        let config = self.links.probe(checks.https_verify_certificate, http2, &self.material, self.problems);
        Some(ProbeTls { config, server_name: name.ok().flatten() })
    }

    /// A duration; none for 0.
    pub(super) fn seconds(&mut self, seconds: f64, path: &str) -> Option<Duration> {
        if !(0.0..=SECONDS_MAX).contains(&seconds) {
            self.problem(path, "must be from 0 to 65535 seconds");
            return None;
        }
        Some(Duration::from_secs_f64(seconds)).filter(|duration| !duration.is_zero())
    }

    fn statuses(&mut self, rules: &Rules, path: &str) {
        for (part, statuses) in [("healthy", &rules.good), ("unhealthy", &rules.bad)] {
            for (at, status) in statuses.iter().enumerate() {
                if !(100..=999).contains(status) {
                    self.problem(format!("{path}.{part}.http_statuses[{at}]"), "must be from 100 to 999");
                }
            }
        }
    }
}
