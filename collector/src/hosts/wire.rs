//! What the two sides say to each other.
//!
//! A batch is a run of Flight messages: its schema, its dictionaries, its rows. The schema comes with each batch since a
//! packed batch has one of its own; a client whose batches all have one schema says it once, as Flight clients do. The
//! last message carries a [`BatchNote`] as `app_metadata`, and is answered with an [`Ack`] in the same order. Before
//! the first batch of a connection comes the action [`BEGIN`].

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;
use event::spool::Position;
use serde::{Deserialize, Serialize};

/// The version of these messages.
pub(super) const VERSION: u32 = 1;
/// The path of the descriptor that the first message of a stream has.
pub(super) const PATH: &str = "requests";
/// The action that begins a session.
pub(super) const BEGIN: &str = "begin";
/// What a message takes beside its body.
pub(super) const HEAD_BYTES_MAX: usize = 256 << 10;
/// What buffers of a batch begin at a multiple of, in bytes.
const ALIGNMENT: usize = 8;

/// Length of the name of a data folder.
pub(crate) const INSTANCE_DIGITS: usize = 32;

/// Whether a text is the name of a data folder, as its first start makes it up.
pub(crate) fn is_instance(text: &str) -> bool {
    text.len() == INSTANCE_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a batch brings a lane to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Where the lane was before.
    #[serde(default)]
    pub(crate) before: Option<Position>,
    /// Where it is with the batch.
    pub(crate) after: Position,
}

/// What a sender says of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BatchNote {
    pub(super) version: u32,
    /// The data folder that the rows come from.
    pub(super) instance: String,
    /// The session that the stream belongs to.
    pub(super) session: u64,
    /// By the number of the lane, which is the `core` of its rows.
    pub(super) lanes: BTreeMap<u16, Step>,
}

/// What a receiver says of a batch that is on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ack {
    pub(super) version: u32,
    /// The sequence that each lane of the batch is durable through.
    pub(super) lanes: BTreeMap<u16, u64>,
}

/// Rows that a sender takes back: another receiver has acknowledged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// The sequence before the first; none for all from the beginning.
    #[serde(default)]
    pub(crate) after: Option<u64>,
    /// The last.
    pub(crate) through: u64,
}

/// Begins a session: from then on nothing of an earlier one of the same instance is taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) version: u32,
    pub(crate) instance: String,
    /// Rises with each session.
    pub(crate) session: u64,
    /// The sender's name in its rows; empty before its first event.
    pub(crate) node: String,
    /// By lane.
    #[serde(default)]
    pub(crate) revoke: BTreeMap<u16, Span>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) version: u32,
    /// Most bytes of the body of a message.
    pub(crate) batch_bytes_max: u64,
    /// How far each lane of the instance is here.
    pub(crate) lanes: BTreeMap<u16, u64>,
}

/// The messages of a batch; the last of them takes the note.
///
/// # Errors
/// When Arrow cannot write the batch.
pub(super) fn encode(batch: &RecordBatch, note: Vec<u8>) -> Result<Vec<FlightData>, ArrowError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let (generator, mut tracker) = (IpcDataGenerator::default(), DictionaryTracker::new(false));
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let (dictionaries, rows) =
        generator.encode(batch, &mut tracker, &options, &mut IpcWriteContext::default())?;
    let mut messages = vec![FlightData::from(schema)];
    messages.extend(dictionaries.into_iter().map(FlightData::from));
    messages.push(FlightData::from(rows).with_app_metadata(note));
    Ok(messages)
}

/// An error with everything that it says of its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
