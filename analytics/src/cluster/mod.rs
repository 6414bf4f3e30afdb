//! Queries on more than one machine: `analytics.engine: ballista`.
//!
//! The service stays the only door. It takes the snapshot, plans the query with its own rules, views, functions and the wall
//! around a caller's rows, and only then looks whether the plan can go elsewhere (`ship`): files of the bucket are read by
//! executors themselves, and what is not in the bucket yet is served to them from here (`host`), once for each query. The
//! plan goes to a scheduler as it is, through a codec that knows what is ours (`codec`, `rows`); `job` follows it there and
//! fetches its answer, and `remote` is what the query's own threads run in the place of the plan.
//!
//! `scheduler` and `executor` are the other two roles of the same program, around Ballista's own parts; all three trust
//! whoever shows a certificate of the cluster's authority (`links`).

mod config;

mod error;

mod links;

mod rows;

mod codec;

mod host;

mod ship;

mod job;

mod remote;

mod member;

mod gate;

mod scheduler;

mod executor;

pub use config::{
    BallistaConfig, ClusterConfig, ClusterPlan, ClusterTls, EngineKind, ExecutorConfig, SchedulerConfig,
    validate,
};
pub(crate) use error::ClusterError;
pub(crate) use host::RowsDoor;
pub use links::LinkError;
pub use member::{Member, MemberError};
pub use remote::ClusterStartError;
pub(crate) use remote::{Cluster, session_config};
pub use {executor::start as start_executor, scheduler::start as start_scheduler};
