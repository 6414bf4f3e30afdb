//! The configuration of the analytics service: what a user writes, checked into a [`Plan`] that `start` consumes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use event::Problem;
use event::bucket::BucketPlan;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{self, RoleConfig, TokenConfig};
use crate::cluster::{BallistaConfig, ClusterConfig, EngineKind};
use crate::flight::FlightConfig;
use crate::postgres::PostgresConfig;
use crate::reports::{self, PlanConfig};

/// SQL over the recorded requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnalyticsConfig {
    /// Address of the HTTP endpoint (the console at `/`, `/sql`, `/healthz`, `/readyz`). Loopback unless you decide otherwise.
    pub listen: String,
    /// Where queries are run.
    pub engine: EngineKind,
    /// How a cluster is used.
    pub ballista: BallistaConfig,
    /// Threads that run queries, at low scheduling priority; 0 means one per core.
    pub threads: u16,
    /// Memory that all queries together may hold, in bytes. A query that needs more spills or fails by itself.
    pub memory_bytes_max: u64,
    /// Most that one function may make of one batch of rows (8192), in bytes: texts and lists that grow (`x || x`) are
    /// outside of that memory.
    pub text_bytes_max: u64,
    /// Disk that spilled intermediate results may take, in bytes.
    pub spill_bytes_max: u64,
    /// Longest time a query may take, its answer's delivery included, in milliseconds.
    pub timeout_ms: u64,
    /// Most rows an answer may have. A larger answer ends in an error, it is never cut silently.
    pub rows_max: u64,
    /// Queries that run at one time.
    pub concurrency_max: u16,
    /// Queries that may wait for a turn; one more is refused with 429.
    pub queue_max: u16,
    /// Longest wait for a turn, in milliseconds.
    pub queue_timeout_ms: u64,
    /// Connections at one time; further ones wait in the listen queue.
    pub connections_max: u16,
    /// Longest statement (or JSON body with its parameters), in bytes.
    pub query_bytes_max: u64,
    /// Queries that `system.queries` remembers.
    pub history_max: u32,
    /// Pace at which sealed files are compared with their checksums in the background, in bytes per second; 0 leaves
    /// it to queries that fail.
    pub verify_bytes_per_s: u64,
    /// Whether questions about `requests` that roll-ups can answer are answered from them. The answers are the same.
    pub use_rollups: bool,
    /// How many requests a group of a roll-up is of, on average, where roll-ups are read instead of rows: with less they would
    /// hardly be quicker.
    pub rollup_group_requests_min: u32,
    /// Memory for columns of roll-ups as they were read, so that the next question need not read them, in bytes; beside that
    /// of queries. 0 keeps none.
    pub rollup_cache_bytes_max: u64,
    /// Rows and groups of roll-ups from which on several threads share a question about one table, a file counted as 256 of
    /// them. With fewer it takes longer to share than to go through them.
    pub parallel_rows_min: u32,
    /// Who may ask. Without any, everybody who reaches the service may, and sees everything.
    pub tokens: Vec<TokenConfig>,
    /// What tokens may do, by the name of their role.
    pub roles: BTreeMap<String, RoleConfig>,
    /// Prices, by the name of the plan: what `billing(plan, month)` counts with.
    pub plans: BTreeMap<String, PlanConfig>,
    /// Whether a service that other hosts reach may do without tokens.
    pub allow_anonymous: bool,
    /// Answers over HTTP that are had page by page.
    pub pages: PagesConfig,
    /// SQL for clients of PostgreSQL: psql, psycopg, JDBC, DBeaver, Grafana.
    pub postgres: PostgresConfig,
    /// The same for clients of Arrow Flight SQL.
    pub flight: FlightConfig,
}

impl Default for AnalyticsConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8200".into(),
            engine: EngineKind::Local,
            ballista: BallistaConfig::default(),
            threads: 0,
            memory_bytes_max: 1 << 30,
            text_bytes_max: 32 << 20,
            spill_bytes_max: 4 << 30,
            timeout_ms: 60_000,
            rows_max: 20_000_000,
            concurrency_max: 8,
            queue_max: 32,
            queue_timeout_ms: 5_000,
            connections_max: 256,
            query_bytes_max: 256 << 10,
            history_max: 1_000,
            verify_bytes_per_s: 64 << 20,
            use_rollups: true,
            rollup_group_requests_min: 8,
            rollup_cache_bytes_max: 256 << 20,
            parallel_rows_min: 16_384,
            tokens: Vec::new(),
            roles: BTreeMap::new(),
            plans: BTreeMap::new(),
            allow_anonymous: false,
            pages: PagesConfig::default(),
            postgres: PostgresConfig::default(),
            flight: FlightConfig::default(),
        }
    }
}

