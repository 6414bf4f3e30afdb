//! Circuit breaker and slow start of an upstream.

use super::Checker;
use crate::config::{Algorithm, CircuitBreaker, SlowStart};
use crate::upstream::{CircuitPlan, SlowStartPlan};

/// Beyond it a number is a mistake.
const MOST: u32 = 1 << 30;

impl Checker<'_> {
    pub(super) fn circuit(
        &mut self,
        circuit: Option<&CircuitBreaker>,
        path: &str,
    ) -> Option<Box<CircuitPlan>> {
        let circuit = circuit?;
        // In the order of resources.
        let fields = [
            ("max_connections", circuit.max_connections, 1),
            ("max_pending_requests", circuit.max_pending_requests, 1),
            ("max_requests", circuit.max_requests, 1),
            ("max_retries", circuit.max_retries, 0),
        ];
        for (name, value, least) in fields {
            if !(least..=MOST).contains(&value) {
                self.problem_hint(
                    format!("{path}.circuit_breaker.{name}"),
                    format!("must be from {least} to {MOST}"),
                    "leave circuit_breaker out for no bounds",
                );
            }
        }
        Some(Box::new(CircuitPlan { most: fields.map(|(_, value, _)| value) }))
    }

    pub(super) fn slow_start(
        &mut self,
        slow: Option<&SlowStart>,
        algorithm: Algorithm,
        path: &str,
    ) -> Option<Box<SlowStartPlan>> {
        let slow = slow?;
        let path = format!("{path}.slow_start");
        if !matches!(algorithm, Algorithm::RoundRobin | Algorithm::LeastConnections) {
            self.problem_hint(
                &path,
                "is only read by round-robin and least-connections",
                "leave it out, or change the algorithm",
            );
        }
        let window = self.seconds(slow.window, &format!("{path}.window"));
        if slow.window == 0.0 {
            self.problem_hint(format!("{path}.window"), "must be above 0", "leave slow_start out");
        }
        // Written so that it refuses what is not a number.
        if !(slow.aggression >= 0.01 && slow.aggression <= 100.0) {
            self.problem(format!("{path}.aggression"), "must be from 0.01 to 100");
        }
        if !(1..=100).contains(&slow.min_weight_percent) {
            self.problem(format!("{path}.min_weight_percent"), "must be from 1 to 100");
        }
        let window_ms = u64::try_from(window.unwrap_or_default().as_millis()).unwrap_or(u64::MAX).max(1);
        Some(Box::new(SlowStartPlan {
            window_ms,
            exponent: 1.0 / slow.aggression,
            least_percent: slow.min_weight_percent,
        }))
    }
}
