//! The calls that a scheduler takes: those of our executors and analytics, and no others.
//!
//! Ballista's scheduler plans SQL of its own accord and lets queries wait for ever where nobody computes; neither is wanted
//! here. A plan comes ready made, and where no executor appears in time its query is told so.

use std::time::Duration;

use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorStoppedParams,
    ExecutorStoppedResult, GetJobMetricsParams, GetJobMetricsResult, GetJobStatusParams, GetJobStatusResult,
    HeartBeatParams, HeartBeatResult, PollWorkParams, PollWorkResult, RegisterExecutorParams,
    RegisterExecutorResult, RemoveSessionParams, RemoveSessionResult, UpdateTaskStatusParams,
    UpdateTaskStatusResult, execute_query_params,
};
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tonic::{Request, Response, Status};

/// How often it is looked whether an executor has come.
const LOOK: Duration = Duration::from_millis(50);

/// What a query is told where there is no executor.
pub(super) const NO_EXECUTORS: &str = "no executors";

/// A scheduler behind its gate.
pub(super) struct Gate {
    pub(super) scheduler: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>,
    /// How long a query waits for an executor.
    pub(super) patience: Duration,
}

impl Gate {
    async fn is_ready(&self) -> bool {
        let ready = async {
            while !self.scheduler.is_ready() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(self.patience, ready).await.is_ok() || self.scheduler.is_ready()
    }
}

fn refused() -> Status {
    Status::unimplemented("executors of this cluster ask for work, and plans come ready made")
}

#[tonic::async_trait]
impl SchedulerGrpc for Gate {
    type ExecuteQueryPushStream = futures::stream::Empty<Result<GetJobStatusResult, Status>>;

    async fn poll_work(&self, request: Request<PollWorkParams>) -> Result<Response<PollWorkResult>, Status> {
        self.scheduler.poll_work(request).await
    }

    async fn execute_query(
        &self,
        request: Request<ExecuteQueryParams>,
    ) -> Result<Response<ExecuteQueryResult>, Status> {
        if !matches!(request.get_ref().query, Some(execute_query_params::Query::PhysicalPlan(_))) {
            return Err(refused());
        }
        if !self.is_ready().await {
            return Err(Status::failed_precondition(NO_EXECUTORS));
        }
        self.scheduler.execute_query(request).await
    }

    async fn get_job_status(
        &self,
        request: Request<GetJobStatusParams>,
    ) -> Result<Response<GetJobStatusResult>, Status> {
        self.scheduler.get_job_status(request).await
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobParams>,
    ) -> Result<Response<CancelJobResult>, Status> {
        SchedulerGrpc::cancel_job(&self.scheduler, request).await
    }

    async fn clean_job_data(
        &self,
        request: Request<CleanJobDataParams>,
    ) -> Result<Response<CleanJobDataResult>, Status> {
        self.scheduler.clean_job_data(request).await
    }

    async fn executor_stopped(
        &self,
        request: Request<ExecutorStoppedParams>,
    ) -> Result<Response<ExecutorStoppedResult>, Status> {
        self.scheduler.executor_stopped(request).await
    }

    async fn register_executor(
        &self,
        _request: Request<RegisterExecutorParams>,
    ) -> Result<Response<RegisterExecutorResult>, Status> {
        Err(refused())
    }

    async fn heart_beat_from_executor(
        &self,
        _request: Request<HeartBeatParams>,
    ) -> Result<Response<HeartBeatResult>, Status> {
        Err(refused())
    }

    async fn update_task_status(
        &self,
        _request: Request<UpdateTaskStatusParams>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        Err(refused())
    }

    async fn create_update_session(
        &self,
        _request: Request<CreateUpdateSessionParams>,
    ) -> Result<Response<CreateUpdateSessionResult>, Status> {
        Err(refused())
    }

    async fn remove_session(
        &self,
        _request: Request<RemoveSessionParams>,
    ) -> Result<Response<RemoveSessionResult>, Status> {
        Err(refused())
    }

    async fn execute_query_push(
        &self,
        _request: Request<ExecuteQueryParams>,
    ) -> Result<Response<Self::ExecuteQueryPushStream>, Status> {
        Err(refused())
    }

    async fn get_job_metrics(
        &self,
        _request: Request<GetJobMetricsParams>,
    ) -> Result<Response<GetJobMetricsResult>, Status> {
        Err(refused())
    }
}
