//! The files that a configuration names.

use super::{Entities, GatewayConfig};
use std::path::PathBuf;

/// Certificates, keys and authorities that a plan is made of, each once.
pub fn files(gateway: &GatewayConfig, entities: &Entities) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = gateway.upstream_roots.iter().cloned().collect();
    let streams = gateway.stream_listen.iter().filter_map(|listen| listen.tls.as_ref());
    for tls in gateway.listen.iter().filter_map(|listen| listen.tls.as_ref()).chain(streams) {
        let own = [&tls.certificate, &tls.key, &tls.client_authorities];
        files.extend(own.into_iter().flatten().cloned());
        files
            .extend(tls.certificates.iter().flat_map(|named| [named.certificate.clone(), named.key.clone()]));
    }
    for certificate in &entities.certificates {
        files.extend([&certificate.cert_file, &certificate.key_file].into_iter().flatten().cloned());
    }
    files.extend(entities.ca_certificates.iter().filter_map(|authority| authority.cert_file.clone()));
    files.sort_unstable();
    files.dedup();
    files
}
