//! The aggregates over [`Sketch`]: one sketch per group, fed from a column of numbers, merged by bytes.
//!
//! A batch is turned into bucket numbers first, a loop per type without branches; counting them then knows no type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array,
};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int32Type, Int64Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::cast::as_binary_array;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;
use event::sketch::{NO_BUCKET, Sketch, bucket};

use super::held::{Held, not_a_sketch, sketches_of};

/// `latency_percentile(x, p)`, also of sketches, `latency_sketch(x)` or `latency_merge(sketch)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LatencyAggregate {
    kind: Kind,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Percentile,
    Sketch,
    Merge,
}

impl LatencyAggregate {
    pub(super) fn percentile() -> Self {
        let of = COUNTABLE.into_iter().chain([DataType::Binary]);
        let each = of.map(|kind| TypeSignature::Exact(vec![kind, DataType::Float64])).collect();
        Self { kind: Kind::Percentile, signature: Signature::one_of(each, Volatility::Immutable) }
    }

    pub(super) fn sketch() -> Self {
        let signature = Signature::uniform(1, COUNTABLE.into(), Volatility::Immutable);
        Self { kind: Kind::Sketch, signature }
    }

    pub(super) fn merge() -> Self {
        let signature = Signature::exact(vec![DataType::Binary], Volatility::Immutable);
        Self { kind: Kind::Merge, signature }
    }

    /// What is asked of a sketch, and whether it is made of sketches.
    fn asked(&self, args: &AccumulatorArgs) -> Result<(Option<f64>, bool)> {
        if args.is_distinct {
            return plan_err!("{} takes no DISTINCT", self.name());
        }
        let p = if self.kind == Kind::Percentile { Some(quantile_of(args)?) } else { None };
        let merges = args.expr_fields.first().is_some_and(|of| *of.data_type() == DataType::Binary);
        Ok((p, merges))
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
        match self.kind {
            Kind::Percentile => "latency_percentile",
            Kind::Sketch => "latency_sketch",
            Kind::Merge => "latency_merge",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(if self.kind == Kind::Percentile { DataType::Float64 } else { DataType::Binary })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (p, merges) = self.asked(&args)?;
        Ok(Box::new(One { p, merges, ..One::default() }))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let (p, merges) = self.asked(&args)?;
        Ok(Box::new(Sketches { p, merges, ..Sketches::default() }))
    }
}

/// Types that are counted as they are; other numbers become the first of them that holds them.
const COUNTABLE: [DataType; 6] = [
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
    DataType::Int32,
    DataType::Int64,
    DataType::Float64,
];

/// The bucket of each value; [`NO_BUCKET`] where it is null or filtered out.
fn buckets_of(column: &ArrayRef, filter: Option<&BooleanArray>, buckets: &mut Vec<u16>) -> Result<()> {
    fn fill<T: ArrowPrimitiveType>(column: &ArrayRef, to: impl Fn(T::Native) -> f64, buckets: &mut Vec<u16>) {
        buckets.clear();
        buckets.extend(column.as_primitive::<T>().values().iter().map(|&value| bucket(to(value))));
    }
    match column.data_type() {
        DataType::UInt16 => fill::<UInt16Type>(column, f64::from, buckets),
        DataType::UInt32 => fill::<UInt32Type>(column, f64::from, buckets),
        DataType::UInt64 => fill::<UInt64Type>(column, |value| value as f64, buckets),
        DataType::Int32 => fill::<Int32Type>(column, f64::from, buckets),
        DataType::Int64 => fill::<Int64Type>(column, |value| value as f64, buckets),
        DataType::Float64 => fill::<Float64Type>(column, |value| value, buckets),
        other => return internal_err!("a sketch of {other} was not refused when it was planned"),
    }
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        let absent = buckets.iter_mut().zip(nulls).filter(|(_, valid)| !valid);
        absent.for_each(|(bucket, _)| *bucket = NO_BUCKET);
    }
    if let Some(filter) = filter {
        let refused = buckets.iter_mut().zip(filter).filter(|(_, passes)| *passes != Some(true));
        refused.for_each(|(bucket, _)| *bucket = NO_BUCKET);
    }
    Ok(())
}

/// Sketches as the state that they are already; none where a filter does not let a row through.
pub(super) fn as_they_are(column: &ArrayRef, filter: Option<&BooleanArray>) -> Result<ArrayRef> {
    let Some(filter) = filter else { return Ok(Arc::clone(column)) };
    let sketches = as_binary_array(column)?;
    let there = |row: usize| sketches.is_valid(row) && passes(Some(filter), row);
    let kept = (0..sketches.len()).map(|row| there(row).then(|| sketches.value(row)));
    Ok(Arc::new(BinaryArray::from_iter(kept)))
}

/// One sketch per group. What comes as numbers is counted at once, what comes as sketches waits.
#[derive(Debug, Default)]
struct Sketches {
    /// The quantile to answer with; `None` answers with the sketch.
    p: Option<f64>,
    /// Whether the values are sketches, not numbers.
    merges: bool,
    /// How many groups there are.
    groups: usize,
    /// Of the groups so far for which numbers came.
    counted: Vec<Sketch>,
    counted_bytes: usize,
    held: Held,
    /// Of the batch at hand.
    buckets: Vec<u16>,
}

