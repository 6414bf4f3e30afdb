//! `tollhouse cluster executor`: asks a scheduler for tasks, computes them, and keeps what they leave for those that fetch it.
//!
//! Ballista's own executor, put together anew: one listener for everything that others want of it, one memory for all of its
//! tasks, and a store that is this host's own bucket. Credentials never come with a plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::extension::SessionConfigExt;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::BallistaLogicalExtensionCodec;
use ballista_core::serde::protobuf::executor_grpc_server::{ExecutorGrpc, ExecutorGrpcServer};
use ballista_core::serde::protobuf::executor_resource::Resource;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, ExecutorOperatingSystemSpecification, ExecutorRegistration,
    ExecutorResource, ExecutorSpecification, ExecutorStoppedParams, LaunchMultiTaskParams,
    LaunchMultiTaskResult, LaunchTaskParams, LaunchTaskResult, RemoveJobDataParams, RemoveJobDataResult,
    StopExecutorParams, StopExecutorResult,
};
use ballista_executor::execution_engine::DefaultExecutionEngine;
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::Executor;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use event::bucket::BucketPlan;
use event::layout::DataFolder;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::config::{ClusterPlan, ExecutorConfig, host_of};
use super::host;
use super::links::{Links, bind, incoming};
use super::member::{Member, MemberError};
use super::remote::of_executors;
use crate::bucket::{Follower, ReadOnly};
use crate::table::bucket_url;

/// Threads that ask, answer and send; tasks have others.
const THREADS: usize = 2;
/// Footers and page indexes that stay parsed, in bytes.
const METADATA_CACHE_BYTES: usize = 128 << 20;
/// How long the scheduler may take to hear that this executor goes.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often what was left is looked through.
const SWEEP: Duration = Duration::from_secs(60);

/// Starts an executor that reads files of a bucket, and keeps what tasks leave in a data folder of its own.
///
/// # Errors
/// [`MemberError`].
pub fn start(plan: &ClusterPlan, bucket: &BucketPlan, folder: &DataFolder) -> Result<Member, MemberError> {
    let (common, config) = (&plan.config, plan.config.executor.clone());
    let links = Links::new(common)?;
    let server = links.server(config.calls_max)?;
    let work = folder.state().join("cluster");
    let spill = empty(&work, "spill")?;
    let left = empty(&work, "left")?;
    let engine = |error: datafusion::error::DataFusionError| MemberError::Engine(error.strip_backtrace());
    let runtime = runtime(&config, bucket, folder, spill).map_err(engine)?;
    let (codec, state) = of_executors(SessionConfig::new_with_ballista()).map_err(engine)?;
    let scheduler = links.connect_lazy(&config.scheduler).map_err(MemberError::Engine)?;
    let id = host::name().map_err(engine)?;
    let (listener, addr) =
        bind(config.listen).map_err(|source| MemberError::Listen { addr: config.listen, source })?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { cores } else { config.threads.into() };
    let host = host_of(addr, config.advertise_host.as_deref());
    let of_links = links.clone();
    let settings = move || {
        SessionConfig::new_with_ballista()
            .with_ballista_use_tls(of_links.is_tls())
            .with_ballista_override_create_grpc_client_endpoint(of_links.endpoint_override())
            .with_extension(Arc::new(of_links.clone()))
    };
    let executor = Executor::new(
        registration(&id, host, addr.port(), threads),
        &left.to_string_lossy(),
        Arc::new(move |_: &SessionConfig| Ok(Arc::clone(&runtime))),
        Arc::new(settings),
        Arc::new(BallistaFunctionRegistry::from(&state)),
        Arc::new(LoggingMetricsCollector::default()),
        threads,
        Arc::new(DefaultExecutionEngine::new()),
    );
    let executor = Arc::new(executor);
    let codec = BallistaCodec::<LogicalPlanNode, PhysicalPlanNode>::new(
        Arc::new(BallistaLogicalExtensionCodec::default()),
        codec,
    );
    let bytes_max = links.message_bytes_max;
    let mut farewell = SchedulerGrpcClient::new(scheduler.clone());
    let scheduler = SchedulerGrpcClient::new(scheduler)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    Member::new("executor", addr, 2 * FAREWELL, THREADS, move |stopping: CancellationToken| async move {
        let sweeping = tokio::spawn(sweep(left.clone(), Duration::from_secs(config.leftovers_keep_s.into())));
        let asking = tokio::spawn(poll_loop(
            scheduler,
            Arc::clone(&executor),
            codec,
            None,
            None,
            ExecutorHealth::new(),
        ));
        let flight =
            FlightServiceServer::new(BallistaFlightService::new(left.to_string_lossy().into_owned()))
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(bytes_max);
        let orders = ExecutorGrpcServer::new(Orders(executor)).max_decoding_message_size(bytes_max);
        let mut server = server;
        let serving = async {
            let incoming = incoming(listener).map_err(|error| error.to_string())?;
            let served = server.add_service(flight).add_service(orders).serve_with_incoming(incoming);
            served.await.map_err(|error| error.to_string())
        };
        tokio::select! {
            served = serving => tracing::error!(?served, "the listener of the executor stopped"),
            ended = asking => tracing::error!(?ended, "the executor asks for no more work"),
            () = stopping.cancelled() => {
                // What it computed goes with it, so nothing is gained by waiting for its tasks: others begin them anew.
                let told = farewell.executor_stopped(ExecutorStoppedParams {
                    executor_id: id,
                    reason: "it was told to stop".to_owned(),
                });
                if !matches!(tokio::time::timeout(FAREWELL, told).await, Ok(Ok(_))) {
                    tracing::warn!("the scheduler was not told: it gives this executor up after a while");
                }
            }
        }
        sweeping.abort();
    })
}

