//! Hot batches as a source of the engine: unpacked when they are read, by the partition that reads them, and only the
//! columns that the query names.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::DisplayFormatType;
use event::hot::unpack;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::catalog::HotFile;
use crate::leaf::Leaf;

/// One batch of a hot file.
#[derive(Debug, Clone)]
pub(crate) struct HotBatch {
    pub(crate) file: Arc<HotFile>,
    pub(crate) index: usize,
}

impl HotBatch {
    pub(crate) fn packed(&self) -> &RecordBatch {
        &self.file.reader.batches[self.index]
    }
}

/// Packed batches in partitions.
#[derive(Debug)]
pub(crate) struct HotSource {
    partitions: Vec<Arc<[HotBatch]>>,
    /// Indices into the schema of the table; all of it without.
    columns: Option<Vec<usize>>,
    schema: SchemaRef,
}

impl HotSource {
    /// Deals batches out to partitions.
    pub(crate) fn new(
        batches: Vec<HotBatch>,
        partitions: usize,
        columns: Option<Vec<usize>>,
    ) -> Result<Self> {
        let table = event::columns::schema();
        let schema = match &columns {
            Some(columns) => Arc::new(table.project(columns)?),
            None => table,
        };
        let mut dealt = vec![Vec::new(); partitions.clamp(1, batches.len().max(1))];
        let count = dealt.len();
        for (turn, batch) in batches.into_iter().enumerate() {
            dealt[turn % count].push(batch);
        }
        Ok(Self { partitions: dealt.into_iter().map(Arc::from).collect(), columns, schema })
    }
}

impl Leaf for HotSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn rows(&self, partition: usize) -> Option<usize> {
        Some(self.partitions.get(partition)?.iter().map(|batch| batch.packed().num_rows()).sum())
    }

    fn open(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let batches = self.partitions.get(partition).cloned().unwrap_or_default();
        let columns = self.columns.clone();
        let unpacked =
            (0..batches.len()).map(move |index| Ok(unpack(batches[index].packed(), columns.as_deref())?));
        Ok(futures::stream::iter(unpacked).boxed())
    }

    fn show(&self, _kind: DisplayFormatType, out: &mut Formatter) -> fmt::Result {
        let sizes: Vec<usize> = self.partitions.iter().map(|batches| batches.len()).collect();
        write!(out, "hot_batches={sizes:?}")
    }
}
