//! key-auth: who calls, by an API key in a header or a query parameter. Runs before anything else that a route asks
//! for. Keys are found by a keyed hash and compared in constant time; they never leave this module.

use crate::config::{Consumer, KeyAuthConfig};
use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;
use subtle::ConstantTimeEq;

/// What one key-auth plugin asks for.
#[derive(Debug)]
pub(crate) struct Guard {
    names: Vec<(HeaderName, String)>,
    hide_credentials: bool,
    in_header: bool,
    in_query: bool,
    pub run_on_preflight: bool,
}

/// Why a request is not let in; the messages are Kong's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    Duplicate,
    Unknown,
}

impl Refusal {
    pub const fn message(self) -> &'static str {
        match self {
            Self::Missing => "No API key found in request",
            Self::Duplicate => "Duplicate API key found",
            Self::Unknown => "Unauthorized",
        }
    }
}

/// Who calls.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Number of the consumer, in the order of the configuration.
    pub number: usize,
    /// Number of its key.
    pub key: usize,
    /// Name in events: the username, else the custom id.
    pub consumer: String,
    pub credential_id: String,
    /// `X-Consumer-*` and `X-Credential-Identifier`, ready to send.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    hasher: RandomState,
    by_hash: HashMap<u64, Vec<usize>>,
    credentials: Vec<Credential>,
}

struct Credential {
    key: Box<[u8]>,
    identity: Identity,
}

// The key must not come out by `{:?}`.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Adds the keys of the consumer of this number. What cannot be a header value was reported before and is left out.
    pub fn add(&mut self, number: usize, consumer: &Consumer) {
        let name = consumer.username.clone().or(consumer.custom_id.clone()).unwrap_or_default();
        for (at, credential) in consumer.keyauth_credentials.iter().enumerate() {
            let credential_id = credential.id.clone().unwrap_or_else(|| format!("{name}/{at}"));
            let id = consumer.id.clone().unwrap_or_else(|| name.clone());
            let headers = [
                (names::CONSUMER_ID, Some(&id)),
                (names::CONSUMER_USERNAME, consumer.username.as_ref()),
                (names::CONSUMER_CUSTOM_ID, consumer.custom_id.as_ref()),
                (names::CREDENTIAL_IDENTIFIER, Some(&credential_id)),
            ];
            let headers = headers
                .into_iter()
                .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value?).ok()?)))
                .collect();
            let key: Box<[u8]> = credential.key.as_bytes().into();
            self.by_hash.entry(self.hasher.hash_one(&*key)).or_default().push(self.credentials.len());
            let identity = Identity {
                number,
                key: self.credentials.len(),
                consumer: name.clone(),
                credential_id,
                headers,
            };
            self.credentials.push(Credential { key, identity });
        }
    }

    /// Who has the key of this number.
    pub fn identity(&self, key: usize) -> &Identity {
        &self.credentials[key].identity
    }

    fn find(&self, key: &[u8]) -> Option<&Identity> {
        let numbers = self.by_hash.get(&self.hasher.hash_one(key))?;
        numbers
            .iter()
            .map(|number| &self.credentials[*number])
            .find(|credential| bool::from(credential.key.ct_eq(key)))
            .map(|credential| &credential.identity)
    }
}

/// Names of the headers that say who calls. Nobody but the gateway may set them.
pub(crate) mod names {
    use http::HeaderName;
    pub const CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
    pub const CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
    pub const CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
    pub const CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");
}

impl Guard {
    /// Names that cannot be header names were reported before and are left out.
    pub fn new(config: &KeyAuthConfig) -> Self {
        let names = config.key_names.iter();
        Self {
            names: names.filter_map(|name| Some((HeaderName::try_from(name).ok()?, name.clone()))).collect(),
            hide_credentials: config.hide_credentials,
            in_header: config.key_in_header,
            in_query: config.key_in_query,
            run_on_preflight: config.run_on_preflight,
        }
    }

