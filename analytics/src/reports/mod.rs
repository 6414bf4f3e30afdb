//! Table functions of the house: questions that are asked often, with their arguments.
//!
//! Each is SQL with names in the place of its arguments, like a table macro of DuckDB. A call is replaced by the query that
//! it stands for while the statement is still a syntax tree: what the guard, the planner and the optimizer see is plain SQL,
//! and an argument is an expression like any other (`now() - INTERVAL '1 day'`, `$1`, a column to group by).

mod billing;

mod compare;

mod expand;

mod graph;

mod series;

mod slo;

mod trace;

pub use billing::PlanConfig;
pub(crate) use billing::{plans, problems};
pub use expand::BadCall;
pub(crate) use expand::expand;

/// A table function.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    /// What is called how, in order, and what it is when it is left out.
    pub(crate) parameters: &'static [(&'static str, Option<&'static str>)],
    /// The query, with `$name` where an argument stands.
    pub(crate) sql: fn() -> String,
}

/// All of them.
pub(crate) const ALL: [&Report; 11] = [
    &series::TRAFFIC_SERIES,
    &series::ANOMALIES,
    &compare::PERIODS,
    &compare::VERSIONS,
    &compare::CANARY,
    &slo::SLO_REPORT,
    &billing::BILLING,
    &trace::TRACE,
    &graph::SERVICE_GRAPH,
    &graph::GRAPH_NODES,
    &graph::GRAPH_EDGES,
];

/// Three percentiles of a column `latency`, in milliseconds.
fn percentiles(of: &str) -> String {
    let each =
        ["50", "95", "99"].map(|p| format!("sketch_percentile({of}latency, 0.{p}) / 1000.0 AS p{p}_ms"));
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_sql_that_uses_its_arguments() {
        for report in ALL {
            let sql = (report.sql)();
            for (name, default) in report.parameters {
                assert!(sql.contains(&format!("${name}")), "{}: {name} is not used", report.name);
                assert!(default.is_none_or(|default| !default.contains('$')));
            }
            let required = report.parameters.iter().filter(|(_, default)| default.is_none());
            let call: Vec<&str> = required.map(|_| "'2026-01-01'").collect();
            let text = format!("SELECT * FROM {}({})", report.name, call.join(", "));
            let passed = crate::guard::check(&text);
            assert!(passed.is_ok(), "{text}: {}", passed.unwrap_err());
            assert!(!passed.unwrap().to_string().contains('$'), "{text}");
        }
    }
}
