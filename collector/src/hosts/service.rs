//! What the listener answers: the action `begin`, and `DoPut` of batches. All else of Flight is not here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;

use arrow::array::RecordBatch;
use arrow::ipc::root_as_message;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use event::Secret;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};
use tonic::service::Interceptor;
use tonic::{Code, Request, Response, Status, Streaming};

use super::account::Account;
use super::check::check;
use super::config::ReceiveConfig;
use super::remote::{Arrived, Delivery, Refusal};
use super::wire::{Ack, BEGIN, BatchNote, Begin, INSTANCE_DIGITS, PATH, VERSION, chain, is_instance};

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// An acknowledgement that is to come, with the lanes that it will name.
type Coming = (Ack, oneshot::Receiver<Result<(), Refusal>>);

/// Lets those in who have a token.
#[derive(Clone)]
pub(super) struct Gate {
    tokens: Arc<[Secret]>,
    account: Arc<Account>,
}

impl Gate {
    pub(super) fn new(config: &ReceiveConfig, account: Arc<Account>) -> Self {
        Self { tokens: config.tokens.clone().into(), account }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let said = request.metadata().get("authorization").map(|value| value.as_bytes());
        let token = said.and_then(|said| said.strip_prefix(b"Bearer "));
        // Each is compared to its end, and all of them are: the time tells nothing.
        let matches = |token: &[u8]| {
            let each = self.tokens.iter().map(|known| known.reveal().as_bytes().ct_eq(token).unwrap_u8());
            each.fold(0, |any, one| any | one) == 1
        };
        match token {
            Some(token) if matches(token) => Ok(request),
            token => {
                self.account.received.refusals.add("unauthenticated");
                let peer = request.remote_addr().map_or(String::new(), |addr| addr.to_string());
                tracing::warn!(peer, "a sender without a valid token was refused");
                Err(Status::unauthenticated(match token {
                    None => {
                        "a token is wanted, as in `authorization: Bearer ...`: see collector.forward.token"
                    }
                    Some(_) => "the token is none of collector.receive.tokens",
                }))
            }
        }
    }
}

/// The service of one listener.
pub(super) struct Service {
    door: Inward,
    /// Most batches of one stream that wait for their acknowledgement.
    streams_batches_max: usize,
}

/// The way to intake.
#[derive(Clone)]
struct Inward {
    queue: mpsc::Sender<Delivery>,
    intake: Thread,
    account: Arc<Account>,
}

impl Service {
    pub(super) fn new(
        queue: mpsc::Sender<Delivery>,
        intake: Thread,
        streams_batches_max: usize,
        account: Arc<Account>,
    ) -> Self {
        Self { door: Inward { queue, intake, account }, streams_batches_max }
    }
}

impl Inward {
    /// Hands something to intake; waits while its queue is full.
    async fn deliver(&self, delivery: Delivery) -> Result<(), Status> {
        self.queue.send(delivery).await.map_err(|_| closing())?;
        self.intake.unpark();
        Ok(())
    }

    fn refused(&self, status: Status) -> Status {
        let reason = match status.code() {
            Code::InvalidArgument => "invalid",
            Code::OutOfRange => "too_large",
            Code::FailedPrecondition => "session",
            Code::Unavailable | Code::Cancelled | Code::Unknown => return status,
            _ => "other",
        };
        self.account.received.refusals.add(reason);
        tracing::warn!(code = ?status.code(), message = status.message(), "a batch of another host was refused");
        status
    }

    /// Takes the batches of a stream in, in their order, until one of them is refused.
    async fn take_in(self, stream: Streaming<FlightData>, answers: mpsc::Sender<Result<Coming, Status>>) {
        self.account.received.senders.fetch_add(1, Relaxed);
        let mut batches = FlightDataDecoder::new(stream.enumerate().map(|(index, message)| {
            let message = message?;
            look(index == 0, &message)?;
            Ok::<_, FlightError>(message)
        }));
        loop {
            // Arrow may panic on lengths that do not add up; that is the sender's mistake, not ours.
            let next = std::panic::AssertUnwindSafe(batches.next()).catch_unwind().await;
            let next = match next {
                Ok(None) => break,
                Ok(Some(Ok(next))) => next,
                Ok(Some(Err(error))) => {
                    drop(answers.send(Err(self.refused(status(error)))).await);
                    break;
                }
                Err(_) => {
                    let status = Status::invalid_argument("a message is no Arrow IPC");
                    drop(answers.send(Err(self.refused(status))).await);
                    break;
                }
            };
            let DecodedPayload::RecordBatch(batch) = next.payload else { continue };
            let coming = self.take(batch, &next.inner).await.map_err(|status| self.refused(status));
            let over = coming.is_err();
            // A stream whose answers nobody reads has ended.
            if answers.send(coming).await.is_err() || over {
                break;
            }
        }
        self.account.received.senders.fetch_sub(1, Relaxed);
    }

