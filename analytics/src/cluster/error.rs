//! What can go wrong between this process and a cluster.

use datafusion::error::DataFusionError;

/// Why a cluster has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// There is no connection to the scheduler.
    #[error(
        "the scheduler at {scheduler} cannot be reached: {reason}; start `tollhouse cluster scheduler`, or set \
         analytics.engine: local"
    )]
    Unreachable {
        /// Where it should be.
        scheduler: String,
        /// What the connection said.
        reason: String,
    },
    /// The scheduler takes no such query.
    #[error("the scheduler refuses the query: {0}")]
    Refused(String),
    /// Executors were lost, and with them what they had computed.
    #[error("the cluster has lost what it computed: {0}; try again")]
    Lost(String),
    /// There is nobody to compute.
    #[error("the cluster has no executor: start `tollhouse cluster executor`")]
    NoExecutors,
    /// A task failed, as it would have here.
    #[error("{0}")]
    Failed(String),
}

impl From<ClusterError> for DataFusionError {
    fn from(error: ClusterError) -> Self {
        Self::External(Box::new(error))
    }
}

impl ClusterError {
    /// Whether it is one of the cluster, and not of the query.
    pub(crate) fn is_of_cluster(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// Whether a task needed more memory than there was.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, Self::Failed(text) if text.contains("Resources exhausted"))
    }

    /// What comes of the text that a failed query leaves.
    pub(super) fn of_job(text: &str) -> Self {
        if ["no executors", "No executors"].iter().any(|sign| text.contains(sign)) {
            return Self::NoExecutors;
        }
        let lost = ["FetchFailed", "FetchPartitionError", "ExecutorLost", "Executor lost", "Failed to fetch"];
        if lost.iter().any(|sign| text.contains(sign)) {
            return Self::Lost(cause(text));
        }
        Self::Failed(cause(text))
    }
}

/// What went wrong, without the words of those who passed it on.
fn cause(text: &str) -> String {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    // The engine's own kinds of errors, of which the last one is the cause.
    const KINDS: [&str; 8] = [
        "Execution error: ",
        "Arrow error: ",
        "External error: ",
        "Resources exhausted: ",
        "Parquet error: ",
        "Object Store error: ",
        "Error during planning: ",
        "Internal error: ",
    ];
    let mut rest = text;
    if rest.contains("Resources exhausted") {
        return rest[rest.find("Resources exhausted").unwrap_or_default()..]
            .trim_end_matches(['"', ')'])
            .to_owned();
    }
    while let Some((at, kind)) = KINDS.iter().filter_map(|kind| Some((rest.find(kind)?, kind))).min() {
        rest = &rest[at + kind.len()..];
    }
    rest.trim_end_matches(['"', ')', '\\']).to_owned()
}
