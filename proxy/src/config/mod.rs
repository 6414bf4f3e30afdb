//! What a person writes: the `gateway` section and the entities in Kong's shapes, as typed trees. Nothing is
//! checked here beyond types and names; [`crate::validate`] does that and makes the plan of it.

mod entities;

mod certificates;

mod gateway;

pub use certificates::{CaCertificate, Certificate, NestedSni, Sni, SniName};
pub use entities::{
    Consumer, Entities, KeyAuthConfig, KeyauthCredential, Plugin, Reference, Route, Service, Target, Upstream,
};
pub use gateway::{
    ClientCertificates, GatewayConfig, Limits, Listen, ListenTls, NamedCertificate, ResponseHeader, Timeouts,
    TlsVersionMin,
};
