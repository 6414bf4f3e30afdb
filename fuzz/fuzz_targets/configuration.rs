#![no_main]
//! A configuration, native or of Kong, by the reader of the binary itself. The reader is taken in by its path, with the
//! part of the file that is the gateway's: the others would bring the whole of SQL along.

#[path = "../../src/config"]
#[allow(dead_code, unused_imports, reason = "the fuzzer asks for less than the binary")]
mod config {
    mod locate;

    mod env;

    mod conform;

    mod suggest;

    mod decode;

    mod kong;

    mod load;

    mod report;

    pub mod holds;
}

use proxy::config::{
    CaCertificate, Certificate, Consumer, Entities, GatewayConfig, Plugin, Route, Service, Sni, Upstream,
    files,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// What a file says of the gateway.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Part {
    gateway: GatewayConfig,
    services: Vec<Service>,
    routes: Vec<Route>,
    upstreams: Vec<Upstream>,
    consumers: Vec<Consumer>,
    plugins: Vec<Plugin>,
    certificates: Vec<Certificate>,
    snis: Vec<Sni>,
    ca_certificates: Vec<CaCertificate>,
}

fn judge(part: &Part) -> Result<u64, Vec<event::Problem>> {
    let entities = Entities {
        services: part.services.clone(),
        routes: part.routes.clone(),
        upstreams: part.upstreams.clone(),
        consumers: part.consumers.clone(),
        plugins: part.plugins.clone(),
        certificates: part.certificates.clone(),
        snis: part.snis.clone(),
        ca_certificates: part.ca_certificates.clone(),
    };
    // What it would read of this machine is none of the fuzzer's business.
    if let Some(file) = files(&part.gateway, &entities).first() {
        return Err(vec![event::Problem::new("gateway", format!("names {}", file.display()))]);
    }
    proxy::validate(&part.gateway, &entities).map(|plan| plan.version())
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        config::holds::hold::<Part>(text, judge);
    }
});
