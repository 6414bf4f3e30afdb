//! One authority for routing, the event and the upstream: lower case, without a final dot.

use http::{HeaderMap, Uri, header, uri::Authority};
use std::borrow::Cow;

/// Host and port of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    text: String,
    name_bytes: usize,
    pub port: Option<u16>,
}

impl Host {
    /// With the port, if there was one.
    pub fn with_port(&self) -> &str {
        &self.text
    }

    pub fn name(&self) -> &str {
        &self.text[..self.name_bytes]
    }
}

/// The authority of a request; the reason when there is none, several, or two that differ.
pub(crate) fn of(uri: &Uri, headers: &HeaderMap, default_port: u16) -> Result<Host, &'static str> {
    let mut values = headers.get_all(header::HOST).iter();
    let claimed = match (values.next(), values.next()) {
        (Some(_), Some(_)) => return Err("more than one Host"),
        (Some(value), None) => Some(read(value.to_str().map_err(|_| "malformed Host")?)?),
        (None, _) => None,
    };
    match (uri.authority().map(Authority::as_str), claimed) {
        (None, Some(host)) => Ok(host),
        (None, None) => Err("Host is missing"),
        (Some(target), None) => read(target),
        (Some(target), Some(host)) => {
            let target = read(target)?;
            let same = target.name() == host.name()
                && target.port.unwrap_or(default_port) == host.port.unwrap_or(default_port);
            if same { Ok(target) } else { Err("Host differs from the request target") }
        }
    }
}

fn read(text: &str) -> Result<Host, &'static str> {
    const BAD: &str = "malformed Host";
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            (name, Some(port.parse::<u16>().ok().filter(|_| !port.starts_with('+')).ok_or(BAD)?))
        }
        _ => (text, None),
    };
    let valid = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    if !valid || name.len() > 254 {
        return Err(BAD);
    }
    let name: Cow<'_, str> = Cow::Borrowed(name.strip_suffix('.').unwrap_or(name));
    let mut text = name.to_ascii_lowercase();
    let name_bytes = text.len();
    if let Some(port) = port {
        text.push(':');
        text.push_str(&port.to_string());
    }
    Ok(Host { text, name_bytes, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn host(target: &str, values: &[&str]) -> Result<String, &'static str> {
        let headers = values.iter().map(|v| (header::HOST, HeaderValue::from_str(v).unwrap())).collect();
        of(&target.parse().unwrap(), &headers, 80).map(|host| host.with_port().to_owned())
    }

    #[test]
    fn one_authority_or_none() {
        assert_eq!(host("/", &["A.com."]), Ok("a.com".into()));
        assert_eq!(host("/", &["a.com:8080"]), Ok("a.com:8080".into()));
        assert_eq!(host("/", &["[::1]:80"]), Ok("[::1]:80".into()));
        assert_eq!(host("http://a.com/x", &["A.com:80"]), Ok("a.com".into()));
        for (target, values) in [
            ("/", &[][..]),
            ("/", &[""]),
            ("/", &["a", "a"]),
            ("/", &["u@a"]),
            ("/", &["a/b"]),
            ("/", &["a:b"]),
            ("/", &["a:"]),
            ("http://a.com/", &["b.com"]),
            ("http://a.com:81/", &["a.com"]),
        ] {
            assert!(host(target, values).is_err(), "{target} {values:?}");
        }
    }
}
