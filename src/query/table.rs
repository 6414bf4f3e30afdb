//! An Arrow stream as a table for people: numbers to the right, widths from the first rows, rows streamed.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::Stop;

/// Rows that are held back to measure the columns; later rows may be wider and then stand out.
const MEASURED_ROWS_MAX: usize = 1_000;
/// Longest text of one cell, in characters; the rest is cut with `…`.
const CELL_CHARS_MAX: usize = 200;

/// A table on its way.
#[derive(Default)]
pub(super) struct Table {
    decoder: StreamDecoder,
    held: Vec<Vec<String>>,
    layout: Option<Layout>,
    rows: u64,
}

struct Layout {
    widths: Vec<usize>,
    right: Vec<bool>,
}

impl Table {
    /// Takes the next bytes of the stream and prints the rows they complete.
    pub(super) fn take(&mut self, chunk: Bytes, out: &mut impl Write) -> Result<(), Stop> {
        // A copy aligns the bytes, as Arrow asks.
        let mut buffer = Buffer::from(chunk.to_vec());
        while !buffer.is_empty() {
            let Some(batch) = self.decoder.decode(&mut buffer).map_err(malformed)? else { break };
            self.rows += batch.num_rows() as u64;
            let rows = cells(&batch)?;
            match &self.layout {
                Some(layout) => layout.print(&rows, out)?,
                None => {
                    self.held.extend(rows);
                    if self.held.len() >= MEASURED_ROWS_MAX {
                        self.begin(batch.schema(), out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints what was held back, and the count.
    pub(super) fn end(mut self, out: &mut impl Write) -> Result<(), Stop> {
        self.decoder.finish().map_err(|error| Stop::Query(format!("the answer broke off: {error}")))?;
        if self.layout.is_none() {
            match self.decoder.schema() {
                Some(schema) => self.begin(schema, out)?,
                None => return Err(Stop::Query("the answer broke off before its first byte".into())),
            }
        }
        let rows = if self.rows == 1 { "row" } else { "rows" };
        writeln!(out, "({} {rows})", self.rows)?;
        Ok(())
    }

    fn begin(&mut self, schema: SchemaRef, out: &mut impl Write) -> Result<(), Stop> {
        let names: Vec<String> = schema.fields().iter().map(|field| clean(field.name())).collect();
        let width = |column: usize| {
            let held = self.held.iter().map(|row| row[column].chars().count());
            held.chain([names[column].chars().count()]).max().unwrap_or(0)
        };
        let layout = Layout {
            widths: (0..names.len()).map(width).collect(),
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
        };
        layout.print(&[names], out)?;
        let rule: Vec<String> = layout.widths.iter().map(|width| "─".repeat(*width)).collect();
        writeln!(out, "{}", rule.join("──"))?;
        layout.print(&self.held, out)?;
        self.held.clear();
        self.layout = Some(layout);
        Ok(())
    }
}

impl Layout {
    fn print(&self, rows: &[Vec<String>], out: &mut impl Write) -> Result<(), Stop> {
        for row in rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = self.widths[column];
                let padded = if self.right[column] {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                };
                line.push_str(&padded);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, Stop> {
    let options = FormatOptions::default().with_null("");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).map_err(malformed))
        .collect::<Result<_, _>>()?;
    Ok((0..batch.num_rows())
        .map(|row| columns.iter().map(|column| clean(&column.value(row).to_string())).collect())
        .collect())
}

/// Values come from the network: control characters would drive the terminal.
fn clean(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(CELL_CHARS_MAX)
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

fn malformed(error: arrow::error::ArrowError) -> Stop {
    Stop::Query(format!("the server's answer is not an Arrow stream: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::ipc::writer::StreamWriter;
    use bytes::Bytes;

    use super::Table;

    fn stream() -> Vec<u8> {
        let names = StringArray::from(vec![Some("orders"), None, Some("a\u{1b}[31m")]);
        let counts = Int64Array::from(vec![5, 12345, 7]);
        let batch = RecordBatch::try_from_iter([
            ("service", Arc::new(names) as arrow::array::ArrayRef),
            ("requests", Arc::new(counts)),
        ])
        .unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn numbers_stand_to_the_right_and_controls_are_shown_not_obeyed() {
        let mut out = Vec::new();
        let mut table = Table::default();
        for piece in stream().chunks(7) {
            table.take(Bytes::copy_from_slice(piece), &mut out).map_err(|stop| format!("{stop:?}")).unwrap();
        }
        table.end(&mut out).map_err(|stop| format!("{stop:?}")).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = [
            "service  requests",
            "─────────────────",
            "orders          5",
            "            12345",
            "a\u{fffd}[31m          7",
            "(3 rows)",
        ];
        let text: Vec<&str> = text.lines().collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error() {
        let whole = stream();
        let mut table = Table::default();
        let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
        table.take(half, &mut Vec::new()).map_err(|stop| format!("{stop:?}")).unwrap();
        assert!(table.end(&mut Vec::new()).is_err());
    }
}
