//! An Arrow stream as a table for people: numbers to the right and rounded, widths from the first rows, rows streamed.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::Stop;

/// Rows that are held back to measure the columns; later rows may be wider and then stand out.
const MEASURED_ROWS_MAX: usize = 1_000;
/// Longest line of one cell in a terminal, in characters; the rest is cut with `…`.
const CELL_CHARS_MAX: usize = 200;
/// Most lines of one cell: a query's plan has as many.
const CELL_LINES_MAX: usize = 500;

/// A table on its way.
pub(super) struct Table {
    /// Longest line of a cell, in characters.
    cell_chars_max: usize,
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
    /// A table for a person who reads it in a terminal, or for a file that has room for everything.
    pub(super) fn new(in_terminal: bool) -> Self {
        let cell_chars_max = if in_terminal { CELL_CHARS_MAX } else { usize::MAX };
        let (decoder, held, layout) = (StreamDecoder::default(), Vec::new(), None);
        Self { cell_chars_max, decoder, held, layout, rows: 0 }
    }

    /// Takes the next bytes of the stream and prints the rows they complete.
    pub(super) fn take(&mut self, chunk: Bytes, out: &mut impl Write) -> Result<(), Stop> {
        // A copy aligns the bytes, as Arrow asks.
        let mut buffer = Buffer::from(chunk.to_vec());
        while !buffer.is_empty() {
            let Some(batch) = self.decoder.decode(&mut buffer).map_err(malformed)? else { break };
            self.rows += batch.num_rows() as u64;
            let rows = cells(&batch, self.cell_chars_max)?;
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
        let names: Vec<String> =
            schema.fields().iter().map(|field| clean(field.name(), self.cell_chars_max)).collect();
        let width = |column: usize| {
            let held = self.held.iter().flat_map(|row| row[column].lines()).map(|line| line.chars().count());
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
            let mut cells: Vec<_> = row.iter().map(|cell| cell.lines()).collect();
            let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(0).max(1);
            for _ in 0..height {
                let mut line = String::new();
                for (column, cell) in cells.iter_mut().enumerate() {
                    let (cell, width) = (cell.next().unwrap_or_default(), self.widths[column]);
                    let padded = if self.right[column] {
                        format!("{cell:>width$}  ")
                    } else {
                        format!("{cell:<width$}  ")
                    };
                    line.push_str(&padded);
                }
                writeln!(out, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

fn cells(batch: &RecordBatch, chars_max: usize) -> Result<Vec<Vec<String>>, Stop> {
    let options = FormatOptions::default().with_null("");
    let exact: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).map_err(malformed))
        .collect::<Result<_, _>>()?;
    let cell = |(column, exact): (&ArrayRef, &ArrayFormatter<'_>), row| match column.data_type() {
        DataType::Float64 if column.is_valid(row) => rounded(column.as_primitive::<Float64Type>().value(row)),
        _ => clean(&exact.value(row).to_string(), chars_max),
    };
    Ok((0..batch.num_rows())
        .map(|row| batch.columns().iter().zip(&exact).map(|column| cell(column, row)).collect())
        .collect())
}

/// Three decimals, or three significant digits of what is smaller: the other formats have all of them.
fn rounded(number: f64) -> String {
    match number.abs() {
        size if size.fract() == 0.0 && size < 1e15 => format!("{number:.0}"),
        size if (0.001..1e15).contains(&size) => format!("{number:.3}"),
        _ => format!("{number:.2e}"),
    }
}

/// Values come from the network: control characters would drive the terminal. Only the end of a line is kept.
fn clean(text: &str, chars_max: usize) -> String {
    let line = |line: &str| {
        let shown = line.chars().take(chars_max);
        let mut out: String =
            shown.map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
        if line.chars().nth(chars_max).is_some() {
            out.push('…');
        }
        out
    };
    text.split('\n').take(CELL_LINES_MAX).map(line).collect::<Vec<_>>().join("\n")
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
        let mut table = Table::new(true);
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
    fn fractions_are_rounded_and_a_cell_may_have_lines() {
        let numbers = [0.026_760_563, 82.428_8, 0.000_012_345, 0.0, 100.0, f64::NAN].map(super::rounded);
        assert_eq!(numbers, ["0.027", "82.429", "1.23e-5", "0", "100", "NaN"]);
        let plans = StringArray::from(vec!["Projection\n  Scan", "Filter"]);
        let kinds = StringArray::from(vec!["logical", "physical"]);
        let batch = RecordBatch::try_from_iter([
            ("kind", Arc::new(kinds) as arrow::array::ArrayRef),
            ("plan", Arc::new(plans)),
        ])
        .unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let (mut table, mut out) = (Table::new(true), Vec::new());
        table.take(writer.into_inner().unwrap().into(), &mut out).unwrap();
        table.end(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows, ["logical   Projection", "            Scan", "physical  Filter", "(2 rows)"]);
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error() {
        let whole = stream();
        let mut table = Table::new(true);
        let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
        table.take(half, &mut Vec::new()).map_err(|stop| format!("{stop:?}")).unwrap();
        assert!(table.end(&mut Vec::new()).is_err());
    }
}