impl Sketches {
    fn count(&mut self, column: &ArrayRef, filter: Option<&BooleanArray>, groups: &[usize]) -> Result<()> {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets_of(column, filter, &mut buckets)?;
        if self.counted.len() < self.groups {
            self.counted.resize_with(self.groups, Sketch::default);
        }
        for (&group, &bucket) in groups.iter().zip(&buckets) {
            let sketch = &mut self.counted[group];
            if bucket != NO_BUCKET && !sketch.count_in_place(bucket) {
                let before = sketch.heap_bytes();
                sketch.add_count(bucket, 1);
                self.counted_bytes += sketch.heap_bytes() - before;
            }
        }
        self.buckets = buckets;
        Ok(())
    }

    /// Takes groups out, with an answer for each.
    fn take<T>(&mut self, emit_to: EmitTo, answer: impl Fn(&Sketch) -> T) -> Result<Vec<T>> {
        let end = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(count) => count.min(self.groups),
        };
        self.groups -= end;
        let mut counted = self.counted.split_off(end.min(self.counted.len()));
        std::mem::swap(&mut counted, &mut self.counted);
        self.counted_bytes = self.counted.iter().map(Sketch::heap_bytes).sum();
        if self.held.is_empty() && counted.len() == end {
            return Ok(counted.iter().map(answer).collect());
        }
        for (group, sketch) in counted.iter().enumerate().filter(|(_, sketch)| sketch.count() > 0) {
            self.held.add(group, &sketch.to_bytes())?;
        }
        let none = Sketch::default();
        let mut answers = Vec::with_capacity(end);
        self.held.take(end, |group, sketch| {
            while answers.len() < group {
                answers.push(answer(&none));
            }
            answers.push(answer(sketch));
        })?;
        answers.resize_with(end, || answer(&none));
        Ok(answers)
    }

    fn bytes(&self) -> usize {
        let counted = self.counted.capacity() * size_of::<Sketch>() + self.counted_bytes;
        size_of::<Self>() + counted + self.held.heap_bytes() + self.buckets.capacity() * size_of::<u16>()
    }
}

/// The sketches, or states, of a column.
fn each_row(column: &ArrayRef, each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    as_binary_array(column)?.iter().flatten().try_for_each(each)
}

/// Whether a filter lets a row through.
pub(super) fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl GroupsAccumulator for Sketches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        if !self.merges {
            return self.count(&values[0], opt_filter, group_indices);
        }
        self.held.add_column(as_binary_array(&values[0])?, opt_filter, group_indices, false)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(match self.p {
            None => Arc::new(BinaryArray::from_iter_values(self.take(emit_to, Sketch::to_bytes)?)),
            Some(p) => Arc::new(Float64Array::from(self.take(emit_to, |sketch| sketch.quantile(p))?)),
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = match emit_to {
            EmitTo::All if self.counted.is_empty() => self.held.states(self.groups)?,
            _ => None,
        };
        let states = match states {
            Some(states) => {
                self.groups = 0;
                states
            }
            None => BinaryArray::from_iter_values(self.take(emit_to, Sketch::to_bytes)?),
        };
        Ok(vec![Arc::new(states)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = total_num_groups;
        self.held.add_column(as_binary_array(&values[0])?, None, group_indices, true)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        if self.merges {
            return Ok(vec![as_they_are(&values[0], opt_filter)?]);
        }
        let mut buckets = Vec::new();
        buckets_of(&values[0], opt_filter, &mut buckets)?;
        let mut builder = BinaryBuilder::with_capacity(buckets.len(), buckets.len() * 4);
        for bucket in buckets {
            let (bytes, length) = Sketch::bytes_of_one(bucket);
            builder.append_value(&bytes[..length]);
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

/// The one sketch of rows without groups, or of the window that ends at a row: to answer changes nothing, since more rows
/// may follow. It stays in the cache, so nothing waits.
#[derive(Debug, Default)]
struct One {
    p: Option<f64>,
    merges: bool,
    sketch: Sketch,
    buckets: Vec<u16>,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.merges {
            return each_row(&values[0], |sketch| self.sketch.merge_bytes(sketch).map_err(not_a_sketch));
        }
        buckets_of(&values[0], None, &mut self.buckets)?;
        for &bucket in self.buckets.iter().filter(|&&bucket| bucket != NO_BUCKET) {
            if !self.sketch.count_in_place(bucket) {
                self.sketch.add_count(bucket, 1);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(match self.p {
            Some(p) => ScalarValue::Float64(self.sketch.quantile(p)),
            None => ScalarValue::Binary(Some(self.sketch.to_bytes())),
        })
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.sketch.heap_bytes() + self.buckets.capacity() * size_of::<u16>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.sketch.to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        each_row(&states[0], |state| {
            sketches_of(state, |sketch| self.sketch.merge_bytes(sketch).map_err(not_a_sketch))
        })
    }
}
