//! The endpoint over real data folders: what it answers, in which forms, what it refuses and how it is bounded.
#![allow(clippy::unwrap_used, missing_docs)]

mod access;

mod bounds;

mod errors;

mod formats;

mod guard;

mod ids;

mod pages;

mod percentiles;

mod queries;

mod reports;

mod support;

mod system;

mod table;

mod traffic;
