//! Whether a try that failed is followed by another: Envoy's conditions, and a budget of what is tried again at once.

use crate::config::RetryOn;
use crate::upstream::{CircuitPlan, Held, Resource, Usage};
use event::AttemptError;
use std::sync::Arc;

/// Statuses that `gateway-error` means.
const GATEWAY_ERRORS: [u16; 3] = [502, 503, 504];

/// When a service tries again.
#[derive(Debug, Clone)]
pub(crate) struct RetryPlan {
    pub connect: bool,
    pub reset: bool,
    pub refused_stream: bool,
    /// Statuses of 500 and above.
    pub server_errors: bool,
    pub statuses: Vec<u16>,
    pub non_idempotent: bool,
    /// 0 for none.
    pub per_try_timeout_ms: u64,
    /// 0 for no bound.
    pub budget_percent: u32,
    pub budget_min: u32,
}

impl RetryPlan {
    pub fn new(on: &[RetryOn], codes: &[u16]) -> Self {
        let has = |kind| on.contains(&kind);
        let server_errors = has(RetryOn::FiveXx);
        let mut statuses = Vec::new();
        if has(RetryOn::GatewayError) {
            statuses.extend(GATEWAY_ERRORS);
        }
        if has(RetryOn::RetriableStatusCodes) {
            statuses.extend(codes);
        }
        Self {
            connect: server_errors || has(RetryOn::ConnectFailure),
            reset: server_errors || has(RetryOn::Reset),
            refused_stream: server_errors || has(RetryOn::RefusedStream),
            server_errors,
            statuses,
            non_idempotent: false,
            per_try_timeout_ms: 0,
            budget_percent: 0,
            budget_min: 0,
        }
    }

    /// Whether this answer is tried again.
    pub fn takes_status(&self, status: u16) -> bool {
        (self.server_errors && status >= 500) || self.statuses.contains(&status)
    }

    /// Whether this failure is tried again.
    pub fn takes_error(&self, error: AttemptError) -> bool {
        match error {
            AttemptError::ConnectFailed | AttemptError::ConnectTimeout | AttemptError::TlsFailed => {
                self.connect
            }
            AttemptError::Reset | AttemptError::ReadTimeout | AttemptError::WriteTimeout => self.reset,
            // What is not HTTP now will not be so the next time; the others are not the target's.
            _ => false,
        }
    }
}

/// A place among the requests that are tried again, unless budget or circuit breaker have none left.
pub(super) fn place(plan: &RetryPlan, circuit: Option<&CircuitPlan>, usage: &Arc<Usage>) -> Option<Held> {
    let budget = match plan.budget_percent {
        0 => u32::MAX,
        percent => {
            let active = u64::from(usage.of(Resource::Requests));
            let share = u32::try_from(active * u64::from(percent) / 100).unwrap_or(u32::MAX);
            share.max(plan.budget_min)
        }
    };
    let most = circuit.map_or(u32::MAX, |circuit| circuit.most(Resource::Retries));
    let held = Held::take(usage, Resource::Retries, budget.min(most));
    if held.is_none() && most <= budget {
        usage.overflow(Resource::Retries);
    }
    held
}
