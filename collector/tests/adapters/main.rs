//! Adapters as their neighbours see them: scraped over HTTP, and exporting to receivers made of the public
//! protobuf service.
#![allow(clippy::unwrap_used)]

mod connections;
mod cost;
mod exposition;
mod metrics;
#[path = "../../../tests/support/port.rs"]
mod port;
mod receiver;
mod spans;
mod support;
mod targets;
