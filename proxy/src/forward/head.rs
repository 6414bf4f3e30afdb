//! The request head as it goes upstream, written straight into bytes in one look through the client's headers: what is
//! between neighbours and what claims an identity is left out, then the gateway's own lines follow.

use super::headers::{all_nominated, claims_identity, is_hop};
use super::target::Target;
use super::upload::Framing;
use crate::accept::Conn;
use crate::auth::Identity;
use crate::core::Core;
use crate::host::Host;
use crate::pieces::line;
use crate::route::Matched;
use crate::trace::{self, Parent};
use http::{HeaderMap, HeaderName, Method, header};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// All that a request head is made of.
pub(crate) struct Outgoing<'a> {
    pub core: &'a Core,
    pub conn: &'a Conn,
    pub method: &'a Method,
    pub target: Target<'a>,
    /// The client's.
    pub headers: &'a HeaderMap,
    pub host: &'a Host,
    pub matched: Matched,
    /// The Host that goes upstream in place of the target's.
    pub host_line: Option<&'a [u8]>,
    /// Whether it is the copy of a request.
    pub shadow: bool,
    pub identity: Option<&'a Identity>,
    pub request_id: &'a [u8; 16],
    /// Trace of the request; each try puts its own span into it.
    pub trace: Parent,
    /// Whether the client brought the trace.
    pub has_parent: bool,
    pub upgrade: Option<&'a header::HeaderValue>,
    /// What a trusted peer says of the client; none when the peer is not trusted or says nothing.
    pub client: Option<IpAddr>,
    pub trusted: bool,
}

/// The names that the gateway says something about, seen among the client's headers.
#[derive(Default)]
struct Seen {
    forwarded_for: bool,
    proto: bool,
    host: bool,
    port: bool,
    path: bool,
    prefix: bool,
    trailers: bool,
    length: bool,
}

