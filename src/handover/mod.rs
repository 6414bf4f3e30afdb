//! The hand-over of a running gateway to the next process on the same data folder.
//!
//! The process that serves waits at a UNIX socket in the folder ([`door`]). One that is started with `--take-over` reads
//! its configuration, knocks, and is given the open sockets, and the locks, as files ([`wire`]). From then on:
//!
//! ```text
//! new                                   old
//!      Hello ──────────────────────────▶
//!      ◀────────────── Offer, and files     serves on
//! has spool, threads, SQL
//!      Ready ──────────────────────────▶
//!      ◀────────────────────────── Open     serves on
//! takes connections in
//!      Serving ────────────────────────▶
//!                                           takes none any more; its collector stores what it has read
//!      ◀────────────────────── Released
//! starts its collector                      answers what is under way, and ends
//! ```
//!
//! Until `Serving` the old one has changed nothing, so whatever becomes of the new one, it goes on. Connections that wait
//! in the sockets' queues wait for either, since the sockets are the same.

mod wire;

mod door;

mod give;

mod take;

mod launch;

mod ask;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use ask::ask;
pub use give::{Giver, Goods, Handed, Launcher};
pub use launch::Program;
pub use take::{Inherited, TakeError, Taking, take};

/// What the two sides must agree on; a change of the messages changes it.
const PROTOCOL: u32 = 1;
/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the two processes say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// Who knocks, and what for.
    Hello { protocol: u32, version: String, wants: Wants },
    /// No, and why.
    Refused { reason: String },
    /// What comes as files after this, in this order.
    Offer { version: String, goods: Vec<Good> },
    /// All that can fail is done.
    Ready,
    /// Take connections in.
    Open,
    /// Connections are taken in.
    Serving,
    /// The new process gives up.
    Failed { reason: String },
    /// Nobody else collects, or writes to the state of the folder, any more.
    Released,
    /// The answer to [`Wants::Upgrade`]: who serves now.
    Upgraded { pid: u32, version: String },
}

/// What somebody knocks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wants {
    /// To serve in the place of this process.
    TakeOver,
    /// That this process starts its program anew, to take over from it.
    Upgrade,
}

/// An open file on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    kind: Kind,
    /// Of a listener of the gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    /// Of a listener: its address as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
}

/// What an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A socket of a listener of the gateway: one for each thread and listener.
    Gateway,
    /// The metrics listener of the collector.
    Metrics,
    /// The listener of the analytics.
    Sql,
    /// The listener of the analytics for clients of PostgreSQL.
    Postgres,
    /// The listener of the analytics for clients of Flight SQL.
    Flight,
    /// The lock that says who serves.
    SpoolLock,
    /// The lock that says who collects.
    CollectorLock,
}
