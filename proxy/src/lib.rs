//! The data plane of Tollhouse: takes requests in, finds out who calls and where to, forwards, and records each as
//! exactly one event.
//!
//! [`validate`] makes a [`Plan`] of the configuration, [`start`] runs it with one thread per spool writer. Each thread
//! is alone: its own sockets, its own upstream connections, its own clock sweep, its own lane of the spool; nothing
//! is locked. The modules stand in the order of a request's journey.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;

mod plan;

mod sockets;

mod start;

mod reload;

mod core;

mod clock;

mod pace;

mod chunked;

mod pieces;

mod accept;

mod exchange;

mod path;

mod host;

mod query;

mod cookies;

mod route;

mod auth;

mod trace;

mod forward;

mod upstream;

mod respond;

mod record;

mod error;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

pub use accept::ConnectionCounts;
pub use plan::{Plan, validate};
pub use reload::{ReloadError, Reloaded, Reloader};
pub use sockets::OpenSocket;
pub use start::{Bound, DrainReport, Running, StartError, start, take_over};
