//! What the calls have in common: who asks, where an answer is fetched, how it runs and how it is ended.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{Any, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use prost::Message;
use tonic::{Request, Response, Status};

use super::answer::{self, Answers};
use super::entrance;
use super::running::Running;
use super::status::{cancelled, status};
use super::ticket::{Asked, tells_types};
use super::types;
use crate::error::QueryError;
use crate::query::{Described, Engine, Protocol, Question};

/// What answers.
pub(super) struct Service {
    pub(super) engine: Arc<Engine>,
    running: Arc<Running>,
    pub(super) message_bytes_max: usize,
}

/// An answer to a call.
pub(super) type Reply<T> = Result<Response<T>, Status>;

impl Service {
    pub(super) fn new(engine: Arc<Engine>, message_bytes_max: usize) -> Self {
        Self { engine, running: Arc::default(), message_bytes_max }
    }

    /// A question without a statement: who asks, and from where.
    pub(super) fn question<T>(&self, request: &Request<T>) -> Result<Question, Status> {
        let caller = entrance::enter(&self.engine, request.metadata())?.caller;
        let client = request.remote_addr().map(|peer| peer.to_string()).unwrap_or_default();
        Ok(Question { sql: String::new(), params: Vec::new(), caller, protocol: Protocol::FlightSql, client })
    }

    /// What a statement is made of.
    pub(super) async fn describe(
        &self,
        question: &Question,
        sql: &str,
        named: Vec<Option<ScalarValue>>,
    ) -> Result<Described, Status> {
        self.fits(sql)?;
        let question = Question { sql: sql.to_owned(), ..question.clone() };
        self.engine.describe(question, named).await.map_err(|error| status(&error))
    }

    fn fits(&self, sql: &str) -> Result<(), Status> {
        let max = self.engine.query_bytes_max();
        if sql.len() as u64 > max { Err(status(&QueryError::TooLong(max))) } else { Ok(()) }
    }

    /// Tells where the answer is fetched, and its columns.
    pub(super) async fn announce(
        &self,
        question: &Question,
        asked: Asked,
        descriptor: FlightDescriptor,
    ) -> Reply<FlightInfo> {
        let values = asked.values().await?;
        let mut info = FlightInfo::new().with_descriptor(descriptor);
        if tells_types(&values) {
            let named = values.iter().map(|value| ScalarValue::try_from(&value.data_type()).ok()).collect();
            let described = self.describe(question, &asked.sql, named).await?;
            info = info.try_with_schema(&types::schema(&described.schema)).map_err(unwritten)?;
        } else {
            self.fits(&asked.sql)?;
        }
        let ticket = TicketStatementQuery { statement_handle: asked.with_id()?.bytes() };
        Ok(Response::new(info.with_endpoint(endpoint(&ticket))))
    }

    /// Runs a question until its first rows, and sends the answer.
    pub(super) async fn run(&self, question: Question, asked: Asked) -> Reply<Answers<FlightData>> {
        self.fits(&asked.sql)?;
        let params = asked.values().await?;
        let place = self.running.add(asked.id, &question.caller.name);
        let question = Question { sql: asked.sql, params, ..question };
        let begun = tokio::select! {
            begun = self.engine.ask(question) => begun.map_err(|error| status(&error))?,
            () = place.cancel.cancelled() => return Err(cancelled()),
        };
        Ok(answer::send(begun, place))
    }

    /// Ends what runs for the tickets of what was announced.
    pub(super) fn cancel<T>(&self, request: &Request<T>, info: &FlightInfo) -> Result<(), Status> {
        let caller = entrance::enter(&self.engine, request.metadata())?.caller;
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
        let ids = tickets.filter_map(|ticket| {
            let any = Any::decode(&*ticket.ticket).ok()?;
            let ticket = any.unpack::<TicketStatementQuery>().ok()??;
            Some(Asked::read(ticket.statement_handle).ok()?.id)
        });
        let ended = ids.filter(|id| self.running.cancel(id, &caller.name)).count();
        if ended > 0 { Ok(()) } else { Err(Status::not_found("no such query of yours is running")) }
    }
}

fn endpoint(ticket: &impl ProstMessageExt) -> FlightEndpoint {
    FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()))
}

/// Tells of an answer that is at hand, which is fetched by the same command.
pub(super) fn at_hand(
    command: &impl ProstMessageExt,
    schema: &Schema,
    request: Request<FlightDescriptor>,
) -> Reply<FlightInfo> {
    let info = FlightInfo::new().with_descriptor(request.into_inner());
    let info = info.try_with_schema(schema).map_err(unwritten)?;
    Ok(Response::new(info.with_endpoint(endpoint(command))))
}

/// What cannot be written as Arrow has it.
pub(super) fn unwritten(error: arrow::error::ArrowError) -> Status {
    Status::internal(error.to_string())
}

/// A schema as the results of actions hold one.
pub(super) fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(unwritten)?;
    Ok(bytes)
}

/// The parameters' columns: of texts where any type would do.
pub(super) fn parameters(kinds: &[Option<DataType>]) -> Schema {
    let field = |(index, kind): (usize, &Option<DataType>)| {
        let kind = kind.as_ref().filter(|kind| !kind.is_null()).map_or(DataType::Utf8, types::sent_as);
        Field::new(format!("parameter_{}", index + 1), kind, true)
    };
    Schema::new(kinds.iter().enumerate().map(field).collect::<Vec<_>>())
}
