//! Tollhouse itself, started in this process by the same composition as `tollhouse run`, from the demo's
//! configuration. The only file of the demo that knows how the product is put together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use event::configuration::Configuration;
use event::layout::DataFolder;
use serde_json::json;

use super::world::Listen;
use crate::config::{self, Config, Role, Sources};
use crate::failure::Failure;
use crate::parts::{self, Parts};
use crate::reload::{self, in_force};

/// A running Tollhouse.
pub struct House {
    parts: Parts,
    /// Where it listens, with the ports it really has.
    pub listen: Listen,
}

impl House {
    /// Starts all parts over `data` from the configuration `text`, which `name` names in messages. To be called on a
    /// runtime. The environment has no say: the demo is the same everywhere.
    pub fn start(name: &str, text: String, data: &Path) -> Result<Self, Failure> {
        // Fails only when a provider is installed already, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sources = Sources {
            file: Some((name.to_owned(), text)),
            vars: BTreeMap::new(),
            flags: vec![("--data", vec!["data"], json!(data.to_string_lossy()))],
            ..Sources::default()
        };
        let loaded = config::load::<Config>(sources)?;
        let plans = config::validate(&loaded, Role::All)?;
        let config = &loaded.value;
        let folder = DataFolder::open(&config.data)
            .map_err(|error| Failure::part("cannot use the data folder", error))?;
        let version = plans.proxy.as_ref().map_or(0, proxy::Plan::version);
        let parts = parts::start(config, plans, &folder)?;
        let now_us = reload::now_us();
        in_force::note(&folder, &loaded, version, now_us);
        // Of no process: nobody is to ask this one for a reload.
        let state = Configuration {
            successful: true,
            at_us: now_us,
            success_at_us: now_us,
            version,
            ..Configuration::default()
        };
        state.store(&folder).map_err(|error| Failure::part("cannot start the demo", error))?;
        let listen = listen(&parts).ok_or_else(|| {
            Failure::part("cannot start the demo", "a listener of the gateway, metrics or SQL is missing")
        })?;
        Ok(Self { parts, listen })
    }

    /// Ends it as SIGTERM ends `tollhouse run`.
    pub async fn stop(self) {
        parts::drain(self.parts).await;
    }
}

fn listen(parts: &Parts) -> Option<Listen> {
    let gateway: SocketAddr = parts.gateway.as_ref()?.0.listeners.first()?.addr;
    Some(Listen {
        gateway,
        metrics: parts.collector.as_ref()?.metrics_addr,
        sql: parts.analytics.as_ref()?.addr,
        postgres: parts.analytics.as_ref()?.postgres_addr?,
    })
}
