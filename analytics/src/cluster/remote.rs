//! A query that is run by a cluster, as a plan of one node: where the query's own threads would compute, they send the plan,
//! wait, and fetch the answer.

use std::fmt::{self, Formatter};
use std::net::TcpListener;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::{Stream, StreamExt};
use object_store::memory::InMemory;

use super::codec::Codec;
use super::config::{BallistaConfig, ClusterConfig, host_of};
use super::error::ClusterError;
use super::host::{self, Host, RowsDoor};
use super::job::{Parts, Submitter};
use super::links::{LinkError, Links, bind};
use super::ship::ship;
use crate::functions;
use crate::table::bucket_url;

/// How often a query is run, where what executors had computed was lost with them before any of it was fetched.
const RUNS_MAX: u32 = 2;

/// A cluster, as this process uses it.
pub(crate) struct Cluster {
    submitter: Submitter,
    host: Arc<Host>,
    /// Host and port that executors fetch rows from.
    address: String,
    codec: Arc<Codec>,
    /// What executors know: a plan that is not understood with it is not sent.
    known: Arc<TaskContext>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "Cluster({})", self.submitter.scheduler)
    }
}

/// Why a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterStartError {
    /// Certificates cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The address is taken or not ours.
    #[error("cannot listen on {addr} (analytics.ballista.listen): {source}")]
    Listen {
        /// The configured address.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine refused its settings.
    #[error(transparent)]
    Engine(#[from] DataFusionError),
}

impl Cluster {
    /// A cluster, and the door through which its executors fetch rows.
    pub(crate) fn new(
        engine: &BallistaConfig,
        common: &ClusterConfig,
    ) -> Result<(Self, RowsDoor), ClusterStartError> {
        let links = Links::new(common)?;
        let listen = |source| ClusterStartError::Listen { addr: engine.listen, source };
        let (listener, bound): (TcpListener, _) = bind(engine.listen).map_err(listen)?;
        let address = format!("{}:{}", host_of(bound, engine.advertise_host.as_deref()), bound.port());
        let host = Arc::<Host>::default();
        let door = RowsDoor::new(listener, links.clone(), Arc::clone(&host));
        let (codec, state) = of_executors(SessionConfig::new_with_ballista())?;
        let session = host::name()?;
        let submitter = Submitter { scheduler: engine.scheduler.clone(), links, session };
        let known = state.task_ctx();
        Ok((Self { submitter, host, address, codec, known }, door))
    }

    /// What a query's threads are to run in the place of a plan; none if it is to be run here.
    pub(crate) fn remote(
        self: &Arc<Self>,
        plan: &Arc<dyn ExecutionPlan>,
        rows_max: u64,
        name: &str,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(shipped) = ship(plan, &self.address, rows_max)? else { return Ok(None) };
        let message = match self.written(&shipped.plan) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "a plan that executors would not understand is run here");
                return Ok(None);
            }
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(plan.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (cluster, name) = (Arc::clone(self), name.to_owned());
        let properties = Arc::new(properties);
        Ok(Some(Arc::new(RemoteExec { cluster, name, message, rows: shipped.rows.into(), properties })))
    }

    /// A plan as a message that has been read again.
    fn written(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
        let node = PhysicalPlanNode::try_from_physical_plan(Arc::clone(plan), self.codec.as_ref())?;
        let mut message = Vec::new();
        node.try_encode(&mut message)?;
        if message.len() > self.submitter.links.message_bytes_max {
            return internal_err!("it is longer than cluster.message_bytes_max");
        }
        let read = PhysicalPlanNode::try_decode(&message)?;
        read.try_into_physical_plan(&self.known, self.codec.as_ref())?;
        Ok(message)
    }
}

/// What all processes of a cluster know: the functions, and how plans are written. The store is one that nothing is read from.
pub(super) fn of_executors(config: SessionConfig) -> Result<(Arc<Codec>, SessionState)> {
    let runtime = RuntimeEnvBuilder::new().build_arc()?;
    runtime.register_object_store(bucket_url()?.as_ref(), Arc::new(InMemory::new()));
    let builder =
        SessionStateBuilder::new_with_default_features().with_config(config).with_runtime_env(runtime);
    let mut state = builder.build();
    functions::register(&mut state)?;
    let registry = Arc::new(BallistaFunctionRegistry::from(&state));
    Ok((Arc::new(Codec::new(registry)), state))
}

/// How queries are planned that may go to a cluster: `config` is how they are planned here.
pub(crate) fn session_config(
    config: &SessionConfig,
    engine: &BallistaConfig,
    common: &ClusterConfig,
) -> SessionConfig {
    let mut config = config
        .clone()
        .upgrade_for_ballista()
        .ballista_restricted_configuration()
        .with_target_partitions(engine.partitions.into())
        .with_ballista_use_tls(common.tls.cert_file.is_some())
        .with_ballista_grpc_client_max_message_size(common.message_bytes_max as usize);
    let options = config.options_mut();
    // Answers have the types that they have here.
    options.sql_parser.map_string_types_to_utf8view = true;
    options.execution.parquet.schema_force_view_types = true;
    // A union whose inputs are cut alike would be read side by side, which tasks of one partition cannot.
    options.optimizer.prefer_existing_union = true;
    config
}

/// The node.
#[derive(Debug)]
struct RemoteExec {
    cluster: Arc<Cluster>,
    /// What the scheduler shows of it.
    name: String,
    message: Vec<u8>,
    rows: Arc<[(String, Arc<dyn ExecutionPlan>)]>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _kind: DisplayFormatType, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "RemoteExec: scheduler={}", self.cluster.submitter.scheduler)
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &'static str {
        "RemoteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (cluster, message) = (Arc::clone(&self.cluster), self.message.clone());
        let (rows, name) = (Arc::clone(&self.rows), self.name.clone());
        let running = async move {
            // Served as long as the stream is there.
            let served = cluster.host.serve(&rows, &context);
            let config = context.session_config();
            let mut run = 1;
            loop {
                let began = begin(&cluster, message.clone(), config, &name).await;
                match began {
                    Err(ClusterError::Lost(reason)) if run < RUNS_MAX => {
                        tracing::warn!(reason, "executors were lost: a query is run again");
                        run += 1;
                    }
                    Ok((parts, part)) => return Ok::<_, DataFusionError>(batches(parts, part, served)),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let stream = futures::TryStreamExt::try_flatten(futures::stream::once(running));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }
}

impl RemoteExec {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.properties.eq_properties.schema())
    }
}

/// Runs a plan and begins to fetch its answer.
async fn begin(
    cluster: &Cluster,
    message: Vec<u8>,
    config: &SessionConfig,
    name: &str,
) -> Result<(Parts, Option<SendableRecordBatchStream>), ClusterError> {
    let mut parts = cluster.submitter.run(message, config, name).await?;
    let first = parts.next().await?;
    Ok((parts, first))
}

fn batches<T: Send + 'static>(
    parts: Parts,
    part: Option<SendableRecordBatchStream>,
    served: T,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    futures::stream::try_unfold((parts, part, served), |(mut parts, mut part, served)| async move {
        loop {
            let Some(stream) = part.as_mut() else { return Ok(None) };
            match stream.next().await {
                Some(Ok(batch)) => return Ok(Some((batch, (parts, part, served)))),
                Some(Err(error)) => return Err(ClusterError::Lost(error.to_string()).into()),
                None => part = parts.next().await?,
            }
        }
    })
}
