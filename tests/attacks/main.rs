//! Attacks by raw bytes on the real binary: what must be refused leaves no byte behind the gateway, and what is
//! forwarded is read in one way by everybody: by the gateway, nginx, HAProxy, and a strict reader of the recorded bytes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod reader;

mod origins;

mod tap;

mod stand;

mod classes;

mod refused;

mod forwarded;

mod mutate;

mod replay;

mod hostile;

mod frames;

mod downgrade;
