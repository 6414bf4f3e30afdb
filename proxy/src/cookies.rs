//! The cookies of a request (RFC 6265, 4.2): pairs behind semicolons, on one line or, by HTTP/2, on several.

use http::{HeaderMap, header};

/// The values of a cookie, in order.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    pairs(headers).filter(move |(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
}

/// Names and values, as they were sent; what is no pair is left out.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..at], &pair[at + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn cookies_are_found_on_any_line() {
        let lines = ["a=1; b=2;ab=3", "none; a=x=y ; =4", "b="];
        let headers: HeaderMap =
            lines.into_iter().map(|line| (header::COOKIE, HeaderValue::from_static(line))).collect();
        let found = |name| values(&headers, name).collect::<Vec<_>>();
        assert_eq!(found("a"), [&b"1"[..], b"x=y"]);
        assert_eq!(found("b"), [&b"2"[..], b""]);
        assert_eq!(found("none"), [&b""[..]; 0]);
    }
}
