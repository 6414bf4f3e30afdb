//! What an operator says about a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use event::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where queries are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// In this process.
    #[default]
    Local,
    /// By a Ballista cluster (`analytics.ballista`), as far as they read files of the bucket.
    Ballista,
}

impl EngineKind {
    /// As `system.queries` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ballista => "ballista",
        }
    }
}

/// How the analytics use a cluster (`analytics.engine: ballista`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BallistaConfig {
    /// Host and port of `tollhouse cluster scheduler`.
    pub scheduler: String,
    /// Where executors fetch rows that are not in the bucket yet. Port 0 takes a free one, which they are told with each
    /// query.
    pub listen: SocketAddr,
    /// The host that executors are told, where it is not the address of `listen`.
    pub advertise_host: Option<String>,
    /// Into how many pieces a step of a query is cut: some for each thread of all executors.
    pub partitions: u16,
}

impl Default for BallistaConfig {
    fn default() -> Self {
        Self {
            scheduler: "127.0.0.1:8210".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise_host: None,
            partitions: 8,
        }
    }
}

/// A cluster that answers queries: what its hosts have in common, and its two roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// How its hosts know each other: whoever shows a certificate of the authority belongs to it.
    pub tls: ClusterTls,
    /// Whether its listeners may speak plain text though other hosts reach them. Whoever reaches them then can have any plan
    /// run there, and read every row.
    pub allow_plaintext: bool,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Longest message, in bytes: of a plan, or of some rows.
    pub message_bytes_max: u32,
    /// `tollhouse cluster scheduler`.
    pub scheduler: SchedulerConfig,
    /// `tollhouse cluster executor`.
    pub executor: ExecutorConfig,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            tls: ClusterTls::default(),
            allow_plaintext: false,
            connect_timeout_ms: 5_000,
            message_bytes_max: 64 << 20,
            scheduler: SchedulerConfig::default(),
            executor: ExecutorConfig::default(),
        }
    }
}

/// Certificate, key and authority of a host of a cluster; all three or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterTls {
    /// PEM file with the certificate, shown to whoever connects and to whom it connects.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// PEM file with the cluster's authority. No other is believed.
    pub ca_file: Option<PathBuf>,
}

/// The part of a cluster that cuts plans into tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerConfig {
    /// Where analytics and executors reach it.
    pub listen: SocketAddr,
    /// After how long without a word an executor is given up, in seconds: its tasks are done by others then. Executors ask
    /// for work at least every 5 seconds.
    pub executor_timeout_s: u32,
    /// How long queries wait for an executor where there is none, in seconds.
    pub no_executors_timeout_s: u32,
    /// How long what is left of a finished query is kept, in seconds, where nobody has said that it is not needed.
    pub finished_keep_s: u32,
    /// Calls that one connection may have under way.
    pub calls_max: u16,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8210)),
            executor_timeout_s: 15,
            no_executors_timeout_s: 10,
            finished_keep_s: 60,
            calls_max: 1_024,
        }
    }
}

/// The part of a cluster that computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutorConfig {
    /// Host and port of the scheduler.
    pub scheduler: String,
    /// Where analytics and other executors fetch what was computed. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host that they are told, where it is not the address of `listen`.
    pub advertise_host: Option<String>,
    /// Tasks at one time, each with a thread; 0 means one per core.
    pub threads: u16,
    /// Memory that all tasks together may hold, in bytes. One that needs more spills or fails.
    pub memory_bytes_max: u64,
    /// Disk that spilled intermediate results may take, in bytes. What tasks leave for each other is beside it.
    pub spill_bytes_max: u64,
    /// How long what tasks have left stays on disk where the scheduler never says that it is not needed, in seconds.
    pub leftovers_keep_s: u32,
    /// Calls that one connection may have under way.
    pub calls_max: u16,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            scheduler: "127.0.0.1:8210".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise_host: None,
            threads: 0,
            memory_bytes_max: 1 << 30,
            spill_bytes_max: 4 << 30,
            leftovers_keep_s: 3_600,
            calls_max: 1_024,
        }
    }
}

