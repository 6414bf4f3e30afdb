//! What of a request is hashed for its upstream, and the cookie that makes a client come back to its target.

use super::Outgoing;
use crate::core::Core;
use crate::route::Group;
use crate::{cookies, query};
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;
use twox_hash::XxHash3_64;

/// What an upstream hashes.
#[derive(Debug, Default)]
pub(crate) struct HashPlan {
    /// The first that a request has counts.
    pub keys: [HashKey; 2],
    pub cookie: Option<HashCookie>,
    /// The cookie that names a client's target; only of sticky sessions.
    pub sticky: Option<HashCookie>,
    /// Points on the ring.
    pub slots: usize,
}

/// A part of a request.
#[derive(Debug, Default)]
pub(crate) enum HashKey {
    #[default]
    None,
    Consumer,
    Ip,
    Header(HeaderName),
    Cookie,
    Path,
    QueryArg(String),
    UriCapture(Group),
}

/// The cookie that is hashed, or set.
#[derive(Debug)]
pub(crate) struct HashCookie {
    pub name: String,
    /// What stands behind its value when it is set.
    pub suffix: String,
}

/// What a request says of its place on the ring.
#[derive(Default)]
pub(super) struct Hashed {
    /// None leaves it to chance.
    pub hash: Option<u64>,
    /// For the response.
    pub set_cookie: Option<HeaderValue>,
}

impl HashPlan {
    /// The hash of a request.
    pub(super) fn of(&self, core: &Core, request: &Outgoing<'_>) -> Hashed {
        for key in &self.keys {
            let mut bytes: SmallVec<[u8; 128]> = SmallVec::new();
            match key {
                HashKey::None => continue,
                HashKey::Consumer => match request.identity {
                    Some(identity) => bytes.extend_from_slice(identity.consumer.as_bytes()),
                    None => continue,
                },
                HashKey::Ip => {
                    let ip = request.client.map_or(request.conn.peer_bytes, event::ip_bytes);
                    bytes.extend_from_slice(&ip);
                }
                HashKey::Path => bytes.extend_from_slice(request.target.path.as_bytes()),
                HashKey::Header(name) => {
                    if !request.headers.contains_key(name) {
                        continue;
                    }
                    for value in request.headers.get_all(name) {
                        bytes.extend_from_slice(value.as_bytes());
                    }
                }
                HashKey::QueryArg(name) => {
                    let mut found = false;
                    for value in query::values(request.target.query, name) {
                        found = true;
                        bytes.extend_from_slice(&value);
                    }
                    if !found {
                        continue;
                    }
                }
                HashKey::UriCapture(group) => {
                    let router = &core.plan.router;
                    let captured = router.captured(&request.matched, request.target.path, &core.caches);
                    match captured.as_ref().and_then(|captured| captured.get(group)) {
                        Some(text) => bytes.extend_from_slice(text.as_bytes()),
                        None => continue,
                    }
                }
                HashKey::Cookie => {
                    let Some(cookie) = &self.cookie else { continue };
                    match sent(cookie, request) {
                        Some(value) => bytes.extend_from_slice(value),
                        None => return cookie.bake(core),
                    }
                }
            }
            return Hashed { hash: Some(XxHash3_64::oneshot(&bytes)), set_cookie: None };
        }
        Hashed::default()
    }

    /// The target that a client's cookie names, if it is one that the gateway has written.
    pub(super) fn named(&self, request: &Outgoing<'_>) -> Option<u64> {
        let value = std::str::from_utf8(sent(self.sticky.as_ref()?, request)?).ok()?;
        let digits = value.len() == TOKEN_DIGITS && value.bytes().all(|digit| digit.is_ascii_hexdigit());
        if digits { u64::from_str_radix(value, 16).ok() } else { None }
    }

    /// The cookie for a client that comes to a target which it did not name.
    pub(super) fn name(&self, asked: Option<u64>, token: u64) -> Option<HeaderValue> {
        let cookie = self.sticky.as_ref().filter(|_| asked != Some(token))?;
        HeaderValue::try_from(format!("{}={token:0TOKEN_DIGITS$x}{}", cookie.name, cookie.suffix)).ok()
    }
}

/// Digits of a target's name in a cookie.
const TOKEN_DIGITS: usize = 16;

/// The value of a cookie, if the client sent it.
fn sent<'a>(cookie: &'a HashCookie, request: &Outgoing<'a>) -> Option<&'a [u8]> {
    cookies::values(request.headers, &cookie.name).find(|value| !value.is_empty())
}

impl HashCookie {
    /// A new value, as good as any other.
    fn bake(&self, core: &Core) -> Hashed {
        let value = crate::trace::hex(&core.random_id());
        let line = [self.name.as_bytes(), b"=", &value[..], self.suffix.as_bytes()].concat();
        Hashed {
            hash: Some(XxHash3_64::oneshot(&value[..])),
            set_cookie: HeaderValue::from_bytes(&line).ok(),
        }
    }
}
