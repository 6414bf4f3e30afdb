//! Checks the section `gateway.upstream_states`.

use crate::config::UpstreamStates;
use event::Problem;

pub(super) fn check(states: &UpstreamStates, problems: &mut Vec<Problem>) {
    let rows_max = u64::try_from(states.rows_max).unwrap_or(u64::MAX);
    for (name, value, least, most) in
        [("interval_ms", states.interval_ms, 10, 600_000), ("rows_max", rows_max, 1, 1_000_000)]
    {
        if !(least..=most).contains(&value) {
            problems.push(Problem::new(
                format!("gateway.upstream_states.{name}"),
                format!("must be from {least} to {most}"),
            ));
        }
    }
}