/// A checked configuration of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    pub(crate) config: ClusterConfig,
}

/// Checks what the hosts of a cluster have in common, and the roles. Pure: nothing is opened or resolved.
///
/// # Errors
/// Every field that cannot be used, each with its path.
pub fn validate(config: &ClusterConfig) -> Result<ClusterPlan, Vec<Problem>> {
    let mut problems = config.problems("cluster");
    let (scheduler, executor) = (&config.scheduler, &config.executor);
    problems.extend(config.exposed("cluster.scheduler.listen", scheduler.listen));
    problems.extend(config.exposed("cluster.executor.listen", executor.listen));
    let bounds = [
        ("scheduler.executor_timeout_s", scheduler.executor_timeout_s, 6, 3_600),
        ("scheduler.no_executors_timeout_s", scheduler.no_executors_timeout_s, 0, 3_600),
        ("scheduler.finished_keep_s", scheduler.finished_keep_s, 1, 86_400),
        ("scheduler.calls_max", scheduler.calls_max.into(), 1, 65_535),
        ("executor.leftovers_keep_s", executor.leftovers_keep_s, 60, 30 * 86_400),
        ("executor.calls_max", executor.calls_max.into(), 1, 65_535),
    ];
    problems.extend(bounds.into_iter().filter_map(|bounds| Problem::out_of_range("cluster", bounds)));
    for (field, bytes) in
        [("memory_bytes_max", executor.memory_bytes_max), ("spill_bytes_max", executor.spill_bytes_max)]
    {
        if bytes < 16 << 20 {
            let path = format!("cluster.executor.{field}");
            problems.push(Problem::new(path, format!("{bytes} is too small")).hint("at least 16777216"));
        }
    }
    problems.extend(host_and_port("cluster.executor.scheduler", &executor.scheduler));
    problems.extend(advertised("cluster.executor", executor.listen, executor.advertise_host.as_deref()));
    if problems.is_empty() { Ok(ClusterPlan { config: config.clone() }) } else { Err(problems) }
}

impl ClusterConfig {
    /// What is wrong with what all roles have in common.
    fn problems(&self, path: &str) -> Vec<Problem> {
        let files = [
            ("cert_file", &self.tls.cert_file),
            ("key_file", &self.tls.key_file),
            ("ca_file", &self.tls.ca_file),
        ];
        let given = files.iter().filter(|(_, file)| file.is_some()).count();
        let missing = files.iter().filter(|(_, file)| file.is_none() && given > 0).map(|(field, _)| {
            Problem::new(format!("{path}.tls.{field}"), "missing").hint(
                "a host shows a certificate, and asks others for one of the same authority: all three files",
            )
        });
        let bounds = [
            ("connect_timeout_ms", self.connect_timeout_ms, 10, 600_000),
            ("message_bytes_max", self.message_bytes_max, 1 << 20, 1 << 30),
        ];
        missing.chain(bounds.into_iter().filter_map(|bounds| Problem::out_of_range(path, bounds))).collect()
    }

    /// Whether strangers could reach a listener.
    fn exposed(&self, path: &str, listen: SocketAddr) -> Option<Problem> {
        let open = !listen.ip().is_loopback() && self.tls.cert_file.is_none() && !self.allow_plaintext;
        open.then(|| {
            let message = format!(
                "other hosts reach {listen}, and whoever does could have any plan run, and read every row"
            );
            Problem::new(path, message)
                .hint("set cluster.tls, or cluster.allow_plaintext: true for a network that you trust")
        })
    }
}

impl BallistaConfig {
    /// What is wrong where queries are to run on a cluster.
    pub(crate) fn problems(&self, cluster: &ClusterConfig, has_bucket: bool) -> Vec<Problem> {
        let mut problems = cluster.problems("cluster");
        problems.extend(cluster.exposed("analytics.ballista.listen", self.listen));
        problems.extend(host_and_port("analytics.ballista.scheduler", &self.scheduler));
        problems.extend(advertised("analytics.ballista", self.listen, self.advertise_host.as_deref()));
        let partitions = ("partitions", u32::from(self.partitions), 1, 4_096);
        problems.extend(Problem::out_of_range("analytics.ballista", partitions));
        if !has_bucket {
            let message = "executors read files of a bucket, and there is none";
            problems.push(
                Problem::new("analytics.engine", message).hint("set object_store.url, or engine: local"),
            );
        }
        problems
    }
}

