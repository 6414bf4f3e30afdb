//! One authority for routing, the event and the upstream: lower case, without a final dot.

use http::{HeaderMap, Uri, header, uri::Authority};

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
    let mut out = String::with_capacity(text.len());
    let name_bytes = if text.starts_with('[') {
        let end = text.find(']').ok_or(BAD)?;
        text[1..end].parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
        end + 1
    } else {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let length = text.bytes().take_while(allowed).count();
        if !(1..=254).contains(&length) || text.starts_with('.') {
            return Err(BAD);
        }
        length
    };
    out.push_str(text[..name_bytes].strip_suffix('.').unwrap_or(&text[..name_bytes]));
    out.make_ascii_lowercase();
    let bare_bytes = out.len();
    let port = match &text[name_bytes..] {
        "" => None,
        rest => {
            let digits =
                rest.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            Some(digits.ok_or(BAD)?.parse::<u16>().map_err(|_| BAD)?)
        }
    };
    if let Some(port) = port {
        out.push(':');
        let digits = &text[name_bytes + 1..];
        // `080` is port 80, and goes on as that.
        if digits.starts_with('0') { out.push_str(&port.to_string()) } else { out.push_str(digits) }
    }
    Ok(Host { text: out, name_bytes: bare_bytes, port })
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
        assert_eq!(host("/", &["[::1]"]), Ok("[::1]".into()));
        assert_eq!(host("/", &["a.com:080"]), Ok("a.com:80".into()));
        assert_eq!(host("http://a.com/x", &["A.com:80"]), Ok("a.com".into()));
        for (target, values) in [
            ("/", &[][..]),
            ("/", &[""]),
            ("/", &["a", "a"]),
            ("/", &["u@a"]),
            ("/", &["a/b"]),
            ("/", &["a:b"]),
            ("/", &["a:"]),
            ("/", &["a:+80"]),
            ("/", &["a:80:80"]),
            ("/", &["a:65536"]),
            ("/", &[".a"]),
            ("/", &["[::1"]),
            ("/", &["[::g]"]),
            ("/", &["[::1]x"]),
            ("http://a.com/", &["b.com"]),
            ("http://a.com:81/", &["a.com"]),
        ] {
            assert!(host(target, values).is_err(), "{target} {values:?}");
        }
    }
}
