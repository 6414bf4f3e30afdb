//! Services, routes, upstreams, consumers and plugins, in Kong's declarative shapes. Fields that Kong has and this
//! gateway does not are unknown here, and so refused by name.

use super::certificates::{CaCertificate, Certificate, Sni};
use super::{Destination, FaultInjection, Mirror, Redirect, Retry, Rewrite, Sticky, Upstream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All entities, at the top level of the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Entities {
    /// What requests are sent to.
    pub services: Vec<Service>,
    /// Which requests are sent where.
    pub routes: Vec<Route>,
    /// Groups of targets that a service's `host` may name.
    pub upstreams: Vec<Upstream>,
    /// Who calls.
    pub consumers: Vec<Consumer>,
    /// What is done on the way.
    pub plugins: Vec<Plugin>,
    /// Certificates with their keys, of TLS listeners and of services that show one.
    pub certificates: Vec<Certificate>,
    /// Server names, each with its certificate.
    pub snis: Vec<Sni>,
    /// Authorities that services may believe.
    pub ca_certificates: Vec<CaCertificate>,
}

/// A service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// Its id, for references.
    pub id: Option<String>,
    /// Its name, in events and for references.
    pub name: Option<String>,
    /// `protocol`, `host`, `port` and `path` in one: `http://10.0.0.1:9000/base`.
    pub url: Option<String>,
    /// `http` (default), `https`, `grpc` or `grpcs`; of streams `tcp`, or `tls` to upstreams that want TLS.
    pub protocol: Option<String>,
    /// A host name, an address, or the name of an upstream.
    pub host: Option<String>,
    /// 80 by default, 443 after TLS. Targets of an upstream have their own.
    pub port: Option<u16>,
    /// Put before the path of each request.
    pub path: Option<String>,
    /// How often a request that failed is tried again, with the next target: 5 by default; at most 15 are made.
    pub retries: Option<u32>,
    /// Which failures count for `retries`.
    pub retry: Option<Retry>,
    /// Longest time to connect, milliseconds: 60000 by default.
    pub connect_timeout: Option<u64>,
    /// Longest time between two writes of a request, milliseconds: 60000 by default.
    pub write_timeout: Option<u64>,
    /// Longest time between two reads of a response, milliseconds: 60000 by default.
    pub read_timeout: Option<u64>,
    /// False takes it out of service: its routes answer 503.
    pub enabled: Option<bool>,
    /// Whether HTTP/2 is spoken with the upstream, by prior knowledge for `http` and by ALPN for `https`: false by default,
    /// always for `grpc` and `grpcs`.
    pub http2: Option<bool>,
    /// Whether connections to the upstream begin with a header of the PROXY protocol that names the client, and of which
    /// version: `v1` or `v2`. Each request has a connection of its own then.
    pub send_proxy_protocol: Option<SendProxyProtocol>,
    /// Whether the certificate of an upstream with TLS must be valid for the service's host: true by default.
    pub tls_verify: Option<bool>,
    /// Most certificates between the upstream's own and an authority's, 0 to 6: 6 by default.
    pub tls_verify_depth: Option<u32>,
    /// Authorities that may have signed the upstream's certificate, by the ids of `ca_certificates`; without them those
    /// of `gateway.upstream_roots`.
    pub ca_certificates: Vec<String>,
    /// The certificate that the gateway shows to the upstream, by its id in `certificates`.
    pub client_certificate: Option<Reference>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
    /// Routes of this service.
    pub routes: Vec<Route>,
    /// Plugins of this service.
    pub plugins: Vec<Plugin>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A route: it matches when each kind of attribute that it names matches.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Its id, for references.
    pub id: Option<String>,
    /// Its name, in events and for references.
    pub name: Option<String>,
    /// `http` and `https` by default; without `http` and `grpc` cleartext requests are sent away, as
    /// `https_redirect_status_code` says. Without `https` and `grpcs` both are taken, as in Kong. `grpc` and `grpcs` alone
    /// take gRPC by HTTP/2 only. Streams come by `gateway.stream_listen`:
    /// `tcp` takes plain ones, `tls` those whose TLS ends at the gateway, `tls_passthrough` those whose TLS goes on as it is.
    pub protocols: Vec<String>,
    /// Host names, with at most one `*` for the labels at the begin or the end, with or without a port.
    pub hosts: Vec<String>,
    /// What the path begins with: a prefix, or after `~` a regular expression (of Rust's regex crate: without look-around
    /// and back-references) that matches from the begin of the path.
    pub paths: Vec<String>,
    /// Methods, in capitals.
    pub methods: Vec<String>,
    /// For each header the values of which one line must be one, without regard to case; after `~*` a value is a regular
    /// expression that matches anywhere in the line.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Names that a TLS client may ask for (SNI); cleartext requests are not asked. Needs `https` or `grpcs` in
    /// `protocols`.
    pub snis: Vec<String>,
    /// Beyond Kong: for each argument of the query the values of which one of its own must be one: exactly, with regard to
    /// case and without percent-encoding, or after `~*` by a regular expression without regard to case that matches anywhere
    /// in it. `~*^v2` is for what begins so, `~*` for any. Of routes that Kong tells apart by their age alone, the one that
    /// asks for more arguments, cookies and consumers is taken first.
    pub query_args: BTreeMap<String, Vec<String>>,
    /// Beyond Kong: for each cookie the values of which one of its own must be one, as in `query_args`.
    pub cookies: BTreeMap<String, Vec<String>>,
    /// Beyond Kong: the consumers, by username, custom_id or id, whose requests the route takes. It needs a key-auth of the
    /// route, its service or of all, which finds out who calls; other callers go on to the next route that matches, whose
    /// own key-auth they have to pass. It tells callers apart, it does not keep them out.
    pub consumers: Vec<String>,
    /// Of streams: where clients come from; one of these must hold.
    pub sources: Vec<RouteEnd>,
    /// Of streams: where clients connect to, the gateway's own end; one of these must hold.
    pub destinations: Vec<RouteEnd>,
    /// Whether the matched part is taken off the path: true by default.
    pub strip_path: Option<bool>,
    /// Whether the client's Host goes upstream rather than the target's: false by default.
    pub preserve_host: Option<bool>,
    /// How the service's path and the rest of the request's are put together: `v0` (default) with one slash between
    /// them, `v1` end to end.
    pub path_handling: Option<String>,
    /// Answer to a cleartext request to an https-only route: 426 (default), or the redirects 301, 302, 307, 308.
    pub https_redirect_status_code: Option<u16>,
    /// Of several routes whose regular expressions match, the one with the greatest priority is taken: 0 by default.
    pub regex_priority: Option<i64>,
    /// When it was made, seconds since 1970: of routes that are equal otherwise the oldest is taken. Those that do not
    /// say are taken in the order of the file.
    pub created_at: Option<u64>,
    /// Whether the begin of a body is waited for before an upstream is asked, `limits.request_buffer_bytes_max` of it: true
    /// by default.
    pub request_buffering: Option<bool>,
    /// For Kong files: responses always stream. `false` or absent.
    pub response_buffering: Option<bool>,
    /// Several places to which the requests go, each with its share; where each names a service the route needs none.
    pub weighted_destinations: Vec<Destination>,
    /// What makes requests of one client go to the same of `weighted_destinations`; without it each goes by chance.
    pub sticky: Option<Sticky>,
    /// Another path or host for the upstream than the client asked for.
    pub rewrite: Option<Rewrite>,
    /// Sends the clients elsewhere; the route needs no service then.
    pub redirect: Option<Redirect>,
    /// Faults for some of the requests, to try what becomes of them.
    pub fault: Option<FaultInjection>,
    /// Copies of the requests for another place.
    pub mirror: Option<Mirror>,
    /// The service; not for a route that stands in its service.
    pub service: Option<Reference>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
    /// Plugins of this route.
    pub plugins: Vec<Plugin>,
}

