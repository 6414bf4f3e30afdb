//! Reading `host[:port]`, from a Host line or an absolute-form target, and saying whether two of them name the same
//! server (RFC 9110 4.2.3, 7.2).

use std::net::Ipv6Addr;

use super::line::{HOST, span};

/// Longest host accepted, in bytes: a DNS name of 253 and a final dot.
const HOST_BYTES_MAX: usize = 254;

/// An authority without userinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name or IPv4 address as it came, or an IPv6 literal with its brackets.
    pub host: &'a [u8],
    /// The port, if one was given.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads an authority; `None` if it is empty or malformed. An empty port (`a.com:`) and a port with a leading
    /// zero are refused too: RFC 3986 has them, clients do not, and readers differ on them.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let host_len = match bytes.first()? {
            b'[' => literal_len(bytes)?,
            _ => name_len(bytes)?,
        };
        let (host, rest) = bytes.split_at(host_len);
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same server when a port left out means `default_port`. Case and one final dot of the
    /// name do not count.
    pub fn same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        let bare = |host: &'a [u8]| host.strip_suffix(b".").unwrap_or(host);
        let other_host = other.host.strip_suffix(b".").unwrap_or(other.host);
        bare(self.host).eq_ignore_ascii_case(other_host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn name_len(bytes: &[u8]) -> Option<usize> {
    let len = span(bytes, HOST);
    let name = &bytes[..len];
    let empty_label = name.first() == Some(&b'.') || name.windows(2).any(|pair| pair == b"..");
    (1..=HOST_BYTES_MAX).contains(&len).then_some(len).filter(|_| !empty_label)
}

fn literal_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().take(HOST_BYTES_MAX).position(|byte| *byte == b']')?;
    let text = std::str::from_utf8(&bytes[1..end]).ok()?;
    text.parse::<Ipv6Addr>().ok()?;
    Some(end + 1)
}

fn port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).ok()
}
