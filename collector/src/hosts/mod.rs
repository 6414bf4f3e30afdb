//! Between hosts: batches that one collector makes and another stores.
//!
//! A sender (`collector.forward`) packs events as for a hot file, and hands each batch to a thread that sends it over
//! Arrow Flight `DoPut`. A receiver (`collector.receive`) gives it to its own intake, which drops what it has already,
//! commits the rest like rows of its own, and acknowledges once that is durable. Only then does the sender give its
//! spool back. A sender that goes to another receiver notes first what the one before may have, and has it taken back
//! there as soon as that one answers again (decision 16).

mod config;

mod account;

mod wire;

mod nodes;

mod notes;

mod forwarder;

mod courier;

mod link;

mod receive;

mod service;

mod check;

mod remote;

pub use account::Account;
pub use config::{ForwardConfig, ReceiveConfig};
pub(crate) use forwarder::Forwarder;
pub(crate) use notes::marks;
pub use receive::ReceiveError;
pub(crate) use receive::{Door, Receiver};
pub(crate) use remote::{Remote, is_foreign};
