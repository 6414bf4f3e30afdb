//! Faults that are injected on purpose.

use super::Checker;
use crate::config::Route;
use crate::route::{FaultPlan, Share};
use std::time::Duration;

/// Longest delay, milliseconds: ten minutes.
const DELAY_MS_MAX: u64 = 600_000;

impl Checker<'_> {
    pub(super) fn fault(&mut self, route: &Route, path: &str) -> Option<FaultPlan> {
        let fault = route.fault.as_ref()?;
        let path = format!("{path}.fault");
        let mut plan = FaultPlan::default();
        if fault.delay.is_none() && fault.abort.is_none() {
            self.problem_hint(path.clone(), "does nothing", "give it a delay or an abort");
        }
        if let Some(delay) = &fault.delay {
            if !(1..=DELAY_MS_MAX).contains(&delay.fixed_delay_ms) {
                self.problem(
                    format!("{path}.delay.fixed_delay_ms"),
                    format!("must be from 1 to {DELAY_MS_MAX} milliseconds"),
                );
            }
            let share = self.share(delay.percentage, &format!("{path}.delay.percentage"));
            plan.delay = share.map(|share| (share, Duration::from_millis(delay.fixed_delay_ms)));
        }
        if let Some(abort) = &fault.abort {
            if !(400..=599).contains(&abort.http_status) {
                self.problem_hint(
                    format!("{path}.abort.http_status"),
                    "must be from 400 to 599",
                    "to send clients elsewhere use redirect",
                );
            }
            let share = self.share(abort.percentage, &format!("{path}.abort.percentage"));
            plan.abort = share.map(|share| (share, abort.http_status));
        }
        Some(plan)
    }

    /// A percentage that must be given.
    pub(super) fn share(&mut self, percentage: Option<f64>, path: &str) -> Option<Share> {
        let share = percentage.and_then(Share::of);
        if share.is_none() {
            let message = if percentage.is_some() { "must be from 0 to 100" } else { "is missing" };
            self.problem_hint(path, message, "like 0.5 for one request in two hundred");
        }
        share
    }
}
