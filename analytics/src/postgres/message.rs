//! What clients of PostgreSQL say: frontend messages of protocol 3 (PostgreSQL 16, chapter "Message Formats").
//!
//! A message is read whole before it is looked at, and must be used up to its last byte by its reader. Nothing in it is
//! believed: a length or a count that does not fit is an error of the protocol, never a wait or an allocation.

use bytes::Bytes;

/// Why a message cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It ends before what it announces.
    #[error("the message ends too early")]
    Short,
    /// Something follows its end.
    #[error("the message is longer than what it holds")]
    Long,
    /// Text is not UTF-8.
    #[error("invalid byte sequence for encoding \"UTF8\"")]
    Text,
    /// There is no message of that type.
    #[error("there is no message of this type")]
    Unknown,
}

/// What a description or an end is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// A message after the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query(String),
    Parse {
        name: String,
        sql: String,
        /// Types of the first parameters; 0 leaves one open.
        types: Vec<u32>,
    },
    Bind {
        portal: String,
        statement: String,
        formats: Vec<i16>,
        params: Vec<Option<Bytes>>,
        results: Vec<i16>,
    },
    Describe(Target, String),
    Execute {
        portal: String,
        /// 0 for all.
        rows_max: u32,
    },
    Close(Target, String),
    Sync,
    Flush,
    Terminate,
    /// A password, or a word of SASL.
    Password(Bytes),
    /// A call of the old function protocol.
    FunctionCall,
    /// Data of a COPY that nobody has begun.
    Copy,
}

/// What stands at the start of a connection, where messages have no type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Protocol and parameters.
    Start { minor: u16, params: Vec<(String, String)> },
    /// To cancel what runs for a key.
    Cancel { id: u32, secret: u32 },
    /// To go on with TLS.
    Tls,
    /// To go on with the encryption of GSSAPI.
    Gss,
    /// Another protocol.
    Unknown(u32),
}

/// Reads parts of one message.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.0.len() {
            return Err(Malformed::Short);
        }
        Ok(self.0.split_to(count))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        bytes.as_ref().try_into().map_err(|_| Malformed::Short)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed::Short)?;
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| Malformed::Text)
    }

    /// A count of two bytes, and as many things.
    fn several<T>(
        &mut self,
        bytes_min: usize,
        read: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::from(self.u16()?);
        if count * bytes_min > self.0.len() {
            return Err(Malformed::Short);
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn target(&mut self) -> Result<Target, Malformed> {
        match self.u8()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            _ => Err(Malformed::Unknown),
        }
    }

    fn param(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Malformed::Short)?).map(Some),
        }
    }
}

impl Message {
    /// Reads a message without its type and length.
    pub(super) fn read(kind: u8, body: Bytes) -> Result<Self, Malformed> {
        let mut body = Reader(body);
        let message = match kind {
            b'Q' => Self::Query(body.text()?),
            b'P' => {
                Self::Parse { name: body.text()?, sql: body.text()?, types: body.several(4, Reader::u32)? }
            }
            b'B' => Self::Bind {
                portal: body.text()?,
                statement: body.text()?,
                formats: body.several(2, Reader::i16)?,
                params: body.several(4, Reader::param)?,
                results: body.several(2, Reader::i16)?,
            },
            b'D' => Self::Describe(body.target()?, body.text()?),
            b'E' => Self::Execute { portal: body.text()?, rows_max: body.u32()? },
            b'C' => Self::Close(body.target()?, body.text()?),
            b'S' => Self::Sync,
            b'H' => Self::Flush,
            b'X' => Self::Terminate,
            b'p' => Self::Password(body.take(body.0.len())?),
            b'F' => {
                body.0.clear();
                Self::FunctionCall
            }
            b'd' | b'c' | b'f' => {
                body.0.clear();
                Self::Copy
            }
            _ => return Err(Malformed::Unknown),
        };
        if body.0.is_empty() { Ok(message) } else { Err(Malformed::Long) }
    }
}

