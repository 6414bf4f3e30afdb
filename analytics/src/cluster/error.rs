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
    /// A file of the bucket was not read.
    #[error("an executor cannot read a file of the bucket: {0}")]
    Bucket(String),
    /// A task needed more memory than there was for it.
    #[error("a task needs more memory than `cluster.executor.memory_bytes_max` leaves for it: {0}")]
    Memory(String),
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
    /// Whether it is one of the cluster, and not of the query or of the bucket.
    pub(crate) fn is_of_cluster(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused(_) | Self::Lost(_) | Self::NoExecutors)
    }

    /// What comes of the text that a failed query leaves. It is what debuggers see of the error.
    pub(super) fn of_job(text: &str) -> Self {
        let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        if has(&["no executors", "No executors"]) {
            return Self::NoExecutors;
        }
        if has(&["FetchFailed", "FetchPartitionError", "ExecutorLost", "Executor lost", "Failed to fetch"]) {
            return Self::Lost(cause(text));
        }
        if has(&["store: \"bucket\"", "Generic bucket error"]) {
            return Self::Bucket(cause(text));
        }
        if has(&["ResourcesExhausted(", "Resources exhausted"]) {
            return Self::Memory(cause(text));
        }
        Self::Failed(cause(text))
    }
}

/// What went wrong, without the words of those who passed it on: the last text in quotes, or the innermost name.
fn cause(text: &str) -> String {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text).trim();
    let Some((_, error)) = text.split_once("DataFusionError(") else { return text.to_owned() };
    let quoted = error.split_once("(\"").and_then(|(_, said)| said.rsplit_once("\")")).map(|(said, _)| said);
    if let Some(said) = quoted {
        return said.replace("\\'", "'").replace("\\\"", "\"").replace("\\n", "\n");
    }
    let name = error.rsplit('(').next().unwrap_or(error).trim_end_matches(')');
    if name == "DivideByZero" { "Divide by zero error".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_executors_say_is_what_went_wrong() {
        let passed_on = |text: &str| {
            format!("Job failed due to stage 1 failed: Task failed due to runtime execution error: {text}\n")
        };
        let of = |text: &str| ClusterError::of_job(&passed_on(text));
        let cast = r#"DataFusionError(Shared(External(ArrowError(CastError("Cannot cast string \'/x\' to value of Int32 type")))))"#;
        assert_eq!(of(cast).to_string(), "Cannot cast string '/x' to value of Int32 type");
        let zero = of("DataFusionError(Shared(External(ArrowError(DivideByZero))))");
        assert_eq!(zero.to_string(), "Divide by zero error");
        assert!(!zero.is_of_cluster());
        let memory = of(r#"DataFusionError(ResourcesExhausted("Failed to allocate 1 MB"))"#);
        assert!(matches!(memory, ClusterError::Memory(_)), "{memory:?}");
        let bucket =
            of(r#"DataFusionError(ObjectStore(Generic { store: "bucket", source: Missing("a.parquet") }))"#);
        assert!(matches!(&bucket, ClusterError::Bucket(said) if said == "a.parquet"), "{bucket:?}");
        let lost = of(r#"FetchPartitionError("executor-1", 2, 0, "broken pipe")"#);
        assert!(matches!(lost, ClusterError::Lost(_)) && lost.is_of_cluster(), "{lost:?}");
    }
}