    async fn take(&self, batch: RecordBatch, message: &FlightData) -> Result<Coming, Status> {
        let note: BatchNote = serde_json::from_slice(&message.app_metadata).map_err(|error| {
            Status::invalid_argument(format!("app_metadata of a batch says no lanes and session: {error}"))
        })?;
        if note.version != VERSION {
            return Err(version(note.version));
        }
        named(&note.instance)?;
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&batch, &note.lanes)));
        let origins = match looked {
            Ok(checked) => checked.map_err(|error| Status::invalid_argument(chain(&error)))?,
            Err(_) => {
                return Err(Status::invalid_argument("a batch holds no columns of the table `requests`"));
            }
        };
        let received = &self.account.received;
        received.batches.fetch_add(1, Relaxed);
        received.bytes.fetch_add(message.data_body.len() as u64, Relaxed);
        let lanes = note.lanes.iter().map(|(core, step)| (*core, step.after.sequence)).collect();
        let ack = Ack { version: VERSION, lanes };
        let (reply, told) = oneshot::channel();
        let BatchNote { instance, session, lanes, .. } = note;
        let arrived = Arrived { instance, session, lanes, origins, batch, reply };
        self.deliver(Delivery::Batch(Box::new(arrived))).await?;
        Ok((ack, told))
    }

    async fn begin(&self, body: &[u8]) -> Result<Bytes, Status> {
        let begin: Begin = serde_json::from_slice(body)
            .map_err(|error| Status::invalid_argument(format!("the action `{BEGIN}`: {error}")))?;
        if begin.version != VERSION {
            return Err(version(begin.version));
        }
        named(&begin.instance)?;
        let (reply, told) = oneshot::channel();
        self.deliver(Delivery::Begin(begin, reply)).await?;
        let begun = told.await.map_err(|_| closing())?.map_err(no)?;
        let body = serde_json::to_vec(&begun).map_err(|error| Status::internal(error.to_string()))?;
        Ok(body.into())
    }
}

/// What can be seen of a message before it is decoded.
fn look(first: bool, message: &FlightData) -> Result<(), Status> {
    if first && message.flight_descriptor.as_ref().is_none_or(|descriptor| descriptor.path != [PATH]) {
        return Err(Status::invalid_argument(format!("the descriptor's path must be `{PATH}`")));
    }
    let head = root_as_message(&message.data_header)
        .map_err(|error| Status::invalid_argument(format!("a message is no Arrow IPC: {error}")))?;
    let rows = head.header_as_record_batch();
    let rows = rows.or_else(|| head.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()));
    // What it unpacks to would have no bound.
    match rows.and_then(|rows| rows.compression()) {
        Some(_) => Err(Status::invalid_argument("compressed messages are not taken")),
        None => Ok(()),
    }
}

fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        error => Status::invalid_argument(chain(&error)),
    }
}

fn version(theirs: u32) -> Status {
    Status::invalid_argument(format!("version {theirs} is unknown: this receiver speaks {VERSION}"))
}

/// A data folder's name is part of the names of marks, among which those of this host's own lanes stand.
fn named(instance: &str) -> Result<(), Status> {
    match is_instance(instance) {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "`instance` must be {INSTANCE_DIGITS} hexadecimal digits in small letters"
        ))),
    }
}

fn closing() -> Status {
    Status::unavailable("the receiver is ending")
}

/// What a sender hears of a refusal.
fn no(refusal: Refusal) -> Status {
    let code = match &refusal {
        Refusal::Over { .. } | Refusal::NotBegun | Refusal::Broken(_) | Refusal::Twin(_) => {
            Code::FailedPrecondition
        }
        Refusal::Senders(_) => Code::ResourceExhausted,
        Refusal::Disk(_) => Code::Unavailable,
        Refusal::Rows(_) => Code::InvalidArgument,
    };
    Status::new(code, refusal.to_string())
}

/// One answer of a stream, when it is there.
async fn answer(coming: Result<Coming, Status>) -> Result<PutResult, Status> {
    let (ack, told) = coming?;
    told.await.map_err(|_| closing())?.map_err(no)?;
    let body = serde_json::to_vec(&ack).map_err(|error| Status::internal(error.to_string()))?;
    Ok(PutResult { app_metadata: body.into() })
}

fn absent<T>() -> Result<T, Status> {
    Err(Status::unimplemented("this listener takes rows of other collectors: DoPut, and the action `begin`"))
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let (answers, coming) = mpsc::channel(self.streams_batches_max);
        tokio::spawn(self.door.clone().take_in(request.into_inner(), answers));
        let answers = futures::stream::unfold(Some(coming), |coming| async move {
            let mut coming = coming?;
            let answer = answer(coming.recv().await?).await;
            // A refusal is the last word.
            let rest = answer.is_ok().then_some(coming);
            Some((answer, rest))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let action = request.into_inner();
        if action.r#type != BEGIN {
            return Err(Status::invalid_argument(format!("the only action here is `{BEGIN}`")));
        }
        let body = self.door.begin(&action.body).await.map_err(|status| self.door.refused(status))?;
        let result = arrow_flight::Result { body };
        Ok(Response::new(futures::stream::once(async { Ok(result) }).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let begin =
            ActionType { r#type: BEGIN.to_owned(), description: "Begins a session of a sender.".to_owned() };
        Ok(Response::new(futures::stream::once(async { Ok(begin) }).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        absent()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        absent()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        absent()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        absent()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        absent()
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        absent()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        absent()
    }
}