/// One end of a stream, as far as a route asks for it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteEnd {
    /// An address, or a network (CIDR).
    pub ip: Option<String>,
    /// A port.
    pub port: Option<u16>,
}

/// A reference to an entity: its name or id, plain or as `{name: ...}` or `{id: ...}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reference {
    /// The name (of a consumer: the username) or id.
    Plain(String),
    /// As Kong's Admin API writes it.
    Object {
        /// By name.
        #[serde(default, alias = "username")]
        name: Option<String>,
        /// By id.
        #[serde(default)]
        id: Option<String>,
    },
}

impl Reference {
    /// What is referred to.
    pub fn key(&self) -> &str {
        match self {
            Self::Plain(key) => key,
            Self::Object { name, id } => name.as_deref().or(id.as_deref()).unwrap_or_default(),
        }
    }
}

/// A consumer of services.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Consumer {
    /// Its id; its name by default.
    pub id: Option<String>,
    /// Its name, in events.
    pub username: Option<String>,
    /// Its name elsewhere.
    pub custom_id: Option<String>,
    /// Its API keys.
    pub keyauth_credentials: Vec<KeyauthCredential>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}

/// An API key.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyauthCredential {
    /// What events call it; by default the consumer's name and a number. Never the key.
    pub id: Option<String>,
    /// The secret.
    pub key: String,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}

// The key must not come out by `{:?}`.
impl std::fmt::Debug for KeyauthCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyauthCredential").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A plugin, of everything or of one service or route.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plugin {
    /// Its id.
    pub id: Option<String>,
    /// Which: `key-auth`.
    pub name: String,
    /// Name of this instance, for people.
    pub instance_name: Option<String>,
    /// False leaves it out.
    pub enabled: Option<bool>,
    /// Restricts it to a service.
    pub service: Option<Reference>,
    /// Restricts it to a route.
    pub route: Option<Reference>,
    /// Restricts it to a consumer; not for plugins that find out who the consumer is.
    pub consumer: Option<Reference>,
    /// `http`, `https`, `grpc`, `grpcs`, all by default. As in Kong they restrict nothing: a plugin stands before every
    /// request of its place.
    pub protocols: Vec<String>,
    /// Its own settings.
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Words for people and tools; the gateway does not read them.
    pub tags: Vec<String>,
}

/// Settings of the plugin `key-auth`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyAuthConfig {
    /// Headers or query parameters that may hold the key, in the order they are looked at.
    pub key_names: Vec<String>,
    /// Whether the key is taken out of the request before it goes upstream.
    pub hide_credentials: bool,
    /// Whether headers are looked at.
    pub key_in_header: bool,
    /// Whether query parameters are looked at.
    pub key_in_query: bool,
    /// Must be false: bodies are streamed, not read.
    pub key_in_body: bool,
    /// Whether OPTIONS requests need a key too.
    pub run_on_preflight: bool,
}

impl Default for KeyAuthConfig {
    fn default() -> Self {
        Self {
            key_names: vec!["apikey".into()],
            hide_credentials: false,
            key_in_header: true,
            key_in_query: true,
            key_in_body: false,
            run_on_preflight: true,
        }
    }
}
