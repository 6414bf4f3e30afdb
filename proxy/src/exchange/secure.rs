//! Routes that are for TLS only: what a cleartext request to one is answered.

use crate::accept::Conn;
use crate::error::Fault;
use crate::host::Host;
use http::{HeaderMap, HeaderValue};

/// Why a request goes no further, and where its client is sent instead, if anywhere.
pub(super) struct Stop {
    pub fault: Fault,
    pub redirect: Option<Box<Redirect>>,
}

/// Status and `Location` in place of the fault's own answer.
pub(crate) struct Redirect {
    pub status: u16,
    pub location: HeaderValue,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self { fault, redirect: None }
    }
}

/// Whether the client spoke TLS, to the gateway or to a trusted peer before it.
pub(super) fn came_by_tls(conn: &Conn, headers: &HeaderMap) -> bool {
    let said = || headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    conn.tls.is_some() || (conn.trusted && said())
}

/// 426, or the redirect to the same address by https that the route asks for.
pub(super) fn insecure(status: u16, host: &Host, path: &str, query: Option<&str>) -> Stop {
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    let location = format!("https://{}{path}{mark}{query}", host.name());
    let redirect = HeaderValue::from_str(&location).ok().filter(|_| status != 426);
    Stop {
        fault: Fault::HttpsOnly,
        redirect: redirect.map(|location| Box::new(Redirect { status, location })),
    }
}
