//! An HTTP/1.1 client of a few lines: one blocking socket, bytes out, bytes in. A test that asks whether a response
//! was cut must not have a library in between that retries or repairs.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

/// Most bytes of one header line read from a peer.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A response received whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The id the gateway gave the request, as 32 hex digits.
    pub fn request_id(&self) -> String {
        self.header("x-request-id").expect("a response carries X-Request-Id").replace('-', "").to_lowercase()
    }
}

/// The first header of this name, in any case.
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// One connection, used for one exchange after another.
pub struct Connection {
    pub stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Writes a request's head; a body, if any, follows by `write`.
    pub fn send_head(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: tollhouse.test\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(head.as_bytes())
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads a status line and headers.
    pub fn read_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = read_line(&mut self.stream)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, line.clone()))?;
        Ok((status, read_headers(&mut self.stream)?))
    }

    /// Reads the body that `headers` announce, handing it on in pieces. A body that ends early is an error.
    pub fn read_body(&mut self, headers: &[(String, String)], sink: impl FnMut(&[u8])) -> io::Result<()> {
        read_body(&mut self.stream, headers, true, sink)
    }

    /// One exchange with both bodies in memory.
    pub fn exchange(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if !body.is_empty() {
            all.push(("Content-Length", &length));
        }
        self.send_head(method, target, &all)?;
        self.write(body)?;
        let (status, headers) = self.read_head()?;
        let mut received = Vec::new();
        if method != "HEAD" && status != 204 && status != 304 {
            self.read_body(&headers, |piece| received.extend_from_slice(piece))?;
        }
        Ok(Reply { status, headers, body: received })
    }
}

/// One exchange on a connection of its own.
pub fn exchange(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    Connection::open(addr)?.exchange(method, target, headers, body)
}

/// `GET` on a connection of its own.
pub fn get(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> io::Result<Reply> {
    exchange(addr, "GET", target, headers, b"")
}

pub(super) fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    let mut bounded = stream.take(LINE_BYTES_MAX);
    if bounded.read_line(&mut line)? == 0 || !line.ends_with('\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

pub(super) fn read_headers(stream: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| io::Error::new(ErrorKind::InvalidData, line.clone()))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Reads one body. `until_close` says whether a body without any length lasts until the peer closes (a response's
/// does) or is empty (a request's).
pub(super) fn read_body(
    stream: &mut impl BufRead,
    headers: &[(String, String)],
    until_close: bool,
    mut sink: impl FnMut(&[u8]),
) -> io::Result<()> {
    if find(headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(stream)?;
            let size = line.split(';').next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
            let size = size.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, line.clone()))?;
            if size == 0 {
                read_headers(stream)?;
                return Ok(());
            }
            pump(stream, size, &mut sink)?;
            if !read_line(stream)?.is_empty() {
                return Err(io::Error::new(ErrorKind::InvalidData, "a chunk longer than its size"));
            }
        }
    }
    match find(headers, "content-length") {
        Some(length) => {
            let length =
                length.parse().map_err(|_| io::Error::new(ErrorKind::InvalidData, length.to_owned()))?;
            pump(stream, length, &mut sink)
        }
        None if until_close => loop {
            let piece = stream.fill_buf()?;
            let taken = piece.len();
            if taken == 0 {
                return Ok(());
            }
            sink(piece);
            stream.consume(taken);
        },
        None => Ok(()),
    }
}

fn pump(stream: &mut impl BufRead, mut left: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
    while left > 0 {
        let piece = stream.fill_buf()?;
        if piece.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink(&piece[..taken]);
        stream.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}
