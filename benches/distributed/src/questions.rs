//! What is asked, and when two answers are the same.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Those of `benches/cluster`.
pub const QUESTIONS: [(&str, &str); 6] = [
    ("count", "SELECT count(*) AS n FROM requests WHERE sequence >= 0"),
    (
        "services",
        "SELECT service, count(*) AS n, sum(response_bytes) AS bytes, \
         approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_us) AS p99 \
         FROM requests GROUP BY service ORDER BY service",
    ),
    (
        "consumers",
        "SELECT consumer, count(*) AS n, sum(response_bytes) AS bytes FROM requests WHERE duration_us >= 0 \
         GROUP BY consumer ORDER BY n DESC, consumer LIMIT 10",
    ),
    (
        "paths",
        "SELECT path, count(*) AS n, count(DISTINCT trace_id) AS traces FROM requests GROUP BY path \
         ORDER BY n DESC, path LIMIT 10",
    ),
    (
        "join",
        "SELECT a.service, count(*) AS n FROM requests a JOIN requests b ON a.trace_id = b.trace_id \
         WHERE a.status >= 500 GROUP BY a.service ORDER BY a.service",
    ),
    ("rows", "SELECT time, path, status FROM requests WHERE status >= 500 ORDER BY time LIMIT 1000"),
];

/// Long enough for a worker to be lost in the middle of it.
pub const LONG: &str = "SELECT path, count(*) AS n, count(DISTINCT trace_id) AS traces, count(DISTINCT span_id) AS spans, \
     count(DISTINCT request_id) AS ids FROM requests GROUP BY path ORDER BY n DESC, path LIMIT 10";

/// The column that is answered approximately, and how far two answers of it may be apart: it depends on how rows are cut.
const ROUGH: (&str, f64) = ("p99", 0.05);

/// An answer, as text.
pub struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// Reads the batches of an answer.
    pub fn read(batches: &[RecordBatch]) -> Result<Self, String> {
        let fields = batches.first().map(|batch| batch.schema().fields().clone()).unwrap_or_default();
        let columns = fields.iter().map(|field| field.name().clone()).collect();
        let format = FormatOptions::default();
        let mut rows = Vec::new();
        for batch in batches {
            let values = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &format));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            rows.extend(
                (0..batch.num_rows())
                    .map(|row| values.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>()),
            );
        }
        Ok(Self { columns, rows })
    }

    /// The first value of the first row.
    pub fn first(&self) -> &str {
        self.rows.first().and_then(|row| row.first()).map_or("no", String::as_str)
    }

    /// Says where it is another answer than the one that is wanted.
    pub fn must_be(&self, wanted: &Self) -> Result<(), String> {
        if self.columns != wanted.columns || self.rows.len() != wanted.rows.len() {
            return Err(format!("{} rows are not {}", self.rows.len(), wanted.rows.len()));
        }
        for (found, wanted) in self.rows.iter().zip(&wanted.rows) {
            let same = self.columns.iter().zip(found.iter().zip(wanted)).all(|(column, (found, wanted))| {
                found == wanted || (column == ROUGH.0 && near(found, wanted))
            });
            if !same {
                return Err(format!("{found:?} is not {wanted:?}"));
            }
        }
        Ok(())
    }
}

fn near(found: &str, wanted: &str) -> bool {
    match (found.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(found), Ok(wanted)) => (found - wanted).abs() <= wanted.abs() * ROUGH.1,
        _ => false,
    }
}