    /// Finds out who calls. With `hide_credentials` the key is taken out of `headers`, and the query without it is
    /// returned.
    pub fn identify<'k>(
        &self,
        keyring: &'k Keyring,
        headers: &mut HeaderMap,
        query: Option<&str>,
    ) -> Result<(&'k Identity, Option<String>), Refusal> {
        let (identity, header) = self.look(keyring, headers, query)?;
        if let Some(header) = header.filter(|_| self.hide_credentials) {
            headers.remove(header);
        }
        Ok((identity, self.hidden(query)))
    }

    /// Who calls, if the guard would let them in. Changes nothing.
    pub fn caller<'k>(
        &self,
        keyring: &'k Keyring,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Option<&'k Identity> {
        self.look(keyring, headers, query).ok().map(|(identity, _)| identity)
    }

    /// Who calls, and the header that says so.
    fn look<'k>(
        &self,
        keyring: &'k Keyring,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<(&'k Identity, Option<&HeaderName>), Refusal> {
        for (header, name) in &self.names {
            if self.in_header {
                let mut values = headers.get_all(header).iter();
                if let Some(value) = values.next() {
                    if values.next().is_some() {
                        return Err(Refusal::Duplicate);
                    }
                    let identity = keyring.find(value.as_bytes()).ok_or(Refusal::Unknown)?;
                    return Ok((identity, Some(header)));
                }
            }
            if self.in_query
                && let Some(text) = query
            {
                let mut values = pairs(text).filter(|(key, _)| *key == name.as_str());
                if let Some((_, value)) = values.next() {
                    if values.next().is_some() {
                        return Err(Refusal::Duplicate);
                    }
                    return Ok((keyring.find(value.as_bytes()).ok_or(Refusal::Unknown)?, None));
                }
            }
        }
        Err(Refusal::Missing)
    }

    /// The query without key parameters, if it has to be changed.
    fn hidden(&self, query: Option<&str>) -> Option<String> {
        let query = query.filter(|_| self.hide_credentials && self.in_query)?;
        let is_key = |pair: &&str| {
            let name = decode(pair.split('=').next().unwrap_or_default());
            self.names.iter().any(|(_, known)| *known == name)
        };
        query
            .split('&')
            .any(|pair| is_key(&pair))
            .then(|| query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&"))
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// Percent-decoded, `+` as a space; what is not valid stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((byte, rest)) = bytes.split_first() {
        let hex = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or_default());
                bytes = &rest[2..];
                continue;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
        bytes = rest;
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyauthCredential;

    fn keyring() -> Keyring {
        let mut keyring = Keyring::default();
        keyring.add(
            0,
            &Consumer {
                username: Some("alice".into()),
                keyauth_credentials: vec![KeyauthCredential { key: "s3 cret".into(), ..Default::default() }],
                ..Default::default()
            },
        );
        keyring
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|v| (HeaderName::from_static("apikey"), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn keys_are_found_in_header_and_query_and_hidden() {
        let keyring = keyring();
        let guard = Guard::new(&KeyAuthConfig { hide_credentials: true, ..Default::default() });
        let mut map = headers(&["s3 cret"]);
        let (identity, query) = guard.identify(&keyring, &mut map, Some("a=1")).unwrap();
        assert_eq!((identity.consumer.as_str(), identity.credential_id.as_str()), ("alice", "alice/0"));
        assert!(map.is_empty() && query.is_none());
        let (_, query) =
            guard.identify(&keyring, &mut headers(&[]), Some("a=1&apikey=s3+cret&b=%20")).unwrap();
        assert_eq!(query.as_deref(), Some("a=1&b=%20"));
    }

    #[test]
    fn refusals_are_kongs() {
        let keyring = keyring();
        let guard = Guard::new(&KeyAuthConfig::default());
        let refuse = |values: &[&'static str], query| {
            guard.identify(&keyring, &mut headers(values), query).unwrap_err()
        };
        assert_eq!(refuse(&[], None), Refusal::Missing);
        assert_eq!(refuse(&["a", "b"], None), Refusal::Duplicate);
        assert_eq!(refuse(&[], Some("apikey=a&apikey=b")), Refusal::Duplicate);
        assert_eq!(refuse(&["wrong"], None), Refusal::Unknown);
    }

    #[test]
    fn keys_never_show() {
        assert!(!format!("{:?}", keyring()).contains("cret"));
    }
}
