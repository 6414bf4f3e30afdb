//! How a service's connections are made: cleartext or TLS, whom it believes, and what it shows.

use super::Checker;
use super::proxy_protocol::version;
use crate::config::Service;
use crate::plan::link::{LinkKey, TlsKey, VERIFY_DEPTH_MAX, Verify};

impl Checker<'_> {
    /// The link of a service that stands at `path`.
    pub(super) fn link(
        &mut self,
        service: &Service,
        tls: bool,
        http2: bool,
        stream: bool,
        path: &str,
    ) -> usize {
        let authorities = self.authorities(service, path);
        let client = self.client_certificate(service, path);
        let depth = service.tls_verify_depth.unwrap_or(VERIFY_DEPTH_MAX);
        if depth > VERIFY_DEPTH_MAX {
            self.problem_hint(
                format!("{path}.tls_verify_depth"),
                format!("must be from 0 to {VERIFY_DEPTH_MAX}"),
                "longer chains are not looked through; leave it out for the most there is",
            );
        }
        if !tls {
            for (field, given) in [
                ("tls_verify", service.tls_verify.is_some()),
                ("tls_verify_depth", service.tls_verify_depth.is_some()),
                ("ca_certificates", !service.ca_certificates.is_empty()),
                ("client_certificate", service.client_certificate.is_some()),
            ] {
                if given {
                    self.problem_hint(
                        format!("{path}.{field}"),
                        "is for services with TLS",
                        "use https or grpcs, or leave it out",
                    );
                }
            }
        }
        let verify = service.tls_verify.unwrap_or(true).then_some(Verify { authorities, depth });
        if verify.is_none() && (service.tls_verify_depth.is_some() || !service.ca_certificates.is_empty()) {
            self.problem_hint(
                format!("{path}.tls_verify"),
                "is false, so nothing is verified",
                "leave it out, or leave out ca_certificates and tls_verify_depth",
            );
        }
        let key =
            LinkKey { tls: tls.then_some(TlsKey { verify, client }), http2, proxy: version(service), stream };
        self.links.of(key, &self.material, self.problems)
    }

    fn authorities(&mut self, service: &Service, path: &str) -> Vec<usize> {
        let mut found = Vec::new();
        for (at, id) in service.ca_certificates.iter().enumerate() {
            match self.material.store.authority(id) {
                Some(authority) => found.push(authority),
                None => self.problem_hint(
                    format!("{path}.ca_certificates[{at}]"),
                    format!("there is no authority `{id}`"),
                    "give the `id` of one of `ca_certificates`",
                ),
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn client_certificate(&mut self, service: &Service, path: &str) -> Option<usize> {
        let id = service.client_certificate.as_ref()?.key();
        let found = self.material.store.certificate(id);
        if found.is_none() {
            self.problem_hint(
                format!("{path}.client_certificate"),
                format!("there is no certificate `{id}`"),
                "give the `id` of one of `certificates`",
            );
        }
        found
    }
}
