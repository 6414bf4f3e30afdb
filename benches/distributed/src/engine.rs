//! DataFusion over the files, alone or with workers that take part.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::file_format::options::ReadOptions;
use datafusion::datasource::listing::{ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use datafusion_distributed::{DistributedExt, NetworkBoundaryExt, SessionStateBuilderExt, WorkerResolver};
use url::Url;

use crate::THREADS;
use crate::questions::Rows;

/// A session with the table `requests`.
#[derive(Clone)]
pub struct Engine {
    context: SessionContext,
}

/// Where the workers are.
struct Workers(Vec<Url>);

impl WorkerResolver for Workers {
    fn get_urls(&self) -> Result<Vec<Url>> {
        Ok(self.0.clone())
    }
}

impl Engine {
    /// DataFusion as it is.
    pub async fn local(files: &[PathBuf]) -> std::result::Result<Self, String> {
        Self::with(files, builder().build()).await
    }

    /// This process plans, sends stages to workers and puts the answer together.
    pub async fn over(files: &[PathBuf], workers: Vec<Url>) -> std::result::Result<Self, String> {
        let builder = builder().with_distributed_scale_up_leaf_node_handler(crate::leaf::deal);
        Self::with(files, distributed(builder, workers)).await
    }

    /// The same, but files are handed out as datafusion-distributed does it by itself.
    pub async fn as_it_comes(files: &[PathBuf], workers: Vec<Url>) -> std::result::Result<Self, String> {
        Self::with(files, distributed(builder(), workers)).await
    }

    async fn with(files: &[PathBuf], state: SessionState) -> std::result::Result<Self, String> {
        register(files, state).await.map_err(|error| error.to_string())
    }

    /// Asks, and reads the whole answer.
    pub async fn ask(&self, sql: &str) -> std::result::Result<Rows, String> {
        let batches = async { self.context.sql(sql).await?.collect().await };
        Rows::read(&batches.await.map_err(|error: DataFusionError| error.to_string())?)
    }

    /// How many tasks a question is cut into for workers; none where it never leaves this process.
    pub async fn tasks(&self, sql: &str) -> std::result::Result<usize, String> {
        let count = async {
            let plan = self.context.sql(sql).await?.create_physical_plan().await?;
            let mut tasks = 0;
            plan.apply(|node| {
                if let Some(boundary) = node.as_network_boundary() {
                    tasks += boundary.input_stage().task_count();
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(tasks)
        };
        count.await.map_err(|error: DataFusionError| error.to_string())
    }
}

/// With the options that the analytics set.
fn builder() -> SessionStateBuilder {
    let mut config = SessionConfig::new().with_target_partitions(THREADS).with_collect_statistics(true);
    let options = config.options_mut();
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    options.execution.time_zone = Some("UTC".into());
    SessionStateBuilder::new().with_config(config).with_default_features()
}

fn distributed(builder: SessionStateBuilder, workers: Vec<Url>) -> SessionState {
    builder.with_distributed_worker_resolver(Workers(workers)).with_distributed_planner().build()
}

async fn register(files: &[PathBuf], state: SessionState) -> Result<Engine> {
    let reading = ParquetReadOptions::default();
    let options = reading.to_listing_options(state.config(), state.default_table_options());
    let urls = files.iter().map(|file| ListingTableUrl::parse(file.to_string_lossy()));
    let config = ListingTableConfig::new_with_multi_paths(urls.collect::<Result<Vec<_>>>()?);
    let config = config.with_listing_options(options).infer_schema(&state).await?;
    // Statistics and footers are kept as they are in a session that makes a table by itself.
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    let table = ListingTable::try_new(config)?.with_cache(cache);
    let context = SessionContext::new_with_state(state);
    context.register_table("requests", Arc::new(table))?;
    Ok(Engine { context })
}
