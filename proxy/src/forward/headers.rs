//! Headers on their way up and down: what is between neighbours goes, what claims an identity goes, then the gateway
//! adds its own. Each map is looked through once; only what was seen is touched.

use crate::accept::Conn;
use crate::core::Core;
use crate::host::Host;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// Names that go, seen in one pass.
type Names = SmallVec<[HeaderName; 8]>;

/// Whether a header is between two neighbours only (RFC 9110, 7.6.1).
fn is_hop(name: &str) -> bool {
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

/// Whether a name, with `_` read as `-`, says who somebody is: servers that make both alike would believe it.
fn claims_identity(name: &str) -> bool {
    let dashed;
    let plain = if name.contains('_') {
        dashed = name.replace('_', "-");
        dashed.as_str()
    } else {
        name
    };
    if plain.starts_with("x-consumer-")
        || plain.starts_with("x-credential-")
        || plain == "x-anonymous-consumer"
    {
        return true;
    }
    name.contains('_')
        && (plain.starts_with("x-forwarded-")
            || matches!(
                plain,
                "x-real-ip" | "x-request-id" | "forwarded" | "authorization" | "host" | "traceparent"
            ))
}

fn hop_names(headers: &HeaderMap) -> Names {
    let mut names = Names::new();
    for (name, value) in headers {
        if name == header::CONNECTION {
            for token in value.as_bytes().split(|byte| *byte == b',') {
                if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
                    // Framing and routing are not the client's to take away.
                    if !matches!(
                        name.as_str(),
                        "host" | "content-length" | "content-type" | "cookie" | "authorization"
                    ) {
                        names.push(name);
                    }
                }
            }
        }
    }
    names
}

/// What an upgrade asks for, if the request does.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let asked = headers.get_all(header::CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    (asked && !upgrade.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| upgrade.clone())
}

/// Takes from a client's request what must not go upstream.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    let takes_trailers = headers.get(header::TE).is_some_and(|te| {
        te.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    let mut gone = if headers.contains_key(header::CONNECTION) { hop_names(headers) } else { Names::new() };
    for name in headers.keys() {
        if is_hop(name.as_str()) || claims_identity(name.as_str()) || *name == header::EXPECT {
            gone.push(name.clone());
        }
    }
    for name in gone {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // HTTP/2 clients may split cookies (RFC 9113, 8.2.3); HTTP/1.1 has one line.
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in std::iter::once(second).chain(cookies) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(value) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, value);
        }
    }
}

/// Says to the upstream who the client is. Claims of a trusted peer stay.
pub(crate) fn add_forwarded(headers: &mut HeaderMap, core: &Core, conn: &Conn, host: &Host) {
    let trusted = core.plan.trusted.contains(conn.peer.ip());
    let forwarded = match headers.get(&X_FORWARDED_FOR) {
        None => conn.peer_value.clone(),
        Some(_) => {
            let mut chain = Vec::new();
            for value in headers.get_all(&X_FORWARDED_FOR) {
                chain.extend_from_slice(value.as_bytes());
                chain.extend_from_slice(b", ");
            }
            chain.extend_from_slice(conn.peer_value.as_bytes());
            HeaderValue::from_bytes(&chain).unwrap_or_else(|_| conn.peer_value.clone())
        }
    };
    let client = if trusted { client_of(headers, core) } else { None };
    headers.insert(X_FORWARDED_FOR, forwarded);
    let real = client.and_then(|ip| HeaderValue::from_str(&ip.to_string()).ok());
    headers.insert(X_REAL_IP, real.unwrap_or_else(|| conn.peer_value.clone()));
    if !(trusted && headers.contains_key(&X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, if conn.tls.is_some() { HTTPS } else { HTTP });
    }
    if !(trusted && headers.contains_key(&X_FORWARDED_HOST))
        && let Ok(value) = HeaderValue::from_str(host.name())
    {
        headers.insert(X_FORWARDED_HOST, value);
    }
    if !(trusted && headers.contains_key(&X_FORWARDED_PORT)) {
        headers.insert(X_FORWARDED_PORT, conn.port_value.clone());
    }
}

/// The client as a chain of trusted proxies tells it: the last address in `X-Forwarded-For` that is not trusted.
pub(crate) fn client_of(headers: &HeaderMap, core: &Core) -> Option<std::net::IpAddr> {
    let mut client = None;
    let values: SmallVec<[&HeaderValue; 4]> = headers.get_all(&X_FORWARDED_FOR).iter().collect();
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

/// Takes from an upstream's response what must not go to the client.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    let mut gone = if headers.contains_key(header::CONNECTION) { hop_names(headers) } else { Names::new() };
    for name in headers.keys() {
        if is_hop(name.as_str()) {
            gone.push(name.clone());
        }
    }
    for name in gone {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn neighbours_headers_go_and_so_do_claims() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Private, host"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("x-consumer-id", "root"),
            ("x_consumer_username", "root"),
            ("x-forwarded_for", "1.1.1.1"),
            ("x-other_name", "stays"),
            ("host", "a"),
            ("cookie", "a=1"),
        ]);
        headers.append("cookie", HeaderValue::from_static("b=2"));
        strip_request(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["cookie: a=1; b=2", "host: a", "te: trailers", "x-other_name: stays"]);
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
    fn responses_lose_what_connection_names() {
        let mut headers = map(&[("connection", "x-a"), ("x-a", "1"), ("x-b", "2"), ("keep-alive", "1")]);
        strip_response(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-b"]);
    }
}
