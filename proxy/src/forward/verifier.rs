//! Whether an upstream with TLS is the one that was meant: its certificate must lead to an authority over so many
//! steps at most, and be valid for the name. Both are the configuration's, never the client's.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

/// Most sessions that are kept for resumption, of all upstreams of one link.
const SESSIONS_MAX: usize = 256;

/// Asks for a valid chain of at most `depth` certificates between the upstream's and an authority's.
pub(crate) fn chain(roots: Arc<Vec<TrustAnchor<'static>>>, depth: u32) -> Arc<dyn ServerCertVerifier> {
    Verifier::of(Some(Chain { roots, depth: depth as usize }))
}

/// Takes any certificate: the connection is secret, but nobody knows with whom.
pub(crate) fn none() -> Arc<dyn ServerCertVerifier> {
    Verifier::of(None)
}

/// How connections with this verifier are made, showing a certificate to upstreams that ask for one.
pub(crate) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Option<Arc<CertifiedKey>>,
    http2: bool,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate))),
    };
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Arc::new(config)
}

/// Checks a certificate where there is something to check it by; that its holder signs the handshake always.
#[derive(Debug)]
struct Verifier {
    chain: Option<Chain>,
    provider: CryptoProvider,
}

impl Verifier {
    fn of(chain: Option<Chain>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Self { chain, provider: rustls::crypto::ring::default_provider() })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let certificate = EndEntityCert::try_from(end_entity).map_err(refused)?;
            chain.verify(&certificate, intermediates, now, algorithms).map_err(refused)?;
            certificate.verify_is_valid_for_subject_name(server_name).map_err(refused)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a certificate must lead to.
#[derive(Debug)]
struct Chain {
    roots: Arc<Vec<TrustAnchor<'static>>>,
    depth: usize,
}

impl Chain {
    fn verify(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), webpki::Error> {
        let short = |path: &VerifiedPath<'_>| match path.intermediate_certificates().count() {
            count if count <= self.depth => Ok(()),
            _ => Err(webpki::Error::MaximumPathDepthExceeded),
        };
        let usage = KeyUsage::server_auth();
        certificate
            .verify_for_usage(algorithms, &self.roots, intermediates, now, usage, None, Some(&short))
            .map(|_path| ())
    }
}

/// As an alert and a log line have it.
fn refused(error: webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertNotValidForName(_) => CertificateError::NotValidForName,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    })
}
