//! The header of the PROXY protocol, versions 1 and 2, by which a load balancer says who its client is
//! (haproxy.org, `proxy-protocol.txt`). Read by the letter, and written to upstreams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What every header of version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";
/// Longest header of version 1, its line end included.
const LINE_BYTES_MAX: usize = 107;
/// Version 2 up to its addresses.
const FIXED_BYTES: usize = 16;

/// What a header says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing, as of a health check of the balancer: the socket's own ends count.
    Local,
    Proxied {
        from: SocketAddr,
        to: SocketAddr,
    },
}

/// Not a header, or beyond its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A version that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// Whether bytes begin a header, or may once there are more of them.
pub(crate) fn may_begin(bytes: &[u8]) -> bool {
    let begins = |whole: &[u8]| {
        let length = bytes.len().min(whole.len());
        bytes[..length] == whole[..length]
    };
    begins(SIGNATURE) || begins(WORD)
}

/// Reads a header, and how long it is; none while it is not whole.
pub(crate) fn read(bytes: &[u8], bytes_max: usize) -> Result<Option<(Said, usize)>, Malformed> {
    if !may_begin(bytes) {
        return Err(Malformed);
    }
    if bytes.first() == Some(&SIGNATURE[0]) { read_v2(bytes, bytes_max) } else { read_v1(bytes) }
}

fn read_v1(bytes: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() == LINE_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&seen[..end]).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(Malformed)?;
    if family == "UNKNOWN" {
        return Ok(Some((Said::Local, end + 2)));
    }
    let mut ip = || {
        let word = words.next().ok_or(Malformed)?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Malformed),
            "TCP6" => word.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    };
    let (from, to) = (ip()?, ip()?);
    let mut port = || {
        let word = words.next().ok_or(Malformed)?;
        let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| plain).ok_or(Malformed)
    };
    let (from, to) = (SocketAddr::new(from, port()?), SocketAddr::new(to, port()?));
    if words.next().is_some() {
        return Err(Malformed);
    }
    Ok(Some((Said::Proxied { from, to }, end + 2)))
}

fn read_v2(bytes: &[u8], bytes_max: usize) -> Result<Option<(Said, usize)>, Malformed> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED_BYTES + rest > bytes_max {
        return Err(Malformed);
    }
    let Some(rest) = bytes.get(FIXED_BYTES..FIXED_BYTES + rest) else { return Ok(None) };
    let said = match (fixed[12], fixed[13]) {
        // LOCAL: whatever stands there is skipped.
        (0x20, _) => Said::Local,
        (0x21, 0x11) => {
            let (all, _tlvs) = rest.split_first_chunk::<12>().ok_or(Malformed)?;
            let ip = |at: usize| Ipv4Addr::new(all[at], all[at + 1], all[at + 2], all[at + 3]).into();
            proxied(ip(0), ip(4), &all[8..])
        }
        (0x21, 0x21) => {
            let (all, _tlvs) = rest.split_first_chunk::<36>().ok_or(Malformed)?;
            let ip = |at: usize| {
                let octets: [u8; 16] = all[at..at + 16].try_into().expect("sixteen of thirty-six");
                Ipv6Addr::from(octets).into()
            };
            proxied(ip(0), ip(16), &all[32..])
        }
        // Unspecified, or sockets of a file system: no address that means something here.
        (0x21, 0x00 | 0x31) => Said::Local,
        _ => return Err(Malformed),
    };
    Ok(Some((said, FIXED_BYTES + rest.len())))
}

fn proxied(from: IpAddr, to: IpAddr, ports: &[u8]) -> Said {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Said::Proxied { from: SocketAddr::new(from, port(0)), to: SocketAddr::new(to, port(2)) }
}

