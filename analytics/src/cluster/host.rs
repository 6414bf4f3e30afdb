//! Rows that are not in the bucket: hot ones, sealed ones that are not uploaded yet, and small tables of this process. Executors
//! fetch them from here while the query runs that needs them, each partition as often as it is asked for, so that a task can
//! be done again elsewhere.
//!
//! What they are called is a random number that only the plan names. They are computed on the query's own threads.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use datafusion::common::{Result as EngineResult, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{Stream, StreamExt, TryStreamExt};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::links::{Links, incoming};
use super::rows::RowsTicket;

/// Rows of one message.
const MESSAGE_ROWS: usize = 4_096;
/// Batches that wait for whoever reads them.
const BATCHES_MAX: usize = 1;
/// Calls that one executor may have under way.
const CALLS_MAX: u16 = 1_024;

/// What is served at present.
#[derive(Debug, Default)]
pub(crate) struct Host {
    served: Mutex<HashMap<String, Served>>,
}

#[derive(Debug, Clone)]
struct Served {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    threads: Handle,
}

/// Rows of a query, by their names; dropped, they are served no more.
#[derive(Debug)]
pub(super) struct Rows {
    host: Arc<Host>,
    names: Vec<String>,
}

impl Host {
    fn served(&self) -> MutexGuard<'_, HashMap<String, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves rows, computed on the threads of whoever calls.
    pub(super) fn serve(
        self: &Arc<Self>,
        rows: &[(String, Arc<dyn ExecutionPlan>)],
        context: &Arc<TaskContext>,
    ) -> Rows {
        let mut served = self.served();
        for (name, plan) in rows {
            let (plan, context, threads) = (Arc::clone(plan), Arc::clone(context), Handle::current());
            served.insert(name.clone(), Served { plan, context, threads });
        }
        drop(served);
        Rows { host: Arc::clone(self), names: rows.iter().map(|(name, _)| name.clone()).collect() }
    }
}

/// A name that nobody guesses.
pub(super) fn name() -> EngineResult<String> {
    let mut bytes = [0; 16];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return internal_err!("the system has no random numbers");
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Drop for Rows {
    fn drop(&mut self) {
        let mut served = self.host.served();
        for name in &self.names {
            served.remove(name);
        }
    }
}

/// Where executors fetch rows, ready to be opened.
#[derive(Debug)]
pub(crate) struct RowsDoor {
    listener: TcpListener,
    links: Links,
    host: Arc<Host>,
}

impl RowsDoor {
    pub(super) fn new(listener: TcpListener, links: Links, host: Arc<Host>) -> Self {
        Self { listener, links, host }
    }

    /// Serves until it is told to stop. To be called on a runtime.
    pub(crate) async fn serve(self, stopping: CancellationToken) -> io::Result<()> {
        let incoming = incoming(self.listener)?;
        let mut server = self.links.server(CALLS_MAX).map_err(io::Error::other)?;
        let service =
            FlightServiceServer::new(Door(self.host)).max_encoding_message_size(self.links.message_bytes_max);
        let served =
            server.add_service(service).serve_with_incoming_shutdown(incoming, stopping.cancelled_owned());
        served.await.map_err(io::Error::other)
    }
}

struct Door(Arc<Host>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Door {
    fn rows(&self, ticket: &[u8]) -> Result<Answers<FlightData>, Status> {
        let ticket: RowsTicket = serde_json::from_slice(ticket)
            .map_err(|_| Status::invalid_argument("the ticket names no rows"))?;
        let served = self.0.served().get(&ticket.rows).cloned();
        let Some(Served { plan, context, threads }) = served else {
            return Err(Status::not_found("the query is over that has these rows"));
        };
        let schema = plan.schema();
        let partition = usize::try_from(ticket.partition).unwrap_or(usize::MAX);
        if partition >= plan.output_partitioning().partition_count() {
            return Err(Status::not_found("there is no such partition"));
        }
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        threads.spawn(async move {
            let mut stream = match plan.execute(partition, context) {
                Ok(stream) => stream,
                Err(error) => {
                    // Nobody waits for it any more then.
                    let _gone = sender.send(Err(error)).await;
                    return;
                }
            };
            while let Some(batch) = stream.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        let batches = futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        let pieces = batches
            .map_err(|error| FlightError::ExternalError(Box::new(error)))
            .and_then(|batch| async move { Ok(futures::stream::iter(pieces(&batch))) })
            .try_flatten();
        let data = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_dictionary_handling(DictionaryHandling::Resend)
            // They are pieces by now; a piece of views would take all of their bytes along.
            .with_max_flight_data_size(usize::MAX)
            .build(pieces);
        Ok(Box::pin(data.map_err(|error| Status::internal(error.to_string()))))
    }
}

/// A batch in pieces of messages, each with no more bytes than its rows need.
fn pieces(batch: &RecordBatch) -> Vec<Result<RecordBatch, FlightError>> {
    let starts = (0..batch.num_rows()).step_by(MESSAGE_ROWS);
    let piece = |start: usize| {
        let piece = batch.slice(start, MESSAGE_ROWS.min(batch.num_rows() - start));
        let columns: Vec<ArrayRef> = piece.columns().iter().map(compact).collect();
        Ok::<_, ArrowError>(if columns.is_empty() {
            piece
        } else {
            RecordBatch::try_new(piece.schema(), columns)?
        })
    };
    starts.map(|start| piece(start).map_err(FlightError::from)).collect()
}

fn compact(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    }
}

#[tonic::async_trait]
impl FlightService for Door {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Ok(Response::new(self.rows(&request.into_inner().ticket)?))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(only_rows())
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(only_rows())
    }

    async fn get_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(only_rows())
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(only_rows())
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(only_rows())
    }

    async fn do_put(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Err(only_rows())
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(only_rows())
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(only_rows())
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(only_rows())
    }
}

fn only_rows() -> Status {
    Status::unimplemented("executors fetch rows here, and nothing else is to be had")
}
