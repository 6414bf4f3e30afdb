//! SQL functions of the house: percentiles of latencies on a mergeable sketch.
//!
//! - `latency_percentile(x, p)`: aggregate; the p-quantile (0..=1) of x with at most 1 % relative error.
//! - `latency_sketch(x)`: aggregate; the sketch itself, as binary, so that several percentiles share one pass.
//! - `sketch_percentile(sketch, p)`: scalar; a quantile of such a sketch.

mod aggregate;

mod scalar;

mod share;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) use share::ShareSketches;

/// The aggregates to register in a session.
#[must_use]
pub fn aggregates() -> Vec<AggregateUDF> {
    vec![
        AggregateUDF::from(aggregate::LatencyAggregate::percentile()),
        AggregateUDF::from(aggregate::LatencyAggregate::sketch()),
    ]
}

/// The scalar functions to register in a session.
#[must_use]
pub fn scalars() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(scalar::SketchPercentile::new())]
}
