//! Checks `certificates`, `snis` and `ca_certificates`: what listeners show by server name, what services show, and
//! whom services believe.

use super::pem::{self, Pem};
use crate::accept::ServerNames;
use crate::config::{CaCertificate, Certificate, Entities};
use event::Problem;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// All certificates of the entities.
#[derive(Default)]
pub(super) struct Store<'a> {
    /// By their ids; none where one is broken.
    pub certificates: Vec<(Option<&'a str>, Option<Arc<CertifiedKey>>)>,
    pub authorities: Vec<(Option<&'a str>, Vec<CertificateDer<'static>>)>,
    pub names: ServerNames,
}

impl Store<'_> {
    /// Index of the certificate of this id.
    pub fn certificate(&self, id: &str) -> Option<usize> {
        self.certificates.iter().position(|(known, _)| *known == Some(id))
    }

    /// Index of the authority of this id.
    pub fn authority(&self, id: &str) -> Option<usize> {
        self.authorities.iter().position(|(known, _)| *known == Some(id))
    }
}

pub(super) fn check<'a>(entities: &'a Entities, problems: &mut Vec<Problem>) -> Store<'a> {
    let mut store = Store::default();
    for (at, certificate) in entities.certificates.iter().enumerate() {
        let path = format!("certificates[{at}]");
        let id = certificate.id.as_deref();
        if id.is_some_and(|id| store.certificate(id).is_some()) {
            problems.push(Problem::new(format!("{path}.id"), "is the id of an earlier certificate"));
        }
        let certified = load(certificate, &path, problems);
        for (number, sni) in certificate.snis.iter().enumerate() {
            add(&mut store.names, sni.name(), &certified, &format!("{path}.snis[{number}]"), problems);
        }
        store.certificates.push((id, certified));
    }
    for (at, sni) in entities.snis.iter().enumerate() {
        let path = format!("snis[{at}]");
        let Some(found) = store.certificate(sni.certificate.key()) else {
            problems.push(
                Problem::new(
                    format!("{path}.certificate"),
                    format!("there is no certificate `{}`", sni.certificate.key()),
                )
                .hint("give the `id` of one of `certificates`"),
            );
            continue;
        };
        let certified = store.certificates[found].1.clone();
        add(&mut store.names, &sni.name, &certified, &format!("{path}.name"), problems);
    }
    for (at, authority) in entities.ca_certificates.iter().enumerate() {
        let path = format!("ca_certificates[{at}]");
        let id = authority.id.as_deref();
        if id.is_none() {
            problems.push(Problem::new(format!("{path}.id"), "is missing: nothing could refer to it"));
        } else if id.is_some_and(|id| store.authority(id).is_some()) {
            problems.push(Problem::new(format!("{path}.id"), "is the id of an earlier authority"));
        }
        store.authorities.push((id, load_authority(authority, &path, problems)));
    }
    store
}

/// Adds a name, unless it is no pattern or there already.
pub(super) fn add(
    names: &mut ServerNames,
    name: &str,
    certified: &Option<Arc<CertifiedKey>>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    // What is wrong with the certificate was said where it stands.
    let Some(certified) = certified else { return };
    match names.add(name, certified) {
        Ok(true) => {}
        Ok(false) => {
            problems.push(
                Problem::new(path, format!("`{name}` has a certificate already"))
                    .hint("each server name belongs to one certificate"),
            );
        }
        Err(_not_a_name) => problems.push(
            Problem::new(path, format!("`{name}` is not a server name"))
                .hint("like example.com, *.example.com, example.* or *"),
        ),
    }
}

fn load(certificate: &Certificate, path: &str, problems: &mut Vec<Problem>) -> Option<Arc<CertifiedKey>> {
    let Certificate { cert, key, cert_file, key_file, .. } = certificate;
    let chain = Pem::of(cert.as_deref(), cert_file.as_deref(), path, ("cert", "cert_file"), problems)
        .and_then(|pem| pem.certificates(&format!("{path}.cert"), problems));
    let key = Pem::of(key.as_deref(), key_file.as_deref(), path, ("key", "key_file"), problems)
        .and_then(|pem| pem.key(&format!("{path}.key"), problems));
    pem::certified(chain?, key?, path, problems)
}

fn load_authority(
    authority: &CaCertificate,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Vec<CertificateDer<'static>> {
    let CaCertificate { cert, cert_file, cert_digest, .. } = authority;
    let field = format!("{path}.cert");
    let all = Pem::of(cert.as_deref(), cert_file.as_deref(), path, ("cert", "cert_file"), problems)
        .and_then(|pem| pem.certificates(&field, problems))
        .unwrap_or_default();
    if all.len() > 1 {
        problems.push(
            Problem::new(&field, "holds more than one certificate").hint("make an entity of each authority"),
        );
    }
    if let (Some(digest), Some(first)) = (cert_digest, all.first())
        && !digest.eq_ignore_ascii_case(&crate::accept::fingerprint(first))
    {
        problems.push(
            Problem::new(format!("{path}.cert_digest"), "is not the SHA-256 of the certificate")
                .hint("leave it out, or correct the certificate"),
        );
    }
    pem::roots(all.iter().cloned(), &field, problems);
    all
}
