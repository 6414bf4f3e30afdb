//! `tollhouse cluster scheduler`: takes plans, cuts them into tasks, and gives these to executors that ask for work.
//!
//! Ballista's own scheduler, behind a listener of ours. Executors pull: a scheduler that pushes connects to them in plain
//! text before it believes them, whatever it is told about TLS. It holds no data and no credentials, and what it knows
//! is gone with it: queries that run then fail, and can be asked again.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig as BallistaSchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};

use super::config::{ClusterPlan, host_of};
use super::gate::Gate;
use super::links::{Links, bind, incoming};
use super::member::{Member, MemberError};
use super::remote::of_executors;

/// Threads that cut plans and answer.
const THREADS: usize = 2;
/// How often executors are looked after.
const LOOK_SECONDS: u64 = 1;
/// How long calls that were taken may still be answered.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts a scheduler.
///
/// # Errors
/// [`MemberError`].
pub fn start(plan: &ClusterPlan) -> Result<Member, MemberError> {
    let (common, config) = (&plan.config, &plan.config.scheduler);
    let links = Links::new(common)?;
    let server = links.server(config.calls_max)?;
    let (listener, addr) =
        bind(config.listen).map_err(|source| MemberError::Listen { addr: config.listen, source })?;
    let engine = |error: datafusion::error::DataFusionError| MemberError::Engine(error.strip_backtrace());
    let (codec, state) = of_executors(SessionConfig::new_with_ballista()).map_err(engine)?;
    let use_tls = links.is_tls();
    let patience = Duration::from_secs(config.no_executors_timeout_s.into());
    let message_bytes_max = common.message_bytes_max;
    let ballista = BallistaSchedulerConfig {
        external_host: host_of(addr, None),
        bind_host: addr.ip().to_string(),
        bind_port: addr.port(),
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        finished_job_data_clean_up_interval_seconds: config.finished_keep_s.into(),
        finished_job_state_clean_up_interval_seconds: config.finished_keep_s.into(),
        grpc_server_max_decoding_message_size: message_bytes_max,
        grpc_server_max_encoding_message_size: message_bytes_max,
        grpc_client_max_message_size: message_bytes_max,
        executor_timeout_seconds: config.executor_timeout_s.into(),
        expire_dead_executor_interval_seconds: LOOK_SECONDS,
        no_executors_grace_period_seconds: config.no_executors_timeout_s.into(),
        override_physical_codec: Some(codec),
        override_create_grpc_client_endpoint: Some(links.endpoint_override()),
        use_tls,
        ..BallistaSchedulerConfig::default()
    };
    Member::new("scheduler", addr, DRAIN, THREADS, move |stopping| async move {
        let builder = move |config: SessionConfig| {
            Ok(SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build())
        };
        let cluster = BallistaCluster::new_memory(
            ballista.scheduler_id.clone(),
            Arc::new(builder),
            Arc::new(SessionConfig::new_with_ballista),
        );
        let scheduler =
            create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(ballista)).await;
        let scheduler = match scheduler {
            Ok(scheduler) => scheduler,
            Err(error) => {
                tracing::error!(%error, "the scheduler cannot start");
                return;
            }
        };
        let service = SchedulerGrpcServer::new(Gate { scheduler, patience })
            .max_decoding_message_size(message_bytes_max as usize)
            .max_encoding_message_size(message_bytes_max as usize);
        let served = match incoming(listener) {
            Ok(incoming) => {
                let mut server = server;
                let served = server
                    .add_service(service)
                    .serve_with_incoming_shutdown(incoming, stopping.cancelled_owned());
                served.await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::error!(error, "the listener of the scheduler stopped");
        }
    })
}
