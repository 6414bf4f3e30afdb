//! The first step of a lookup: which routes ask for this host.

use foldhash::fast::FixedState;
use std::collections::HashMap;

/// A host that a route asks for. Names are lower case, without a final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPattern {
    pub name: HostName,
    /// Only requests to this port.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostName {
    Exact(String),
    /// `*.example.com`, as `.example.com`.
    Suffix(String),
    /// `example.*`, as `example.`.
    Prefix(String),
}

impl HostPattern {
    /// Reads `name`, `*.name` or `name.*`, each with or without `:port`. None for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (name, port) = match text.rsplit_once(':') {
            Some((name, digits)) if !digits.contains(']') => {
                let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                (name, Some(digits.parse::<u16>().ok().filter(|port| valid && *port > 0)?))
            }
            _ => (text.as_str(), None),
        };
        let plain = |name: &str| {
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            let labels = name.split('.').all(|label| !label.is_empty());
            !name.is_empty() && name.len() <= 253 && letters && labels
        };
        let name = if let Some(rest) = name.strip_prefix("*.") {
            plain(rest).then(|| HostName::Suffix(format!(".{rest}")))?
        } else if let Some(rest) = name.strip_suffix(".*") {
            plain(rest).then(|| HostName::Prefix(format!("{rest}.")))?
        } else if let Some(literal) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            literal.parse::<std::net::Ipv6Addr>().ok()?;
            HostName::Exact(name.to_owned())
        } else {
            let name = name.strip_suffix('.').unwrap_or(name);
            plain(name).then(|| HostName::Exact(name.to_owned()))?
        };
        Some(Self { name, port })
    }

    pub fn is_wildcard(&self) -> bool {
        !matches!(self.name, HostName::Exact(_))
    }
}

type Map = HashMap<Box<str>, Vec<(Option<u16>, usize)>, FixedState>;

/// From hosts to buckets of routes.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: Map,
    suffixes: Map,
    prefixes: Map,
    /// Of the routes that ask for no host.
    any: Option<usize>,
}

impl Hosts {
    /// The bucket of a pattern; a new one gets a list.
    pub fn bucket<T: Default>(&mut self, host: &HostPattern, lists: &mut Vec<T>) -> usize {
        let (map, name) = match &host.name {
            HostName::Exact(name) => (&mut self.exact, name),
            HostName::Suffix(name) => (&mut self.suffixes, name),
            HostName::Prefix(name) => (&mut self.prefixes, name),
        };
        let ports = map.entry(name.as_str().into()).or_default();
        if let Some((_, bucket)) = ports.iter().find(|(port, _)| *port == host.port) {
            return *bucket;
        }
        lists.push(T::default());
        ports.push((host.port, lists.len() - 1));
        lists.len() - 1
    }

    /// The bucket of what asks for no host.
    pub fn any<T: Default>(&mut self, lists: &mut Vec<T>) -> usize {
        *self.any.get_or_insert_with(|| {
            lists.push(T::default());
            lists.len() - 1
        })
    }

    /// Every bucket that a host belongs to.
    pub fn each(&self, host: &str, port: u16, mut found: impl FnMut(usize)) {
        let mut look = |map: &Map, name: &str| {
            for (asked, bucket) in map.get(name).into_iter().flatten() {
                if asked.is_none_or(|asked| asked == port) {
                    found(*bucket);
                }
            }
        };
        if !self.exact.is_empty() {
            look(&self.exact, host);
        }
        if !self.suffixes.is_empty() {
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                look(&self.suffixes, &host[at..]);
            }
        }
        if !self.prefixes.is_empty() {
            for (at, _) in host.match_indices('.').filter(|(at, _)| at + 1 < host.len()) {
                look(&self.prefixes, &host[..=at]);
            }
        }
        if let Some(bucket) = self.any {
            found(bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_or_refused() {
        for (text, name, port) in [
            ("API.example.com", HostName::Exact("api.example.com".into()), None),
            ("api.example.com.", HostName::Exact("api.example.com".into()), None),
            ("a:8080", HostName::Exact("a".into()), Some(8080)),
            ("[::1]:80", HostName::Exact("[::1]".into()), Some(80)),
            ("[::1]", HostName::Exact("[::1]".into()), None),
            ("*.example.com:8443", HostName::Suffix(".example.com".into()), Some(8443)),
            ("example.*", HostName::Prefix("example.".into()), None),
            ("example.*:80", HostName::Prefix("example.".into()), Some(80)),
        ] {
            assert_eq!(HostPattern::read(text), Some(HostPattern { name, port }), "{text}");
        }
        for text in [
            "", "*", "a.*.b", "*.*", "*a.com", "a*", "a b", "a:", "a:0", "a:x", "a:65536", ".a", "a..b",
            "u@a",
        ] {
            assert_eq!(HostPattern::read(text), None, "{text}");
        }
    }
}
