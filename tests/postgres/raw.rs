//! A client of the protocol in a few lines, which may say anything.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::DEADLINE;

/// A connection.
pub struct Raw {
    pub stream: BufReader<TcpStream>,
    /// Number and secret to cancel with.
    pub key: Vec<u8>,
}

/// A message of the server: its type and content.
pub type Reply = (u8, Vec<u8>);

/// A message with its type and length.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// A start-up message.
pub fn startup(params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in params {
        body.extend(format!("{name}\0{value}\0").bytes());
    }
    body.push(0);
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Binds a statement without parameters.
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

impl Raw {
    /// A bare connection.
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream: BufReader::new(stream), key: Vec::new() }
    }

    /// One that may ask, of a service that lets everybody in.
    pub fn open(addr: SocketAddr) -> Self {
        let mut raw = Self::connect(addr);
        raw.send(&startup(&[("user", "raw"), ("database", "tollhouse")]));
        let replies = raw.until_ready().unwrap();
        raw.key = replies.iter().find(|(kind, _)| *kind == b'K').unwrap().1.clone();
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        assert!((4..1 << 26).contains(&length), "a reply of {length} bytes");
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// All replies up to the one that says that the next may be asked.
    pub fn until_ready(&mut self) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        loop {
            let reply = self.reply()?;
            let ready = reply.0 == b'Z';
            replies.push(reply);
            if ready {
                return Ok(replies);
            }
        }
    }

    /// What is answered to messages that end in a query or a Sync.
    pub fn ask(&mut self, bytes: &[u8]) -> Vec<Reply> {
        self.send(bytes);
        self.until_ready().unwrap()
    }

    /// Whether the server has closed the connection, after what it has said until then.
    pub fn rest(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.reply().ok()).collect()
    }

    /// The rows of a simple query, as text; its error's code and message.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, (String, String)> {
        rows(&self.ask(&query(sql)))
    }
}

/// The rows of an answer, or its error's code and message.
pub fn rows(replies: &[Reply]) -> Result<Vec<Vec<Option<String>>>, (String, String)> {
    if let Some(error) = error(replies) {
        return Err(error);
    }
    Ok(replies.iter().filter(|(kind, _)| *kind == b'D').map(|(_, body)| values(body)).collect())
}

/// The code and message of the first error.
pub fn error(replies: &[Reply]) -> Option<(String, String)> {
    let (_, body) = replies.iter().find(|(kind, _)| *kind == b'E')?;
    let field = |wanted: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        fields
            .find(|field| field.first() == Some(&wanted))
            .map(|field| String::from_utf8(field[1..].to_vec()).unwrap())
    };
    Some((field(b'C').unwrap(), field(b'M').unwrap()))
}

/// The values of a row.
fn values(mut body: &[u8]) -> Vec<Option<String>> {
    let count = u16::from_be_bytes(body[..2].try_into().unwrap());
    body = &body[2..];
    let values = (0..count).map(|_| {
        let length = i32::from_be_bytes(body[..4].try_into().unwrap());
        body = &body[4..];
        let length = usize::try_from(length).ok()?;
        let (value, rest) = body.split_at(length);
        body = rest;
        Some(String::from_utf8(value.to_vec()).unwrap())
    });
    values.collect()
}
