//! An answer on its way: as fast as its client reads, and no longer than it may take.

use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use super::running::Place;
use super::status::{cancelled, status};
use super::types;
use crate::error::QueryError;
use crate::query::Answer;

/// What a call answers with, piece by piece.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for a slow client.
const PIECES_MAX: usize = 4;
/// About the largest message, in bytes: less than the 4 MiB that clients take.
const PIECE_BYTES: usize = 1 << 20;

/// Sends an answer.
pub(super) fn send(answer: Answer, place: Place) -> Response<Answers<FlightData>> {
    let partial: Vec<&str> = answer.quarantined.iter().map(|bad| bad.path.as_str()).collect();
    let partial = MetadataValue::try_from(partial.join(",")).ok().filter(|value| !value.is_empty());
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(produce(answer, place, sender));
    let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    let mut response = Response::new(Box::pin(pieces) as Answers<FlightData>);
    if let Some(partial) = partial {
        response.metadata_mut().insert("x-tollhouse-partial", partial);
    }
    response
}

/// Sends one batch that is at hand.
///
/// # Errors
/// When it cannot be encoded.
pub(super) async fn send_batch(batch: RecordBatch) -> Result<Response<Answers<FlightData>>, Status> {
    let pieces = encode(Some(&batch), &batch.schema(), true).await.map_err(|error| status(&error))?;
    Ok(Response::new(Box::pin(futures::stream::iter(pieces.into_iter().map(Ok)))))
}

type Pieces = mpsc::Sender<Result<FlightData, Status>>;

/// Runs the query. A client that went away ends it.
async fn produce(mut answer: Answer, place: Place, pieces: Pieces) {
    let (gone, deadline) = (pieces.clone(), answer.deadline());
    let result = tokio::select! {
        () = gone.closed() => return,
        () = place.cancel.cancelled() => {
            // It stands in the history as cancelled, and its turn is free, before its client hears of it.
            drop(answer);
            let _gone = pieces.send(Err(cancelled())).await;
            return;
        }
        result = tokio::time::timeout_at(deadline.into(), deliver(&mut answer, &pieces)) => result,
    };
    let error = match result {
        Ok(Ok(())) => return answer.finish(),
        Ok(Err(error)) => error,
        Err(_) => answer.timed_out(),
    };
    answer.fail(&error);
    drop((answer, place));
    let _gone = pieces.send(Err(status(&error))).await;
}

async fn deliver(answer: &mut Answer, pieces: &Pieces) -> Result<(), QueryError> {
    let schema = types::schema(&answer.schema);
    let opening = encode(None, &schema, true).await?;
    put(answer, opening, pieces).await;
    while let Some(batch) = answer.next().await? {
        let encoded = encode(Some(&types::batch(&batch, &schema)?), &schema, false).await?;
        put(answer, encoded, pieces).await;
    }
    Ok(())
}

async fn put(answer: &mut Answer, encoded: Vec<FlightData>, pieces: &Pieces) {
    for piece in encoded {
        answer.sent(piece.encoded_len() as u64);
        // A closed channel is seen by `produce`, which ends the query.
        if pieces.send(Ok(piece)).await.is_err() {
            return;
        }
    }
}

/// The messages of a batch, with that of its schema before them or without.
async fn encode(
    batch: Option<&RecordBatch>,
    schema: &SchemaRef,
    opening: bool,
) -> Result<Vec<FlightData>, QueryError> {
    let batches = futures::stream::iter(batch.cloned().map(Ok::<_, FlightError>));
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(Arc::clone(schema))
        .with_max_flight_data_size(PIECE_BYTES)
        .build(batches);
    let mut messages: Vec<FlightData> =
        encoder.try_collect().await.map_err(|error| QueryError::Encode(error.to_string()))?;
    if !opening {
        // No column is encoded by a dictionary, so that every batch stands for itself.
        messages.remove(0);
    }
    Ok(messages)
}
