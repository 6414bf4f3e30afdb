//! The closed vocabularies of an event: each is one byte in the spool and one plain word in SQL.

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in the order of its byte.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands in SQL, metrics and spans.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of a byte of the spool; an unknown one (a newer writer's) reads as the first.
            pub fn from_u8(byte: u8) -> Self {
                Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::ALL[0])
            }
        }
    };
}

vocabulary! {
    /// Where in a mesh the gateway stood.
    Role {
        /// `gateway`
        Gateway = "gateway",
        /// `sidecar_inbound`
        SidecarInbound = "sidecar_inbound",
        /// `sidecar_outbound`
        SidecarOutbound = "sidecar_outbound",
    }
}

vocabulary! {
    /// What the client spoke.
    Protocol {
        /// `h1`
        H1 = "h1",
        /// `h2`
        H2 = "h2",
        /// `h3`
        H3 = "h3",
        /// `grpc`
        Grpc = "grpc",
        /// `websocket`
        Websocket = "websocket",
        /// `tcp`: a stream of bytes
        Tcp = "tcp",
        /// `tls`: a stream that begins with TLS
        Tls = "tls",
    }
}

vocabulary! {
    /// Scheme of the request.
    Scheme {
        /// `http`
        Http = "http",
        /// `https`
        Https = "https",
        /// `tcp`: a stream of bytes
        Tcp = "tcp",
        /// `tls`: a stream that begins with TLS
        Tls = "tls",
    }
}

vocabulary! {
    /// Who made the response.
    Source {
        /// `upstream`
        Upstream = "upstream",
        /// `gateway`
        Gateway = "gateway",
        /// `cache`
        Cache = "cache",
    }
}

vocabulary! {
    /// How the exchange ended, as one word.
    Outcome {
        /// `ok`
        Ok = "ok",
        /// `client_closed`
        ClientClosed = "client_closed",
        /// `no_route`
        NoRoute = "no_route",
        /// `unauthenticated`
        Unauthenticated = "unauthenticated",
        /// `forbidden`
        Forbidden = "forbidden",
        /// `rate_limited`
        RateLimited = "rate_limited",
        /// `quota_exceeded`
        QuotaExceeded = "quota_exceeded",
        /// `too_large`
        TooLarge = "too_large",
        /// `bad_request`
        BadRequest = "bad_request",
        /// `circuit_open`
        CircuitOpen = "circuit_open",
        /// `no_healthy_upstream`
        NoHealthyUpstream = "no_healthy_upstream",
        /// `connect_failed`
        ConnectFailed = "connect_failed",
        /// `upstream_reset`
        UpstreamReset = "upstream_reset",
        /// `upstream_timeout`
        UpstreamTimeout = "upstream_timeout",
        /// `gateway_error`
        GatewayError = "gateway_error",
        /// `request_timeout`
        RequestTimeout = "request_timeout",
        /// `upgrade_required`
        UpgradeRequired = "upgrade_required",
        /// `overloaded`
        Overloaded = "overloaded",
    }
}

impl Outcome {
    /// Whether the gateway could not get an answer from the service, whatever status the client saw.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::CircuitOpen
            | Self::NoHealthyUpstream
            | Self::ConnectFailed
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::GatewayError
            | Self::Overloaded => true,
            Self::Ok
            | Self::ClientClosed
            | Self::NoRoute
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::RateLimited
            | Self::QuotaExceeded
            | Self::TooLarge
            | Self::BadRequest
            | Self::RequestTimeout
            | Self::UpgradeRequired => false,
        }
    }
}

vocabulary! {
    /// What the cache did.
    CacheStatus {
        /// `none`
        None = "none",
        /// `hit`
        Hit = "hit",
        /// `miss`
        Miss = "miss",
        /// `refresh`
        Refresh = "refresh",
        /// `bypass`
        Bypass = "bypass",
    }
}

vocabulary! {
    /// How the consumer was identified.
    AuthMethod {
        /// `none`
        None = "none",
        /// `key_auth`
        KeyAuth = "key_auth",
        /// `basic_auth`
        BasicAuth = "basic_auth",
        /// `jwt`
        Jwt = "jwt",
        /// `hmac`
        Hmac = "hmac",
        /// `mtls`
        Mtls = "mtls",
    }
}

vocabulary! {
    /// TLS of the client connection.
    TlsVersion {
        /// `none`
        None = "none",
        /// `1.2`
        Tls12 = "1.2",
        /// `1.3`
        Tls13 = "1.3",
    }
}

vocabulary! {
    /// Why one try at an upstream failed.
    AttemptError {
        /// `none`
        None = "none",
        /// `dns_failed`
        DnsFailed = "dns_failed",
        /// `connect_failed`
        ConnectFailed = "connect_failed",
        /// `connect_timeout`
        ConnectTimeout = "connect_timeout",
        /// `tls_failed`
        TlsFailed = "tls_failed",
        /// `write_timeout`
        WriteTimeout = "write_timeout",
        /// `read_timeout`
        ReadTimeout = "read_timeout",
        /// `reset`
        Reset = "reset",
        /// `malformed`
        Malformed = "malformed",
        /// `cancelled`
        Cancelled = "cancelled",
    }
}