impl Outgoing<'_> {
    /// The client and where it has connected to, for upstreams that are told by the PROXY protocol.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        let ends = &self.conn.ends;
        // Of a client that a trusted peer speaks for the port is not known.
        (self.client.map_or(ends.from, |ip| SocketAddr::new(ip, 0)), ends.to)
    }

    /// Writes the head of one try.
    pub fn write(&self, out: &mut Vec<u8>, host: &[u8], span_id: [u8; 8], framing: Framing) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        self.target.write(out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let host = self.host_line.unwrap_or(host);
        if self.shadow {
            line(out, b"host", &shadowed(host));
        } else {
            line(out, b"host", host);
        }
        // A copy has no span of its own.
        let span_id = if self.shadow { self.trace.span_id } else { span_id };
        let seen = self.clients_lines(out);
        self.forwarded(out, &seen);
        for (name, value) in self.identity.iter().flat_map(|identity| &identity.headers) {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
        line(out, b"x-request-id", &trace::hex(self.request_id));
        line(out, b"traceparent", &trace::text(&Parent { span_id, ..self.trace }));
        if self.core.plan.sends_via {
            line(out, b"via", b"1.1 tollhouse");
        }
        if seen.trailers {
            line(out, b"te", b"trailers");
        }
        if let Some(upgrade) = self.upgrade {
            line(out, b"connection", b"upgrade");
            line(out, b"upgrade", upgrade.as_bytes());
        }
        match framing {
            Framing::Sized(length) => {
                // Writing into a vector cannot fail.
                let _written = write!(out, "content-length: {length}\r\n");
            }
            Framing::Chunked => line(out, b"transfer-encoding", b"chunked"),
            // RFC 9110, 8.6: a method that means content says that there is none.
            Framing::None if seen.length || means_content(self.method) => line(out, b"content-length", b"0"),
            Framing::None => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Copies what the client says and may say.
    fn clients_lines(&self, out: &mut Vec<u8>) -> Seen {
        let nominated = all_nominated(self.headers);
        let mut seen = Seen::default();
        let mut in_cookies = false;
        for (name, value) in self.headers {
            if !self.goes_on(name, value, &mut seen) || nominated.contains(name) {
                continue;
            }
            // HTTP/2 clients may split cookies (RFC 9113, 8.2.3); HTTP/1.1 has one line. Equal names follow each other.
            let cookie = *name == header::COOKIE;
            if cookie && in_cookies {
                out.truncate(out.len() - 2);
                out.extend_from_slice(b"; ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            } else {
                line(out, name.as_str().as_bytes(), value.as_bytes());
            }
            in_cookies = cookie;
        }
        seen
    }

    /// Whether a line goes on as it is.
    fn goes_on(&self, name: &HeaderName, value: &header::HeaderValue, seen: &mut Seen) -> bool {
        let name = name.as_str();
        match name.as_bytes()[0] {
            b'x' => match name {
                "x-request-id" | "x-real-ip" => false,
                "x-forwarded-for" => {
                    seen.forwarded_for = true;
                    false
                }
                _ if name.starts_with("x-forwarded-") => {
                    match name {
                        "x-forwarded-proto" => seen.proto = self.trusted,
                        "x-forwarded-host" => seen.host = self.trusted,
                        "x-forwarded-port" => seen.port = self.trusted,
                        "x-forwarded-path" => seen.path = self.trusted,
                        "x-forwarded-prefix" => seen.prefix = self.trusted,
                        _ => {}
                    }
                    self.trusted
                }
                _ => !claims_identity(name),
            },
            b't' => match name {
                "te" => {
                    seen.trailers |=
                        super::headers::tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
                    false
                }
                // Without a valid parent its state means nothing (W3C Trace Context, 3.3.1).
                "tracestate" => self.has_parent,
                "traceparent" | "transfer-encoding" => false,
                _ => !claims_identity(name),
            },
            _ => match name {
                "host" | "expect" => false,
                "content-length" => {
                    seen.length = true;
                    false
                }
                "forwarded" => self.trusted,
                // Servers that pass headers as variables would take it for their own HTTP_PROXY.
                "proxy" => false,
                _ => !is_hop(name) && !claims_identity(name),
            },
        }
    }

    /// Says to the upstream who the client is and what it asked for.
    fn forwarded(&self, out: &mut Vec<u8>, seen: &Seen) {
        out.extend_from_slice(b"x-forwarded-for: ");
        if seen.forwarded_for {
            for value in self.headers.get_all("x-forwarded-for") {
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(self.conn.peer_text.as_bytes());
        out.extend_from_slice(b"\r\n");
        match self.client {
            Some(client) => {
                // Writing into a vector cannot fail.
                let _written = write!(out, "x-real-ip: {client}\r\n");
            }
            None => line(out, b"x-real-ip", self.conn.peer_text.as_bytes()),
        }
        if !seen.proto {
            line(out, b"x-forwarded-proto", if self.conn.tls.is_some() { b"https" } else { b"http" });
        }
        if !seen.host {
            line(out, b"x-forwarded-host", self.host.name().as_bytes());
        }
        if !seen.port {
            // Writing into a vector cannot fail.
            let _written = write!(out, "x-forwarded-port: {}\r\n", self.conn.ends.to.port());
        }
        if !seen.path {
            line(out, b"x-forwarded-path", self.target.path.as_bytes());
        }
        let stripped = self.target.stripped();
        if !seen.prefix && stripped.len() > 1 {
            line(out, b"x-forwarded-prefix", stripped.as_bytes());
        }
    }
}

/// A host as a copy has it: with `-shadow` behind the name. An address in brackets would be none then, and stays.
fn shadowed(host: &[u8]) -> Vec<u8> {
    if host.starts_with(b"[") {
        return host.to_owned();
    }
    let end = host.iter().rposition(|byte| *byte == b':').unwrap_or(host.len());
    [&host[..end], b"-shadow", &host[end..]].concat()
}

fn means_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_of_a_host_is_marked_and_its_port_stays() {
        for (host, shadow) in [
            ("a.example", "a.example-shadow"),
            ("10.0.0.1:80", "10.0.0.1-shadow:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(super::shadowed(host.as_bytes()), shadow.as_bytes());
        }
    }
}
