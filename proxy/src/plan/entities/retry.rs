//! When a service tries again.

use super::Checker;
use crate::config::{Retry, RetryOn};
use crate::forward::RetryPlan;

/// Longest time of a try, milliseconds: that of a service's own time-outs.
const TIMEOUT_MS_MAX: u64 = 2_147_483_646;

impl Checker<'_> {
    pub(super) fn retry(&mut self, retry: &Retry, path: &str) -> RetryPlan {
        let path = format!("{path}.retry");
        let codes = &retry.retriable_status_codes;
        let by_code = retry.retry_on.contains(&RetryOn::RetriableStatusCodes);
        if by_code && codes.is_empty() {
            self.problem_hint(
                format!("{path}.retriable_status_codes"),
                "is missing: retry_on asks for it",
                "like [409, 425]",
            );
        }
        if !by_code && !codes.is_empty() {
            self.problem_hint(
                format!("{path}.retriable_status_codes"),
                "is not read",
                "add retriable-status-codes to retry_on",
            );
        }
        for (at, status) in codes.iter().enumerate() {
            if !(200..=599).contains(status) {
                self.problem(format!("{path}.retriable_status_codes[{at}]"), "must be from 200 to 599");
            }
        }
        if retry.per_try_timeout_ms > TIMEOUT_MS_MAX {
            self.problem(
                format!("{path}.per_try_timeout_ms"),
                format!("must be from 0 to {TIMEOUT_MS_MAX} milliseconds"),
            );
        }
        if retry.budget_percent > 100 {
            self.problem(format!("{path}.budget_percent"), "must be from 0 to 100");
        }
        RetryPlan {
            non_idempotent: retry.non_idempotent,
            per_try_timeout_ms: retry.per_try_timeout_ms,
            budget_percent: retry.budget_percent,
            budget_min: retry.budget_min,
            ..RetryPlan::new(&retry.retry_on, codes)
        }
    }
}
