//! Certificates in Kong's declarative shapes: those that listeners show by server name, those that services show to
//! their upstreams, and those by which upstreams are believed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A certificate with its private key, of every TLS listener for the server names it lists, or of services that refer
/// to it.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Certificate {
    /// Its id, for references.
    pub id: Option<String>,
    /// The certificate in PEM form, its chain after it.
    pub cert: Option<String>,
    /// Its private key in PEM form.
    pub key: Option<String>,
    /// PEM file of the certificate, instead of `cert`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the private key, instead of `key`.
    pub key_file: Option<PathBuf>,
    /// Server names that clients ask for: `example.com`, `*.example.com`, `example.*`, or `*` for all others.
    pub snis: Vec<SniName>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}

// The key must not come out by `{:?}`.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("id", &self.id).field("snis", &self.snis).finish_non_exhaustive()
    }
}

/// A server name in a certificate: plain, or as Kong's nested form has it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SniName {
    /// The name.
    Plain(String),
    /// As Kong writes it.
    Object(NestedSni),
}

impl SniName {
    /// The name itself.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(name) | Self::Object(NestedSni { name, .. }) => name,
        }
    }
}

/// A server name that stands in its certificate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NestedSni {
    /// The name.
    pub name: String,
    /// Its id.
    #[serde(default)]
    pub id: Option<String>,
    /// Words for people and tools; the gateway does not read them.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A server name with the certificate that is shown for it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sni {
    /// Its id.
    #[serde(default)]
    pub id: Option<String>,
    /// `example.com`, `*.example.com`, `example.*`, or `*` for all others.
    pub name: String,
    /// The certificate, by its id.
    pub certificate: super::Reference,
    /// Words for people and tools; the gateway does not read them.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// An authority whose signature on a certificate is believed, where a service or a listener refers to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaCertificate {
    /// Its id, for references.
    pub id: Option<String>,
    /// The certificate in PEM form.
    pub cert: Option<String>,
    /// PEM file of the certificate, instead of `cert`.
    pub cert_file: Option<PathBuf>,
    /// For Kong files: SHA-256 of the certificate in hexadecimal, checked when it is given.
    pub cert_digest: Option<String>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}
