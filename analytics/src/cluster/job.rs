//! A plan at the scheduler: it is sent there, followed to its end, and its answer fetched from the executors that have it.
//!
//! Whoever lets go of it before its end cancels it there; afterwards what executors still keep of it is cleaned up.

use std::collections::HashMap;
use std::time::Duration;

use ballista_core::client::BallistaClient;
use ballista_core::error::BallistaError;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair,
    PartitionLocation, execute_query_params, execute_query_result, job_status,
};
use ballista_core::version::insert_version_header;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionConfig;
use tokio::runtime::Handle;
use tonic::transport::Channel;

use super::error::ClusterError;
use super::gate::NO_EXECUTORS;
use super::links::Links;

/// How soon the state of a job is asked for again, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// Attempts at fetching a part of an answer, and the pause between two.
const FETCHES: (u8, u64) = (2, 100);

type Scheduler = SchedulerGrpcClient<Channel>;

/// A scheduler, as queries of this process use it.
#[derive(Debug, Clone)]
pub(super) struct Submitter {
    pub(super) scheduler: String,
    pub(super) links: Links,
    /// What the scheduler calls this process: it keeps caches by it.
    pub(super) session: String,
}

/// A job that was taken. Dropped before its end, it is cancelled.
struct Job {
    id: String,
    scheduler: Scheduler,
    threads: Handle,
    is_over: bool,
}

impl Drop for Job {
    fn drop(&mut self) {
        let (mut scheduler, job_id, is_over) = (self.scheduler.clone(), self.id.clone(), self.is_over);
        self.threads.spawn(async move {
            let told = match is_over {
                true => scheduler
                    .clean_job_data(CleanJobDataParams { job_id, remove_stage_ids: Vec::new() })
                    .await
                    .map(|_| ()),
                false => scheduler.cancel_job(CancelJobParams { job_id }).await.map(|_| ()),
            };
            if let Err(status) = told {
                tracing::debug!(%status, "the scheduler was not told that a job is over");
            }
        });
    }
}

/// The answer of a job, in parts.
pub(super) struct Parts {
    job: Job,
    parts: std::vec::IntoIter<PartitionLocation>,
    clients: HashMap<(String, u32), BallistaClient>,
    links: Links,
}

impl Submitter {
    /// Has a plan run to its end.
    pub(super) async fn run(
        &self,
        plan: Vec<u8>,
        config: &SessionConfig,
        name: &str,
    ) -> Result<Parts, ClusterError> {
        let unreachable = |reason| ClusterError::Unreachable { scheduler: self.scheduler.clone(), reason };
        let channel = self.links.connect(&self.scheduler).await.map_err(unreachable)?;
        let scheduler = Scheduler::new(channel)
            .max_encoding_message_size(self.links.message_bytes_max)
            .max_decoding_message_size(self.links.message_bytes_max);
        let query = ExecuteQueryParams {
            query: Some(execute_query_params::Query::PhysicalPlan(plan)),
            settings: settings(config, name),
            session_id: self.session.clone(),
            operation_id: String::new(),
        };
        let mut job = submitted(scheduler, query, unreachable).await?;
        let parts = job.ended(unreachable).await?;
        job.is_over = true;
        Ok(Parts { job, parts: parts.into_iter(), clients: HashMap::new(), links: self.links.clone() })
    }
}

/// Sends a query. If nobody waits for it any more when the scheduler answers, it is cancelled.
async fn submitted(
    mut scheduler: Scheduler,
    query: ExecuteQueryParams,
    unreachable: impl Fn(String) -> ClusterError,
) -> Result<Job, ClusterError> {
    let sent = tokio::spawn(async move {
        let mut request = tonic::Request::new(query);
        insert_version_header(request.metadata_mut());
        let answer = scheduler.execute_query(request).await?.into_inner();
        Ok::<_, tonic::Status>(match answer.result {
            Some(execute_query_result::Result::Success(taken)) => {
                Ok(Job { id: taken.job_id, scheduler, threads: Handle::current(), is_over: false })
            }
            Some(execute_query_result::Result::Failure(failure)) => Err(format!("{failure:?}")),
            None => Err("it says nothing".to_owned()),
        })
    });
    match sent.await {
        Ok(Ok(Ok(job))) => Ok(job),
        Ok(Ok(Err(reason))) => Err(ClusterError::Refused(reason)),
        Ok(Err(status)) => Err(of_status(&status, unreachable)),
        Err(error) => Err(ClusterError::Refused(error.to_string())),
    }
}

/// A scheduler that is gone has no words of its own.
fn of_status(status: &tonic::Status, unreachable: impl Fn(String) -> ClusterError) -> ClusterError {
    let gone = std::error::Error::source(status).is_some() || status.code() == tonic::Code::Unavailable;
    let text = status.message().to_owned();
    match text.as_str() {
        NO_EXECUTORS => ClusterError::NoExecutors,
        _ if gone => unreachable(text),
        _ => ClusterError::Refused(text),
    }
}

fn settings(config: &SessionConfig, name: &str) -> Vec<KeyValuePair> {
    let config = config.clone().with_ballista_job_name(name);
    let entries = config.options().entries().into_iter();
    entries.map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect()
}

impl Job {
    /// Where its answer is, once it has one.
    async fn ended(
        &mut self,
        unreachable: impl Fn(String) -> ClusterError,
    ) -> Result<Vec<PartitionLocation>, ClusterError> {
        let mut pause = LOOKS.0;
        loop {
            let asked = self.scheduler.get_job_status(GetJobStatusParams { job_id: self.id.clone() }).await;
            let status = asked.map_err(|status| of_status(&status, &unreachable))?.into_inner().status;
            match status.and_then(|status| status.status) {
                Some(job_status::Status::Successful(done)) => return Ok(done.partition_location),
                Some(job_status::Status::Failed(failed)) => {
                    self.is_over = true;
                    tracing::debug!(job = self.id, error = failed.error, "a job failed");
                    return Err(ClusterError::of_job(&failed.error));
                }
                None | Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }
}

impl Parts {
    /// The next part of the answer; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<SendableRecordBatchStream>, ClusterError> {
        let Some(location) = self.parts.next() else { return Ok(None) };
        let layout = location.layout();
        let (Some(executor), Some(partition)) = (location.executor_meta, location.partition_id) else {
            return Err(ClusterError::Refused("a part of the answer is nowhere".to_owned()));
        };
        let lost = |error: BallistaError| {
            let reason = format!("executor {}:{}: {error}", executor.host, executor.port);
            tracing::debug!(job = self.job.id, reason, "a part of an answer was not fetched");
            ClusterError::Lost(reason)
        };
        let place = (executor.host.clone(), executor.port);
        let client = match self.clients.entry(place) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let port = u16::try_from(executor.port).unwrap_or_default();
                let endpoint =
                    ballista_core::extension::BallistaConfigGrpcEndpoint::new(self.links.endpoint_override());
                let client = BallistaClient::try_new(
                    &executor.host,
                    port,
                    self.links.message_bytes_max,
                    self.links.is_tls(),
                    Some(std::sync::Arc::new(endpoint)),
                    FETCHES.0,
                    FETCHES.1,
                    0,
                    0,
                );
                new.insert(client.await.map_err(lost)?)
            }
        };
        let port = u16::try_from(executor.port).unwrap_or_default();
        let partition = partition.into();
        let fetched = client.fetch_partition_proxied(
            &executor.id,
            &partition,
            location.file_id,
            layout,
            &executor.host,
            port,
            true,
        );
        fetched.await.map(Some).map_err(lost)
    }
}
