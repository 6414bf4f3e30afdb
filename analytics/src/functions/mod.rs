//! SQL functions of the house: percentiles of latencies, and numbers of different values, on sketches that merge.
//!
//! - `latency_percentile(x, p)`: aggregate; the p-quantile (0..=1) of x with at most 1 % relative error; of several sketches
//!   too, where x is one.
//! - `latency_sketch(x)`: aggregate; the sketch itself, as binary, so that several percentiles share one pass.
//! - `latency_merge(sketch)`: aggregate; the sketch of all values of several sketches.
//! - `sketch_percentile(sketch, p)`: scalar; a quantile of such a sketch.
//! - `distinct_sketch(x)`: aggregate; a sketch of the different texts x, as binary.
//! - `distinct_merge(sketch)`: aggregate; that of the texts of several such sketches.
//! - `time_bucket(width, time[, origin])`: scalar; the start of the interval of that width that a time is in.
//! - `distinct_count(sketch)`: scalar; how many there were, with a standard error of 1.6 %.

mod aggregate;

mod held;

mod bucket;

mod distinct;

mod scalar;

mod share;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) use share::{ShareSketches, is_share};

/// Functions that make much out of little, outside of the memory that is counted.
const LEFT_OUT: [&str; 7] =
    ["repeat", "lpad", "rpad", "array_repeat", "array_resize", "range", "generate_series"];

/// Makes the functions of a session those of the house: the one list for all processes that plan or compute.
///
/// # Errors
/// When the engine takes none.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for aggregate in aggregates() {
        state.register_udaf(Arc::new(aggregate))?;
    }
    for scalar in scalars() {
        state.register_udf(Arc::new(scalar))?;
    }
    for name in LEFT_OUT {
        state.deregister_udf(name)?;
    }
    Ok(())
}

/// The aggregates to register in a session.
#[must_use]
pub fn aggregates() -> Vec<AggregateUDF> {
    vec![
        AggregateUDF::from(aggregate::LatencyAggregate::percentile()),
        AggregateUDF::from(aggregate::LatencyAggregate::sketch()),
        AggregateUDF::from(aggregate::LatencyAggregate::merge()),
        AggregateUDF::from(distinct::DistinctAggregate::sketch()),
        AggregateUDF::from(distinct::DistinctAggregate::merge()),
    ]
}

/// The scalar functions to register in a session.
#[must_use]
pub fn scalars() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::from(scalar::SketchPercentile::new()),
        ScalarUDF::from(distinct::DistinctCount::new()),
        ScalarUDF::from(bucket::TimeBucket::new()),
    ]
}
