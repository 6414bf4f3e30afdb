//! The column `attempts` as a query sees it: files leave out the only try of a request whose other columns tell of it
//! ([`event::tries`]), and it is put back above the rows that were read.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::cast::as_list_array;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use event::columns::Kind;
use event::tries::{TELLING, restore};

const ATTEMPTS: &str = "attempts";
/// The name of [`AllAttempts`], for who writes a plan down.
pub(crate) const FUNCTION: &str = "all_attempts";

/// Columns of the table `requests` that are read where some are asked for: those, and behind them what tells of tries.
/// None where nobody asks for tries.
pub(crate) fn columns_read(asked: &[usize]) -> Result<Option<Vec<usize>>> {
    let schema = event::columns::schema();
    if !asked.contains(&schema.index_of(ATTEMPTS)?) {
        return Ok(None);
    }
    let mut read = asked.to_vec();
    for name in TELLING {
        let column = schema.index_of(name)?;
        if !read.contains(&column) {
            read.push(column);
        }
    }
    Ok(Some(read))
}

/// The first `asked` columns of what was read, with all tries.
pub(crate) fn put_back(read: Arc<dyn ExecutionPlan>, asked: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = read.schema();
    let column = |name: &str| -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Column::new_with_schema(name, &schema)?))
    };
    let shown = schema.fields().iter().take(asked).map(|field| {
        let name = field.name();
        let expr: Arc<dyn PhysicalExpr> = match name.as_str() {
            ATTEMPTS => {
                let args =
                    std::iter::once(ATTEMPTS).chain(TELLING).map(column).collect::<Result<Vec<_>>>()?;
                let function = Arc::new(ScalarUDF::from(AllAttempts::new()));
                Arc::new(ScalarFunctionExpr::try_new(
                    function,
                    args,
                    &schema,
                    Arc::new(ConfigOptions::default()),
                )?)
            }
            _ => column(name)?,
        };
        Ok(ProjectionExpr::new(expr, name.clone()))
    });
    let shown = shown.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(shown, read)?))
}

/// `all_attempts(attempts, ...)`, with the columns that tell of the one that is left out.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AllAttempts {
    signature: Signature,
}

impl AllAttempts {
    pub(crate) fn new() -> Self {
        let schema = event::columns::schema();
        let told =
            TELLING.iter().filter_map(|name| Some(schema.field_with_name(name).ok()?.data_type().clone()));
        let types = std::iter::once(Kind::Attempts.data_type()).chain(told).collect();
        Self { signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for AllAttempts {
    fn name(&self) -> &str {
        FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(Kind::Attempts.data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        match arrays.split_first() {
            Some((attempts, telling)) if let Ok(telling) = telling.try_into() => {
                Ok(ColumnarValue::Array(Arc::new(restore(as_list_array(attempts)?, telling)?)))
            }
            _ => internal_err!("all_attempts takes the list and what tells of it"),
        }
    }
}
