//! The proxy over real sockets, in front of real origins, its events read back from a real spool.
#![allow(clippy::unwrap_used)]

mod support;

mod journey;

mod routing;

mod conditions;

mod destinations;
mod diversions;
mod mirror;

mod balancing;
mod circuit;
mod dns;
mod health;
mod outlier;
mod refused;
mod retry;
mod slow_start;
mod states;
mod sticky;
mod upstream;

mod arrival;
mod client;

mod claims;

mod limits;

mod proxy_protocol;

mod balancers;

mod floods;

mod slow;

mod streams;

mod events;

mod libraries;

mod tools;

mod http1;

mod http2;

mod h2spec;

mod protocol;

mod tls;

mod grpc;

mod strict;

mod drain;

mod reload;
