//! What a person writes: the `gateway` section and the entities in Kong's shapes, as typed trees. Nothing is
//! checked here beyond types and names; [`crate::validate`] does that and makes the plan of it.

mod entities;

mod certificates;

mod routing;

mod retry;

mod upstreams;

mod health;

mod outlier;

mod circuit;

mod gateway;

mod anonymize;

mod dns;

mod states;

mod files;

pub use anonymize::Anonymize;
pub use certificates::{CaCertificate, Certificate, NestedSni, Sni, SniName};
pub use circuit::{CircuitBreaker, SlowStart};
pub use dns::{Dns, RecordKind};
pub use entities::{
    Consumer, Entities, KeyAuthConfig, KeyauthCredential, Plugin, Reference, Route, RouteEnd,
    SendProxyProtocol, Service,
};
pub use files::files;
pub use gateway::{
    ClientCertificates, GatewayConfig, Limits, Listen, ListenTls, NamedCertificate, ProxyProtocol,
    ResponseHeader, StreamListen, Timeouts, TlsVersionMin,
};
pub use health::{
    ActiveChecks, ActiveHealthy, ActiveUnhealthy, CheckKind, Healthchecks, PassiveChecks, PassiveHealthy,
    PassiveUnhealthy,
};
pub use outlier::OutlierDetection;
pub use retry::{Retry, RetryOn};
pub use routing::{
    Destination, FaultAbort, FaultDelay, FaultInjection, Mirror, PathRegex, Redirect, Rewrite, Sticky,
    StickyOn, Subset,
};
pub use states::UpstreamStates;
pub use upstreams::{Algorithm, HashOn, Target, Upstream};
