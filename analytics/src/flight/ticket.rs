//! What a ticket holds, and the handle of a prepared statement: the question itself. A client may have made it up, so all
//! of it is looked at as if it had just been asked.

use std::panic::AssertUnwindSafe;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::ipc::{MessageHeader, root_as_message};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{FutureExt, TryStreamExt};
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use tonic::Status;

use super::marks::numbered;

/// A question.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Asked {
    /// What a run of it is called, to be cancelled by. Empty for a prepared statement.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) id: Bytes,
    #[prost(string, tag = "2")]
    pub(super) sql: String,
    /// The batch of its parameters, and its schema before it, as they came.
    #[prost(message, repeated, tag = "3")]
    pub(super) params: Vec<FlightData>,
}

impl Asked {
    /// A statement without parameters, those that it wants numbered.
    pub(super) fn new(sql: &str) -> Self {
        Self { id: Bytes::new(), sql: numbered(sql).into_owned(), params: Vec::new() }
    }

    /// What a ticket or a handle holds.
    ///
    /// # Errors
    /// When it is none of ours.
    pub(super) fn read(bytes: Bytes) -> Result<Self, Status> {
        Self::decode(bytes)
            .map_err(|_| Status::invalid_argument("this ticket or handle is none of this service"))
    }

    /// The same with an id that nobody guesses.
    pub(super) fn with_id(self) -> Result<Self, Status> {
        let mut id = [0; 16];
        let filled = SystemRandom::new().fill(&mut id);
        filled.map_err(|_| Status::internal("the system gives no random bytes"))?;
        Ok(Self { id: Bytes::copy_from_slice(&id), ..self })
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// The values of `$1`, `$2` ...
    ///
    /// # Errors
    /// When they are more than one row, or no row at all.
    pub(super) async fn values(&self) -> Result<Vec<ScalarValue>, Status> {
        if self.params.is_empty() {
            return Ok(Vec::new());
        }
        for message in &self.params {
            judge(message)?;
        }
        let messages = futures::stream::iter(self.params.clone().into_iter().map(Ok));
        let batches =
            FlightRecordBatchStream::new_from_flight_data(messages).try_collect::<Vec<RecordBatch>>();
        let malformed =
            |reason: String| Status::invalid_argument(format!("the parameters cannot be read: {reason}"));
        let batches = AssertUnwindSafe(batches).catch_unwind().await;
        let batches = batches.map_err(|_| malformed("they are no Arrow data".into()))?;
        let batches = batches.map_err(|error| malformed(error.to_string()))?;
        let rows: Vec<&RecordBatch> = batches.iter().filter(|batch| batch.num_rows() > 0).collect();
        let [row] = rows.as_slice() else {
            let said = format!("one row of parameters is wanted, {} came", rows.len());
            return if rows.is_empty() && batches.iter().all(|batch| batch.num_columns() == 0) {
                Ok(Vec::new())
            } else {
                Err(Status::invalid_argument(said))
            };
        };
        if row.num_rows() > 1 {
            let said =
                format!("one row of parameters is wanted, {} came: a query has one answer", row.num_rows());
            return Err(Status::invalid_argument(said));
        }
        let value = |column: &ArrayRef| ScalarValue::try_from_array(column, 0).map(plain);
        let values = row.columns().iter().map(value).collect::<Result<Vec<_>, _>>();
        values.map_err(|error| malformed(error.to_string()))
    }
}

/// Lets a message of parameters through that needs no more memory than its own bytes: what is compressed says how large it
/// will be, and would be believed.
fn judge(data: &FlightData) -> Result<(), Status> {
    let refused = |reason: &str| Status::invalid_argument(format!("the parameters cannot be read: {reason}"));
    let message = root_as_message(&data.data_header).map_err(|_| refused("they are no Arrow data"))?;
    match message.header_type() {
        MessageHeader::Schema => Ok(()),
        MessageHeader::RecordBatch => {
            let batch = message.header_as_record_batch().ok_or_else(|| refused("a batch is missing"))?;
            if batch.compression().is_some() {
                return Err(refused("they are compressed"));
            }
            let inside = |offset: i64, length: i64| {
                let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
                (offset.checked_add(length)? <= data.data_body.len()).then_some(())
            };
            let mut buffers = batch.buffers().into_iter().flatten();
            if !buffers.all(|buffer| inside(buffer.offset(), buffer.length()).is_some()) {
                return Err(refused("a part of them is missing"));
            }
            Ok(())
        }
        MessageHeader::DictionaryBatch => Err(refused("they are encoded by a dictionary")),
        _ => Err(refused("they are neither a schema nor a batch")),
    }
}

/// A value as the engine takes parameters: texts of one type, so that one may stand for a number or a time.
fn plain(value: ScalarValue) -> ScalarValue {
    match value {
        value if value.is_null() => ScalarValue::Null,
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) => ScalarValue::Utf8View(text),
        value => value,
    }
}

/// Whether an answer's columns can be told before it runs: not by a text or a null, whose type depends on its place.
pub(super) fn tells_types(values: &[ScalarValue]) -> bool {
    values.iter().all(|value| !matches!(value.data_type(), DataType::Null | DataType::Utf8View))
}
