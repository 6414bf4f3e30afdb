//! The outlier detection of an upstream.

use super::Checker;
use crate::config::OutlierDetection;
use crate::upstream::OutlierPlan;
use std::time::Duration;

impl Checker<'_> {
    pub(super) fn outlier(
        &mut self,
        outlier: Option<&OutlierDetection>,
        path: &str,
    ) -> Option<Box<OutlierPlan>> {
        let outlier = outlier?;
        let path = format!("{path}.outlier_detection");
        if outlier.consecutive_5xx == 0 {
            self.problem_hint(
                format!("{path}.consecutive_5xx"),
                "must be at least 1",
                "leave outlier_detection out to switch it off",
            );
        }
        if outlier.max_ejection_percent > 100 {
            self.problem(format!("{path}.max_ejection_percent"), "must be from 0 to 100");
        }
        let mut span = |name: &str, seconds: f64| {
            let path = format!("{path}.{name}");
            if seconds == 0.0 {
                self.problem(&path, "must be above 0");
            }
            self.seconds(seconds, &path).unwrap_or(Duration::from_secs(1))
        };
        let interval = span("interval", outlier.interval);
        let base = span("base_ejection_time", outlier.base_ejection_time);
        let longest = span("max_ejection_time", outlier.max_ejection_time);
        if longest < base {
            self.problem_hint(
                format!("{path}.max_ejection_time"),
                "is less than base_ejection_time",
                "make it at least as long, or leave it out for 300 seconds",
            );
        }
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Some(Box::new(OutlierPlan {
            consecutive_5xx: outlier.consecutive_5xx,
            interval,
            base_ms: ms(base),
            longest_ms: ms(longest),
            percent_max: outlier.max_ejection_percent,
        }))
    }
}
