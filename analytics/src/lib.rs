//! SQL over the recorded requests, live rows included.
//!
//! Data comes from files that the collector writes: sealed Parquet files named by the manifest, and hot Arrow
//! files of the last seconds. Where there is a bucket, what other collectors have
//! uploaded to it is part of the table. Answers go out over HTTP (`/sql`). The modules stand in the order of a question's
//! journey: a configuration, who may ask, [`sealed`] files and a [`catalog`] snapshot of
//! all rows, the sources, among them groups of roll-ups that stay in memory, which files are of the
//! asked times, where ids are looked up, tries that files leave out, and the table over it, ids in text, texts that grow, functions, questions that roll-ups answer, table functions, views and tables of
//! traffic, a cluster that may compute, a session, the guard that refuses everything but reading, the engine that bounds and runs a query, threads for each query,
//! a format, the door for connections, what is asked and answered over HTTP, by clients of PostgreSQL and by those of Arrow Flight SQL,
//! and the service around it all.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;

mod access;

mod bucket;

pub mod sealed;

pub mod catalog;

mod disk;

mod leaf;

mod groups;

mod hot;

mod times;

mod lookup;

mod tries;

mod table;

mod ids;

mod growth;

mod looks_up;

mod once;

pub mod functions;

mod rolled;

mod reports;

mod views;

mod traffic;

mod system;

mod upstreams;

mod connections;

mod config_tables;

mod unreadable;

pub mod cluster;

mod session;

pub mod guard;

mod threads;

mod runner;

mod live;

pub mod query;

mod error;

mod format;

mod door;

mod http;

mod postgres;

mod flight;

mod serve;

pub use access::{Caller, RoleConfig, TokenConfig};
pub use cluster::{BallistaConfig, ClusterConfig, EngineKind};
pub use config::{AnalyticsConfig, PagesConfig, Plan, validate};
pub use flight::{FlightConfig, FlightError};
pub use postgres::PostgresConfig;
pub use reports::PlanConfig;
pub use serve::{Listeners, Running, StartError, start, start_on};
