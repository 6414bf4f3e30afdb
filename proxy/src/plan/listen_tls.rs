//! TLS of a listener: its certificates, and whether clients show theirs.

use super::certificates;
use super::pem::{self, Pem};
use crate::accept::{ServerNames, ServerTls, Shown};
use crate::config::{ClientCertificates, ListenTls, TlsVersionMin};
use event::Problem;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, version};
use rustls_pki_types::CertificateDer;
use std::path::Path;
use std::sync::Arc;

pub(super) fn server_config(
    tls: &ListenTls,
    shared: &ServerNames,
    protocols: &[&[u8]],
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Arc<ServerTls>> {
    let before = problems.len();
    let own = own_names(tls, path, problems);
    let (verifier, authorities) = client_verifier(tls, path, problems).unzip();
    if problems.len() == before && own.is_empty() && shared.is_empty() {
        problems.push(
            Problem::new(path, "there is no certificate to show")
                .hint("give `certificate` and `key`, or `certificates` with their `snis`"),
        );
    }
    if problems.len() > before {
        return None;
    }
    let versions: &[_] = match tls.version_min {
        TlsVersionMin::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersionMin::Tls13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("the provider has suites of both versions");
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let settings = serde_json::to_vec(tls).unwrap_or_default();
    let (own_parts, shared_parts) = (own.parts(), shared.parts());
    let mut config = builder.with_cert_resolver(Arc::new(Shown { own, shared: shared.clone() }));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Sessions are resumed by tickets alone: nothing is kept here, and any thread can read them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match rustls::crypto::ring::Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => problems.push(Problem::new(path, format!("no keys for session tickets: {error}"))),
    }
    let spoken = protocols.concat();
    let parts = [&settings[..], &spoken, b"own"].into_iter().chain(own_parts.iter().map(Vec::as_slice));
    let parts = parts.chain([&b"shared"[..]]).chain(shared_parts.iter().map(Vec::as_slice));
    let authorities = authorities.unwrap_or_default();
    let parts = parts.chain([&b"authorities"[..]]).chain(authorities.iter().map(|one| &one[..]));
    Some(Arc::new(ServerTls::new(config, parts)))
}

/// The listener's own certificates.
fn own_names(tls: &ListenTls, path: &str, problems: &mut Vec<Problem>) -> ServerNames {
    let mut names = ServerNames::default();
    let load = |certificate: &Path, key: &Path, path: &str, problems: &mut Vec<Problem>| {
        let chain = Pem::File(certificate).certificates(&format!("{path}.certificate"), problems);
        let key = Pem::File(key).key(&format!("{path}.key"), problems);
        pem::certified(chain?, key?, path, problems)
    };
    match (&tls.certificate, &tls.key) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            let certified = load(certificate, key, path, problems);
            certificates::add(&mut names, "*", &certified, path, problems);
        }
        (Some(_), None) => problems.push(Problem::new(format!("{path}.key"), "is missing")),
        (None, Some(_)) => problems.push(Problem::new(format!("{path}.certificate"), "is missing")),
    }
    for (at, named) in tls.certificates.iter().enumerate() {
        let path = format!("{path}.certificates[{at}]");
        let certified = load(&named.certificate, &named.key, &path, problems);
        if named.snis.is_empty() {
            problems.push(Problem::new(format!("{path}.snis"), "names no server"));
        }
        for (number, name) in named.snis.iter().enumerate() {
            let path = format!("{path}.snis[{number}]");
            certificates::add(&mut names, name, &certified, &path, problems);
        }
    }
    names
}

/// Who looks at the certificates of clients, and by which authorities.
fn client_verifier(
    tls: &ListenTls,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(Arc<dyn ClientCertVerifier>, Vec<CertificateDer<'static>>)> {
    let field = format!("{path}.client_authorities");
    let file = match (tls.client_certificates, &tls.client_authorities) {
        (ClientCertificates::None, None) => return None,
        (ClientCertificates::None, Some(_)) => {
            problems.push(
                Problem::new(field, "stands without `client_certificates`")
                    .hint("set client_certificates to optional or required"),
            );
            return None;
        }
        (_, None) => {
            problems.push(Problem::new(field, "is missing: no client could be believed"));
            return None;
        }
        (_, Some(file)) => file,
    };
    let all = Pem::File(file).certificates(&field, problems)?;
    let roots = pem::roots(all.iter().cloned(), &field, problems);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if tls.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    let built = builder.build().map_err(|error| problems.push(Problem::new(field, error.to_string())));
    built.ok().map(|verifier| (verifier, all))
}