/// Major version 1234 asks for something else than a start.
const SPECIAL: u32 = 1234 << 16;

impl Opening {
    /// Reads what came without its length.
    pub(super) fn read(body: Bytes) -> Result<Self, Malformed> {
        let mut body = Reader(body);
        let code = body.u32()?;
        let opening = match code {
            _ if code == SPECIAL | 5678 => Self::Cancel { id: body.u32()?, secret: body.u32()? },
            _ if code == SPECIAL | 5679 => Self::Tls,
            _ if code == SPECIAL | 5680 => Self::Gss,
            _ if code >> 16 == 3 => {
                let mut params = Vec::new();
                loop {
                    let name = body.text()?;
                    if name.is_empty() {
                        break;
                    }
                    params.push((name, body.text()?));
                }
                Self::Start { minor: code as u16, params }
            }
            other => return Ok(Self::Unknown(other)),
        };
        if body.0.is_empty() { Ok(opening) } else { Err(Malformed::Long) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u8, body: &[u8]) -> Result<Message, Malformed> {
        Message::read(kind, Bytes::copy_from_slice(body))
    }

    #[test]
    fn messages_are_read_to_their_last_byte() {
        assert_eq!(read(b'Q', b"SELECT 1\0"), Ok(Message::Query("SELECT 1".into())));
        assert_eq!(read(b'Q', b"SELECT 1"), Err(Malformed::Short));
        assert_eq!(read(b'Q', b"SELECT 1\0x"), Err(Malformed::Long));
        assert_eq!(read(b'Q', b"\xff\0"), Err(Malformed::Text));
        assert_eq!(read(b'z', b""), Err(Malformed::Unknown));
        assert_eq!(read(b'S', b""), Ok(Message::Sync));
        assert_eq!(read(b'D', b"Xa\0"), Err(Malformed::Unknown));
        let parse = Message::Parse { name: "a".into(), sql: "b".into(), types: vec![23, 0] };
        assert_eq!(read(b'P', b"a\0b\0\0\x02\0\0\0\x17\0\0\0\0"), Ok(parse));
        assert_eq!(read(b'P', b"a\0b\0\xff\xff\0\0\0\x17"), Err(Malformed::Short));
        let bind = Message::Bind {
            portal: String::new(),
            statement: "s".into(),
            formats: vec![1],
            params: vec![None, Some(Bytes::from_static(b"x"))],
            results: vec![],
        };
        assert_eq!(
            read(b'B', b"\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\0"),
            Ok(bind),
            "a length of -1 is null"
        );
        assert_eq!(read(b'B', b"\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), Err(Malformed::Short));
        assert_eq!(read(b'B', b"\0s\0\0\0\0\x01\x7f\xff\xff\xff\0\0"), Err(Malformed::Short));
    }

    #[test]
    fn every_cut_of_a_message_is_an_error_and_no_panic() {
        let whole = b"\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\x01\0\0";
        assert!(read(b'B', whole).is_ok());
        for end in 0..whole.len() {
            assert!(read(b'B', &whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_connection_opens_in_five_ways() {
        let open = |body: &[u8]| Opening::read(Bytes::copy_from_slice(body));
        let params = vec![("user".to_owned(), "a".to_owned())];
        assert_eq!(open(b"\0\x03\0\0user\0a\0\0"), Ok(Opening::Start { minor: 0, params }));
        assert_eq!(open(b"\0\x03\0\0user\0a\0"), Err(Malformed::Short));
        assert_eq!(open(b"\x04\xd2\x16\x2f"), Ok(Opening::Tls));
        assert_eq!(open(b"\x04\xd2\x16\x30"), Ok(Opening::Gss));
        assert_eq!(open(b"\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x08"), Ok(Opening::Cancel { id: 7, secret: 8 }));
        assert_eq!(open(b"GET "), Ok(Opening::Unknown(0x4745_5420)));
        assert_eq!(open(b"\0\x03"), Err(Malformed::Short));
    }
}
