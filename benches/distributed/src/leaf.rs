//! How files are handed out to tasks.
//!
//! What datafusion-distributed does by itself goes wrong here. Tollhouse's files are sorted, and say so; of sorted files it
//! keeps groups of more than one as they are, deals them out in turn, and refuses its own plan unless that comes out even: two
//! groups for three tasks do not. It can be told another way, which is this one: each task has a run of each group's files, in
//! their order.

use std::sync::Arc;

use datafusion::catalog::memory::DataSourceExec;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{DistributedLeafExec, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse};

/// A scan for each task, with as many partitions as the whole has.
pub fn deal(event: ScaleUpLeafNodeEvent) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let source = event.plan.downcast_ref::<DataSourceExec>()?;
    let whole = source.data_source().downcast_ref::<FileScanConfig>()?;
    let tasks = event.task_count;
    let mut empty = whole.clone();
    empty.file_groups.clear();
    let mut scans = vec![empty; tasks];
    for (number, group) in whole.file_groups.iter().enumerate() {
        let files = group.files();
        for run in 0..tasks {
            let (begin, end) = (files.len() * run / tasks, files.len() * (run + 1) / tasks);
            // Every other group from behind, so that short runs do not all go to the same task.
            let task = if number % 2 == 0 { run } else { tasks - 1 - run };
            scans[task].file_groups.push(FileGroup::new(files[begin..end].to_vec()));
        }
    }
    let scans =
        scans.into_iter().map(|scan| DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>);
    let leaf = DistributedLeafExec::try_new(Arc::clone(event.plan), scans);
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}