/// Writes the header of a connection between these ends; without them that of one of our own.
pub(crate) fn write(version: Version, ends: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    let ends = ends.map(|(from, to)| match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (IpAddr::V4(one), from.port(), IpAddr::V4(other), to.port()),
        // Both must be of one family.
        (one, other) => (IpAddr::V6(mapped(one)), from.port(), IpAddr::V6(mapped(other)), to.port()),
    });
    match (version, ends) {
        (Version::V1, None) => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        (Version::V1, Some((from, from_port, to, to_port))) => {
            let family = if from.is_ipv4() { 4 } else { 6 };
            let line = format!("PROXY TCP{family} {from} {to} {from_port} {to_port}\r\n");
            out.extend_from_slice(line.as_bytes());
        }
        (Version::V2, None) => {
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(&[0x20, 0, 0, 0]);
        }
        (Version::V2, Some((from, from_port, to, to_port))) => {
            out.extend_from_slice(SIGNATURE);
            let (family, length) = if from.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
            out.extend_from_slice(&[0x21, family, 0, length]);
            for ip in [from, to] {
                match ip {
                    IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
                    IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
                }
            }
            out.extend_from_slice(&from_port.to_be_bytes());
            out.extend_from_slice(&to_port.to_be_bytes());
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: &str, to: &str) -> (SocketAddr, SocketAddr) {
        (from.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn what_is_written_is_read_and_no_piece_of_it() {
        for (from, to) in [("1.2.3.4:5", "6.7.8.9:443"), ("[2001:db8::1]:65535", "[::1]:80")] {
            for version in [Version::V1, Version::V2] {
                let (from, to) = ends(from, to);
                let mut header = Vec::new();
                write(version, Some((from, to)), &mut header);
                for length in 0..header.len() {
                    assert_eq!(read(&header[..length], 536), Ok(None), "{length}");
                    assert!(may_begin(&header[..length]));
                }
                header.extend_from_slice(b"GET / ");
                let length = header.len() - 6;
                assert_eq!(read(&header, 536), Ok(Some((Said::Proxied { from, to }, length))));
            }
        }
        let mut mixed = Vec::new();
        write(Version::V1, Some(ends("1.2.3.4:5", "[::1]:80")), &mut mixed);
        assert_eq!(mixed, b"PROXY TCP6 ::ffff:1.2.3.4 ::1 5 80\r\n");
        for version in [Version::V1, Version::V2] {
            let mut local = Vec::new();
            write(version, None, &mut local);
            assert_eq!(read(&local, 536), Ok(Some((Said::Local, local.len()))));
        }
    }

    #[test]
    fn version_2_skips_what_it_does_not_know_within_its_bound() {
        let mut header = Vec::new();
        write(Version::V2, Some(ends("1.2.3.4:5", "6.7.8.9:10")), &mut header);
        header.extend_from_slice(&[0x04, 0, 3, 0, 0, 0, 0xea, 0, 1, 9]);
        header[15] = 22;
        let (said, length) = read(&header, 536).unwrap().unwrap();
        assert!(matches!(said, Said::Proxied { .. }) && length == header.len());
        assert_eq!(read(&header, header.len() - 1), Err(Malformed));
        header[12] = 0x20;
        assert_eq!(read(&header, 536), Ok(Some((Said::Local, header.len()))));
        for (at, byte) in [(12, 0x22), (12, 0x11), (13, 0x12), (13, 0x99), (15, 11)] {
            let mut bad = header.clone();
            bad[12] = 0x21;
            bad[at] = byte;
            assert_eq!(read(&bad, 536), Err(Malformed), "{at} {byte}");
        }
    }

    #[test]
    fn version_1_is_read_by_the_letter() {
        for bad in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4\n5.6.7.8 1 2\r\n",
            "PROXY \r\n",
            "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(read(bad.as_bytes(), 536), Err(Malformed), "{bad}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(read(long.as_bytes(), 4096), Err(Malformed), "no line end within its bound");
        let whole = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\nGET";
        assert_eq!(read(whole.as_bytes(), 536), Ok(Some((Said::Local, whole.len() - 3))));
        assert!(!may_begin(b"PRI * HTTP/2.0") && !may_begin(b"POST") && may_begin(b"PR") && may_begin(b""));
    }
}
