//! One normal form of a path, which routing, authentication, the event and the upstream all see (RFC 3986, 6.2.2).
//!
//! Percent-encoded unreserved characters are decoded, other escapes are upper-cased and stay (`%2F` is data, not a
//! separator), `.` and `..` are resolved, repeated slashes become one. What can be read in two ways is refused: a
//! broken escape, `%00` and other encoded controls, a raw backslash, and dots or nothing hidden behind an encoded
//! separator or a parameter (`..%2f`, `..;x`, `/.;x/`, `/;x/`), which some servers decode into a way up or around a route.

use std::borrow::Cow;

/// The normal form, borrowed when the path has it already; none for what is refused.
pub(crate) fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    if is_plain(bytes) {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode(bytes)?;
    let resolved = resolve(&decoded)?;
    Some(Cow::Owned(String::from_utf8(resolved).ok()?))
}

/// Whether nothing has to be looked at more closely.
fn is_plain(bytes: &[u8]) -> bool {
    let mut before = 0;
    for byte in bytes.iter().copied() {
        match byte {
            b'%' | b'\\' | b';' | 0..=0x20 | 0x7f.. => return false,
            b'/' | b'.' if before == b'/' => return false,
            _ => before = byte,
        }
    }
    true
}

fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let value = hex(rest.next()?)? << 4 | hex(rest.next()?)?;
                match value {
                    0..=0x1f | 0x7f => return None,
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(value),
                    _ => {
                        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                        out.extend([b'%', DIGITS[usize::from(value >> 4)], DIGITS[usize::from(value & 15)]]);
                    }
                }
            }
            b'\\' | 0..=0x20 | 0x7f => return None,
            // Raw bytes beyond ASCII are valid UTF-8 (the caller has a str); escaped they mean the same to everyone.
            0x80.. => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    Some(out)
}

fn resolve(decoded: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded[1..].split(|byte| *byte == b'/').peekable();
    let mut ends_in_slash = false;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => ends_in_slash = last,
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(parent);
                ends_in_slash = last;
            }
            _ if hides_dots(segment) || (!last && segment.starts_with(b";")) => return None,
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
                ends_in_slash = false;
            }
        }
    }
    if ends_in_slash || out.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

/// Whether a server that takes `%2F`, `%5C` for separators or `;` for parameters would find `.` or `..` in it.
fn hides_dots(segment: &[u8]) -> bool {
    let mut piece_start = 0;
    let mut at = 0;
    let dots = |piece: &[u8]| {
        let name = piece.split(|byte| *byte == b';').next().unwrap_or_default();
        (name == b"." || name == b"..") && (piece.len() != segment.len() || name.len() != piece.len())
    };
    while at < segment.len() {
        if matches!(segment.get(at..at + 3), Some(b"%2F" | b"%5C")) {
            if dots(&segment[piece_start..at]) {
                return true;
            }
            at += 3;
            piece_start = at;
        } else {
            at += 1;
        }
    }
    dots(&segment[piece_start..])
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn one_form_for_all_spellings() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/../b", "/b"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/%61%2e%2E/b", "/a../b"),
            ("/a/%2e%2e/admin", "/admin"),
            ("/%2e/x", "/x"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%20b", "/a%20b"),
            ("/a%252e%252e/b", "/a%252e%252e/b"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/;v=1", "/;v=1"),
            ("/é", "/%C3%A9"),
            ("/a.b/.hidden/..x", "/a.b/.hidden/..x"),
        ] {
            let found = normalise(path).unwrap_or_else(|| panic!("{path} refused"));
            assert_eq!(found, normal, "{path}");
            assert_eq!(normalise(&found).unwrap(), normal, "{path} twice");
        }
    }

    #[test]
    fn what_two_servers_read_in_two_ways_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "/%",
            "/%4",
            "/%zz",
            "/%00",
            "/a%0d%0a",
            "/a\\b",
            "/..%2fadmin",
            "/x%2f..%2fy",
            "/..;/admin",
            "/a/..;v=1/b",
            "/.;/admin",
            "/a/.;v=1",
            "/;/admin",
            "/a/;v=1/b",
            "/..%5cadmin",
            "/a b",
            "/%7f",
            "/.%2f",
        ] {
            assert_eq!(normalise(path), None, "{path}");
        }
    }
}
