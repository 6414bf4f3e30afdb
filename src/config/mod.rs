//! The configuration: one typed tree, composed of the parts' own types, and everything between a YAML file and it.
//!
//! `locate` reads text into a tree with places, `env` lays the environment over it, `conform` compares it with the
//! schema, `decode` makes it typed; `load` is their order. `report` shows what is wrong, `reference` writes the docs.

mod locate;

mod env;

mod conform;

mod suggest;

mod decode;

mod kong;

mod load;

mod listeners;

mod report;

pub mod reference;

#[cfg(test)]
mod holds;

#[cfg(test)]
mod mutations;

pub use env::PREFIX;
pub use load::{Converted, FileFormat, Loaded, ReadError, Sources, convert, load, read_file};
pub use report::Report;

use std::path::PathBuf;
use std::time::Duration;

use proxy::config::{
    CaCertificate, Certificate, Consumer, Entities, GatewayConfig, Plugin, Route, Service, Sni, Upstream,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `tollhouse.yaml` holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "tollhouse.yaml")]
pub struct Config {
    /// The name of this gateway in every event it records. Without one, the name of the host.
    #[serde(default)]
    pub node: Option<String>,
    /// The folder that holds everything recorded. A relative path begins at the working directory.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// What Tollhouse says about itself, on standard error.
    #[serde(default)]
    pub log: LogConfig,
    /// How a gateway that runs takes a changed configuration over.
    #[serde(default)]
    pub reload: ReloadConfig,
    /// How a gateway that runs hands over to another process.
    #[serde(default)]
    pub upgrade: UpgradeConfig,
    /// The data plane: listeners, limits, time-outs.
    #[serde(default)]
    pub gateway: GatewayConfig,
    /// What requests are sent to.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Which requests are sent where.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Groups of targets that a service's `host` may name.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Who calls.
    #[serde(default)]
    pub consumers: Vec<Consumer>,
    /// What is done on the way, for all services.
    #[serde(default)]
    pub plugins: Vec<Plugin>,
    /// Certificates with their keys, of TLS listeners and of services that show one.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Server names, each with its certificate.
    #[serde(default)]
    pub snis: Vec<Sni>,
    /// Authorities that services may believe.
    #[serde(default)]
    pub ca_certificates: Vec<CaCertificate>,
    /// The hand-over from the gateway to the collector, on disk.
    #[serde(default)]
    pub spool: event::spool::SpoolConfig,
    /// What turns events into metrics, spans and Parquet.
    #[serde(default)]
    pub collector: collector::CollectorConfig,
    /// SQL over what was recorded.
    #[serde(default)]
    pub analytics: analytics::AnalyticsConfig,
    /// A cluster that answers queries (`analytics.engine: ballista`).
    #[serde(default)]
    pub cluster: analytics::ClusterConfig,
    /// A bucket for sealed files, shared by several collectors.
    #[serde(default)]
    pub object_store: event::bucket::BucketConfig,
}

/// How a gateway that runs takes a changed configuration over. `SIGHUP` always makes it read its configuration anew.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// How often it is looked whether a file has changed, in milliseconds: the configuration, certificates, keys and
    /// authorities that it names, `/etc/hosts` and `/etc/resolv.conf`. 0 for never.
    pub watch_interval_ms: u64,
    /// Configurations that `config.versions` remembers.
    pub versions_max: u32,
    /// Changes of entities that `config.changes` remembers.
    pub changes_max: u32,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { watch_interval_ms: 250, versions_max: 1_000, changes_max: 10_000 }
    }
}

/// How a gateway that runs hands over to another process, by `tollhouse upgrade`, SIGUSR2 or a start with `--take-over`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeConfig {
    /// How long each of the two processes waits for the other's next word, in milliseconds: the start of the new one is
    /// such a wait. Beyond it the running one serves on.
    pub timeout_ms: u64,
    /// How long connections that wait for a request stay with the process that has handed over, in milliseconds, though
    /// not beyond `gateway.timeouts.drain_timeout_ms`. Their next request is answered, and is the last of its connection.
    pub idle_timeout_ms: u64,
}

