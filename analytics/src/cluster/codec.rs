//! How a plan is written down for other processes: the engine's own nodes by its own code, Ballista's by Ballista's, and what
//! is ours here. Scheduler, executors and analytics are of one program, so what is written is understood.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use super::rows::{FetchRows, RowsOfCaller};
use crate::access::Scope;
use crate::growth::Bounded;
use crate::once::OnceExec;
use crate::tries::{self, AllAttempts};

/// What our nodes begin with: no message of Ballista does.
const OURS: u8 = 0;

/// The codec.
#[derive(Debug)]
pub(super) struct Codec {
    ballista: BallistaPhysicalExtensionCodec,
    functions: Arc<BallistaFunctionRegistry>,
}

impl Codec {
    pub(super) fn new(functions: Arc<BallistaFunctionRegistry>) -> Self {
        Self { ballista: BallistaPhysicalExtensionCodec::default(), functions }
    }
}

/// A node that is ours, without its input.
#[derive(Serialize, Deserialize)]
enum Node {
    FetchRows {
        host: String,
        rows: String,
        /// An empty stream of them.
        schema: Vec<u8>,
    },
    RowsOfCaller {
        consumer: Option<String>,
        workspace: Option<String>,
        shown: usize,
    },
    ReadOnce,
}

/// A function that is ours and has settings.
#[derive(Serialize, Deserialize)]
struct BoundedCall {
    /// Its name; none is `||`.
    function: Option<String>,
    bytes_max: usize,
}

fn json(error: serde_json::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn schema_bytes(schema: &SchemaRef) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema)?.finish()?;
    Ok(bytes)
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some((&OURS, text)) = buf.split_first() else {
            return self.ballista.try_decode(buf, inputs, ctx, converter);
        };
        let [input] = inputs else { return internal_err!("a node with one input") };
        let input = Arc::clone(input);
        Ok(match serde_json::from_slice(text).map_err(json)? {
            Node::FetchRows { host, rows, schema } => {
                let schema = StreamReader::try_new(schema.as_slice(), None)?.schema();
                Arc::new(FetchRows::of(input, host, rows, schema))
            }
            Node::RowsOfCaller { consumer, workspace, shown } => {
                Arc::new(RowsOfCaller::new(input, Scope { consumer, workspace }, shown)?)
            }
            Node::ReadOnce => Arc::new(OnceExec::new(input)),
        })
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let ours = if let Some(fetch) = node.downcast_ref::<FetchRows>() {
            let (host, rows) = (fetch.host.clone(), fetch.rows.clone());
            Node::FetchRows { host, rows, schema: schema_bytes(&fetch.schema)? }
        } else if let Some(rows) = node.downcast_ref::<RowsOfCaller>() {
            let Scope { consumer, workspace } = rows.scope.clone();
            Node::RowsOfCaller { consumer, workspace, shown: rows.shown }
        } else if node.is::<OnceExec>() {
            Node::ReadOnce
        } else {
            return self.ballista.try_encode(node, buf, converter);
        };
        buf.push(OURS);
        serde_json::to_writer(buf, &ours).map_err(json)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        let known = |name: &str| match self.functions.scalar_functions.get(name) {
            Some(function) => Ok(Arc::clone(function)),
            // One that nobody may call.
            None if name == tries::FUNCTION => Ok(Arc::new(ScalarUDF::from(AllAttempts::new()))),
            None => internal_err!("the function {name} is not known to this process"),
        };
        if buf.is_empty() {
            return known(name);
        }
        let BoundedCall { function, bytes_max } = serde_json::from_slice(buf).map_err(json)?;
        let function = function.as_deref().map(known).transpose()?;
        Ok(Arc::new(ScalarUDF::from(Bounded::of(function, bytes_max))))
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        let Some(bounded) = node.inner().downcast_ref::<Bounded>() else { return Ok(()) };
        let (function, bytes_max) = bounded.parts();
        serde_json::to_writer(buf, &BoundedCall { function, bytes_max }).map_err(json)
    }
}
