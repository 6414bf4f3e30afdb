//! What an operator says about a listener of programs, wherever it stands.

use crate::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Certificate and key of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM file with the certificate, and those between it and its authority.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
}

impl TlsFiles {
    /// What is wrong with them and with a listener that has them, under `path`. One that other hosts reach speaks TLS, unless
    /// its operator allows plain text.
    #[must_use]
    pub fn problems(&self, path: &str, listen: Option<SocketAddr>, allow_plaintext: bool) -> Vec<Problem> {
        let missing =
            |field: &str, hint: &str| Problem::new(format!("{path}.tls.{field}"), "missing").hint(hint);
        let half = match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Some(missing("key_file", "the key of tls.cert_file, as PEM")),
            (None, Some(_)) => Some(missing("cert_file", "the certificate of tls.key_file, as PEM")),
            _ => None,
        };
        let plain = listen
            .filter(|listen| self.cert_file.is_none() && !listen.ip().is_loopback() && !allow_plaintext);
        let plain = plain.map(|listen| {
            let message = format!("other hosts reach {listen}, and it speaks plain text");
            Problem::new(format!("{path}.listen"), message).hint(
                "set tls.cert_file and tls.key_file, or allow_plaintext: true for a network that you trust",
            )
        });
        half.into_iter().chain(plain).collect()
    }
}