impl Default for UpgradeConfig {
    fn default() -> Self {
        Self { timeout_ms: 30_000, idle_timeout_ms: 5_000 }
    }
}

impl UpgradeConfig {
    /// How long each of the two waits for the other's next word.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long connections that wait for a request stay.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }
}

/// How Tollhouse logs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,proxy=debug`. The variable
    /// `RUST_LOG` wins over this.
    pub level: String,
    /// One line of text or one JSON object for each message.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line of text, coloured on a terminal.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

fn default_data() -> PathBuf {
    PathBuf::from("./tollhouse-data")
}

impl Config {
    /// The JSON Schema of the whole file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// What the gateway routes by. The lists stand in the file's top level one by one, rather than flattened,
    /// since serde loses the place of a flattened value.
    pub fn entities(&self) -> Entities {
        Entities {
            services: self.services.clone(),
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
            consumers: self.consumers.clone(),
            plugins: self.plugins.clone(),
            certificates: self.certificates.clone(),
            snis: self.snis.clone(),
            ca_certificates: self.ca_certificates.clone(),
        }
    }

    /// What is wrong with the values that belong to no part.
    fn own_problems(&self) -> Vec<event::Problem> {
        let mut problems = Vec::new();
        let mut refuse = |path: &str, message: &str, hint: &str| {
            problems.push(event::Problem::new(path, message).hint(hint));
        };
        if self.node.as_ref().is_some_and(String::is_empty) {
            refuse("node", "empty", "leave the key out for the name of the host");
        }
        let node = self.node();
        if node.len() > event::TEXT_BYTES_MAX.min(255) {
            refuse("node", "longer than 255 bytes", "a short name tells the gateways apart as well");
        }
        if node.chars().any(char::is_control) {
            refuse("node", "holds control characters", "it stands in every row and every file's name");
        }
        if self.data.as_os_str().is_empty() {
            refuse("data", "empty", "leave the key out for ./tollhouse-data");
        }
        let watch_ms = self.reload.watch_interval_ms;
        if watch_ms != 0 && !(10..=3_600_000).contains(&watch_ms) {
            refuse("reload.watch_interval_ms", "must be 0 or from 10 to 3600000", "0 reloads by SIGHUP only");
        }
        if !(1..=3_600_000).contains(&self.upgrade.timeout_ms) {
            refuse("upgrade.timeout_ms", "must be from 1 to 3600000", "a start takes a second or so");
        }
        if self.upgrade.idle_timeout_ms > 3_600_000 {
            refuse("upgrade.idle_timeout_ms", "must be from 0 to 3600000", "0 closes them at once");
        }
        if let Some(strange) = strange_directive(&self.log.level) {
            let message = format!("`{strange}` is neither a level nor a directive such as proxy=debug");
            refuse("log.level", &message, "levels: off, error, warn, info, debug, trace");
        } else if let Err(error) = self.log.level.parse::<tracing_subscriber::EnvFilter>() {
            refuse("log.level", &format!("not a log filter: {error}"), "error, warn, info, debug or trace");
        }
        problems
    }

    /// What is allowed, but hardly meant.
    pub fn note(&self) -> Option<&'static str> {
        let routes =
            self.routes.len() + self.services.iter().map(|service| service.routes.len()).sum::<usize>();
        (routes == 0).then_some("there is no route: every request is answered 404")
    }

    /// The node's name: as configured, or the host's.
    pub fn node(&self) -> String {
        let host = || {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
            Some(name.trim().to_owned()).filter(|name| !name.is_empty())
        };
        self.node.clone().or_else(host).unwrap_or_else(|| "tollhouse".to_owned())
    }
}

