//! Which header goes where: what is between two neighbours stays, what claims an identity or a place in the chain is
//! not a client's to say.

use crate::accept::TRAILERS_FORBIDDEN;
use crate::core::Core;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

/// Names that `Connection` takes away; nearly always none.
pub(super) type Names = SmallVec<[HeaderName; 2]>;

/// Whether a header is between two neighbours only (RFC 9110, 7.6.1).
pub(crate) fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Whether a name, with `_` read as `-`, says who somebody is or how a message is framed: servers that make both alike
/// would believe it.
pub(super) fn claims_identity(name: &str) -> bool {
    if !name.contains('_') {
        return name.starts_with("x-c")
            && (name.starts_with("x-consumer-") || name.starts_with("x-credential-"))
            || name == "x-anonymous-consumer";
    }
    let plain = name.replace('_', "-");
    claims_identity(&plain)
        || plain.starts_with("x-forwarded-")
        || matches!(
            plain.as_str(),
            "x-real-ip"
                | "x-request-id"
                | "forwarded"
                | "authorization"
                | "host"
                | "traceparent"
                | "content-length"
                | "transfer-encoding"
        )
}

/// Whether a field may stand in a request's trailer section: one that frames, routes or authenticates would come after
/// the head was acted on.
pub(super) fn is_trailer(name: &str) -> bool {
    !is_hop(name)
        && !claims_identity(name)
        && !name.starts_with("x-forwarded-")
        && !matches!(name, "x-request-id" | "traceparent" | "tracestate")
        && !TRAILERS_FORBIDDEN.contains(&name.as_bytes())
}

/// The elements of a list.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The header that an element of `Connection` takes away, unless it is not the sender's to take.
pub(super) fn nominated(token: &[u8]) -> Option<HeaderName> {
    let kept = |name: &[u8]| token.eq_ignore_ascii_case(name);
    // `close` and `keep-alive` name no header, or one that goes anyway.
    if kept(b"close") || kept(b"keep-alive") || kept(b"upgrade") {
        return None;
    }
    HeaderName::from_bytes(token).ok().filter(|name| {
        !matches!(name.as_str(), "host" | "content-length" | "content-type" | "cookie" | "authorization")
    })
}

/// All headers that the `Connection` lines of a request take away.
pub(super) fn all_nominated(headers: &HeaderMap) -> Names {
    headers.get_all(header::CONNECTION).iter().flat_map(tokens).filter_map(nominated).collect()
}

/// What an upgrade asks for, if the request does.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    // Among others, too: an upstream that chose it would be spoken to past the gateway.
    let h2c = tokens(upgrade).any(|token| token.eq_ignore_ascii_case(b"h2c"));
    (asked && !h2c).then(|| upgrade.clone())
}

/// The client as a chain of trusted proxies tells it: the last address in `X-Forwarded-For` that is not trusted.
pub(crate) fn client_of(headers: &HeaderMap, core: &Core) -> Option<std::net::IpAddr> {
    let mut client = None;
    let values: SmallVec<[&HeaderValue; 4]> = headers.get_all("x-forwarded-for").iter().collect();
    for value in values.iter().rev() {
        for entry in value.to_str().ok()?.rsplit(',') {
            let Ok(ip) = entry.trim().parse() else { return client };
            client = Some(ip);
            if !core.plan.trusted.contains(ip) {
                return client;
            }
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn upgrades_are_seen_only_when_the_connection_says_so() {
        assert!(upgrade_of(&map(&[("upgrade", "websocket")])).is_none());
        assert!(upgrade_of(&map(&[("upgrade", "h2c"), ("connection", "upgrade")])).is_none());
        assert!(
            upgrade_of(&map(&[("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")])).is_some()
        );
    }

    #[test]
    fn identities_are_claimed_in_any_spelling() {
        for name in ["x-consumer-id", "x_consumer_username", "x-credential-identifier", "x-forwarded_for"] {
            assert!(claims_identity(name), "{name}");
        }
        for name in ["x-customer", "x-other_name", "authorization", "x-forwarded-for"] {
            assert!(!claims_identity(name), "{name}");
        }
    }

    #[test]
    fn framing_and_routing_are_not_nominated() {
        let names = all_nominated(&map(&[("connection", "keep-alive, X-Private, host,, Content-Length")]));
        assert_eq!(names.as_slice(), [HeaderName::from_static("x-private")]);
    }
}
