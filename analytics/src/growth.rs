//! Texts and lists that grow: `x || x`, through thirty common table expressions, is a thousand million times as long. What
//! a function makes of one batch of rows is outside of the memory that is counted, so it is estimated before the
//! function is called, and looked at afterwards.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err, resources_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

/// What a value takes beside its own bytes: an offset or a view.
const PLACE_BYTES: usize = 16;

/// Functions whose answer is no longer than their text.
const SHRINKING: [&str; 31] = [
    "arrow_cast",
    "arrow_try_cast",
    "cast_to_type",
    "try_cast_to_type",
    "arrow_typeof",
    "btrim",
    "chr",
    "coalesce",
    "date_bin",
    "date_trunc",
    "get_field",
    "greatest",
    "initcap",
    "least",
    "left",
    "lower",
    "ltrim",
    "nullif",
    "nvl",
    "nvl2",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "substr",
    "substr_index",
    "to_hex",
    "trim",
    "upper",
    "uuid",
    "array_element",
];

/// Functions that may put one argument at each place of another.
const MULTIPLYING: [&str; 7] = [
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_to_string",
    "regexp_replace",
    "replace",
    "overlay",
];

/// The rule: it stands after the coercion of types, so that every call is as it will be made.
#[derive(Debug)]
pub(crate) struct BoundGrowth {
    pub(crate) bytes_max: usize,
}

impl AnalyzerRule for BoundGrowth {
    fn name(&self) -> &str {
        "bound_growth"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let bounded = |expr: Expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| {
                    // What has no type here is not evaluated here.
                    let grows = expr.get_type(&schema).is_ok_and(|kind| may_grow(&kind));
                    Ok(if grows { self.bound(expr) } else { Transformed::no(expr) })
                })?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            };
            plan.map_expressions(|expr| match expr {
                // It has no name: its members have.
                Expr::GroupingSet(_) => expr.map_children(bounded),
                expr => bounded(expr),
            })
        });
        plan.data()
    }
}

impl BoundGrowth {
    fn bound(&self, expr: Expr) -> Transformed<Expr> {
        let (call, args) = match expr {
            Expr::BinaryExpr(both) if both.op == Operator::StringConcat => {
                (Call::Operator, vec![*both.left, *both.right])
            }
            Expr::ScalarFunction(function)
                if function.func.inner().downcast_ref::<Bounded>().is_none()
                    && !SHRINKING.contains(&function.func.name()) =>
            {
                (Call::Function(function.func), function.args)
            }
            other => return Transformed::no(other),
        };
        let bounded = ScalarUDF::from(Bounded::new(call, self.bytes_max));
        Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(bounded), args)))
    }
}

/// Whether values of this type have no length of their own.
fn may_grow(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => may_grow(values),
        _ => kind.primitive_width().is_none() && !matches!(kind, DataType::Null | DataType::Boolean),
    }
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Call {
    /// `||` of texts.
    Operator,
    Function(Arc<ScalarUDF>),
}

/// A function whose answers are bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bounded {
    call: Call,
    signature: Signature,
    bytes_max: usize,
}

impl Bounded {
    fn new(call: Call, bytes_max: usize) -> Self {
        let signature = match &call {
            Call::Operator => Signature::user_defined(Volatility::Immutable),
            Call::Function(function) => function.signature().clone(),
        };
        Self { call, signature, bytes_max }
    }

    /// The same of its [`Self::parts`]; without a function it is `||`.
    pub(crate) fn of(function: Option<Arc<ScalarUDF>>, bytes_max: usize) -> Self {
        Self::new(function.map_or(Call::Operator, Call::Function), bytes_max)
    }

    /// The name of the function, none for `||`, and the bound.
    pub(crate) fn parts(&self) -> (Option<String>, usize) {
        let function = match &self.call {
            Call::Operator => None,
            Call::Function(function) => Some(function.name().to_owned()),
        };
        (function, self.bytes_max)
    }

    /// At most so many bytes come of it.
    fn estimate(&self, args: &ScalarFunctionArgs) -> usize {
        let rows = args.number_rows;
        let sizes = args.args.iter().map(|arg| match arg {
            ColumnarValue::Array(array) => bytes(array),
            ColumnarValue::Scalar(value) => {
                value.to_array().map_or(0, |one| bytes(&one)).saturating_mul(rows)
            }
        });
        match &self.call {
            Call::Function(function) if MULTIPLYING.contains(&function.name()) => {
                multiplied(&args.args, rows)
            }
            Call::Function(function) if function.name() == "encode" => sizes.sum::<usize>().saturating_mul(2),
            _ => sizes.fold(0, usize::saturating_add),
        }
    }

