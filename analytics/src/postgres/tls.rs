//! TLS of the PostgreSQL listener.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use event::TlsFiles;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM of what it should be.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Certificate and key are none that can be used.
    #[error("the certificate and key of analytics.postgres.tls cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// What accepts TLS connections; none without a certificate.
pub(super) fn acceptor(config: &TlsFiles) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(certificates), Some(key)) = (&config.cert_file, &config.key_file) else { return Ok(None) };
    let refused = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(refused(certificates))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(refused(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}
