//! What was wrong with a request: the closed list of rules, the status each is answered with, and what was readable
//! of the offending request for the record.

/// Longest piece of a method kept in a [`Violation`], in bytes.
pub const METHOD_KEPT_BYTES_MAX: usize = 32;
/// Longest piece of a target kept in a [`Violation`], in bytes.
pub const TARGET_KEPT_BYTES_MAX: usize = 2048;

/// The rule a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A line ends in LF without CR (RFC 9112 2.2 lets a server take it; two readers then disagree).
    BareLf,
    /// A CR that is not followed by LF (RFC 9112 2.2).
    BareCr,
    /// NUL or another control byte in a head or trailer (RFC 9110 5.5).
    ControlByte,
    /// More than one empty line before the request line (RFC 9112 2.2).
    LeadingLines,
    /// The request line is not `method SP target SP version` (RFC 9112 3).
    RequestLine,
    /// The method is not a token (RFC 9110 9.1).
    Method,
    /// The target has a byte that no URI has, a fragment, or none of the forms of RFC 9112 3.2.
    Target,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
    /// CONNECT: this gateway makes no tunnels by it.
    Connect,
    /// The request line is longer than allowed.
    RequestLineTooLong,
    /// The head is longer than allowed.
    HeadTooLarge,
    /// More header or trailer lines than allowed.
    TooManyFields,
    /// White space before the first header line (RFC 9112 2.2).
    LeadingSpace,
    /// A header line that continues the one before it (RFC 9112 5.2).
    ObsFold,
    /// White space between a field name and its colon (RFC 9112 5.1).
    SpaceBeforeColon,
    /// An empty field name, one that is not a token, or a line without a colon (RFC 9110 5.1).
    FieldName,
    /// HTTP/1.1 without a Host line (RFC 9112 3.2).
    HostMissing,
    /// More than one Host line (RFC 9112 3.2).
    HostDuplicate,
    /// A Host value that is empty or not `host[:port]` (RFC 9110 7.2).
    HostMalformed,
    /// An absolute-form target that names another authority than Host does (RFC 9112 3.2.2).
    HostMismatch,
    /// More than one Content-Length line (RFC 9112 6.3).
    ContentLengthDuplicate,
    /// A Content-Length value that is not one decimal number below 2^64 - 2 without leading zeros.
    ContentLengthMalformed,
    /// Content-Length beside Transfer-Encoding (RFC 9112 6.1).
    LengthAndEncoding,
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112 6.1).
    EncodingOnHttp10,
    /// More than one Transfer-Encoding line.
    EncodingDuplicate,
    /// A Transfer-Encoding that is not exactly `chunked` (RFC 9112 6.1).
    EncodingUnknown,
    /// A chunk size that is not 1 to 16 hexadecimal digits (RFC 9112 7.1).
    ChunkSize,
    /// A chunk longer than allowed.
    ChunkTooLarge,
    /// A chunk extension (RFC 9112 7.1.1): nobody needs one, and readers differ on where it ends.
    ChunkExtension,
    /// Chunk data that is not followed by CRLF.
    ChunkEnd,
    /// A trailer field that frames, routes or authenticates (RFC 9110 6.5.1).
    TrailerForbidden,
    /// The trailer section is longer than allowed.
    TrailersTooLarge,
}

impl Rule {
    /// The HTTP status to answer with: 400, 405, 414 or 431.
    pub const fn status(self) -> u16 {
        match self {
            Self::Connect => 405,
            Self::RequestLineTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }

    /// A short text that names the rule; it holds nothing of the request.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "line feed without carriage return",
            Self::BareCr => "carriage return without line feed",
            Self::ControlByte => "control byte in the header section",
            Self::LeadingLines => "empty lines before the request line",
            Self::RequestLine => "malformed request line",
            Self::Method => "malformed method",
            Self::Target => "malformed request target",
            Self::Version => "unsupported HTTP version",
            Self::Connect => "CONNECT is not supported",
            Self::RequestLineTooLong => "request line too long",
            Self::HeadTooLarge => "header section too large",
            Self::TooManyFields => "too many header fields",
            Self::LeadingSpace => "white space before the first header field",
            Self::ObsFold => "folded header field",
            Self::SpaceBeforeColon => "white space before the colon of a header field",
            Self::FieldName => "malformed header field name",
            Self::HostMissing => "Host is missing",
            Self::HostDuplicate => "more than one Host",
            Self::HostMalformed => "malformed Host",
            Self::HostMismatch => "Host differs from the request target",
            Self::ContentLengthDuplicate => "more than one Content-Length",
            Self::ContentLengthMalformed => "malformed Content-Length",
            Self::LengthAndEncoding => "Content-Length with Transfer-Encoding",
            Self::EncodingOnHttp10 => "Transfer-Encoding in HTTP/1.0",
            Self::EncodingDuplicate => "more than one Transfer-Encoding",
            Self::EncodingUnknown => "Transfer-Encoding other than chunked",
            Self::ChunkSize => "malformed chunk size",
            Self::ChunkTooLarge => "chunk too large",
            Self::ChunkExtension => "chunk extension",
            Self::ChunkEnd => "chunk data without its line end",
            Self::TrailerForbidden => "forbidden trailer field",
            Self::TrailersTooLarge => "trailer section too large",
        }
    }
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule it broke.
    pub rule: Rule,
    /// Whether hyper had already been given the head: then a service has the request, and its body fails.
    pub in_body: bool,
    /// The method, if it could be read and `in_body` is false; at most [`METHOD_KEPT_BYTES_MAX`] bytes.
    pub method: Option<Vec<u8>>,
    /// The target, if it could be read and `in_body` is false; at most [`TARGET_KEPT_BYTES_MAX`] bytes.
    pub target: Option<Vec<u8>>,
}

impl Violation {
    /// See [`Rule::status`].
    pub fn status(&self) -> u16 {
        self.rule.status()
    }

    /// See [`Rule::reason`].
    pub fn reason(&self) -> &'static str {
        self.rule.reason()
    }
}