fn host_and_port(path: &str, text: &str) -> Option<Problem> {
    let uri = format!("http://{text}").parse::<http::Uri>().ok();
    let authority = uri.as_ref().and_then(http::Uri::authority);
    let good = authority.is_some_and(|authority| {
        authority.as_str() == text && authority.port_u16().is_some() && !text.contains('@')
    });
    (!good).then(|| {
        Problem::new(path, format!("`{text}` is no host and port")).hint("as in scheduler.example:8210")
    })
}

/// An address that nobody can connect to has to be told by another name.
fn advertised(path: &str, listen: SocketAddr, host: Option<&str>) -> Option<Problem> {
    match host {
        None if listen.ip().is_unspecified() => {
            let problem =
                Problem::new(format!("{path}.advertise_host"), format!("missing: {listen} is every address"));
            Some(problem.hint("the name or address of this host that others connect to"))
        }
        Some(host) => host_and_port(&format!("{path}.advertise_host"), &format!("{host}:1")).map(|problem| {
            Problem::new(problem.path, format!("`{host}` is no host"))
                .hint("a name or an address, without a port")
        }),
        None => None,
    }
}

/// What others are told of a listener.
pub(super) fn host_of(bound: SocketAddr, advertised: Option<&str>) -> String {
    match (advertised, bound) {
        (Some(host), _) => host.to_owned(),
        (None, SocketAddr::V4(bound)) => bound.ip().to_string(),
        (None, SocketAddr::V6(bound)) => format!("[{}]", bound.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(config: &ClusterConfig) -> Vec<String> {
        validate(config).err().unwrap_or_default().into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn a_cluster_stays_on_its_host_unless_it_has_certificates() {
        let mut config = ClusterConfig::default();
        assert_eq!(paths(&config), [""; 0]);
        config.scheduler.listen = "10.0.0.1:8210".parse().unwrap();
        config.executor.listen = "0.0.0.0:0".parse().unwrap();
        let exposed =
            ["cluster.scheduler.listen", "cluster.executor.listen", "cluster.executor.advertise_host"];
        assert_eq!(paths(&config), exposed);
        config.executor.advertise_host = Some("executor-1.example".into());
        config.tls.cert_file = Some("host.pem".into());
        assert_eq!(paths(&config), ["cluster.tls.key_file", "cluster.tls.ca_file"]);
        config.tls.key_file = Some("host.key".into());
        config.tls.ca_file = Some("ca.pem".into());
        assert_eq!(paths(&config), [""; 0]);
        config.tls = ClusterTls::default();
        config.allow_plaintext = true;
        assert_eq!(paths(&config), [""; 0]);
    }

    #[test]
    fn what_cannot_be_connected_to_is_named() {
        let mut config = ClusterConfig::default();
        for bad in ["", "scheduler", "http://scheduler:1", "a:b", "me@scheduler:8210", "scheduler:8210/x"] {
            config.executor.scheduler = bad.into();
            assert_eq!(paths(&config), ["cluster.executor.scheduler"], "{bad}");
        }
        for good in ["scheduler.example:8210", "10.0.0.1:1", "[::1]:8210"] {
            config.executor.scheduler = good.into();
            assert_eq!(paths(&config), [""; 0], "{good}");
        }
        config.executor.advertise_host = Some("executor:8211".into());
        assert_eq!(paths(&config), ["cluster.executor.advertise_host"]);
    }

    #[test]
    fn the_engine_needs_a_bucket() {
        let (engine, cluster) = (BallistaConfig::default(), ClusterConfig::default());
        let paths = |has_bucket| {
            engine.problems(&cluster, has_bucket).into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(true), [""; 0]);
        assert_eq!(paths(false), ["analytics.engine"]);
    }
}
