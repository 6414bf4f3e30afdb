//! The calls. Each is let in by itself; everything that reads goes through the engine.

use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest,
    ActionEndTransactionRequest, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas,
    CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo,
    CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementSubstraitPlan, CommandStatementUpdate, DoPutPreparedStatementResult, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData,
    FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::answer::{self, Answers};
use super::asking::{Reply, Service, at_hand, ipc, parameters, unwritten};
use super::catalogue::{self, failed};
use super::entrance::{self, AUTHORIZATION};
use super::ticket::Asked;
use super::types;

/// The action that ends a query by what was told about it.
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

fn reads_only<T>() -> Result<T, Status> {
    Err(Status::permission_denied(
        "nothing can be written here: only statements that read are answered (refused)",
    ))
}

fn no_transactions<T>() -> Result<T, Status> {
    Err(Status::unimplemented("there are no transactions: nothing is written here"))
}

fn no_plans<T>() -> Result<T, Status> {
    Err(Status::unimplemented("Substrait plans are not taken: ask in SQL"))
}

fn info_data() -> Result<SqlInfoData, Status> {
    catalogue::info().map_err(unwritten)
}

fn type_data() -> Result<XdbcTypeInfoData, Status> {
    catalogue::type_info().map_err(unwritten)
}

/// Lets a call in, whoever it is.
macro_rules! known {
    ($self:ident, $request:ident) => {
        entrance::enter(&$self.engine, $request.metadata())?
    };
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Reply<Answers<HandshakeResponse>> {
        let entered = known!(self, request);
        let payload = Bytes::from(entered.bearer.clone());
        let told = futures::stream::iter([Ok(HandshakeResponse { protocol_version: 0, payload })]);
        let mut response = Response::new(Box::pin(told) as Answers<HandshakeResponse>);
        if let Ok(bearer) = MetadataValue::try_from(format!("Bearer {}", entered.bearer)) {
            response.metadata_mut().insert(AUTHORIZATION, bearer);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        let question = self.question(&request)?;
        self.announce(&question, Asked::new(&query.query), request.into_inner()).await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        let question = self.question(&request)?;
        self.announce(&question, Asked::read(query.prepared_statement_handle)?, request.into_inner()).await
    }

    async fn get_flight_info_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        no_plans()
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        self.run(self.question(&request)?, Asked::read(ticket.statement_handle)?).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        self.run(self.question(&request)?, Asked::read(query.prepared_statement_handle)?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let question = self.question(&request)?;
        let asked = Asked::new(&query.query);
        let described = self.describe(&question, &asked.sql, Vec::new()).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: asked.bytes(),
            dataset_schema: ipc(&types::schema(&described.schema))?,
            parameter_schema: ipc(&parameters(&described.params))?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        // Its handle was all that there is of it.
        known!(self, request);
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        known!(self, request);
        let asked = Asked::read(query.prepared_statement_handle)?;
        let (mut params, mut bytes) = (Vec::new(), asked.sql.len());
        let mut messages = request.into_inner();
        while let Some(message) = messages.next().await {
            let FlightData { data_header, data_body, .. } = message?;
            bytes += data_header.len() + data_body.len();
            if bytes > self.message_bytes_max {
                let max = self.message_bytes_max;
                return Err(Status::resource_exhausted(format!(
                    "statement and parameters are longer than {max} bytes (analytics.flight.message_bytes_max)"
                )));
            }
            if !data_header.is_empty() {
                params.push(FlightData { data_header, data_body, ..FlightData::default() });
            }
        }
        let bound = Asked { params, ..asked };
        bound.values().await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(bound.bytes()) })
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        known!(self, request);
        let mut builder = query.into_builder();
        builder.append(catalogue::CATALOG);
        answer::send_batch(builder.build().map_err(failed)?).await
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        let question = self.question(&request)?;
        answer::send_batch(catalogue::schemas(&self.engine, &question, query).await?).await
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        let question = self.question(&request)?;
        answer::send_batch(catalogue::table_list(&self.engine, &question, query).await?).await
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        known!(self, request);
        let mut builder = query.into_builder();
        catalogue::TABLE_TYPES.iter().for_each(|kind| builder.append(kind));
        answer::send_batch(builder.build().map_err(failed)?).await
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &query.clone().into_builder(&info_data()?).schema(), request)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        known!(self, request);
        let batch = query.into_builder(&info_data()?).build().map_err(failed)?;
        answer::send_batch(batch).await
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &query.into_builder(&type_data()?).schema(), request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        known!(self, request);
        let batch = query.into_builder(&type_data()?).build().map_err(failed)?;
        answer::send_batch(batch).await
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &catalogue::no_primary_keys().schema(), request)
    }

    async fn do_get_primary_keys(
        &self,
        _: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        known!(self, request);
        answer::send_batch(catalogue::no_primary_keys()).await
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &catalogue::no_foreign_keys().schema(), request)
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        self.no_foreign_keys(request).await
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &catalogue::no_foreign_keys().schema(), request)
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        self.no_foreign_keys(request).await
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        known!(self, request);
        at_hand(&query, &catalogue::no_foreign_keys().schema(), request)
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        request: Request<Ticket>,
    ) -> Reply<Answers<FlightData>> {
        self.no_foreign_keys(request).await
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        known!(self, request);
        reads_only()
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        known!(self, request);
        reads_only()
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        known!(self, request);
        reads_only()
    }

    async fn do_put_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        no_plans()
    }

    async fn do_action_create_prepared_substrait_plan(
        &self,
        _: ActionCreatePreparedSubstraitPlanRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        no_plans()
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        no_transactions()
    }

    async fn do_action_end_transaction(
        &self,
        _: ActionEndTransactionRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        no_transactions()
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        no_transactions()
    }

    async fn do_action_end_savepoint(
        &self,
        _: ActionEndSavepointRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        no_transactions()
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info).map_err(|_| no_flight())?;
        self.cancel(&request, &info)?;
        // The older action has the same numbers.
        Ok(ActionCancelQueryResult { result: CancelStatus::Cancelled.into() })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Reply<<Self as FlightService>::DoActionStream> {
        if request.get_ref().r#type != CANCEL_FLIGHT_INFO {
            let said = format!("there is no action `{}`", request.get_ref().r#type);
            return Err(Status::invalid_argument(said));
        }
        let asked =
            CancelFlightInfoRequest::decode(request.get_ref().body.clone()).map_err(|_| no_flight())?;
        self.cancel(&request, &asked.info.ok_or_else(no_flight)?)?;
        let body = CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec();
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(arrow_flight::Result::new(body))]))))
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let description = "Cancels a query by what GetFlightInfo has told about it.".to_owned();
        Some(vec![Ok(ActionType { r#type: CANCEL_FLIGHT_INFO.to_owned(), description })])
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

fn no_flight() -> Status {
    Status::invalid_argument("what is to be cancelled is no FlightInfo")
}

impl Service {
    async fn no_foreign_keys(&self, request: Request<Ticket>) -> Reply<Answers<FlightData>> {
        known!(self, request);
        let none: RecordBatch = catalogue::no_foreign_keys();
        answer::send_batch(none).await
    }
}
