//! Names by which browsers may ask.
//!
//! Without tokens everybody on this host may ask, and a browser on it asks for every page that is open in it. A page of another
//! site cannot read what is here, unless its own name leads here the second time that it is looked up (DNS rebinding). So
//! where nobody needs a token, nobody asks by a name that a stranger can own: one with a dot, outside of the ends of names that
//! are kept for private use.

use std::net::IpAddr;

use ::http::header::HOST;
use ::http::uri::Authority;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Shared;

/// Ends of names that nobody can register: RFC 6761, RFC 6762, RFC 8375, and `internal` as ICANN reserved it in 2024.
const PRIVATE: [&str; 7] = ["localhost", "test", "example", "invalid", "local", "internal", "home.arpa"];

/// Turns away what asks by a public name.
pub(super) async fn known(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let asked = request.uri().authority().cloned().or_else(|| {
        let host = request.headers().get(HOST)?;
        host.to_str().ok()?.parse::<Authority>().ok()
    });
    match asked {
        Some(asked) if shared.engine.access().anonymous().is_some() && is_public(asked.host()) => {
            let message = format!(
                "`{}` is a public name, and without tokens this service answers by names and addresses of its own host \
                 only: ask by address, or give `analytics.tokens`",
                asked.host()
            );
            let body =
                json!({"error": {"message": message, "code": "misdirected", "line": null, "column": null}});
            (StatusCode::MISDIRECTED_REQUEST, axum::Json(body)).into_response()
        }
        _ => next.run(request).await,
    }
}

fn is_public(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_private = PRIVATE.iter().any(|end| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')));
    name.contains('.') && !is_address && !is_private
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn a_name_that_a_stranger_can_own_is_public() {
        for public in
            ["evil.example.com", "Rebind.it", "a.b.", "127.0.0.1.nip.io", "localhost.evil.org", "xtest.de"]
        {
            assert!(is_public(public), "{public}");
        }
        for own in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "tollhouse",
            "a.localhost",
            "printer.local",
            "db.internal",
        ] {
            assert!(!is_public(own), "{own}");
        }
    }
}
