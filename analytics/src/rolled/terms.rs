//! What a group has of each thing that can be asked, and how parts are added up.

use std::sync::Arc;

use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprFunctionExt, cast, ident, lit, when};
use event::Outcome;

use crate::functions;

/// What groups keep of their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Requests,
    Errors,
    RequestBytes,
    ResponseBytes,
    Durations,
    GatewayTimes,
    Clients,
}

/// What is asked of a sum.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// The sum, or the sketch.
    Whole(Sum),
    /// A percentile of a sketch.
    Percentile(Sum, Expr),
}

/// The functions that terms are made of.
#[derive(Debug)]
pub(super) struct Terms {
    latency_sketch: Arc<AggregateUDF>,
    latency_merge: Arc<AggregateUDF>,
    distinct_sketch: Arc<AggregateUDF>,
    distinct_merge: Arc<AggregateUDF>,
    latency_percentile: Arc<AggregateUDF>,
}

impl Terms {
    pub(super) fn new() -> Self {
        let aggregates = functions::aggregates();
        let aggregate = |name: &str| {
            let found = aggregates.iter().find(|function| function.name() == name);
            Arc::new(found.expect("a function of the house").clone())
        };
        Self {
            latency_sketch: aggregate("latency_sketch"),
            latency_merge: aggregate("latency_merge"),
            distinct_sketch: aggregate("distinct_sketch"),
            distinct_merge: aggregate("distinct_merge"),
            latency_percentile: aggregate("latency_percentile"),
        }
    }

    /// A sum as a group of a roll-up has it.
    pub(super) fn of_group(&self, what: Sum) -> Expr {
        use arrow::datatypes::DataType::Int64;
        match what {
            Sum::Requests => cast(ident("requests"), Int64),
            Sum::Errors => cast(ident("errors"), Int64),
            Sum::RequestBytes => ident("request_bytes"),
            Sum::ResponseBytes => ident("response_bytes"),
            Sum::Durations => ident("duration_sketch"),
            Sum::GatewayTimes => ident("gateway_sketch"),
            Sum::Clients => ident("clients_sketch"),
        }
    }

    /// The same of rows.
    pub(super) fn of_rows(&self, what: Sum) -> Result<Expr> {
        Ok(match what {
            Sum::Requests => count(lit(1_i64)),
            Sum::Errors => count(lit(1_i64)).filter(failed()).build()?,
            Sum::RequestBytes => sum(ident("request_bytes")),
            Sum::ResponseBytes => sum(ident("response_bytes")),
            Sum::Durations => self.latency_sketch.call(vec![ident("duration_us")]),
            Sum::GatewayTimes => self.latency_sketch.call(vec![ident("gateway_us")]),
            Sum::Clients => self.distinct_sketch.call(vec![ident("client_ip")]),
        })
    }

    /// What is asked of several such parts, each a column, that are added up.
    pub(super) fn added(&self, wanted: &Wanted, parts: &str) -> Expr {
        let parts = ident(parts);
        match wanted {
            Wanted::Percentile(_, p) => self.latency_percentile.call(vec![parts, p.clone()]),
            Wanted::Whole(Sum::Durations | Sum::GatewayTimes) => self.latency_merge.call(vec![parts]),
            Wanted::Whole(Sum::Clients) => self.distinct_merge.call(vec![parts]),
            Wanted::Whole(_) => sum(parts),
        }
    }

    /// The answer that this is.
    pub(super) fn read(&self, wanted: &Wanted, added: Expr) -> Result<Expr> {
        match wanted {
            // Nothing at all is counted as 0, and adds up to null. The rule that makes this of `coalesce` has been.
            Wanted::Whole(Sum::Requests | Sum::Errors) => {
                when(added.clone().is_not_null(), added).otherwise(lit(0_i64))
            }
            _ => Ok(added),
        }
    }
}

impl Wanted {
    /// What it is asked of.
    pub(super) fn sum(&self) -> Sum {
        match self {
            Self::Whole(sum) | Self::Percentile(sum, _) => *sum,
        }
    }
}

/// The outcomes in which the service failed.
pub(super) fn failures() -> impl Iterator<Item = &'static str> {
    Outcome::ALL.iter().filter(|outcome| outcome.is_failure()).map(|outcome| outcome.as_str())
}

fn failed() -> Expr {
    let text = |word: &str| lit(ScalarValue::Utf8View(Some(word.to_owned())));
    let words = failures().map(text).collect();
    ident("status").gt_eq(lit(500_u16)).or(ident("outcome").in_list(words, false))
}
