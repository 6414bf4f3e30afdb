//! Columns of texts that repeat together: those of a client, those of a route.
//!
//! Each combination that a batch meets is a group, whose texts are set once; a row notes its group. An event whose shape
//! is known finds its group by it, any other one begins a group of its own.

use event::{RequestEvent, Run, Shape, Text};

use super::Packed;
use super::numbers::Values;
use super::text::TextColumn;

/// The columns of one kind of texts.
#[derive(Debug)]
pub(super) struct Groups<const N: usize> {
    run: Run,
    texts: [Text; N],
    columns: [TextColumn; N],
    /// The group of each row.
    of_row: Values<u32>,
    /// How many there are.
    count: u32,
    /// By the index of a shape: the batch that it was last met in, and its group there.
    by_shape: Vec<(u64, u32)>,
    generation: u32,
    batch: u64,
}

impl<const N: usize> Groups<N> {
    pub(super) fn new(run: Run, texts: [Text; N]) -> Self {
        Self {
            run,
            texts,
            columns: std::array::from_fn(|_| TextColumn::new()),
            of_row: Values::new(0),
            count: 0,
            by_shape: Vec::new(),
            generation: 0,
            batch: 1,
        }
    }

    /// Bytes of dictionaries.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.columns.iter().map(TextColumn::dictionary_bytes).sum()
    }

    /// Notes the group of a row.
    #[inline]
    pub(super) fn push(&mut self, row: usize, event: &RequestEvent<'_>) {
        let shape = event.shape(self.run);
        let known = shape.and_then(|shape| self.known(shape));
        let group = known.unwrap_or_else(|| self.begin(shape, event));
        self.of_row.put(row, group);
    }

    #[inline]
    fn known(&self, shape: Shape) -> Option<u32> {
        let (batch, group) = *self.by_shape.get(shape.index as usize)?;
        (shape.generation == self.generation && batch == self.batch).then_some(group)
    }

    /// Begins a group with the texts of an event.
    fn begin(&mut self, shape: Option<Shape>, event: &RequestEvent<'_>) -> u32 {
        let group = self.count;
        self.count += 1;
        let values = event.texts(self.run);
        for (column, text) in self.columns.iter_mut().zip(self.texts) {
            if let Some(value) = values[text as usize] {
                column.push(group as usize, value);
            }
        }
        let Some(Shape { generation, index }) = shape else { return group };
        if generation != self.generation {
            self.generation = generation;
            self.by_shape.clear();
        }
        let index = index as usize;
        if index >= self.by_shape.len() {
            self.by_shape.resize(index + 1, (0, 0));
        }
        self.by_shape[index] = (self.batch, group);
        group
    }

    /// Takes the last block of rows over.
    pub(super) fn spill(&mut self, rows: usize) {
        self.of_row.spill(rows);
    }

    /// Takes one column out; none if no row has a value.
    pub(super) fn finish(&mut self, name: &str, column: usize, nullable: bool) -> Option<Packed> {
        self.columns[column].finish_groups(name, self.count as usize, nullable, Some(self.of_row.all()))
    }

    /// Begins the next batch, once all columns are taken.
    pub(super) fn clear(&mut self) {
        self.of_row.clear();
        self.count = 0;
        self.batch += 1;
    }
}
