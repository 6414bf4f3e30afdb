//! The contract of Tollhouse: one request is one event.
//!
//! The gateway fills a [`Draft`] while a request passes and appends it to the [`spool`], which survives the
//! death of the process. The collector reads each record back as a [`RequestEvent`], stores it in hot files and
//! then in Parquet, whose places are named by [`layout`], and adds it to a [`rollup`], with a [`sketch`] of durations and
//! one of [`distinct`] clients. With the feature `arrow` this crate also holds the
//! Arrow schema of the table `requests` ([`columns`]) and the format of hot files ([`hot`]), and with `bucket` what several
//! collectors keep in one object store ([`bucket`]).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod vocabulary;

mod head;

mod draft;

mod shapes;

mod request;

pub mod tries;

pub mod spool;

pub mod layout;

pub mod sketch;

pub mod distinct;

pub mod rollup;

pub mod erasure;

pub mod configuration;

pub mod in_force;

pub mod upstreams;

pub mod connections;

#[cfg(feature = "bucket")]
pub mod bucket;

#[cfg(feature = "arrow")]
pub mod columns;

#[cfg(feature = "arrow")]
pub mod hot;

mod listener;

mod problem;

mod secret;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

pub use draft::{ATTEMPTS_MAX, Attempt, Draft, EXTRA_MAX, Run, TEXT_BYTES_MAX, Text};
pub use head::{ABSENT_I64, ABSENT_U16, ABSENT_U32, Head, ip_bytes, ip_from_bytes};
pub use listener::TlsFiles;
pub use problem::Problem;
pub use request::RequestEvent;
pub use secret::Secret;
pub use shapes::{Shape, Shapes};
pub use vocabulary::{
    AttemptError, AuthMethod, CacheStatus, Outcome, Protocol, Role, Scheme, Source, TlsVersion,
};
