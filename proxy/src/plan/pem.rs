//! Certificates and keys out of PEM, from a file or from the configuration itself.

use event::Problem;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A file that is longer holds no certificates or keys.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where PEM is found.
#[derive(Clone, Copy)]
pub(super) enum Pem<'a> {
    Text(&'a str),
    File(&'a Path),
}

impl<'a> Pem<'a> {
    /// The one of two fields that is given.
    pub fn of(
        text: Option<&'a str>,
        file: Option<&'a Path>,
        path: &str,
        (name, name_file): (&str, &str),
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        match (text, file) {
            (Some(text), None) => Some(Self::Text(text)),
            (None, Some(file)) => Some(Self::File(file)),
            (None, None) => {
                let hint = format!("give `{name}` in PEM form, or `{name_file}`");
                problems.push(Problem::new(format!("{path}.{name}"), "is missing").hint(hint));
                None
            }
            (Some(_), Some(_)) => {
                let hint = format!("give either `{name}` or `{name_file}`");
                let text = format!("stands beside `{name}`");
                problems.push(Problem::new(format!("{path}.{name_file}"), text).hint(hint));
                None
            }
        }
    }

    /// What is said of it when something is wrong. Never its content.
    fn name(self) -> String {
        match self {
            Self::Text(_) => "the text".to_owned(),
            Self::File(file) => file.display().to_string(),
        }
    }

    /// All certificates, in their order; at least one.
    pub fn certificates(
        self,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let read: Result<Vec<_>, _> = match self {
            Self::Text(text) => CertificateDer::pem_slice_iter(text.as_bytes()).collect(),
            Self::File(file) => bytes(file)
                .map_err(pem::Error::Io)
                .and_then(|bytes| CertificateDer::pem_slice_iter(&bytes).collect()),
        };
        match read {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                let text = format!("{} holds no certificate", self.name());
                problems.push(Problem::new(path, text).hint("it must be in PEM form"));
                None
            }
            Err(error) => {
                problems.push(Problem::new(path, format!("cannot read {}: {error}", self.name())));
                None
            }
        }
    }

    /// The private key.
    pub fn key(self, path: &str, problems: &mut Vec<Problem>) -> Option<PrivateKeyDer<'static>> {
        let read = match self {
            Self::Text(text) => PrivateKeyDer::from_pem_slice(text.as_bytes()),
            Self::File(file) => {
                bytes(file).map_err(pem::Error::Io).and_then(|bytes| PrivateKeyDer::from_pem_slice(&bytes))
            }
        };
        read.map_err(|error| {
            let problem = Problem::new(path, format!("cannot read {}: {error}", self.name()));
            problems.push(problem.hint("it must be a private key in PEM form, without a password"));
        })
        .ok()
    }
}

/// What a file holds. The length that the system names is not believed: a device has none and does not end.
fn bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// For the fuzzers: reads all that PEM may hold here.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(text: &str) {
    let mut problems = Vec::new();
    let chain = Pem::Text(text).certificates("x", &mut problems);
    let key = Pem::Text(text).key("x", &mut problems);
    // Whoever is refused is told so, without the content.
    assert_eq!(problems.len(), usize::from(chain.is_none()) + usize::from(key.is_none()));
}

/// A certificate and its key, tried on each other.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<Arc<CertifiedKey>> {
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map(Arc::new)
        .map_err(|error| {
            let problem = Problem::new(path, error.to_string());
            problems.push(problem.hint("certificate and key must belong together"));
        })
        .ok()
}

/// Authorities out of certificates.
pub(super) fn roots(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    path: &str,
    problems: &mut Vec<Problem>,
) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        if let Err(error) = roots.add(certificate) {
            problems.push(Problem::new(path, format!("is not an authority's certificate: {error}")));
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let mut problems = Vec::new();
        let endless = Pem::File(Path::new("/dev/zero"));
        assert!(
            endless.certificates("c", &mut problems).is_none() && endless.key("k", &mut problems).is_none()
        );
        let told = |problem: &Problem| {
            problem.message.contains("cannot read /dev/zero") && problem.message.contains("longer than")
        };
        assert!(problems.len() == 2 && problems.iter().all(told), "{problems:?}");
    }
}
