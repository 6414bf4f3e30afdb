//! `sketch_percentile(sketch, p)`: reads a quantile out of what `latency_sketch` gathered.

use std::sync::Arc;

use arrow::array::{Array, Float64Builder};
use arrow::datatypes::DataType;
use datafusion::common::cast::{as_binary_array, as_float64_array};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use event::sketch::Sketch;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SketchPercentile {
    signature: Signature,
}

impl SketchPercentile {
    pub(super) fn new() -> Self {
        let types = vec![DataType::Binary, DataType::Float64];
        Self { signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SketchPercentile {
    fn name(&self) -> &str {
        "sketch_percentile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (sketches, ps) = (as_binary_array(&arrays[0])?, as_float64_array(&arrays[1])?);
        let mut answers = Float64Builder::with_capacity(sketches.len());
        for row in 0..sketches.len() {
            if sketches.is_null(row) || ps.is_null(row) {
                answers.append_null();
                continue;
            }
            let sketch = Sketch::from_bytes(sketches.value(row))
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            answers.append_option(sketch.quantile(ps.value(row)));
        }
        Ok(ColumnarValue::Array(Arc::new(answers.finish())))
    }
}
