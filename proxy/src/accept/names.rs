//! Which certificate a TLS client is shown: by the server name it asks for, exactly, by the wildcard over its first or
//! its last label, or the one for all others.

use foldhash::fast::FixedState;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

type Map = HashMap<Box<str>, Arc<CertifiedKey>, FixedState>;

/// Certificates by server name.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerNames {
    exact: Map,
    /// `*.example.com`, by `.example.com`.
    suffixes: Map,
    /// `example.*`, by `example.`.
    prefixes: Map,
    /// `*`.
    any: Option<Arc<CertifiedKey>>,
}

/// Neither a name nor a wildcard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAName;

impl ServerNames {
    /// Adds a name; false when it is there already.
    pub fn add(&mut self, name: &str, certified: &Arc<CertifiedKey>) -> Result<bool, NotAName> {
        let name = name.to_ascii_lowercase();
        if name == "*" {
            let free = self.any.is_none();
            self.any.get_or_insert_with(|| Arc::clone(certified));
            return Ok(free);
        }
        let (map, key, plain) = if let Some(suffix) = name.strip_prefix('*') {
            (&mut self.suffixes, suffix, suffix.strip_prefix('.'))
        } else if let Some(prefix) = name.strip_suffix('*') {
            (&mut self.prefixes, prefix, prefix.strip_suffix('.'))
        } else {
            (&mut self.exact, &name[..], Some(&name[..]))
        };
        let plain = plain.ok_or(NotAName)?;
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if plain.len() > 253 || !plain.split('.').all(label) {
            return Err(NotAName);
        }
        match map.entry(key.into()) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(free) => {
                free.insert(Arc::clone(certified));
                Ok(true)
            }
        }
    }

    /// Whether no client would be shown anything.
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty()
    }

    /// All names with their certificates, as bytes that are equal when these are.
    pub fn parts(&self) -> Vec<Vec<u8>> {
        let named = |map: &Map, kind: u8| {
            map.iter().map(|(name, certified)| part(kind, name, certified)).collect::<Vec<_>>()
        };
        let any = self.any.iter().map(|any| (Box::from("*"), Arc::clone(any))).collect();
        let mut parts = [
            named(&self.exact, b'='),
            named(&self.suffixes, b'.'),
            named(&self.prefixes, b'^'),
            named(&any, b'*'),
        ]
        .concat();
        parts.sort_unstable();
        parts
    }

    /// The certificate of a name that a client asks for; of none without one.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        self.named(name).or(self.any.as_ref())
    }

    fn named(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let name = name?;
        self.exact
            .get(name)
            .or_else(|| self.suffixes.get(&name[name.find('.')?..]))
            .or_else(|| self.prefixes.get(&name[..=name.rfind('.')?]))
    }
}

/// A name with its certificate, as bytes.
fn part(kind: u8, name: &str, certified: &CertifiedKey) -> Vec<u8> {
    let mut part = [&[kind], name.as_bytes(), b"\0"].concat();
    certified.cert.iter().for_each(|certificate| part.extend_from_slice(certificate));
    part
}

/// What one listener shows: its own certificates first, then those of all listeners.
#[derive(Debug)]
pub(crate) struct Shown {
    pub own: ServerNames,
    pub shared: ServerNames,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The library has it in lower case.
        let name = hello.server_name();
        self.own
            .named(name)
            .or_else(|| self.shared.named(name))
            .or_else(|| self.own.find(None))
            .or_else(|| self.shared.find(None))
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified() -> Arc<CertifiedKey> {
        let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider).unwrap())
    }

    #[test]
    fn the_nearest_name_wins() {
        let all: Vec<_> = (0..4).map(|_| certified()).collect();
        let mut names = ServerNames::default();
        assert!(names.is_empty());
        for (name, at) in [("a.Example.com", 0), ("*.example.com", 1), ("example.*", 2)] {
            assert_eq!(names.add(name, &all[at]), Ok(true));
        }
        let find = |names: &ServerNames, name: Option<&str>| {
            names.find(name).map(|found| all.iter().position(|one| Arc::ptr_eq(one, found)).unwrap())
        };
        for (name, expected) in [
            ("a.example.com", Some(0)),
            ("b.example.com", Some(1)),
            ("c.b.example.com", None),
            ("example.org", Some(2)),
            ("example.com", Some(2)),
            ("other", None),
        ] {
            assert_eq!(find(&names, Some(name)), expected, "{name}");
        }
        assert_eq!(find(&names, None), None);
        assert_eq!(names.add("*", &all[3]), Ok(true));
        assert_eq!((find(&names, None), find(&names, Some("other"))), (Some(3), Some(3)));
        assert_eq!(names.add("*.example.com", &all[3]), Ok(false));
        for bad in ["", "*a.com", "a.*.com", "a..b", "*.", ".*", "a b", "**", "a/b"] {
            assert_eq!(names.add(bad, &all[0]), Err(NotAName), "{bad}");
        }
    }
}