/// The first part of a log filter that would be taken for the name of a module: a misspelt level, which would switch
/// the whole log off.
fn strange_directive(filter: &str) -> Option<&str> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known =
        |part: &str| part.contains(['=', '[']) || levels.iter().any(|level| part.eq_ignore_ascii_case(level));
    filter.split(',').map(str::trim).find(|part| !known(part))
}

/// Which parts of Tollhouse a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of them.
    All,
    /// The gateway.
    Proxy,
    /// The collector.
    Collector,
    /// The analytics.
    Analytics,
    /// The scheduler of a cluster.
    Scheduler,
    /// An executor of a cluster.
    Executor,
}

impl Role {
    /// Whether a process of this role runs that part.
    pub fn runs(self, part: Self) -> bool {
        self == part || (self == Self::All && !part.is_of_cluster())
    }

    /// Whether it is a part of a cluster, which no gateway runs beside it.
    pub fn is_of_cluster(self) -> bool {
        matches!(self, Self::Scheduler | Self::Executor)
    }
}

/// A configuration that every part of a role found right.
#[derive(Debug)]
pub struct Plans {
    /// The gateway's, when the role runs it.
    pub proxy: Option<proxy::Plan>,
    /// The collector's, when the role runs it.
    pub collector: Option<collector::Plan>,
    /// The analytics', when the role runs them.
    pub analytics: Option<analytics::Plan>,
    /// The cluster's, when the role is a part of one.
    pub cluster: Option<ClusterRole>,
}

/// A part of a cluster that is to be started.
#[derive(Debug)]
pub enum ClusterRole {
    /// It cuts plans into tasks.
    Scheduler(analytics::cluster::ClusterPlan),
    /// It computes over files of a bucket.
    Executor(analytics::cluster::ClusterPlan, event::bucket::BucketPlan),
}

/// Asks each part of the role whether the configuration is right; all problems come at once, with their lines.
pub fn validate(loaded: &Loaded<Config>, role: Role) -> Result<Plans, Report> {
    let config = &loaded.value;
    let mut problems = Vec::new();
    problems.extend(config.own_problems());
    problems.extend(listeners::conflicts(config, role));
    let mut keep = |found: Vec<event::Problem>| problems.extend(found);
    let uses_bucket = role.runs(Role::Collector) || role.runs(Role::Analytics) || role == Role::Executor;
    let bucket = uses_bucket
        .then(|| event::bucket::validate(&config.object_store).map_err(&mut keep).ok().flatten())
        .flatten();
    let proxy = role
        .runs(Role::Proxy)
        .then(|| proxy::validate(&config.gateway, &config.entities()).map_err(&mut keep).ok())
        .flatten();
    let collector = role
        .runs(Role::Collector)
        .then(|| collector::validate(&config.collector).map_err(&mut keep).ok())
        .flatten()
        .map(|plan| plan.with_bucket(bucket.clone()).with_spool(config.spool.bytes_max));
    let analytics = role
        .runs(Role::Analytics)
        .then(|| analytics::validate(&config.analytics).map_err(&mut keep).ok())
        .flatten()
        .map(|plan| plan.with_bucket(bucket.clone()))
        .and_then(|plan| plan.with_cluster(&config.cluster).map_err(&mut keep).ok());
    let cluster = role
        .is_of_cluster()
        .then(|| analytics::cluster::validate(&config.cluster).map_err(&mut keep).ok())
        .flatten()
        .and_then(|plan| match (role, bucket) {
            (Role::Executor, Some(bucket)) => Some(ClusterRole::Executor(plan, bucket)),
            (Role::Executor, None) => {
                let problem =
                    event::Problem::new("object_store.url", "missing: executors read files of a bucket");
                keep(vec![problem.hint("as collectors and analytics have it")]);
                None
            }
            _ => Some(ClusterRole::Scheduler(plan)),
        });
    if role.runs(Role::Proxy) {
        problems.extend(config.spool.problems("spool"));
    }
    if problems.is_empty() {
        Ok(Plans { proxy, collector, analytics, cluster })
    } else {
        Err(loaded.report(problems))
    }
}
