//! TLS towards clients: what handshakes go by, and what a handshake tells of the client.

use event::{Draft, Text, TlsVersion};
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use std::fmt::Write;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest subject of a client's certificate that an event holds.
const SUBJECT_BYTES_MAX: usize = 512;

/// TLS of one listener. A plan that changes nothing of it keeps it; with any other the tickets of before are worth
/// nothing: a session is not resumed beyond the certificates and authorities that it began with.
#[derive(Debug)]
pub(crate) struct ServerTls {
    /// What handshakes go by.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of what it was made of.
    digest: Vec<u8>,
}

impl ServerTls {
    /// TLS made of these parts: settings, certificates, authorities.
    pub fn new<'a>(config: ServerConfig, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self { config: Arc::new(config), digest: digest.finish().as_ref().to_vec() }
    }

    /// Whether another was made of the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// What a handshake told.
pub(crate) struct TlsFacts {
    version: TlsVersion,
    pub server_name: Option<String>,
    client: Option<ClientIdentity>,
}

/// Whom a client's certificate, which was verified, names.
struct ClientIdentity {
    subject: String,
    fingerprint: String,
}

impl TlsFacts {
    pub fn of(session: &ServerConnection) -> Self {
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        };
        let client = session.peer_certificates().and_then(<[_]>::first).map(ClientIdentity::of);
        Self { version, server_name: session.server_name().map(str::to_owned), client }
    }

    /// Writes it into an event.
    pub fn describe(&self, draft: &mut Draft) {
        draft.head.tls_version = self.version as u8;
        if let Some(name) = &self.server_name {
            draft.text(Text::TlsSni, name.as_bytes());
        }
        if let Some(client) = &self.client {
            draft.extra(b"tls.client.subject", client.subject.as_bytes());
            draft.extra(b"tls.client.hash.sha256", client.fingerprint.as_bytes());
        }
    }
}

impl ClientIdentity {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut subject = match X509Certificate::from_der(certificate) {
            Ok((_, parsed)) => parsed.subject().to_string(),
            Err(_) => String::new(),
        };
        subject.truncate(subject.floor_char_boundary(SUBJECT_BYTES_MAX));
        Self { subject, fingerprint: fingerprint(certificate) }
    }
}

/// SHA-256 of a certificate, in hexadecimal.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        // Writing into a string cannot fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}