/// Answers over HTTP that are had page by page (`page_rows`). An open one keeps its turn between two pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PagesConfig {
    /// Answers that may be open at one time; a further one is refused with 429.
    pub open_max: u16,
    /// How long an open answer waits for the next page to be asked for, in milliseconds.
    pub idle_ms: u32,
    /// Most rows of a page.
    pub rows_max: u32,
    /// Longest page, in bytes.
    pub bytes_max: u32,
}

impl Default for PagesConfig {
    fn default() -> Self {
        Self { open_max: 4, idle_ms: 10_000, rows_max: 100_000, bytes_max: 64 << 20 }
    }
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) listen: SocketAddr,
    pub(crate) threads: usize,
    pub(crate) config: AnalyticsConfig,
    pub(crate) bucket: Option<BucketPlan>,
    /// What the hosts of the cluster have in common that queries are run by.
    pub(crate) cluster: Option<ClusterConfig>,
}

impl Plan {
    /// The same with a bucket that files are read from.
    #[must_use]
    pub fn with_bucket(self, bucket: Option<BucketPlan>) -> Self {
        Self { bucket, ..self }
    }

    /// The same with the cluster that `analytics.engine` asks for, of which files of the bucket are read.
    ///
    /// # Errors
    /// Every field that cannot be used, each with its path.
    pub fn with_cluster(self, cluster: &ClusterConfig) -> Result<Self, Vec<Problem>> {
        if self.config.engine == EngineKind::Local {
            return Ok(self);
        }
        let problems = self.config.ballista.problems(cluster, self.bucket.is_some());
        if problems.is_empty() { Ok(Self { cluster: Some(cluster.clone()), ..self }) } else { Err(problems) }
    }

    /// Where `/sql` is to answer.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where clients of PostgreSQL are to be answered, if they are.
    pub fn listen_postgres(&self) -> Option<SocketAddr> {
        self.config.postgres.listen
    }

    /// Where clients of Flight SQL are to be answered, if they are.
    pub fn listen_flight(&self) -> Option<SocketAddr> {
        self.config.flight.listen
    }
}

/// Checks a configuration. Pure: nothing is opened or resolved.
///
/// # Errors
/// Every field that cannot be used, each with its path.
pub fn validate(config: &AnalyticsConfig) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut refuse = |field: &str, message: String, hint: &str| {
        problems.push(Problem { path: format!("analytics.{field}"), message, hint: Some(hint.to_owned()) });
    };
    let listen = config.listen.parse::<SocketAddr>();
    if listen.is_err() {
        refuse(
            "listen",
            format!("`{}` is not an address and port", config.listen),
            "write it as 127.0.0.1:8200",
        );
    }
    let least: [(&str, u64, u64); 14] = [
        ("pages.open_max", config.pages.open_max.into(), 1),
        ("pages.idle_ms", config.pages.idle_ms.into(), 10),
        ("pages.rows_max", config.pages.rows_max.into(), 1),
        ("pages.bytes_max", config.pages.bytes_max.into(), 1 << 10),
        ("connections_max", config.connections_max.into(), 1),
        ("memory_bytes_max", config.memory_bytes_max, 16 << 20),
        ("text_bytes_max", config.text_bytes_max, 1 << 20),
        ("timeout_ms", config.timeout_ms, 1),
        ("rows_max", config.rows_max, 1),
        ("concurrency_max", config.concurrency_max.into(), 1),
        ("query_bytes_max", config.query_bytes_max, 64),
        ("history_max", config.history_max.into(), 1),
        ("queue_timeout_ms", config.queue_timeout_ms, 1),
        ("spill_bytes_max", config.spill_bytes_max, 1 << 20),
    ];
    for (field, value, min) in least {
        if value < min {
            refuse(field, format!("{value} is too small"), &format!("at least {min}"));
        }
    }
    if config.query_bytes_max > 16 << 20 {
        refuse("query_bytes_max", format!("{} is too large", config.query_bytes_max), "at most 16777216");
    }
    if config.history_max > 1_000_000 {
        refuse("history_max", format!("{} is too large", config.history_max), "at most 1000000");
    }
    problems.extend(access::problems(&config.tokens, &config.roles));
    problems.extend(reports::problems(&config.plans));
    let open = config.tokens.is_empty() && !config.allow_anonymous;
    if let Ok(listen) = &listen
        && open
    {
        problems.extend(access::open_to_all("analytics", *listen));
    }
    problems.extend(config.postgres.problems("analytics.postgres", open));
    problems.extend(config.flight.problems("analytics.flight", open));
    match listen {
        Ok(listen) if problems.is_empty() => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = if config.threads == 0 { cores } else { config.threads.into() };
            Ok(Plan { listen, threads, config: config.clone(), bucket: None, cluster: None })
        }
        _ => Err(problems),
    }
}
