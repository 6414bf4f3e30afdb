//! Links: how a service's connections are made. Two services share connections to a target only when all of it is
//! equal, so that no request goes out under another's identity or trust.

use super::certificates::Store;
use super::pem;
use crate::accept::ProxyVersion;
use crate::forward::verifier;
use event::Problem;
use rustls::ClientConfig;
use rustls_pki_types::TrustAnchor;
use std::path::Path;
use std::sync::Arc;

/// Most certificates between the upstream's own and an authority's that can be asked for: what the verifier looks
/// through.
pub(super) const VERIFY_DEPTH_MAX: u32 = 6;

/// How connections of some services are made.
#[derive(Debug)]
pub(crate) struct LinkPlan {
    /// None for cleartext.
    pub tls: Option<Arc<ClientConfig>>,
    /// Whether HTTP/2 is spoken: by prior knowledge, or by ALPN after TLS.
    pub http2: bool,
    /// The header of the PROXY protocol that each begins with: it is the client's own then, and never pooled.
    pub proxy: Option<ProxyVersion>,
    /// Of all that makes links differ: those of two plans that are equal may share connections.
    pub id: u128,
}

impl LinkPlan {
    /// Whether connections of the link of this id are each a client's own: its lowest bit says so.
    pub fn is_own(id: u128) -> bool {
        id & 1 == 1
    }
}

/// All that makes two links differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LinkKey {
    pub tls: Option<TlsKey>,
    pub http2: bool,
    pub proxy: Option<ProxyVersion>,
    /// Whether it carries streams rather than requests: no protocol is named to TLS.
    pub stream: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsKey {
    /// None when the upstream's certificate is not looked at.
    pub verify: Option<Verify>,
    /// Index among the certificates.
    pub client: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verify {
    /// Indexes among the authorities, in order; none for the gateway's own.
    pub authorities: Vec<usize>,
    pub depth: u32,
}

/// What links are made of.
pub(super) struct Material<'a> {
    /// `gateway.upstream_roots`.
    pub roots: Option<&'a Path>,
    pub store: Store<'a>,
}

/// All links, each once.
#[derive(Default)]
pub(super) struct Links {
    keys: Vec<LinkKey>,
    pub plans: Vec<LinkPlan>,
    /// Read when the first link needs them.
    roots: Option<Arc<Vec<TrustAnchor<'static>>>>,
}

impl Links {
    /// The link of this key.
    pub fn of(&mut self, key: LinkKey, material: &Material<'_>, problems: &mut Vec<Problem>) -> usize {
        if let Some(found) = self.keys.iter().position(|known| *known == key) {
            return found;
        }
        let mut tls = key.tls.as_ref().map(|tls| self.client_config(tls, key.http2, material, problems));
        if let (true, Some(tls)) = (key.stream, &mut tls) {
            Arc::make_mut(tls).alpn_protocols.clear();
        }
        let id = self.id(&key, material, problems);
        self.plans.push(LinkPlan { tls, http2: key.http2, proxy: key.proxy, id });
        self.keys.push(key);
        self.keys.len() - 1
    }

    /// Half of a SHA-256 over what the link goes by, which files and references may have given: two plans are compared
    /// by it.
    fn id(&mut self, key: &LinkKey, material: &Material<'_>, problems: &mut Vec<Problem>) -> u128 {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let mut add = |part: &[u8]| {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        add(&[u8::from(key.http2), u8::from(key.tls.is_some()), u8::from(key.stream)]);
        add(format!("{:?}", key.proxy).as_bytes());
        if let Some(tls) = &key.tls {
            match &tls.verify {
                None => add(b"anybody"),
                Some(verify) if verify.authorities.is_empty() => {
                    add(&verify.depth.to_le_bytes());
                    for root in self.roots(material, problems).iter() {
                        add(&root.subject);
                        add(&root.subject_public_key_info);
                        add(root.name_constraints.as_deref().unwrap_or_default());
                    }
                }
                Some(verify) => {
                    add(&verify.depth.to_le_bytes());
                    let all = verify.authorities.iter().flat_map(|at| &material.store.authorities[*at].1);
                    all.for_each(|authority| add(authority));
                }
            }
            let client = tls.client.and_then(|at| material.store.certificates[at].1.as_ref());
            add(&[u8::from(client.is_some())]);
            client.iter().flat_map(|client| &client.cert).for_each(|certificate| add(certificate));
        }
        let half = digest.finish().as_ref().first_chunk().copied().unwrap_or_default();
        u128::from_le_bytes(half) & !1 | u128::from(key.proxy.is_some())
    }

    /// TLS of health checks, which believe the gateway's own authorities, or anybody.
    pub fn probe(
        &mut self,
        verifies: bool,
        http2: bool,
        material: &Material<'_>,
        problems: &mut Vec<Problem>,
    ) -> Arc<ClientConfig> {
        let verify = verifies.then_some(Verify { authorities: Vec::new(), depth: VERIFY_DEPTH_MAX });
        self.client_config(&TlsKey { verify, client: None }, http2, material, problems)
    }

    fn client_config(
        &mut self,
        key: &TlsKey,
        http2: bool,
        material: &Material<'_>,
        problems: &mut Vec<Problem>,
    ) -> Arc<ClientConfig> {
        let verifier = match &key.verify {
            None => verifier::none(),
            Some(verify) if verify.authorities.is_empty() => {
                verifier::chain(self.roots(material, problems), verify.depth)
            }
            Some(verify) => {
                let all = verify.authorities.iter().flat_map(|at| material.store.authorities[*at].1.clone());
                // What is broken was reported where it stands.
                let roots = pem::roots(all, "", &mut Vec::new()).roots;
                verifier::chain(Arc::new(roots), verify.depth)
            }
        };
        let client = key.client.and_then(|at| material.store.certificates[at].1.clone());
        verifier::client_config(verifier, client, http2)
    }

    fn roots(
        &mut self,
        material: &Material<'_>,
        problems: &mut Vec<Problem>,
    ) -> Arc<Vec<TrustAnchor<'static>>> {
        let mut read = || match material.roots {
            None => webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            Some(file) => {
                const PATH: &str = "gateway.upstream_roots";
                let all = pem::Pem::File(file).certificates(PATH, problems).unwrap_or_default();
                pem::roots(all, PATH, problems).roots
            }
        };
        Arc::clone(self.roots.get_or_insert_with(|| Arc::new(read())))
    }
}
