//! For whom browsers may ask, and by which names.
//!
//! Without tokens everybody on this host may ask, and a browser on it asks for every page that is open in it. A page of another
//! site cannot read what is here, unless its own name leads here the second time that it is looked up (DNS rebinding). So
//! where nobody needs a token, nobody asks by a name that a stranger can own: one with a dot, outside of the ends of names that
//! are kept for private use. Nor may another site's page have anything done that it cannot see: its statements would take the
//! turns of others.

use std::net::IpAddr;

use ::http::header::{HOST, ORIGIN};
use ::http::uri::Authority;
use ::http::{HeaderMap, Method, Uri};
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
    if shared.engine.access().anonymous().is_none() {
        return next.run(request).await;
    }
    let (status, code, message) = match asked {
        Some(asked) if is_public(asked.host()) => {
            let message = format!(
                "`{}` is a public name, and without tokens this service answers by names and addresses of its own host \
                 only: ask by address, or give `analytics.tokens`",
                asked.host()
            );
            (StatusCode::MISDIRECTED_REQUEST, "misdirected", message)
        }
        asked if is_of_elsewhere(request.headers(), asked.as_ref()) && !is_visit(&request) => {
            let message = "a page of another site asks, which without tokens it may not".to_owned();
            (StatusCode::FORBIDDEN, "forbidden", message)
        }
        _ => return next.run(request).await,
    };
    let body = json!({"error": {"message": message, "code": code, "line": null, "column": null}});
    (status, axum::Json(body)).into_response()
}

/// Whether a browser says that a page of another site has it ask (Fetch Metadata, 2.3; RFC 6454, 7).
fn is_of_elsewhere(headers: &HeaderMap, asked: Option<&Authority>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    origin.is_none_or(|origin| origin.authority() != asked)
}

/// Whether a person follows a link to a page or a file, which asks nothing of the tables.
fn is_visit(request: &Request) -> bool {
    let asks = ["/sql", "/graph", "/queries"].iter().any(|path| request.uri().path().starts_with(path));
    !asks && request.method() == Method::GET
}

fn is_public(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_private = PRIVATE.iter().any(|end| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')));
    name.contains('.') && !is_address && !is_private
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_site_is_known_by_what_its_browser_says() {
        let asked: Authority = "127.0.0.1:8200".parse().unwrap();
        let says = |name: &'static str, value: &'static str| {
            is_of_elsewhere(
                &[(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect(),
                Some(&asked),
            )
        };
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example.com"),
            ("origin", "http://127.0.0.1:8201"),
            ("origin", "null"),
        ] {
            assert!(says(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("origin", "http://127.0.0.1:8200"),
            ("user-agent", "curl"),
        ] {
            assert!(!says(name, value), "{name}: {value}");
        }
    }

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
