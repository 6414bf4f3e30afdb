//! The arguments of a query as conditions and balancers read them: split at `&` and `=`, without percent-encoding.

use std::borrow::Cow;

/// The values of an argument, in order.
pub(crate) fn values<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    pairs(query).filter(move |(key, _)| *plain(key) == *name.as_bytes()).map(|(_, value)| plain(value))
}

/// Names and values, as they were sent.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pieces = query.into_iter().flat_map(|query| query.split('&')).filter(|piece| !piece.is_empty());
    pieces.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A piece of a query without its percent-encoding.
pub(crate) fn plain(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_in_any_encoding() {
        for (query, name, found) in [
            (Some("a=1&b=2&a=3"), "a", &["1", "3"][..]),
            (Some("%61=x%20y+z"), "a", &["x y z"]),
            (Some("a&ab=1&=2"), "a", &[""]),
            (Some("a=1=2&&"), "a", &["1=2"]),
            (Some("a=%+1%2g%"), "a", &["% 1%2g%"]),
            (Some("a b=1"), "a", &[]),
            (Some(""), "", &[]),
            (None, "a", &[]),
        ] {
            let values: Vec<_> = values(query, name).map(|value| value.into_owned()).collect();
            let found: Vec<_> = found.iter().map(|text| text.as_bytes().to_vec()).collect();
            assert_eq!(values, found, "{query:?} {name}");
        }
    }
}