    fn within(&self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        let name = self.name();
        resources_err!(
            "`{name}` would make more than `text_bytes_max` ({} bytes) of one batch of rows",
            self.bytes_max
        )
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        match &self.call {
            Call::Operator => "||",
            Call::Function(function) => function.name(),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        match &self.call {
            // They were coerced before they came here.
            Call::Operator => Ok(kinds.to_vec()),
            Call::Function(function) => function.coerce_types(kinds),
        }
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        match (&self.call, kinds) {
            (Call::Operator, [left, right]) => {
                BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
            }
            (Call::Operator, _) => internal_err!("two texts are joined, not {}", kinds.len()),
            (Call::Function(function), _) => function.return_type(kinds),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match &self.call {
            Call::Operator => {
                let kinds: Vec<DataType> =
                    args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
                let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(Field::new(self.name(), self.return_type(&kinds)?, nullable)))
            }
            Call::Function(function) => function.return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.within(self.estimate(&args))?;
        let made = match &self.call {
            Call::Operator => joined(&args.args, args.number_rows)?,
            Call::Function(function) => function.invoke_with_args(args)?,
        };
        // What was estimated may be wrong of a function that comes with the next version of the engine.
        let size = match &made {
            ColumnarValue::Array(array) => bytes(array),
            ColumnarValue::Scalar(value) => bytes(&value.to_array()?),
        };
        self.within(size)?;
        Ok(made)
    }
}

/// `||` as the engine itself has it.
fn joined(args: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
    let scalar = args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let columns: Vec<ArrayRef> =
        args.iter().map(|arg| arg.to_array(if scalar { 1 } else { rows })).collect::<Result<_>>()?;
    let fields: Vec<Field> = columns
        .iter()
        .zip(["left", "right"])
        .map(|(column, name)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let operand = |name: &str, at: usize| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(name, at)) };
    let both = BinaryExpr::new(operand("left", 0), Operator::StringConcat, operand("right", 1));
    match both.evaluate(&batch)? {
        ColumnarValue::Array(array) if scalar => {
            Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&array, 0)?))
        }
        made => Ok(made),
    }
}

/// What one argument's values become with others at each of their places.
fn multiplied(args: &[ColumnarValue], rows: usize) -> usize {
    let Some((first, others)) = args.split_first() else { return 0 };
    let at_each: Vec<Lengths<'_>> = others.iter().map(Lengths::of).collect();
    let first = Lengths::of(first);
    let of = |first: usize, others: usize| (first + 1).saturating_mul(others + 1);
    // The same at each, mostly: then all rows together are as good as one by one.
    if at_each.iter().all(|other| matches!(other, Lengths::Same(_))) {
        let others = at_each.iter().map(|other| other.at(0)).sum();
        return match first {
            Lengths::Same(length) => of(length, others).saturating_mul(rows),
            Lengths::Each(array) => of(bytes(array) + rows, others),
        };
    }
    let of_row = |row: usize| of(first.at(row), at_each.iter().map(|other| other.at(row)).sum());
    (0..rows).fold(0, |all: usize, row| all.saturating_add(of_row(row)))
}

/// How long the values of an argument are.
enum Lengths<'a> {
    Same(usize),
    Each(&'a ArrayRef),
}

impl<'a> Lengths<'a> {
    fn of(arg: &'a ColumnarValue) -> Self {
        match arg {
            ColumnarValue::Scalar(value) => Self::Same(value.to_array().map_or(0, |one| bytes(&one))),
            ColumnarValue::Array(array) => Self::Each(array),
        }
    }

    fn at(&self, row: usize) -> usize {
        match self {
            Self::Same(length) => *length,
            Self::Each(array) => bytes(&array.slice(row, 1)),
        }
    }
}

/// What the values of an array are long, those of lists and structures within.
fn bytes(array: &ArrayRef) -> usize {
    let offsets = |bounds: Option<(usize, usize)>| bounds.map_or(0, |(first, last)| last - first);
    let ends32 = |offsets: &[i32]| Some((*offsets.first()? as usize, *offsets.last()? as usize));
    let ends64 = |offsets: &[i64]| Some((*offsets.first()? as usize, *offsets.last()? as usize));
    let places = array.len() * PLACE_BYTES;
    match array.data_type() {
        DataType::Utf8 => offsets(ends32(array.as_string::<i32>().value_offsets())),
        DataType::LargeUtf8 => offsets(ends64(array.as_string::<i64>().value_offsets())),
        DataType::Binary => offsets(ends32(array.as_binary::<i32>().value_offsets())),
        DataType::LargeBinary => offsets(ends64(array.as_binary::<i64>().value_offsets())),
        DataType::Utf8View => array.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(|length| length as usize).sum(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = ends32(list.value_offsets()).unwrap_or_default();
            places + bytes(&list.values().slice(first, last - first))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (first, last) = ends64(list.value_offsets()).unwrap_or_default();
            places + bytes(&list.values().slice(first, last - first))
        }
        DataType::FixedSizeList(..) => places + bytes(array.as_fixed_size_list().values()),
        DataType::Struct(_) => places + array.as_struct().columns().iter().map(bytes).sum::<usize>(),
        DataType::Map(..) => {
            let map = array.as_map();
            let (first, last) = ends32(map.value_offsets()).unwrap_or_default();
            let entries: ArrayRef = Arc::new(map.entries().slice(first, last - first));
            places + bytes(&entries)
        }
        _ => places,
    }
}
