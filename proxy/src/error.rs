//! All that can go wrong with a request, and the one place where it becomes a status, a message and an outcome.
//! What a client sees names no address and no internal cause.

use crate::auth::Refusal;
use crate::upstream::Resource;
use event::Outcome;

/// Why the gateway answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The request cannot be read in one way.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// A rule of the byte guard was broken.
    #[error("{reason}")]
    Violation { status: u16, reason: &'static str },
    /// The method is not for a gateway.
    #[error("CONNECT is not supported")]
    Connect,
    #[error("request body too large")]
    BodyTooLarge,
    #[error("the client was too slow")]
    RequestTimeout,
    /// As many requests are under way as may be.
    #[error("overloaded")]
    Overloaded,
    #[error("no route")]
    NoRoute,
    /// The route sends its clients elsewhere: the place is in the answer.
    #[error("sent elsewhere")]
    Redirected,
    /// The route was told to refuse some requests with this status.
    #[error("injected fault")]
    Injected(u16),
    #[error("HTTPS only")]
    HttpsOnly,
    /// A route of gRPC was asked in HTTP/1.
    #[error("HTTP/2 only")]
    Http2Only,
    /// A route of gRPC was asked for something else.
    #[error("not gRPC")]
    NotGrpc,
    #[error("key-auth: {}", .0.message())]
    Auth(Refusal),
    /// The service is disabled or its upstream has no targets.
    #[error("no target")]
    NoTarget,
    /// A bound of the upstream's circuit breaker is reached.
    #[error("circuit breaker: {} is reached", .0.as_str())]
    Overflow(Resource),
    #[error("name resolution failed")]
    Dns,
    #[error("cannot connect to the upstream")]
    ConnectFailed,
    #[error("TLS with the upstream failed")]
    TlsFailed,
    #[error("connecting to the upstream timed out")]
    ConnectTimeout,
    #[error("writing to the upstream timed out")]
    WriteTimeout,
    #[error("the upstream did not answer in time")]
    ReadTimeout,
    #[error("the upstream closed the connection")]
    Reset,
    #[error("the upstream's answer is not HTTP")]
    Malformed,
    /// The client went away while its body was read.
    #[error("the client closed the connection")]
    ClientClosed,
    /// A bug here.
    #[error("panic in the gateway")]
    Panic,
}

impl Fault {
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Violation { status, .. } => status,
            Self::Connect => 405,
            Self::BodyTooLarge => 413,
            Self::RequestTimeout => 408,
            Self::NoRoute => 404,
            Self::Redirected => 302,
            Self::Injected(status) => status,
            Self::HttpsOnly | Self::Http2Only => 426,
            Self::NotGrpc => 415,
            Self::Auth(_) => 401,
            Self::NoTarget | Self::Overflow(_) | Self::Dns | Self::Overloaded => 503,
            Self::ConnectFailed | Self::TlsFailed | Self::Reset | Self::Malformed => 502,
            Self::ConnectTimeout | Self::WriteTimeout | Self::ReadTimeout => 504,
            Self::ClientClosed => 499,
            Self::Panic => 500,
        }
    }

    /// What the client is told; the texts are Kong's where Kong has one.
    pub const fn message(self) -> &'static str {
        match self {
            Self::BadRequest(reason) | Self::Violation { reason, .. } => reason,
            Self::Connect => "Method not allowed",
            Self::BodyTooLarge => "Payload too large",
            Self::RequestTimeout => "Request timeout",
            Self::Overloaded => "The gateway is overloaded",
            Self::NoRoute => "no Route matched with those values",
            Self::HttpsOnly => "Please use HTTPS protocol",
            Self::Redirected => "",
            Self::Injected(_) => "fault filter abort",
            Self::Http2Only => "Please use HTTP2 protocol",
            Self::NotGrpc => "Non-gRPC request matched gRPC route",
            Self::Auth(refusal) => refusal.message(),
            Self::NoTarget => "failure to get a peer from the ring-balancer",
            Self::Overflow(_) => "The upstream server has no room for this request",
            Self::Dns => "name resolution failed",
            Self::ConnectFailed | Self::Reset | Self::Malformed => {
                "An invalid response was received from the upstream server"
            }
            Self::TlsFailed => "The TLS handshake with the upstream server failed",
            Self::ConnectTimeout | Self::WriteTimeout | Self::ReadTimeout => {
                "The upstream server is timing out"
            }
            Self::ClientClosed => "Client closed request",
            Self::Panic => "An unexpected error occurred",
        }
    }

    pub const fn outcome(self) -> Outcome {
        match self {
            Self::BadRequest(_) | Self::Connect | Self::NotGrpc => Outcome::BadRequest,
            Self::Violation { status: 413 | 414 | 431, .. } | Self::BodyTooLarge => Outcome::TooLarge,
            Self::Violation { .. } => Outcome::BadRequest,
            Self::RequestTimeout => Outcome::RequestTimeout,
            Self::Overloaded => Outcome::Overloaded,
            Self::NoRoute => Outcome::NoRoute,
            Self::Redirected => Outcome::Ok,
            Self::HttpsOnly | Self::Http2Only => Outcome::UpgradeRequired,
            Self::Auth(_) => Outcome::Unauthenticated,
            Self::NoTarget => Outcome::NoHealthyUpstream,
            Self::Overflow(_) => Outcome::CircuitOpen,
            Self::Dns | Self::ConnectFailed | Self::TlsFailed => Outcome::ConnectFailed,
            Self::ConnectTimeout | Self::WriteTimeout | Self::ReadTimeout => Outcome::UpstreamTimeout,
            Self::Reset | Self::Malformed => Outcome::UpstreamReset,
            Self::ClientClosed => Outcome::ClientClosed,
            Self::Panic | Self::Injected(_) => Outcome::GatewayError,
        }
    }
}
