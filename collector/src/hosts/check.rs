//! What a batch must be before it is stored: anything else is refused as a whole, and harms nobody.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, UInt16Type, UInt64Type};
use arrow::error::ArrowError;
use event::columns::schema;
use event::hot::packed::one_value;
use event::hot::unpack;

use super::wire::Step;

/// Most rows of a batch: the most that `collector.batch_rows_max` of a sender may be.
const ROWS_MAX: usize = 65_536;
/// The columns that say which event a row is.
const IDENTITY: [&str; 3] = ["node", "core", "sequence"];

/// What is wrong with a batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("a batch of {0} rows: at most {ROWS_MAX} are taken")]
    Rows(usize),
    #[error("column `{0}` is unknown here: a receiver must be at least as new as its senders")]
    Column(String),
    #[error("column `{0}` stands there twice")]
    Twice(String),
    #[error("column `{0}` is missing: each row must say which event it is")]
    Missing(&'static str),
    #[error("column `{name}` is {found}, which does not stand for {wanted}")]
    Type { name: String, found: DataType, wanted: DataType },
    #[error("the columns are not those of the table `requests`: {0}")]
    Schema(#[from] ArrowError),
    #[error("a row of lane {0}, which the batch does not name in its metadata")]
    Lane(u16),
    #[error("the sequences of lane {0} do not rise")]
    Order(u16),
    #[error(
        "a row of lane {core} has the sequence {sequence}, behind the {after} that the batch brings it to"
    )]
    Beyond { core: u16, sequence: u64, after: u64 },
}

/// Where each row of a batch comes from.
#[derive(Debug)]
pub(crate) struct Origins {
    pub(super) cores: Vec<u16>,
    pub(super) sequences: Vec<u64>,
    /// The node of the last row.
    pub(super) node: String,
}

/// Looks at a batch as a whole.
pub(super) fn check(batch: &RecordBatch, lanes: &BTreeMap<u16, Step>) -> Result<Origins, BatchError> {
    if batch.num_rows() > ROWS_MAX || batch.num_rows() == 0 {
        return Err(BatchError::Rows(batch.num_rows()));
    }
    let (table, packed) = (schema(), batch.schema());
    for (index, field) in packed.fields().iter().enumerate() {
        let name = field.name();
        let Ok(wanted) = table.field_with_name(name) else { return Err(BatchError::Column(name.clone())) };
        if packed.index_of(name)? != index {
            return Err(BatchError::Twice(name.clone()));
        }
        // Sealing takes a column without values for a mistake, unless its field says the one that all have.
        let lists = matches!(
            wanted.data_type(),
            DataType::FixedSizeBinary(_) | DataType::List(_) | DataType::Map(..)
        );
        let blank = field.data_type() == &DataType::Null && (lists || one_value(field).is_none());
        let plain_id = !matches!(wanted.data_type(), DataType::FixedSizeBinary(_))
            || field.data_type() == wanted.data_type();
        if blank || !plain_id {
            let (found, wanted) = (field.data_type().clone(), wanted.data_type().clone());
            return Err(BatchError::Type { name: name.clone(), found, wanted });
        }
    }
    for name in IDENTITY {
        packed.index_of(name).map_err(|_| BatchError::Missing(name))?;
    }
    // What can be made columns of the table can be read, sealed and merged.
    let rows = unpack(batch, None)?;
    let column = |name| rows.column_by_name(name).ok_or(BatchError::Missing(name));
    let cores = column("core")?.as_primitive::<UInt16Type>().values().to_vec();
    let sequences = column("sequence")?.as_primitive::<UInt64Type>().values().to_vec();
    let nodes = column("node")?.as_string_view();
    let node = nodes.value(nodes.len() - 1).to_owned();
    in_order(&cores, &sequences, lanes)?;
    Ok(Origins { cores, sequences, node })
}

/// Each lane's sequences rise and end where the batch says.
fn in_order(cores: &[u16], sequences: &[u64], lanes: &BTreeMap<u16, Step>) -> Result<(), BatchError> {
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    let mut run: Option<(u16, u64)> = None;
    for (core, sequence) in cores.iter().copied().zip(sequences.iter().copied()) {
        let before = match run {
            // Rows of a lane mostly follow one another.
            Some((same, before)) if same == core => Some(before),
            _ => {
                if let Some((other, through)) = run {
                    last.insert(other, through);
                }
                if !lanes.contains_key(&core) {
                    return Err(BatchError::Lane(core));
                }
                last.get(&core).copied()
            }
        };
        if before.is_some_and(|before| before >= sequence) {
            return Err(BatchError::Order(core));
        }
        run = Some((core, sequence));
    }
    last.extend(run);
    for (core, sequence) in last {
        let after = lanes.get(&core).ok_or(BatchError::Lane(core))?.after.sequence;
        if sequence > after {
            return Err(BatchError::Beyond { core, sequence, after });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use event::spool::Position;

    use super::*;

    fn lanes(after: &[(u16, u64)]) -> BTreeMap<u16, Step> {
        let step = |sequence| Step { before: None, after: Position { sequence, life_us: 1, ordinal: 1 } };
        after.iter().map(|(core, sequence)| (*core, step(*sequence))).collect()
    }

    #[test]
    fn sequences_rise_lane_by_lane_up_to_what_the_batch_says() {
        let lanes = lanes(&[(0, 5), (1, 7)]);
        assert!(in_order(&[0, 0, 1, 0, 1], &[1, 2, 3, 5, 7], &lanes).is_ok());
        assert!(matches!(in_order(&[0, 1, 0], &[2, 1, 2], &lanes), Err(BatchError::Order(0))));
        assert!(matches!(in_order(&[2], &[1], &lanes), Err(BatchError::Lane(2))));
        assert!(matches!(
            in_order(&[1, 0], &[8, 1], &lanes),
            Err(BatchError::Beyond { core: 1, sequence: 8, after: 7 })
        ));
    }
}
