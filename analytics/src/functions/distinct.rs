//! `distinct_sketch(x)`, `distinct_merge(sketch)` and `distinct_count(sketch)`: numbers of different values from sketches
//! that merge ([`Distinct`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, UInt64Builder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::cast::{as_binary_array, as_string_view_array};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator, ScalarFunctionArgs,
    ScalarUDFImpl, Signature, Volatility,
};
use event::distinct::{Distinct, hash};

use super::aggregate::{as_they_are, passes};

/// `distinct_sketch(x)` or `distinct_merge(sketch)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DistinctAggregate {
    merges: bool,
    signature: Signature,
}

impl DistinctAggregate {
    pub(super) fn sketch() -> Self {
        let signature = Signature::uniform(1, vec![DataType::Utf8View], Volatility::Immutable);
        Self { merges: false, signature }
    }

    pub(super) fn merge() -> Self {
        let signature = Signature::exact(vec![DataType::Binary], Volatility::Immutable);
        Self { merges: true, signature }
    }

    fn sketches(&self, args: &AccumulatorArgs) -> Result<Sketches> {
        if args.is_distinct {
            return plan_err!("{} takes no DISTINCT", self.name());
        }
        Ok(Sketches { merges: self.merges, groups: Vec::new(), heap_bytes: 0 })
    }
}

impl AggregateUDFImpl for DistinctAggregate {
    fn name(&self) -> &str {
        if self.merges { "distinct_merge" } else { "distinct_sketch" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[distinct]", args.name), DataType::Binary, true))])
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
    /// Whether the values are sketches, not texts.
    merges: bool,
    groups: Vec<Distinct>,
    heap_bytes: usize,
}

impl Sketches {
    fn reach(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Distinct::default);
        }
    }

    /// Changes one sketch and notes what it takes.
    fn change<T>(&mut self, group: usize, change: impl FnOnce(&mut Distinct) -> T) -> T {
        let sketch = &mut self.groups[group];
        let before = sketch.heap_bytes();
        let changed = change(sketch);
        self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
        changed
    }

    fn add(
        &mut self,
        column: &ArrayRef,
        filter: Option<&BooleanArray>,
        group_of: impl Fn(usize) -> usize,
    ) -> Result<()> {
        if self.merges {
            return self.merge_bytes(as_binary_array(column)?, filter, group_of);
        }
        let texts = as_string_view_array(column)?;
        for row in (0..texts.len()).filter(|&row| texts.is_valid(row) && passes(filter, row)) {
            self.change(group_of(row), |sketch| sketch.add(hash(texts.value(row).as_bytes())));
        }
        Ok(())
    }

    fn merge_bytes(
        &mut self,
        states: &BinaryArray,
        filter: Option<&BooleanArray>,
        group_of: impl Fn(usize) -> usize,
    ) -> Result<()> {
        for row in (0..states.len()).filter(|&row| states.is_valid(row) && passes(filter, row)) {
            let merged = self.change(group_of(row), |sketch| sketch.merge_bytes(states.value(row)));
            merged.map_err(|error| DataFusionError::External(Box::new(error)))?;
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> ArrayRef {
        let taken = emit_to.take_needed(&mut self.groups);
        self.heap_bytes = self.groups.iter().map(Distinct::heap_bytes).sum();
        binary(&taken)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Distinct>() + self.heap_bytes
    }
}

fn binary(sketches: &[Distinct]) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for sketch in sketches {
        bytes.clear();
        sketch.write(&mut bytes);
        builder.append_value(&bytes);
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
        self.add(&values[0], opt_filter, |row| group_indices[row])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.take(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.take(emit_to)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.reach(total_num_groups);
        self.merge_bytes(as_binary_array(&values[0])?, None, |row| group_indices[row])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        if self.merges {
            return Ok(vec![as_they_are(&values[0], opt_filter)?]);
        }
        let texts = as_string_view_array(&values[0])?;
        let mut builder = BinaryBuilder::new();
        for row in 0..texts.len() {
            let mut one = Distinct::default();
            if texts.is_valid(row) && passes(opt_filter, row) {
                one.add(hash(texts.value(row).as_bytes()));
            }
            builder.append_value(one.to_bytes());
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

impl Accumulator for Sketches {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.reach(1);
        self.add(&values[0], None, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.reach(1);
        Ok(ScalarValue::Binary(Some(self.groups[0].to_bytes())))
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![Accumulator::evaluate(self)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.reach(1);
        self.merge_bytes(as_binary_array(&states[0])?, None, |_| 0)
    }
}

/// `distinct_count(sketch)`: how many different values there were.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DistinctCount {
    signature: Signature,
}

impl DistinctCount {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DistinctCount {
    fn name(&self) -> &str {
        "distinct_count"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let sketches = as_binary_array(&arrays[0])?;
        let mut counts = UInt64Builder::with_capacity(sketches.len());
        for row in 0..sketches.len() {
            if sketches.is_null(row) {
                counts.append_null();
                continue;
            }
            let sketch = Distinct::from_bytes(sketches.value(row))
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            counts.append_value(sketch.estimate());
        }
        Ok(ColumnarValue::Array(Arc::new(counts.finish())))
    }
}