/// An empty folder in another.
fn empty(work: &Path, name: &str) -> Result<PathBuf, MemberError> {
    let path = work.join(name);
    let made = (|| {
        // What an earlier process left behind belongs to nobody.
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)
    })();
    match made {
        Ok(()) => Ok(path),
        Err(source) => Err(MemberError::Folder { path, source }),
    }
}

/// One memory, one cache and one store for all tasks.
fn runtime(
    config: &ExecutorConfig,
    bucket: &BucketPlan,
    folder: &DataFolder,
    spill: PathBuf,
) -> datafusion::common::Result<Arc<RuntimeEnv>> {
    let memory = usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX);
    let consumers = std::num::NonZeroUsize::new(5).expect("five is not zero");
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(memory), consumers)))
        .with_temp_file_path(spill)
        .with_max_temp_directory_size(config.spill_bytes_max)
        .with_metadata_cache_limit(METADATA_CACHE_BYTES.min(memory / 4))
        .build_arc()?;
    let store = Follower::new(bucket.clone(), folder.clone());
    runtime.register_object_store(bucket_url()?.as_ref(), Arc::new(ReadOnly(Arc::new(store))));
    Ok(runtime)
}

fn registration(id: &str, host: String, port: u16, threads: usize) -> ExecutorRegistration {
    let threads = Resource::Vcores(u32::try_from(threads).unwrap_or(u32::MAX));
    ExecutorRegistration {
        id: id.to_owned(),
        host: Some(host),
        port: port.into(),
        grpc_port: port.into(),
        specification: Some(ExecutorSpecification {
            resources: vec![ExecutorResource { resource: Some(threads) }],
        }),
        os_info: Some(ExecutorOperatingSystemSpecification::default()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    }
}

/// Deletes what has been left for long: that of queries of which the scheduler has forgotten to say that they are over.
async fn sweep(left: PathBuf, keep: Duration) {
    let mut turns = tokio::time::interval(SWEEP);
    loop {
        turns.tick().await;
        let Ok(mut jobs) = tokio::fs::read_dir(&left).await else { continue };
        while let Ok(Some(job)) = jobs.next_entry().await {
            let written = newest(job.path()).await;
            if SystemTime::now().duration_since(written).is_ok_and(|age| age > keep) {
                let path = job.path();
                match tokio::fs::remove_dir_all(&path).await {
                    Ok(()) => tracing::info!(path = %path.display(), "deleted: it was left for long"),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be deleted"),
                }
            }
        }
    }
}

/// When a folder, or one in it, was last written to.
async fn newest(job: PathBuf) -> SystemTime {
    let time = |path: PathBuf| async move {
        tokio::fs::metadata(path).await.and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut newest = time(job.clone()).await;
    if let Ok(mut stages) = tokio::fs::read_dir(job).await {
        while let Ok(Some(stage)) = stages.next_entry().await {
            newest = newest.max(time(stage.path()).await);
        }
    }
    newest
}

/// What a scheduler says to an executor that asks for its work itself.
struct Orders(Arc<Executor>);

#[tonic::async_trait]
impl ExecutorGrpc for Orders {
    async fn cancel_tasks(
        &self,
        request: Request<CancelTasksParams>,
    ) -> Result<Response<CancelTasksResult>, Status> {
        let mut cancelled = true;
        for task in request.into_inner().task_infos {
            let (job, stage, task) = (task.job_id.into(), task.stage_id as usize, task.task_id as usize);
            cancelled &= self.0.cancel_task(job, stage, task).await.unwrap_or(false);
        }
        Ok(Response::new(CancelTasksResult { cancelled }))
    }

    async fn launch_task(
        &self,
        _request: Request<LaunchTaskParams>,
    ) -> Result<Response<LaunchTaskResult>, Status> {
        Err(refused())
    }

    async fn launch_multi_task(
        &self,
        _request: Request<LaunchMultiTaskParams>,
    ) -> Result<Response<LaunchMultiTaskResult>, Status> {
        Err(refused())
    }

    async fn stop_executor(
        &self,
        _request: Request<StopExecutorParams>,
    ) -> Result<Response<StopExecutorResult>, Status> {
        Err(refused())
    }

    async fn remove_job_data(
        &self,
        _request: Request<RemoveJobDataParams>,
    ) -> Result<Response<RemoveJobDataResult>, Status> {
        Err(refused())
    }
}

fn refused() -> Status {
    Status::unimplemented("this executor asks for its work itself")
}
