//! The aggregates over [`Sketch`]: one sketch per group, fed from a Float64 column, merged by bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, Float64Array, Float64Builder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::cast::{as_binary_array, as_float64_array};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;

use super::sketch::Sketch;

/// `latency_percentile(x, p)` or `latency_sketch(x)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LatencyAggregate {
    percentile: bool,
    signature: Signature,
}

impl LatencyAggregate {
    pub(super) fn percentile() -> Self {
        Self { percentile: true, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn sketch() -> Self {
        Self { percentile: false, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn sketches(&self, args: &AccumulatorArgs) -> Result<Sketches> {
        if args.is_distinct {
            return plan_err!("{} takes no DISTINCT", self.name());
        }
        let p = if self.percentile { Some(quantile_of(args)?) } else { None };
        Ok(Sketches { p, groups: Vec::new(), heap_bytes: 0 })
    }
}

/// The second argument, which must be a constant from 0 to 1.
fn quantile_of(args: &AccumulatorArgs) -> Result<f64> {
    let literal = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>());
    match literal.map(|literal| literal.value().cast_to(&DataType::Float64)) {
        Some(Ok(ScalarValue::Float64(Some(p)))) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => plan_err!("the second argument of latency_percentile must be a constant from 0 to 1"),
    }
}

impl AggregateUDFImpl for LatencyAggregate {
    fn name(&self) -> &str {
        if self.percentile { "latency_percentile" } else { "latency_sketch" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let wanted = if self.percentile { 2 } else { 1 };
        if types.len() != wanted || !types.iter().all(|kind| kind.is_numeric() || kind.is_null()) {
            return plan_err!("{} takes {wanted} number(s)", self.name());
        }
        Ok(vec![DataType::Float64; wanted])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(if self.percentile { DataType::Float64 } else { DataType::Binary })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(self.sketches(&args)?))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.sketches(&args)?))
    }
}

/// One sketch per group; a lone accumulator is group 0.
#[derive(Debug)]
struct Sketches {
    /// The quantile to answer with; `None` answers with the sketch.
    p: Option<f64>,
    groups: Vec<Sketch>,
    heap_bytes: usize,
}

impl Sketches {
    fn with_group(&mut self, group: usize, change: impl FnOnce(&mut Sketch)) {
        let sketch = &mut self.groups[group];
        let before = sketch.heap_bytes();
        change(sketch);
        self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
    }

    fn reach(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Sketch::default);
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Sketch> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.heap_bytes = self.groups.iter().map(Sketch::heap_bytes).sum();
        taken
    }

    fn merge_bytes(&mut self, states: &BinaryArray, group_of: impl Fn(usize) -> usize) -> Result<()> {
        for row in (0..states.len()).filter(|&row| states.is_valid(row)) {
            let other = Sketch::from_bytes(states.value(row))
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            self.with_group(group_of(row), |sketch| sketch.merge(&other));
        }
        Ok(())
    }
}

fn binary(sketches: &[Sketch]) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    for sketch in sketches {
        builder.append_value(sketch.to_bytes());
    }
    Arc::new(builder.finish())
}

impl GroupsAccumulator for Sketches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.reach(total_num_groups);
        let column = as_float64_array(&values[0])?;
        for (row, &group) in group_indices.iter().enumerate() {
            let wanted = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if wanted && column.is_valid(row) {
                self.with_group(group, |sketch| sketch.add(column.value(row)));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sketches = self.take(emit_to);
        Ok(match self.p {
            None => binary(&sketches),
            Some(p) => {
                let mut builder = Float64Builder::with_capacity(sketches.len());
                for sketch in &sketches {
                    builder.append_option(sketch.quantile(p));
                }
                Arc::new(builder.finish())
            }
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![binary(&self.take(emit_to))])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.reach(total_num_groups);
        self.merge_bytes(as_binary_array(&values[0])?, |row| group_indices[row])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let column: &Float64Array = as_float64_array(&values[0])?;
        let mut builder = BinaryBuilder::new();
        for row in 0..column.len() {
            let mut sketch = Sketch::default();
            let wanted = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if wanted && column.is_valid(row) {
                sketch.add(column.value(row));
            }
            builder.append_value(sketch.to_bytes());
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Sketch>() + self.heap_bytes
    }
}

impl Accumulator for Sketches {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.reach(1);
        let column = as_float64_array(&values[0])?;
        self.with_group(0, |sketch| column.iter().flatten().for_each(|value| sketch.add(value)));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.reach(1);
        Ok(match self.p {
            Some(p) => ScalarValue::Float64(self.groups[0].quantile(p)),
            None => ScalarValue::Binary(Some(self.groups[0].to_bytes())),
        })
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Sketch>() + self.heap_bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.reach(1);
        Ok(vec![ScalarValue::Binary(Some(self.groups[0].to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.reach(1);
        self.merge_bytes(as_binary_array(&states[0])?, |_| 0)
    }
}
